"""`penstock predict --on BACKEND`: a large file is answered by slices elsewhere, and the answers are put together here.

The table is read once, here, in bounded memory, since the type of a column is told by all of its cells. It goes to the
store with `CHUNK_ROWS` rows in a group; each slice of it is answered by whoever has time, and what comes back are the
digests of the answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from penstock.core.ports import Home
from penstock.errors import DataError, StoreError, UsageError
from penstock.lifecycle.records import source_options
from penstock.lifecycle.versions import Version

if TYPE_CHECKING:
    from penstock.serve.model import Model

CSV_CELLS = 100_000
"""Cells that pandas writes at once: whether a column of times shows days alone is decided for each such block."""
PARQUET_ROWS = 1 << 20
"""Rows in a group of a Parquet file that pandas writes."""


def score_on(home: Home, version: Version, path: str, output: str, on: str) -> tuple[int, dict[str, int]]:
    """Answer a table on a backend; the file that comes of it has the bytes that it has without one.

    Parameters
    ----------
    home : Home
    version : Version
    path, output : str
        The table, and where the answers go.
    on : str
        "dask", or "dask://HOST:8786".

    Returns
    -------
    n_rows : int
    unseen : dict
        Column → rows with a level that training never saw.

    Raises
    ------
    UsageError
        The backend divides no predictions.
    SourceNotFoundError, DataError, StoreError, PenstockError
    """
    from penstock.backends.backend import backend as named
    from penstock.cli.elsewhere import split_place
    from penstock.cli.scoring import model_of
    from penstock.serve.model import CHUNK_ROWS

    name, where = split_place(on)
    chosen = named(name)
    if not hasattr(chosen, "predict"):
        hint = "--on dask, or leave it out: a file of any size is answered here"
        raise UsageError(f"--on {name}: it runs flows, and answers no file by slices", hint=hint)
    model = model_of(home, version)
    given: list[str] = []
    try:
        try:
            digest, n_rows, gaps = _stored(home, version, model, path)
            given.append(digest)
            told = chosen.predict(home, version, (digest, n_rows, CHUNK_ROWS), gaps, where)
        except DataError as error:
            at = f"{path}, {error.where}" if error.where.startswith("rows ") else path
            hint = f"{error.hint}; `penstock show {version.name}` tells"
            raise DataError(error.what, where=at, hint=hint) from error
        given += [one["digest"] for one in told]
        unseen: dict[str, int] = {}
        for one in told:
            for column, count in one["unseen"].items():
                unseen[column] = unseen.get(column, 0) + count
        unseen = {column.name: unseen[column.name] for column in model.contract.columns if column.name in unseen}
        write_parts(_answers(home, given[1:]), output, unseen)
    finally:
        model.close()
        for digest in given:  # they have names that nothing else has: see `_stored`
            with contextlib.suppress(StoreError):
                home.objects.delete(digest)
    return n_rows, unseen


def _stored(home: Home, version: Version, model: Model, path: str) -> tuple[str, int, list[str]]:
    """Digest of the table as it went to the store, its rows, and the columns that lack a value somewhere.

    Raises
    ------
    DataError
        A column of the model's is missing; others are found where a slice is answered.
    """
    from penstock.cli.scoring import read_table, types_of
    from penstock.core.artifact import Written

    table = read_table(path, types_of(model), source_options(home, version))
    handle, draft = tempfile.mkstemp(prefix="penstock-", suffix=".parquet")
    os.close(handle)
    try:
        n_rows, gaps = grouped(table, draft, [*(c.name for c in model.contract.columns), *model.contract.key])
        if n_rows and (first := _first(draft)) is not None and {c.name for c in model.contract.columns} - {*first}:
            model.score_frame(first)  # says which are missing
        digest, _ = home.objects.stage(draft)
        home.objects.publish([digest])
    finally:
        for one in (draft, *([table.path] if isinstance(table, Written) else [])):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(one)
    return digest, n_rows, gaps


def _first(path: str) -> Any:
    from penstock.serve.slice import pieces

    return next(pieces(path, (), 0, 1), None)


def grouped(table: Any, path: str, columns: Sequence[str]) -> tuple[int, list[str]]:
    """Write a table with `CHUNK_ROWS` rows in each group.

    Parameters
    ----------
    table : pyarrow.Table or Written
    path : str
    columns : sequence of str
        Those that are wanted; all of them where one of these is missing.

    Returns
    -------
    n_rows : int
    gaps : list of str
        Columns of which some row has no value.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from penstock.core.artifact import Written
    from penstock.serve.model import CHUNK_ROWS

    file = pq.ParquetFile(table.path) if isinstance(table, Written) else None
    schema = table.schema if file is None else file.schema_arrow
    wanted = [name for name in schema.names if name in columns]
    wanted = wanted if {*columns} <= {*wanted} else list(schema.names)
    if file is None:
        batches = (table.slice(at, CHUNK_ROWS) for at in range(0, len(table), CHUNK_ROWS))
    else:
        batches = (pa.Table.from_batches([b]) for b in file.iter_batches(CHUNK_ROWS, columns=wanted, use_threads=False))
    writer, n_rows, gaps = None, 0, dict.fromkeys(wanted, False)
    for piece in _of_size(batches, CHUNK_ROWS, pa.concat_tables):
        part = piece.select(wanted)
        for name in wanted:
            gaps[name] = gaps[name] or bool(pc.any(pc.is_null(part[name], nan_is_null=True)).as_py())
        if writer is None:
            # No other table has these bytes, so that they can be deleted when they were answered.
            told = {**(part.schema.metadata or {}), b"once": uuid.uuid4().hex.encode()}
            writer = pq.ParquetWriter(path, part.schema.with_metadata(told), compression="lz4", write_statistics=False)
        writer.write_table(part.replace_schema_metadata(writer.schema.metadata), row_group_size=CHUNK_ROWS)
        n_rows += len(part)
    if writer is not None:
        writer.close()
    if file is not None:
        file.close()
    return n_rows, [name for name, found in gaps.items() if found]


