"""Sources: what `read` declares, as a value that says where a table is and how it is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from penstock.core.digest import digest_value
from penstock.core.names import did_you_mean, listed
from penstock.core.place import declaring_folder
from penstock.core.query import is_database, read_files_by_query, read_query
from penstock.core.resources import memory_bytes
from penstock.core.step import Call, Options, Ref
from penstock.core.urls import is_credential, masked
from penstock.errors import DeclarationError

READ = "penstock.stages.ingest:read"
"""Entry of the step that every `read` becomes; resolved in the worker."""
COMPRESSED = (".gz", ".bz2", ".zst", ".xz")
FILE_SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "http", "https", "memory")
"""Schemes of URLs at which files are read; each is reached only where a declaration names it."""
LOCATION = ("path", "more", "max_rows", "max_bytes")
"""Fields that say where the table is and how much of it may be read: they decide whether a table comes, not which."""
ALWAYS = ("suffix", "sep", "encoding", "na", "strip", "types", "dates", "columns")
"""Options that stand in every recipe; any other stands there only when it is given, so that none disturbs the rest."""


@dataclass(frozen=True)
class Source:
    """Where a table is and how it is read; made by `read`.

    Attributes
    ----------
    path : str
        A file, a folder, a pattern such as "data/2026-*.csv" (each absolute) or a URL. It stays out of the recipe:
        there the file is its bytes' digest and its suffix.
    more : tuple of str
        Further places, where a list was declared.
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
    more: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """What decides the table beside the bytes: not where they are, and nothing new that was not given."""
        found = {}
        for f in fields(self):
            default = f.default_factory() if f.default_factory is not MISSING else f.default
            value = getattr(self, f.name)
            if f.name in ALWAYS or (f.name not in LOCATION and value != default):
                found[f.name] = value
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """What lies at a source's places: the files whose bytes are the source.

    Attributes
    ----------
    files : tuple of (name, path, digest)
        Name relative to the folder that all of them share; local path to the bytes; SHA-256 of them, None where
        nobody asks. In the order of the names, which is the order of the rows.
    many : bool
        Whether several files were declared (a list, a pattern, a folder), however many there are.
    """

    files: tuple[tuple[str, str, str | None], ...]
    many: bool = False

    @property
    def parts(self) -> dict[str, str]:
        """Name → SHA-256 of each file."""
        return {name: digest or "" for name, _, digest in self.files}

    @property
    def digest(self) -> str:
        """The source's digest: that of one file's bytes, or of all names and digests."""
        return digest_value("files", self.parts) if self.many else self.files[0][2] or ""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"many": self.many, "files": [list(file) for file in self.files]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Found:
        """The inverse of `to_json`."""
        return cls(tuple((name, path, digest) for name, path, digest in data["files"]), data["many"])


