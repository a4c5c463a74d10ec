"""Addresses of stores and ledgers: what is one, and how it is shown without its secrets."""

from __future__ import annotations

import re
from urllib.parse import unquote

CREDENTIALS = (
    *("password", "passwd", "pwd", "sslpassword", "secret", "token", "key", "apikey", "sig", "signature"),
    *("credential", "credentials", "auth"),
)
"""Last words of the names under which credentials stand in a URL: access_token=, X-Amz-Signature=."""
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SECRET = re.compile(r"([a-z][a-z0-9+.-]*://)([^:/?#\s@]*):(\S+)@", re.IGNORECASE)
_SECRET_OF_LONG_NAME = re.compile(r"([a-z][a-z0-9+.-]*://)([^:/?#\s]*):([^/?#\s]+)@", re.IGNORECASE)
_PART = re.compile(r"([?&])([^=&#\s]+)=([^&#\s]+)")
_ENCLOSED = re.compile(r"\b(?:pwd|password)\s*=", re.IGNORECASE)


def scheme(text: str) -> str:
    """The scheme of a URL in small letters, "" for a path.

    Examples
    --------
    >>> scheme("s3://bucket/x"), scheme("models/store"), scheme("C://x")
    ('s3', '', '')
    """
    match = _SCHEME.match(text)
    return match[1].lower() if match and len(match[1]) > 1 else ""


def install_hint(kind: str) -> str:
    """What to install where the library that opens a scheme is not there.

    Examples
    --------
    >>> install_hint("s3")
    "pip install 'penstock[s3]'"
    """
    extra = _EXTRAS.get(kind)
    return f"pip install 'penstock[{extra}]'" if extra else f"install the library that opens {kind}://"


def masked(text: str) -> str:
    """A text in which no URL shows its password.

    Examples
    --------
    >>> masked("cannot reach postgresql://ana:s3cret@db/penstock")
    'cannot reach postgresql://ana:***@db/penstock'
    >>> masked("postgresql://db/x?user=ana&password=s3cret")
    'postgresql://db/x?user=ana&password=***'
    """
    for pattern in (_SECRET, _SECRET_OF_LONG_NAME):  # the latter's user has a host: ana@corp:s3cret@db
        text = pattern.sub(r"\1\2:***@", text)
    return _PART.sub(lambda m: f"{m[1]}{m[2]}=***" if is_credential(m[2], m[3]) else m[0], text)


def is_credential(name: str, value: str = "") -> bool:
    """Whether a parameter of a URL is named as credentials are, or has a driver's whole settings with one inside.

    Examples
    --------
    >>> is_credential("X-Amz-Signature"), is_credential("day"), is_credential("odbc_connect", "UID%3Da%3BPWD%3Db")
    (True, False, True)
    """
    return re.split(r"[^a-z]+", name.lower())[-1] in CREDENTIALS or _ENCLOSED.search(unquote(value)) is not None


def has_password(text: str) -> bool:
    """Whether a URL holds a password, which then would stand in a file.

    Examples
    --------
    >>> has_password("postgresql://ana@db/x"), has_password("postgresql://ana:s3cret@db/x")
    (False, True)
    """
    return masked(text) != text
