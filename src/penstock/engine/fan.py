"""The items of a mapped step: those that it declares, or those of a list that an earlier step made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from penstock.core.artifact import Artifact
from penstock.core.fan import FORMAT, Fan, items_in, list_behind, spread, unpack
from penstock.core.flow import Node
from penstock.core.ports import Objects
from penstock.errors import CorruptObjectError, StepOutputError


def fan_of(node: Node, known: Mapping[tuple[str, str], Artifact], objects: Objects) -> Fan:
    """A mapped step, spread out over its items.

    Raises
    ------
    StepOutputError
        What an earlier step made is no list.
    CorruptObjectError, MissingObjectError
        The list cannot be read.
    """
    behind = list_behind(node)
    if behind is None:
        return spread(node, known)
    artifact = known[behind]
    if artifact.format == FORMAT:
        return spread(node, known, unpack(_text(artifact, objects)))
    found = items_in(_text(artifact, objects)) if artifact.format == "json" else None
    if found is None:
        told = {"json": "plain value that is no list", "parquet": "table"}
        kind = told.get(artifact.format, f"value of the format {artifact.format}")
        raise StepOutputError(
            f"goes through what {behind[0]} gives, which is a {kind}",
            where=f"step {node.id}",
            hint=f"let {behind[0]} return a list: of plain values, or of the parts of a table",
        )
    return spread(node, known, *found)


def _text(artifact: Artifact, objects: Objects) -> str | bytes:
    """The verified text of a list."""
    if artifact.text is None:
        return objects.read(artifact.digest)
    if hashlib.sha256(artifact.text.encode("utf-8", "surrogatepass")).hexdigest() != artifact.digest:
        what = "a list in the ledger does not have the digest that names it"
        raise CorruptObjectError(what, hint="run `penstock fsck`", digest=artifact.digest)
    return artifact.text
