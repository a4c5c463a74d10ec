"""Queries: what `read` declares of a database, or of files that DuckDB reads, as a value."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.digest import digest_value
from penstock.core.names import listed
from penstock.core.place import declaring_folder
from penstock.core.resources import memory_bytes
from penstock.core.secret import Secret
from penstock.core.split import duration_s
from penstock.core.step import Call, Options, Ref, promises
from penstock.core.urls import is_credential
from penstock.errors import DeclarationError

READ_SQL = "penstock.stages.sql:read"
READ_DUCKDB = "penstock.stages.duckdb_query:read"
"""Entries of the steps that a `read` with a query becomes; resolved in the worker."""
POLICIES = ("run", "manual")
QUERY_S = 3600.0
"""Seconds that a query may take, unless the step is told otherwise."""
_DIALECTS = ("postgresql", "postgres", "mysql", "mariadb", "sqlite", "oracle", "mssql", "snowflake", "bigquery")
_NOT_DATABASES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "http", "https", "memory", "file", "ftp")
_TABLE = re.compile(r"^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*){0,2}$")


@dataclass(frozen=True)
class Query:
    """A query of a database; made by `read`.

    Attributes
    ----------
    url : str
        SQLAlchemy's, without a password.
    text : str
        SQL, or the name of a table.
    refresh : str
        "run", "manual" or a duration; it decides when the query is read, not what it gives, and stays out of the
        recipe, as do `folder` and the limits.
    folder : str
        Of the declaring file: a SQLite file's path is relative to it.
    """

    url: str
    text: str
    refresh: str = "run"
    folder: str = ""
    types: dict[str, str] = field(default_factory=dict)
    dates: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    max_rows: int | None = None
    max_bytes: int | None = None

    def options(self) -> dict[str, Any]:
        """What decides the table, beside the moment."""
        found: dict[str, Any] = {"url": self.url, "query": self.text}
        given = {"types": self.types, "dates": self.dates, "columns": self.columns}
        return found | {word: value for word, value in given.items() if value}

    @property
    def is_table(self) -> bool:
        """Whether the text is the name of a table."""
        return _TABLE.match(self.text) is not None


def is_database(text: str, query: Any = None) -> bool:
    """Whether a text is the URL of a database: by its dialect, or because a query is asked where no file can be.

    Examples
    --------
    >>> is_database("postgresql+psycopg://reader@db/crm"), is_database("s3://lake/t.parquet"), is_database("t.csv")
    (True, False, False)
    """
    scheme, separator, _ = text.partition("://")
    scheme = scheme.lower()
    if not separator or "::" in scheme:
        return False
    return scheme.partition("+")[0] in _DIALECTS or (query is not None and scheme not in _NOT_DATABASES)


def read_query(
    url: str,
    faults: Iterable[str],
    *,
    name: str | None,
    query: Any,
    params: Mapping[str, Any] | None,
    refresh: str | None,
    secret: Any,
    types: Mapping[str, str] | None,
    dates: str | Iterable[str],
    columns: str | Iterable[str] | None,
    max_rows: int | None,
    max_bytes: int | str | None,
) -> Ref:
    """What `read` gives for a database's URL; `faults` are those that it has found.

    Raises
    ------
    DeclarationError
    """
    faults = [*faults, *_url_faults(url), *params_faults(params)]
    faults += [*_refresh_faults(refresh), *_secret_faults(url, secret)]
    text, problem = query_text(query)
    if query is None:
        problem = "read: a database needs query=: SQL, a .sql file, or the name of a table"
    faults += [problem] if problem else []
    if faults:
        raise DeclarationError(faults)
    spec = Query(
        url=url,
        text=text,
        refresh=refresh or "run",
        folder=declaring_folder(),
        types=dict(types or {}),
        dates=listed(dates),
        columns=None if columns is None else listed(columns),
        max_rows=max_rows,
        max_bytes=memory_bytes(max_bytes),
    )
    kwargs: dict[str, Any] = {}
    if params:
        kwargs["params"] = dict(params)
    if secret is not None:
        kwargs["secret"] = secret
    options = Options(outputs=("table", "sniffed"), timeout_s=QUERY_S)
    step = name or _step_name(query, spec)
    return Ref(Call(READ_SQL, step, (spec,), kwargs, options, kind="source", part="ingest"), "table")


def read_files_by_query(call: Call, query: Any, params: Mapping[str, Any] | None) -> Ref:
    """The reference of a file source with a query over it: DuckDB sees the files' rows and nothing else.

    Raises
    ------
    DeclarationError
    """
    text, problem = query_text(query)
    faults = [*([problem] if problem else []), *params_faults(params)]
    if faults:
        raise DeclarationError(faults)
    kwargs: dict[str, Any] = {"query": text} | ({"params": dict(params)} if params else {})
    return Ref(Call(READ_DUCKDB, call.name, call.args, kwargs, call.options, kind="source", part="ingest"), "table")


def query_text(query: Any) -> tuple[str, str]:
    """SQL that was given as text or as a file, which is read now; and what is wrong with it, or ""."""
    if query is None:
        return "", ""
    is_path = isinstance(query, os.PathLike)
    if not is_path and not isinstance(query, str):
        return "", f"read: query={type(query).__name__}: SQL as text, a path, or the name of a table is meant"
    text = os.fspath(query) if is_path else query
    if is_path or (text.strip().lower().endswith(".sql") and len(text.split()) == 1):
        path = os.path.normpath(os.path.join(declaring_folder(), text.strip()))
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no UTF-8"
            return "", f"read: query={os.fspath(query)!r}: the file {path} cannot be read: {why}"
    text = text.strip().rstrip(";").rstrip()
    return text, "" if text else "read: query= is empty"


def database_of(url: str, secret: Secret | None) -> str:
    """A name for what one transaction can see: queries with the same one are read together."""
    return digest_value("database", [url, None if secret is None else secret.name])[:16]


def _step_name(query: Any, spec: Query) -> str:
    """The file's stem, the table, or the database."""
    if isinstance(query, os.PathLike) or str(query).lower().endswith(".sql"):
        return str(os.path.splitext(os.path.basename(os.fspath(query)))[0])
    if spec.is_table:
        return spec.text.rpartition(".")[2]
    base = spec.url.partition("://")[2].partition("?")[0].rpartition("/")[2]
    return os.path.splitext(base)[0] or "query"


