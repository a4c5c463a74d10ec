"""A query of a database becomes a table: read once, in a transaction that can write nothing, block by block."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.artifact import Written
from penstock.core.query import QUERY_S, Query
from penstock.core.source import Source
from penstock.errors import DataError, DeclarationError, MissingExtraError, SourceNotFoundError, bounded
from penstock.stages import sql_types
from penstock.stages.columns import chosen, write
from penstock.stages.sql_order import has_order, in_order
from penstock.stages.sql_types import Kind

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

BLOCK_ROWS = 20_000
CONNECT_S = 30
SPILL = 64 << 20
"""Bytes of Arrow above which a result is kept in a file, not in memory."""
DRIVERS = {
    "postgresql": ("psycopg", "penstock[postgres]"),
    "mysql": ("pymysql", "pymysql"),
    "mariadb": ("pymysql", "pymysql"),
}
"""Dialect → driver that is used when the URL names none, and what brings it."""

Members = Mapping[str, tuple[Query, Mapping[str, Any] | None, str | None]]
"""Step id → query, parameters, password."""


def read(
    query: Query,
    *,
    params: Mapping[str, Any] | None = None,
    secret: str | None = None,
    expect: str | None = None,
    together: tuple[str, str, Members] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Read a query.

    Parameters
    ----------
    query : Query
    params : mapping, optional
        Bound to the names in the query, never pasted into its text; a list is expanded.
    secret : str, optional
        The password.
    expect : str, optional
        Name of the moment; the engine tells it to every source, and a database has no use for it.
    together : (folder, step, members), optional
        Queries of this run on the same database: the first of them that runs reads all, in one transaction, and leaves
        the others' results in the folder.

    Returns
    -------
    table : pyarrow.Table or Written
    sniffed : dict
        Nothing of the moment stands in it: equal rows give equal bytes.

    Raises
    ------
    SourceNotFoundError
        The database is not there, or does not let us in.
    DeclarationError
        The query's parameters are not those that are given.
    DataError
        What the database says of the query; a column that no table can hold; no rows; too many.
    MissingExtraError
    """
    del expect
    if together is None:
        with _connected(query, secret) as connection:
            return fetch(connection, query, params)
    folder, step, members = together
    path = os.path.join(folder, f"{step.encode().hex()}")
    with _locked(folder):
        if not os.path.exists(f"{path}.json"):
            _read_all(folder, step, members)
    with open(f"{path}.json", encoding="utf-8") as file:
        sniffed = json.load(file)
    return _taken(f"{path}.parquet"), sniffed


# ── several queries of one run ───────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_all(folder: str, mine: str, members: Members) -> None:
    """Read each member in one transaction, mine first; another's fault is left for it to meet itself."""
    query, _, secret = members[mine]
    with _connected(query, secret) as connection:
        for step in [mine, *(name for name in members if name != mine)]:
            path = os.path.join(folder, step.encode().hex())
            if os.path.exists(f"{path}.json"):
                continue
            try:
                table, sniffed = fetch(connection, *members[step][:2])
            except Exception:
                if step == mine:
                    raise
                return
            made = table if isinstance(table, Written) else write(table.to_batches())
            shutil.move(made.path, f"{path}.parquet")
            with open(f"{path}.part", "w", encoding="utf-8") as file:
                json.dump(sniffed, file)
            os.replace(f"{path}.part", f"{path}.json")


def _taken(path: str) -> Any:
    """A result from the folder in the form in which it would have come alone."""
    import pyarrow.parquet as pq

    about = pq.read_metadata(path)
    if sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups)) > SPILL:
        return Written(path, "parquet")
    table = pq.read_table(path).replace_schema_metadata(None).combine_chunks()
    os.unlink(path)
    return table


