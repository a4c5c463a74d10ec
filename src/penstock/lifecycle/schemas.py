"""The schema as a file beside the declaration: shown, and frozen from the last data that held."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any

from penstock.core.ports import Home
from penstock.errors import UsageError
from penstock.lifecycle.holdout import FIRST, can_be_renewed
from penstock.lifecycle.run import Request, make_plan
from penstock.store.files import explain


def validated(home: Home, request: Request, entry: str, *, new_holdout: bool = False) -> tuple[str, dict[str, Any]]:
    """Where the schema's file is, or would be, and the schema that the present data was validated with.

    Parameters
    ----------
    new_holdout : bool, default=False
        The schema asks for other held-out rows than before.

    Raises
    ------
    UsageError
        The file declares no workflow, or its present data was not validated yet; a new hold-out where the rule has
        one only.
    """
    graph, plan, _ = make_plan(home, request, entry)
    if "schema_file" not in graph.about:
        raise UsageError(f"{graph.name} is a flow of steps; only a workflow has a schema", where=request.file)
    decision = next(one for one in plan.decisions if one.step == "validate")
    if decision.action != "reuse":
        name = os.path.relpath(request.file)
        raise UsageError(
            "the data as it is now was not validated yet",
            where=os.path.relpath(request.file),
            hint=f"`penstock run {name} --until validate` does it",
        )
    schema = home.formats.load(decision.outputs[graph.node("validate").names.index("schema")], home.objects)
    number = int(graph.about["holdout"].get("number", FIRST))
    if new_holdout:
        if not can_be_renewed(graph.about["holdout"]):
            raise UsageError(
                f"--new-holdout: the held-out rows of {graph.name} are the same under any number",
                where=os.path.relpath(request.file),
                hint="declare another test= in its split, or wait for newer rows",
            )
        number += 1
    return str(graph.about["schema_file"]), {**schema, **({"holdout": number} if number > FIRST else {})}


def text_of(schema: dict[str, Any]) -> str:
    """A schema as TOML."""
    from penstock.stages.schema_text import to_toml

    return to_toml(schema)


def accept(path: str, text: str) -> bool:
    """Write the schema's file in one move; give whether it changed.

    Raises
    ------
    StoreError
        The folder cannot be written to; the file is as it was.
    """
    if present(path) == text:
        return False
    folder = os.path.dirname(path)
    draft = ""
    try:
        handle, draft = tempfile.mkstemp(prefix=".schema-", suffix=".toml", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise explain(error, "write the schema", path) from error
    return True


def present(path: str) -> str | None:
    """The text of the schema's file, None where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
