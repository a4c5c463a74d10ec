"""Addresses of stores and ledgers: what is one, and how it is shown without its secrets."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SECRET = re.compile(r"([a-z][a-z0-9+.-]*://)([^:/?#\s@]*):(\S+)@", re.IGNORECASE)
_QUERY = re.compile(r"([?&](?:password|passwd|secret|token|key|sig|signature)[a-z_-]*=)[^&#\s]+", re.IGNORECASE)


def scheme(text: str) -> str:
    """The scheme of a URL in small letters, "" for a path.

    Examples
    --------
    >>> scheme("s3://bucket/x"), scheme("models/store"), scheme("C://x")
    ('s3', '', '')
    """
    match = _SCHEME.match(text)
    return match[1].lower() if match and len(match[1]) > 1 else ""


def masked(text: str) -> str:
    """A text in which no URL shows its password.

    Examples
    --------
    >>> masked("cannot reach postgresql://ana:s3cret@db/penstock")
    'cannot reach postgresql://ana:***@db/penstock'
    >>> masked("postgresql://db/x?user=ana&password=s3cret")
    'postgresql://db/x?user=ana&password=***'
    """
    return _QUERY.sub(r"\1***", _SECRET.sub(r"\1\2:***@", text))


def has_password(text: str) -> bool:
    """Whether a URL holds a password, which then would stand in a file.

    Examples
    --------
    >>> has_password("postgresql://ana@db/x"), has_password("postgresql://ana:s3cret@db/x")
    (False, True)
    """
    return masked(text) != text