# ── connecting ───────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _connected(query: Query, secret: str | None) -> Iterator[Any]:
    """A connection in one read-only transaction, as nearly as the database can.

    The driver's error keeps neither password nor parameters: its sentence is taken, its chain is cut.
    """
    try:
        import sqlalchemy as sa
    except ImportError:
        raise MissingExtraError("reading a database needs SQLAlchemy", hint="pip install 'penstock[sql]'") from None
    url = _url(query, secret)
    where = f"{url.get_backend_name()} {url.database or ''}".strip()
    problem: Exception | None = None
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True, **_arguments(url))
        connection = engine.connect()
    except Exception as error:  # drivers raise what they like
        problem = _unreachable(error, url, where)
    if problem is not None:
        raise problem
    try:
        _begin(connection, url.get_backend_name())
        yield connection
    except sa.exc.SQLAlchemyError as error:
        said = _sentence(error)
        problem = DataError(f"the database refused the query: {said}", where=where, hint="run it by hand to see more")
    finally:
        with contextlib.suppress(Exception):
            connection.rollback()
        with contextlib.suppress(Exception):
            connection.close()
            engine.dispose()
    if problem is not None:
        raise problem


def _url(query: Query, secret: str | None) -> sa.URL:
    """SQLAlchemy's URL with the password, the driver that is at hand, and a SQLite file's whole path."""
    import importlib.util

    import sqlalchemy as sa

    try:
        url = sa.make_url(query.url)
    except sa.exc.ArgumentError:
        raise DeclarationError(
            "read: this is no URL of a database", hint="as in postgresql://reader@host:5432/crm"
        ) from None
    name = {"postgres": "postgresql"}.get(url.drivername, url.drivername)
    if name in DRIVERS and importlib.util.find_spec(DRIVERS[name][0]) is not None:
        name = f"{name}+{DRIVERS[name][0]}"
    url = url.set(drivername=name)
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        url = url.set(database=os.path.normpath(os.path.join(query.folder, url.database or "")))
    return url.set(password=secret) if secret is not None else url


def _arguments(url: sa.URL) -> dict[str, Any]:
    """What the engine of a database is made with: it is waited for, but not for ever; a file is opened to be read."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return {"creator": lambda: _open_sqlite(url.database or "")}
    if backend == "postgresql":
        return {"connect_args": {"connect_timeout": CONNECT_S}} if "psycopg" in url.drivername else {}
    if backend in ("mysql", "mariadb"):
        return {"connect_args": {"connect_timeout": CONNECT_S}}
    return {}


def _open_sqlite(path: str) -> Any:
    import sqlite3
    from urllib.parse import quote

    if path in ("", ":memory:"):
        raise SourceNotFoundError("a SQLite database in memory is empty", hint="name a file: sqlite:///data/crm.db")
    if not os.path.isfile(path):
        raise SourceNotFoundError(
            f"no such file: {path}", hint="relative paths are relative to the file that declares them"
        )
    connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=CONNECT_S, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _begin(connection: Any, backend: str) -> None:
    """One state of the database for all queries, and no writing, where it knows how."""
    import sqlalchemy as sa

    if backend == "postgresql":
        milliseconds = int(QUERY_S * 1000)
        connection.execute(
            sa.text("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        )
        connection.execute(sa.text(f"SET statement_timeout = {milliseconds}"))
        connection.execute(sa.text("SET timezone = 'UTC'"))
        connection.commit()
        with contextlib.suppress(sa.exc.SQLAlchemyError):  # from PostgreSQL 14: a query of a reader who is gone ends
            connection.execute(sa.text("SET client_connection_check_interval = 1000"))
        connection.commit()
    elif backend in ("mysql", "mariadb"):
        connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # A statement such as CREATE TABLE ends a transaction: what begins after it must not write either.
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
        connection.exec_driver_sql("SET time_zone = '+00:00'")
        connection.commit()
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    elif backend == "sqlite":
        connection.exec_driver_sql("BEGIN")


def _unreachable(error: Exception, url: sa.URL, where: str) -> Exception:
    """Why there is no connection."""
    if isinstance(error, SourceNotFoundError):
        return error
    backend = url.get_backend_name()
    if isinstance(error, ImportError) or type(error).__name__ == "NoSuchModuleError":
        package = DRIVERS.get(backend, ("", "the SQLAlchemy dialect of the database"))[1]
        return MissingExtraError(
            f"no driver for {url.drivername!r} is installed",
            hint=f"pip install '{package}'" if backend in DRIVERS else f"install {package}",
        )
    return SourceNotFoundError(
        f"the database does not answer: {_sentence(error)}",
        where=where,
        hint="is the address right, and does secret= name the password?",
    )


def _sentence(error: Exception) -> str:
    """What the driver said, in one line, without SQLAlchemy's statement and parameters."""
    said = str(getattr(error, "orig", None) or error)
    return bounded(" ".join(said.split()), 600)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────