def _url_faults(url: str) -> list[str]:
    """A password in the URL, wherever it stands; the fault does not repeat it."""
    from urllib.parse import parse_qsl

    scheme, _, rest = url.partition("://")
    authority, _, tail = rest.partition("/")
    userinfo = authority.rpartition("@")[0] if "@" in authority else rest.rpartition("@")[0]
    pairs = parse_qsl(tail.partition("?")[2] or rest.partition("?")[2])
    if ":" in userinfo or any(is_credential(*pair) for pair in pairs if pair[0] != "ssl_key"):  # that is a file
        shown = f"{scheme}://{userinfo.partition(':')[0]}:***@…" if userinfo else f"{scheme}://…"
        cure = 'leave it out and give secret=ps.Secret("env:DB_PASSWORD")'
        return [f"read: the URL {shown} holds a password, which would go on record: {cure}"]
    return []


def params_faults(params: Any) -> list[str]:
    """What cannot be bound to a query."""
    if params is None:
        return []
    if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
        return ['read: params=: a dict is meant, {"as_of": ps.Param("as_of", "2026-01-01")}']
    return [
        f"read: params={{{name!r}: …}}: the result of a step cannot be bound to a query; join it in a step"
        for name, value in params.items()
        if isinstance(value, Ref) or (promises(value) and type(value) is list)
    ]


def _refresh_faults(refresh: Any) -> list[str]:
    if refresh is None or refresh in POLICIES:
        return []
    try:
        duration_s(str(refresh))
    except ValueError:
        return [f'read: refresh={refresh!r}: "run", "manual", or a duration such as "1d"']
    return []


def _secret_faults(url: str, secret: Any) -> list[str]:
    if secret is None:
        return []
    if url.partition(":")[0] in {"sqlite", "sqlite+pysqlite"}:
        return ["read: secret=: an SQLite file has no password; leave it out"]
    if isinstance(secret, Secret):
        return []
    return ['read: secret=: ps.Secret("env:NAME") is meant, never the password itself']