def read(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
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
    dates: str | Iterable[str] = (),
    columns: str | Iterable[str] | None = None,
    rev: str | None = None,
    refresh: str | None = None,
    secret: Any = None,
    max_rows: int | None = None,
    max_bytes: int | str | None = None,
) -> Any:
    """A table in a file or in several: CSV, JSON lines, Parquet, Arrow or Excel, here or at a URL.

    Parameters
    ----------
    source : str, path or list of them
        A file, a pattern ("data/2026-*.csv"), a folder of files ("sales/", also with parts such as
        "year=2026/month=3"), or a URL: of a file or, but for HTTP, a pattern or a folder, which ends with "/".
        Relative to the file that declares it, never to the working directory. Several files are one table: they
        agree in their columns, and their rows follow the order of their names.
    name : str, optional
        Step id; the file's stem by default.
    sheet : str or int, optional
        Of an Excel workbook: a sheet's name, or its number from 0. Asked for when several sheets hold data.
    sep, encoding : str, optional
        Sniffed when not given, and shown; held to when given.
    na : list of str
        Further texts that mean "missing"; the empty cell always does.
    strip : bool, default=True
        Drop spaces around cells.
    types : dict, optional
        Column → "int", "float", "bool", "str", "category" or "datetime".
    dates : str or list of str
        Columns to read as dates.
    columns : str or list of str, optional
        Read only these, in this order.
    max_rows : int, optional
        Most rows. No limit by default.
    max_bytes : int or str, optional
        Most bytes of the table once it is unpacked, as "64GiB". By default four times the machine's memory, and what
        grows beyond measure while it is unpacked is refused before that.
    query : str or path, optional
        Of a database: SQL, a .sql file relative to the declaring file, or the name of a table. Of files: SQL for
        DuckDB, whose only table `data` is what the files hold.
    params : dict, optional
        Bound to the names in the query (`:name`; `$name` in DuckDB), never pasted into its text. A `Param` may stand
        among them; a list is expanded.
    refresh : str, optional
        When a database is asked again: "run" (the default: once a run), a duration ("1d": when the newest snapshot is
        older) or "manual" (`penstock run --refresh NAME`). `try` takes the newest snapshot there is.
    secret : Secret, optional
        The database's password, as `Secret("env:DB_PASSWORD")`.
    rev
        Refused until it exists.

    Returns
    -------
    Ref
        The table, when a run reads it.

    Raises
    ------
    DeclarationError
        A URL of an unknown kind, a credential in a URL, or an option that cannot be.

    Examples
    --------
    >>> read("customers.csv", na=["?"])
    <Ref customers>
    >>> read("sales/2026-*.parquet", name="sales", max_bytes="8GiB")
    <Ref sales>
    """
    if isinstance(source, str) and is_database(source, query):
        of_files = {"sep": sep, "sheet": sheet, "encoding": encoding, "na": na or None, "rev": rev}
        wrong = _only_files(**of_files, strip=None if strip else strip)
        return read_query(
            source,
            wrong + _option_faults(None, max_rows, max_bytes),
            name=name,
            query=query,
            params=params,
            refresh=refresh,
            secret=secret,
            types=types,
            dates=dates,
            columns=columns,
            max_rows=max_rows,
            max_bytes=max_bytes,
        )
    texts = [os.fspath(source)] if isinstance(source, str | os.PathLike) else [os.fspath(one) for one in source]
    faults = [*_only_databases(params if query is None else None, refresh, secret), *_rev_faults(rev)]
    faults += [] if texts else ["read: no file at all; name one or several"]
    faults += [fault for text in texts for fault in _place_faults(text)]
    faults += _option_faults(sheet, max_rows, max_bytes)
    if faults:
        raise DeclarationError(faults)
    folder = declaring_folder()
    first, *more = [text if "://" in text else os.path.normpath(os.path.join(folder, text)) for text in texts]
    suffixes = {stem_and_suffix(text)[1] for text in texts}
    spec = Source(
        path=first,
        suffix=suffixes.pop() if len(suffixes) == 1 else "",
        sep=sep,
        encoding=encoding,
        na=listed(na),
        strip=strip,
        types=dict(types or {}),
        dates=listed(dates),
        columns=None if columns is None else listed(columns),
        sheet=sheet,
        max_rows=max_rows,
        max_bytes=memory_bytes(max_bytes),
        more=tuple(more),
    )
    stem = name or _name_of(first)
    call = Call(READ, stem, (spec,), {}, Options(outputs=("table", "sniffed")), kind="source", part="ingest")
    return Ref(call, "table") if query is None else read_files_by_query(call, query, params)


def _place_faults(text: str) -> list[str]:
    """What is wrong with a place: a URL that is no file's, or one that carries a credential."""
    scheme, separator, rest = text.partition("://")
    if not text.strip() or "\0" in text:
        return [f"read: {text!r}: the path of a file is meant"]
    if not separator:
        return []
    if "::" in scheme or scheme.lower() not in FILE_SCHEMES:
        near = did_you_mean(scheme, FILE_SCHEMES)
        what = "a path is written as it is" if scheme == "file" else f"files are read at {', '.join(FILE_SCHEMES)}"
        return [f"read: {masked(text)!r} is a URL of the kind {scheme!r}{near}: {what}"]
    if "@" in rest.partition("/")[0] or _signed(rest):
        shown = f"{scheme}://{rest.rpartition('@')[2] if '@' in rest.partition('/')[0] else rest}".partition("?")[0]
        return [f"read: {shown!r} carries a credential, which would go on record: {_BY_ENVIRONMENT}"]
    if scheme.lower() in ("http", "https") and any(sign in rest.partition("?")[0] for sign in "*["):
        return [f"read: {text!r} is a pattern, but over HTTP nothing can be listed: name each file"]
    return []