def fetch(connection: Any, query: Query, params: Mapping[str, Any] | None) -> tuple[Any, dict[str, Any]]:
    """One query's rows as a table."""
    import sqlalchemy as sa

    where = "query"
    backend = connection.dialect.name
    statement = sa.text(_select_all(query, connection)) if query.is_table else _bound(query.text, params)
    values = {} if query.is_table else dict(params or {})
    with tempfile.TemporaryDirectory(prefix="penstock-sql-") as folder:
        result = connection.execution_options(stream_results=True, max_row_buffer=BLOCK_ROWS).execute(statement, values)
        if not result.returns_rows:
            raise DataError("the query gives no rows: a SELECT is meant", where=where)
        names = _names(list(result.keys()), where)
        blocks = _Blocks(folder, names, query, where)
        for rows in result.partitions(BLOCK_ROWS):
            blocks.add(rows)
        blocks.check()
        table: Any = blocks.table(sort=query.is_table or not has_order(query.text))
    sniffed = {
        "format": "sql",
        "n_rows": blocks.n_rows,
        "n_columns": len(blocks.columns),
        "types": [[name, blocks.types[name]] for name in blocks.columns],
        "missing": {},
        "kept": {},
        "notes": sql_types.notes_of({name: blocks.kinds[name] for name in blocks.columns}),
        "summary": f"{backend} · {blocks.n_rows:,} × {len(blocks.columns)}",
    }
    return table, sniffed


def _select_all(query: Query, connection: Any) -> str:
    """Every column of a table, its name quoted as the database does."""
    quote = connection.dialect.identifier_preparer.quote
    return f"SELECT * FROM {'.'.join(quote(part) for part in query.text.split('.'))}"  # noqa: S608 - a name, and quoted


def _bound(text: str, params: Mapping[str, Any] | None) -> Any:
    """A statement whose parameters are bound; without any, a colon is a colon.

    Raises
    ------
    DeclarationError
    """
    import sqlalchemy as sa

    if not params:
        return sa.text(re.sub(r"(?<![:\\]):(?=\w)", r"\\:", text))
    statement = sa.text(text)
    wanted = set(statement.compile().params)
    faults = [f"read: the query binds :{name} and params= does not give it" for name in sorted(wanted - set(params))]
    faults += [
        f"read: params= gives {name!r} and the query does not bind :{name}" for name in sorted(set(params) - wanted)
    ]
    if faults:
        raise DeclarationError(faults)
    lists = [name for name, value in params.items() if isinstance(value, list | tuple | set | frozenset)]
    return statement.bindparams(*(sa.bindparam(name, expanding=True) for name in lists))


def _names(names: list[str], where: str) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not all(str(name).strip() for name in names):
        what = f"occur more than once: {', '.join(map(repr, twice[:10]))}" if twice else "are empty"
        raise DataError(f"column names {what}", where=where, hint="name them in the query: SELECT a.id AS a_id, …")
    return names


