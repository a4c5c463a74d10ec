"""Names for content: SHA-256 over tagged canonical JSON.

Every digest of a structure carries a tag and the scheme's version inside what is hashed, so that two kinds of
thing can never collide and the scheme can be changed without mistaking an old name for a new one. Golden values
are in `docs/decisions/0001-recipe.md` and in the tests.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

SCHEME = 1
"""Version of the scheme. Raising it makes every stored recipe a miss; see decision 0001 for how."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical(value: Any) -> str:
    """Canonical JSON text: keys sorted, no spaces, UTF-8 as it is, no NaN.

    Parameters
    ----------
    value : dict, list, str, int, bool, None
        Plain JSON. Floats are refused by the argument tree (`core.tree`), which writes them as text; here they
        are written by their shortest `repr`.

    Raises
    ------
    ValueError
        If a float is NaN or infinite.

    Examples
    --------
    >>> canonical({"b": 1, "a": [True, None]})
    '{"a":[true,null],"b":1}'
    """
    return _encode(value)


def digest_bytes(data: bytes | bytearray | memoryview) -> str:
    """SHA-256 of bytes as 64 hexadecimal digits: the name of an object.

    Examples
    --------
    >>> digest_bytes(b"")[:16]
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(data).hexdigest()


def digest_value(tag: str, value: Any) -> str:
    """Digest of a plain JSON value under a tag.

    Examples
    --------
    >>> digest_value("recipe", [1]) == digest_value("code", [1])
    False
    """
    return hashlib.sha256(_encode([tag, SCHEME, value]).encode("utf-8", "surrogatepass")).hexdigest()


def digest_code(parts: dict[str, str]) -> str:
    """Digest of a code part: {qualified definition: digest of its normalised AST, library: version}."""
    return digest_value("code", parts)


def digest_recipe(code: str, tree: Any, source: str | None) -> str:
    """Digest of all that decides a step's result.

    Parameters
    ----------
    code : str
        `digest_code` of the step's closure, which holds Python's and the libraries' versions too.
    tree : list or scalar
        Argument tree in which each reference has been replaced by its artifact's format and digest.
    source : str or None
        Digest of the bytes that a source step reads.
    """
    return digest_value("recipe", [code, tree, source])
