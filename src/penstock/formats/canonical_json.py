"""JSON: Python's own values as canonical text, with tags for what JSON has no word for.

Plain values (dicts with string keys, lists, strings, finite numbers, booleans, None) take one encode and one walk
and are stored as ordinary JSON. All else is written as a dict with one key that begins with `$`, as
`{"$tuple": [1, 2]}`; a user's dict with such a key becomes `{"$dict": [[key, value], …]}`, so that it can never be
taken for a tag. Dict keys are sorted: equal values have equal bytes, whatever the order of insertion.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from penstock.core.artifact import INLINE_LIMIT, Artifact
from penstock.errors import CorruptObjectError, FormatError

if TYPE_CHECKING:
    from penstock.core.ports import Objects
    from penstock.formats.format import Stage

MARK = '"$'
"""No text without this can hold a tag: such text is decoded by the C decoder alone."""

_ATOMS = frozenset((str, int, float, bool, type(None)))
_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
).encode
_decode = json.JSONDecoder().decode


def dump(value: Any, stage: Stage) -> Artifact:
    """Write a value of Python's own types.

    Returns
    -------
    Artifact
        With the text inside and nothing staged when it has at most `INLINE_LIMIT` bytes.

    Raises
    ------
    FormatError
        The value, or something in it, would not come back equal; names the place.
    """
    data = dumps(value)
    if len(data) <= INLINE_LIMIT:
        return Artifact(hashlib.sha256(data).hexdigest(), "json", len(data), data.decode())
    digest, size = stage(data)
    return Artifact(digest, "json", size)


def load(artifact: Artifact, objects: Objects) -> Any:
    """Read a value back, verified against its digest.

    Raises
    ------
    FormatError, CorruptObjectError, MissingObjectError
    """
    return loads(text_of(artifact, objects))


def text_of(artifact: Artifact, objects: Objects) -> str | bytes:
    """The text of an artifact that stands in its row or in the store, verified against its digest.

    Raises
    ------
    CorruptObjectError, MissingObjectError
    """
    text = artifact.text
    if text is None:
        return objects.read(artifact.digest)
    data = text.encode("utf-8", "surrogatepass")
    if hashlib.sha256(data).hexdigest() != artifact.digest:
        raise CorruptObjectError(
            "A value in the ledger does not have the digest that names it.",
            hint="Run `penstock fsck`; the step that made it will run again.",
            digest=artifact.digest,
        )
    return text


def dumps(value: Any) -> bytes:
    """Canonical UTF-8 text of a value.

    Raises
    ------
    FormatError

    Examples
    --------
    >>> dumps({"b": 1, "a": (0.5, None)})
    b'{"a":{"$tuple":[0.5,null]},"b":1}'
    >>> dumps({"$tuple": 3})
    b'{"$dict":[["$tuple",3]]}'
    """
    try:
        if type(value) in _ATOMS or _plain(value):
            text = _encode(value)
            if MARK not in text:
                return text.encode()
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        pass  # NaN, an infinity, a lone surrogate or an endless integer: the slow path knows which
    return _dumps_tagged(value)


def loads(text: str | bytes) -> Any:
    """The inverse of `dumps`.

    Raises
    ------
    FormatError
        Not JSON, or a tag that this version does not know.

    Examples
    --------
    >>> loads('{"a":{"$tuple":[0.5,null]},"b":1}')
    {'a': (0.5, None), 'b': 1}
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value = _decode(text)
        if MARK not in text:
            return value
        from penstock.formats.json_tags import untag

        return untag(value)
    except RecursionError:
        raise _too_deep() from None
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"These bytes are not JSON as Penstock writes it: {error}.",
            hint="They were written by something else, or by a newer Penstock.",
        ) from error


def _plain(value: Any) -> bool:
    """Whether a container holds nothing but JSON's own types, exactly (no subclass)."""
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or (type(item) not in _ATOMS and not _plain(item)):
                return False
        return True
    if kind is list:
        return all(type(item) in _ATOMS or _plain(item) for item in value)
    return False


def _dumps_tagged(value: Any) -> bytes:
    from penstock.formats.json_tags import same, tag, untag

    try:
        tree = tag(value, "value")
        text = _encode(tree)
        if not same(value, untag(_decode(text))):
            raise FormatError(
                "This value would not come back equal from JSON.",
                hint="Return plain Python values, a table, an array or a path.",
            )
        return text.encode()
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"This value cannot be written as JSON: {error}.") from error


def _too_deep() -> FormatError:
    return FormatError(
        "This value is nested too deeply for JSON, or holds itself.",
        hint="Return a flatter value, or a table.",
    )