def _answers(home: Home, digests: Iterable[str]) -> Iterator[Any]:
    """Frames of answers in the order of the rows, one at a time in memory."""
    from penstock.serve.slice import pieces

    for digest in digests:
        yield from pieces(home.objects.fetch(digest), ())


def _of_size(parts: Iterable[Any], rows: int, join: Any) -> Iterator[Any]:
    """The rows of tables or frames in others that have so many each, but the last."""
    waiting: list[Any] = []
    n = 0
    for part in parts:
        waiting.append(part)
        n += len(part)
        while n >= rows:
            together = join(waiting) if len(waiting) > 1 else waiting[0]
            yield together[:rows]
            waiting, n = [together[rows:]], n - rows
    if n:
        yield join(waiting) if len(waiting) > 1 else waiting[0]


def write_parts(frames: Iterable[Any], path: str, unseen: dict[str, int]) -> None:
    """Write frames as one table, in one move, with the bytes that `scoring.write` would give it.

    Parameters
    ----------
    frames : iterable of pandas.DataFrame
        Of one set of columns and dtypes.
    path : str
    unseen : dict
        Told in a Parquet file's metadata.

    Raises
    ------
    StoreError
    """
    from penstock.cli.scoring import whole

    parquet = path.endswith(".parquet")
    whole(path, lambda draft: _parquet(frames, draft, unseen) if parquet else _csv(frames, draft))


def _join(frames: Sequence[Any]) -> Any:
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def _csv(frames: Iterable[Any], draft: str) -> None:
    waiting = iter(frames)
    first = next(waiting)
    block = max(CSV_CELLS // max(first.shape[1], 1), 1)
    rows = block * max(PARQUET_ROWS // 16 // block, 1)
    with open(draft, "w", encoding="utf-8", newline="") as file:
        for place, frame in enumerate(_of_size(_again(first, waiting), rows, _join)):
            frame.to_csv(file, index=False, header=place == 0)


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _parquet(frames: Iterable[Any], draft: str, unseen: dict[str, int]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for frame in _of_size(frames, PARQUET_ROWS, _join):
            frame.attrs = {"unseen": unseen}
            table = pa.Table.from_pandas(frame, preserve_index=False)
            told = {**table.schema.metadata, b"PANDAS_ATTRS": json.dumps({"unseen": unseen}).encode()}
            table = table.replace_schema_metadata(told)
            writer = writer or pq.ParquetWriter(draft, table.schema, compression="snappy")
            writer.write_table(table.cast(writer.schema) if table.schema != writer.schema else table)
    finally:
        if writer is not None:
            writer.close()
