"""Sources: what `read` declares, as a value that says where a table is and how it is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from penstock.core.place import declaring_folder
from penstock.core.step import Call, Options, Ref
from penstock.errors import DeclarationError

READ = "penstock.stages.ingest:read"
"""Entry of the step that every `read` becomes; resolved in the worker."""
COMPRESSED = (".gz", ".bz2", ".zst", ".xz")
LOCATION = ("path", "max_rows", "max_bytes")
"""Fields that say where the table is and how much of it may be read: they decide whether a table comes, not which."""
ALWAYS = ("suffix", "sep", "encoding", "na", "strip", "types", "dates", "columns")
"""Options that stand in every recipe; any other stands there only when it is given, so that none disturbs the rest."""


@dataclass(frozen=True)
class Source:
    """A file to read and how; made by `read`.

    `path` is absolute and stays out of the recipe: there the file is its bytes' digest and its suffix.
    """

    path: str
    suffix: str = ""
    sep: str | None = None
    encoding: str | None = None
    na: tuple[str, ...] = ()
    strip: bool = True
    types: dict[str, str] = field(default_factory=dict)
    dates: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    sheet: str | int | None = None
    max_rows: int | None = None
    max_bytes: int | None = None

    def options(self) -> dict[str, Any]:
        """What decides the table beside the bytes: not where they are, and nothing new that was not given."""
        found = {}
        for f in fields(self):
            default = f.default_factory() if f.default_factory is not MISSING else f.default
            value = getattr(self, f.name)
            if f.name in ALWAYS or (f.name not in LOCATION and value != default):
                found[f.name] = value
        return found


def read(
    source: str | os.PathLike[str],
    *,
    name: str | None = None,
    query: Any = None,
    params: Mapping[str, Any] | None = None,
    sheet: str | int | None = None,
    sep: str | None = None,
    encoding: str | None = None,
    na: Iterable[str] | str = (),
    strip: bool = True,
    types: Mapping[str, str] | None = None,
    dates: Iterable[str] = (),
    columns: Iterable[str] | None = None,
    rev: str | None = None,
    refresh: str | None = None,
    secret: Any = None,
    max_rows: int | None = None,
    max_bytes: int | str | None = None,
) -> Any:
    """A table in a file: CSV in any dialect (also gzipped) or Parquet.

    Parameters
    ----------
    source : str or path
        Relative to the file that declares it, never to the working directory.
    name : str, optional
        Step id; the file's stem by default.
    sep, encoding : str, optional
        Sniffed when not given, and shown; held to when given.
    na : list of str
        Further texts that mean "missing"; the empty cell always does.
    strip : bool, default=True
        Drop spaces around cells.
    types : dict, optional
        Column → "int", "float", "bool", "str", "category" or "datetime".
    dates : list of str
        Columns to read as dates.
    columns : list of str, optional
        Read only these, in this order.
    query, params, sheet, rev, refresh, secret, max_rows, max_bytes
        Refused until they exist.

    Returns
    -------
    Ref
        The table, when a run reads it.

    Raises
    ------
    DeclarationError
        A URL, a password in a URL, or an option that does not exist yet.

    Examples
    --------
    >>> read("customers.csv", na=["?"])
    <Ref customers>
    """
    text = os.fspath(source)
    faults = [*_query_faults(query, params), *_refresh_faults(refresh), *_secret_faults(secret), *_rev_faults(rev)]
    later = {"sheet": sheet, "max_rows": max_rows, "max_bytes": max_bytes}
    faults += [f"read: {key}= does not work yet" for key, value in later.items() if value is not None]
    if "://" in text:
        faults.append(f"read: {masked(text)!r} is a URL: only CSV and Parquet files can be read yet")
    if any(sign in text for sign in "*?["):
        faults.append(f"read: {text!r} is a pattern: one file can be read yet")
    if faults:
        raise DeclarationError(faults)
    path = os.path.normpath(os.path.join(declaring_folder(), text))
    stem, suffix = _stem_and_suffix(text)
    spec = Source(
        path=path,
        suffix=suffix,
        sep=sep,
        encoding=encoding,
        na=(na,) if isinstance(na, str) else tuple(na),
        strip=strip,
        types=dict(types or {}),
        dates=tuple(dates),
        columns=None if columns is None else tuple(columns),
    )
    call = Call(READ, name or stem, (spec,), {}, Options(outputs=("table", "sniffed")), kind="source", part="ingest")
    return Ref(call, "table")


def _query_faults(query: Any, params: Any) -> list[str]:
    given = {"query": query, "params": params}
    return [f"read: {key}= does not work yet: only files can be read" for key, v in given.items() if v is not None]


def _refresh_faults(refresh: Any) -> list[str]:
    return [] if refresh is None else ["read: refresh= does not work yet: only files can be read"]


def _secret_faults(secret: Any) -> list[str]:
    return [] if secret is None else ["read: secret= does not work yet: only files can be read"]


def _rev_faults(rev: Any) -> list[str]:
    return [] if rev is None else ["read: rev= does not work yet: a file is read as it is now"]


def _stem_and_suffix(text: str) -> tuple[str, str]:
    """A file's name without its suffix, and the suffix in small letters, a compression's with what is before it.

    Examples
    --------
    >>> _stem_and_suffix("data/Customers.CSV.gz")
    ('Customers', '.csv.gz')
    """
    stem, suffix = os.path.splitext(os.path.basename(text))
    if suffix in COMPRESSED:
        stem, inner = os.path.splitext(stem)
        suffix = inner + suffix
    return stem, suffix.lower()


def masked(url: str) -> str:
    """A URL without its password.

    Examples
    --------
    >>> masked("postgresql://me:hunter2@host/db")
    'postgresql://me:***@host/db'
    """
    head, _, tail = url.partition("://")
    if "@" not in tail:
        return url
    user, _, rest = tail.rpartition("@")
    return f"{head}://{user.partition(':')[0]}:***@{rest}"
