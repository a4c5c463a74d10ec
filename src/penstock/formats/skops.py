"""Estimators as skops, made canonical: two processes that fit the same thing write the same bytes.

What skops writes differs on every dump: object ids are memory addresses, members have random names, the zip has
dates. Here ids are ordinals in document order, members are named by their content, sets are sorted, dates are fixed,
and the padding of structured arrays is zero; the order of dicts stays, since skops pairs keys with their types by
position. Plain `skops.io.loads` reads the result.

Nothing is ever unpickled. Which types may be loaded is configuration (`trust.KNOWN`, `trust` and the project's own
types), never the file's own word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from penstock.core.artifact import Artifact
from penstock.errors import FormatError, PenstockError, UntrustedTypeError, bounded
from penstock.formats import npy
from penstock.formats.archive import SCHEMA, read_archive, write_zip
from penstock.formats.skops_library import is_public_estimator, library, ours
from penstock.formats.trust import KNOWN

if TYPE_CHECKING:
    from penstock.core.ports import Objects
    from penstock.formats.format import Stage

OLDEST_PROTOCOL = 2
"""Oldest protocol of skops that is read: nothing of ours is older, and old readers check less."""

_NAMED = frozenset({"JsonNode", "TypeNode", "FunctionNode"})
"""Nodes of immutable things: which of them are one object is an accident of the interpreter, so they get no id."""

_LOST_KEYS = {("builtins", "bool"), ("numpy", "bool"), ("numpy", "bool_"), ("builtins", "NoneType")}
"""Types of dict keys that skops reads back wrongly: bool("false") is True."""


# ── the artifact ─────────────────────────────────────────────────────────────────────────────────────────────


def dump(value: Any, stage: Stage) -> Artifact:
    """Write an estimator; see `dumps_canonical`."""
    digest, size = stage(dumps_canonical(value))
    return Artifact(digest, "skops", size)


def load(artifact: Artifact, objects: Objects, trusted: Collection[str] = ()) -> Any:
    """Read an estimator back; see `loads`."""
    return loads(objects.read(artifact.digest), trusted)


def best_of(estimator: Any) -> Any:
    """What a search found, or the estimator itself: what a bundle keeps.

    Examples
    --------
    >>> best_of("anything else")
    'anything else'
    """
    return getattr(estimator, "best_estimator_", estimator)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


def dumps_canonical(estimator: Any) -> bytes:
    """Canonical bytes of an estimator, fitted or not.

    Equal fits give equal bytes in any process; loading and dumping again gives the same bytes.

    Parameters
    ----------
    estimator : object
        Left as it is; what is written is a neutralised copy (`neutral.neutral_copy`).

    Raises
    ------
    FormatError
        skops cannot keep something inside, or it would not come back equal, or no other process could find it.
    """
    from penstock.formats.neutral import neutral_copy

    twin = neutral_copy(estimator)
    try:
        raw = library().dumps(twin)
    except Exception as error:  # skops, numpy and the estimator's own __getstate__ raise what they like
        raise FormatError(
            f"{bounded(type(estimator).__name__, 100)} cannot be stored: {bounded(str(error), 500)}",
            hint="Pickle is no way out: replace the part, or give its class a __getstate__ of plain attributes.",
        ) from error
    return canonical(raw)


def canonical(raw: bytes) -> bytes:
    """Rewrite what skops wrote into its canonical form.

    Raises
    ------
    FormatError
    """
    import zipfile
    from io import BytesIO

    with zipfile.ZipFile(BytesIO(raw)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    try:
        schema = json.loads(members.pop(SCHEMA), object_pairs_hook=_without_twins)
        files = {name: _canonical_member(name, content) for name, content in members.items()}
        _settle(schema, {name: new for name, (new, _) in files.items()})
        _number(schema)
        text = json.dumps(schema, separators=(",", ":"))
    except RecursionError:
        raise FormatError("This estimator is nested too deeply to be stored.") from None
    return write_zip([(SCHEMA, text.encode()), *sorted(set(files.values()))])


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; keys that differ in Python and not in JSON (1 and "1") would lose one."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise FormatError(
            "A dict inside this estimator has keys that differ by type alone, such as 1 and '1'.",
            hint="Use keys of one type.",
        )
    return made


def _canonical_member(name: str, content: bytes) -> tuple[str, bytes]:
    """New name and bytes of a member: padding zeroed, nested archives stored plainly."""
    _, _, suffix = name.rpartition(".")
    if suffix == "npy":
        content = _canonical_npy(content)
    elif suffix == "npz":
        content = _canonical_npz(content)
    return f"{hashlib.sha256(content).hexdigest()[:32]}.{suffix}", content


def _canonical_npy(content: bytes) -> bytes:
    if b"'descr': [" not in content[:128]:
        return content  # not a structured dtype: every byte belongs to a value
    return npy.dumps(npy.loads(content))


def _canonical_npz(content: bytes) -> bytes:
    import zipfile
    from io import BytesIO

    with zipfile.ZipFile(BytesIO(content)) as archive:
        return write_zip([(name, archive.read(name)) for name in sorted(archive.namelist())])


def _settle(node: Any, names: dict[str, str]) -> None:
    """Rename members, sort sets and drop the ids that mean nothing, from the leaves up."""
    if isinstance(node, list):
        for item in node:
            _settle(item, names)
        return
    if not isinstance(node, dict):
        return
    for item in node.values():
        if isinstance(item, (dict, list)):
            _settle(item, names)
    loader = node.get("__loader__")
    if loader is None:
        return
    if loader in _NAMED:
        node.pop("__id__", None)
    elif loader == "SetNode":
        node["content"].sort(key=_sort_key)
    elif loader == "ConstructorFromReduceNode" and node["__class__"] == "frozenset":
        node["content"]["content"][0]["content"].sort(key=_sort_key)
    elif loader == "DictNode":
        _check_keys(node)
    if isinstance(node.get("file"), str):
        node["file"] = names[node["file"]]


def _sort_key(node: Any) -> str:
    """Text of a node without its ids, which follow memory."""
    return json.dumps(_without_ids(node), sort_keys=True)


def _without_ids(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_ids(item) for key, item in node.items() if key != "__id__"}
    if isinstance(node, list):
        return [_without_ids(item) for item in node]
    return node


def _check_keys(node: dict[str, Any]) -> None:
    for kind in node["key_types"]["content"]:
        if (kind["__module__"], kind["__class__"]) in _LOST_KEYS:
            raise FormatError(
                f"A dict inside this estimator has keys of type {kind['__class__']}, which would not come back equal.",
                hint="Use numbers or text as keys: {0: …, 1: …} instead of {False: …, True: …}.",
            )


def _number(schema: dict[str, Any]) -> None:
    """Ids as ordinals from 1 in document order (0 counts as no id)."""
    ordinals: dict[int, int] = {}
    for node in nodes(schema):
        if "__id__" in node:
            node["__id__"] = ordinals.setdefault(node["__id__"], len(ordinals) + 1)


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """All nodes of a parsed schema, in document order."""
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(reversed(node))
        elif isinstance(node, dict):
            if "__loader__" in node:
                yield node
            stack.extend(item for item in reversed(node.values()) if isinstance(item, (dict, list)))


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────


def types_in(data: bytes) -> list[str]:
    """Names of all types and functions that an archive speaks of, sorted. Imports nothing.

    Raises
    ------
    FormatError
        The bytes are not a skops archive.
    """
    schema = _schema(read_archive(data))
    names: set[str] = _guarded(lambda: _types(schema))
    return sorted(names)


def named_in(data: bytes) -> list[str]:
    """As `types_in`, but "module:name" each, and of a bound method its class. Imports nothing.

    Raises
    ------
    FormatError
    """
    schema = _schema(read_archive(data))
    return sorted({f"{node.get('__module__')}:{node.get('__class__')}" for node in nodes(schema)})


def untrusted_in(data: bytes, trusted: Collection[str] = ()) -> list[str]:
    """Names in an archive that neither skops, nor `trust.KNOWN`, nor `trusted` covers, sorted.

    Raises
    ------
    FormatError
    """
    _schema(read_archive(data))
    found = _guarded(lambda: library().get_untrusted_types(data=data))
    return sorted(set(found) - KNOWN - set(trusted))


def loads(data: bytes, trusted: Collection[str] = ()) -> Any:
    """An estimator from bytes, if this machine's configuration trusts all that is in it.

    Parameters
    ----------
    trusted : collection of str, default=()
        Exact names besides `trust.KNOWN`.

    Raises
    ------
    UntrustedTypeError
        Lists the names and the line of configuration that would trust them.
    FormatError
        Not a skops archive, damaged, or out of bounds.
    """
    names = types_in(data)
    # Only those names of ours that the file speaks of: skops goes through the list at every node.
    known = [name for name in names if name in KNOWN or name in trusted or is_public_estimator(name)]

    def load() -> Any:
        from skops.io.exceptions import UntrustedTypesFoundException

        try:
            with ours():
                return library().loads(data, trusted=known)
        except UntrustedTypesFoundException:
            if refused := untrusted_in(data, trusted):
                raise _untrusted(refused) from None
            return library().loads(data, trusted=known)  # an estimator that only skops' own list has

    return _guarded(load)


def _types(schema: dict[str, Any]) -> set[str]:
    names = set()
    for node in nodes(schema):
        name = f"{node.get('__module__')}.{node.get('__class__')}"
        names.add(name)
        if node["__loader__"] == "MethodNode":  # skops wants a bound method trusted by itself
            names.add(f"{name}.{node['content']['func']}")
    return names


def _schema(members: dict[str, bytes]) -> dict[str, Any]:
    def parse() -> Any:
        return json.loads(members[SCHEMA])

    schema = _guarded(parse)
    protocol = schema.get("protocol") if isinstance(schema, dict) else None
    if type(protocol) is not int or protocol < OLDEST_PROTOCOL:
        raise FormatError(
            f"This archive was written in skops protocol {bounded(repr(protocol), 40)}; {OLDEST_PROTOCOL} or later is "
            "read.",
            hint="Load it with skops and dump it again.",
        )
    return schema  # type: ignore[no-any-return]


def _guarded(work: Callable[[], Any]) -> Any:
    """Whatever skops, numpy or a class's __setstate__ raises over bad bytes becomes one error."""
    try:
        return work()
    except PenstockError:
        raise
    except RecursionError as error:
        raise FormatError("This archive is nested too deeply.") from error
    except Exception as error:
        raise FormatError(
            f"This archive cannot be read: {type(error).__name__}: {bounded(str(error), 500)}",
            hint="It is damaged, or was written with other versions of its libraries.",
        ) from error


def _untrusted(names: list[str]) -> UntrustedTypeError:
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    line = "trust = [" + ", ".join(f'"{name}"' for name in names[:20]) + "]"
    return UntrustedTypeError(
        f"This artifact holds {'types' if len(names) > 1 else 'a type'} that the configuration does not trust: "
        f"{listed}.",
        hint=f"If you know where it comes from, add under [tool.penstock]: {line}",
        names=tuple(names),
    )