class _Blocks:
    """Rows as they come: in memory while they are few, else in a file a block."""

    def __init__(self, folder: str, names: list[str], query: Query, where: str) -> None:
        self.names, self.query, self.where, self._folder = names, query, where, folder
        self.source = Source("", types=query.types, dates=query.dates, columns=query.columns)
        self.columns = chosen(names, self.source, where)
        self.kinds = {name: Kind(set()) for name in names}
        self.types: dict[str, str] = {}
        self.n_rows = self.size = 0
        self._blocks: list[pa.RecordBatch | str] = []

    def add(self, rows: Any) -> None:
        """Take a block of rows, each column typed by what is in this block."""
        import pyarrow as pa

        arrays, words = [], []
        for name, values in zip(self.names, zip(*rows, strict=True), strict=True):
            if name in self.columns:
                kind = sql_types.kind_of(values, self.where, name)
                self.kinds[name].merge(kind)
                words.append(name)
                arrays.append(sql_types.array_of(values, kind.word))
        batch = pa.RecordBatch.from_arrays(arrays, names=words)
        self.n_rows, self.size = self.n_rows + len(rows), self.size + batch.nbytes
        self._check_limits()
        self._blocks.append(batch)
        if self.size > SPILL:
            self._blocks = [
                self._spilled(one, i) if not isinstance(one, str) else one for i, one in enumerate(self._blocks)
            ]

    def _check_limits(self) -> None:
        most_rows, most_bytes = self.query.max_rows, self.query.max_bytes
        if most_rows is not None and self.n_rows > most_rows:
            raise DataError(f"the query gives more than max_rows={most_rows:,} rows", where=self.where)
        if most_bytes is not None and self.size > most_bytes:
            raise DataError(f"the query gives more than max_bytes={most_bytes:,} bytes", where=self.where)

    def check(self) -> None:
        """There must be rows."""
        if not self.n_rows:
            raise DataError("the query gives no rows", where=self.where, hint="the table has no data")

    def _spilled(self, batch: Any, place: int) -> str:
        import pyarrow as pa

        path = os.path.join(self._folder, f"{place}.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        return path

    def table(self, *, sort: bool) -> Any:
        """All rows in the types of the whole, in the query's order or, without one, in that of their values."""
        import pyarrow as pa

        large = self.size > SPILL
        batches = self._typed()
        if not large:
            table = pa.Table.from_batches(list(batches)).unify_dictionaries().combine_chunks()
            found: Any = in_order(table) if sort else table
            self.types = {field.name: str(field.type) for field in found.schema}
            return found
        return in_order(write(batches), self._folder) if sort else write(batches)

    def _typed(self) -> Iterator[Any]:
        import pyarrow as pa

        from penstock.stages.parquet_source import declared_field, forced

        plain = {name: sql_types.array_of([], self.kinds[name].word).type for name in self.columns}
        wanted = pa.schema([declared_field(pa.field(n, plain[n]), self.source) for n in self.columns])
        self.types = {field.name: str(field.type) for field in wanted}
        for one in self._blocks:
            batch = _opened(one) if isinstance(one, str) else one
            cast = [_as(batch.column(name), plain[name]) for name in self.columns]
            yield forced(pa.RecordBatch.from_arrays(cast, names=self.columns), wanted, self.source, self.where)


def _opened(path: str) -> Any:
    import pyarrow as pa

    with pa.memory_map(path) as file:
        return pa.ipc.open_file(file).get_batch(0)


def _as(column: Any, kind: Any) -> Any:
    """A block's column in the type of the whole; every step up keeps the value."""
    import pyarrow as pa

    if column.type == kind:
        return column
    if pa.types.is_string(kind) and column.null_count == len(column):
        return pa.nulls(len(column), kind)
    if pa.types.is_string(kind):
        return sql_types.array_of(column.to_pylist(), "str")
    return column.cast(kind) if column.null_count < len(column) else pa.nulls(len(column), kind)