_BY_ENVIRONMENT = "leave it out, and give it by the environment, as the storage's own tools take it"


def _signed(rest: str) -> bool:
    """Whether a query string has a part that is named as credentials are: sig=, X-Amz-Signature=, access_token=."""
    pairs = [pair.partition("=") for pair in rest.partition("?")[2].split("&")]
    return any(is_credential(name, value) for name, _, value in pairs)


def _option_faults(sheet: Any, max_rows: Any, max_bytes: Any) -> list[str]:
    faults = []
    if sheet is not None and (isinstance(sheet, bool) or not isinstance(sheet, str | int)):
        faults.append(f"read: sheet={sheet!r}: a sheet's name, or its number from 0")
    if max_rows is not None and (isinstance(max_rows, bool) or not isinstance(max_rows, int) or max_rows < 1):
        faults.append(f"read: max_rows={max_rows!r}: a whole number from 1")
    try:
        size = memory_bytes(max_bytes)
    except (DeclarationError, AttributeError):
        size = 0
    if size is not None and size < 1:
        faults.append(f"read: max_bytes={max_bytes!r}: bytes, or a size such as '512MiB' or '64GiB'")
    return faults


def _name_of(place: str) -> str:
    """A step id for a place: the stem without the signs of a pattern, else the name of the folder.

    Examples
    --------
    >>> _name_of("/data/2026-*.csv"), _name_of("/data/sales/*.csv"), _name_of("s3://lake/customers.csv.gz")
    ('2026', 'sales', 'customers')
    """
    for part in reversed(place.partition("?")[0].split("/") if "://" in place else place.split(os.sep)):
        stem = stem_and_suffix(part)[0].strip()
        if set("*?[") & set(stem):
            stem = stem.translate(dict.fromkeys(map(ord, "*?[]!"), None)).strip("-_. ")
        if stem and "=" not in stem:
            return stem
    return "table"


def _only_files(**given: Any) -> list[str]:
    """Arguments that mean nothing where a database is read."""
    wrong = [word for word, value in given.items() if value is not None]
    return [f"read: {word}= says how a file is read, and this is a database" for word in wrong]


def _only_databases(params: Any, refresh: Any, secret: Any) -> list[str]:
    """Arguments that mean nothing where files are read."""
    why = {
        "params": "it binds values to a query=",
        "refresh": "a file is read again when its bytes change",
        "secret": "a file needs no password; a storage takes it from the environment",
    }
    given = {"params": params, "refresh": refresh, "secret": secret}
    return [f"read: {word}=: {why[word]}" for word, value in given.items() if value is not None]


def _rev_faults(rev: Any) -> list[str]:
    return [] if rev is None else ["read: rev= does not work yet: a file is read as it is now"]


def stem_and_suffix(text: str) -> tuple[str, str]:
    """A file's name without its suffix, and the suffix in small letters, a compression's with what is before it.

    Examples
    --------
    >>> stem_and_suffix("data/Customers.CSV.gz")
    ('Customers', '.csv.gz')
    """
    stem, suffix = os.path.splitext(os.path.basename(text))
    if suffix in COMPRESSED:
        stem, inner = os.path.splitext(stem)
        suffix = inner + suffix
    return stem, suffix.lower()


def meant_for(suffix: str, declared: str) -> tuple[str, ...]:
    """Options of a declared source that are meant for another file of its rows: of its form only for one of its kind.

    Parameters
    ----------
    suffix, declared : str
        Of the other file, and of the source.

    Examples
    --------
    >>> meant_for(".csv", ".csv"), meant_for(".parquet", ".csv")
    (('na', 'strip', 'sep', 'encoding', 'sheet'), ('na', 'strip'))
    """
    return ("na", "strip", *(("sep", "encoding", "sheet") if suffix == declared else ()))
