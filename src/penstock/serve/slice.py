"""Answering some rows of a table that lies in the store: what one task of a prediction by slices does.

``python -P -m penstock.serve.slice --root . --workflow churn --version 7 --table DIGEST --rows 0:200000``

The table is a Parquet file with `CHUNK_ROWS` rows in each of its groups, so that a slice is read, checked and answered
a group at a time, and the model is asked for the same rows at once as where nothing is divided.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from penstock.core.processes import die_with_parent
from penstock.errors import DataError, InternalError, PenstockError, StoreError, bounded
from penstock.serve.model import CHUNK_ROWS

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.serve.model import Model

FINAL_CODES = (2, 3, 6)
"""Exit codes of failures that another try of the same would repeat."""


def pieces(path: str, gaps: Collection[str], first: int = 0, last: int | None = None) -> Iterator[Any]:
    """Frames of a table, a group of rows each, with the dtypes that the whole of it has.

    Parameters
    ----------
    path : str
        Parquet.
    gaps : collection of str
        Columns of which some row of the table has no value: whole numbers are then decimals in every piece.
    first, last : int
        Groups of rows, the last one left out; None for all.

    Yields
    ------
    pandas.DataFrame
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(first, file.metadata.num_row_groups if last is None else last):
            table = file.read_row_group(group, use_threads=False)
            frame = table.to_pandas()
            for field in table.schema:
                if field.name in gaps and pa.types.is_integer(field.type):
                    frame[field.name] = frame[field.name].astype("float64")
                elif field.name in gaps and pa.types.is_boolean(field.type):
                    frame[field.name] = frame[field.name].astype(object)
            yield frame


def with_key(answers: Any, frame: Any, key: Sequence[str]) -> Any:
    """Answers beside the key columns that a table has; changed in place.

    Parameters
    ----------
    answers, frame : pandas.DataFrame of shape (n_rows, any)
    key : sequence of str
    """
    for at, name in enumerate(name for name in key if name in frame.columns):
        answers.insert(at, name if name not in answers.columns else f"key:{name}", frame[name])
    return answers


def answer(home: Home, model: Model, table: str, rows: tuple[int, int], gaps: Collection[str]) -> dict[str, Any]:
    """Answer a slice, and put the answers into the store.

    Parameters
    ----------
    home : Home
    model : Model
    table : str
        Digest of the table.
    rows : tuple of int
        The first and one past the last; the first is a multiple of `CHUNK_ROWS`.
    gaps : collection of str
        As for `pieces`.

    Returns
    -------
    dict
        "digest" of a Parquet file with the answers, "rows", and "unseen", column → rows with a level that training
        never saw.

    Raises
    ------
    DataError
        What is wrong with the first piece that cannot be answered, and which rows these are.
    StoreError
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    first, last = rows[0] // CHUNK_ROWS, -(-rows[1] // CHUNK_ROWS)
    unseen: dict[str, int] = {}
    handle, draft = tempfile.mkstemp(prefix="penstock-", suffix=".parquet")
    os.close(handle)
    writer, at = None, rows[0]
    try:
        for frame in pieces(home.objects.fetch(table), gaps, first, last):
            try:
                scored = model.score_frame(frame, gaps=gaps)
            except DataError as error:
                where = f"rows {at:,} to {at + len(frame) - 1:,}"
                raise DataError(error.what, where=where, hint=error.hint) from error
            for name, count in scored.attrs.pop("unseen").items():
                unseen[name] = unseen.get(name, 0) + count
            made = pa.Table.from_pandas(with_key(scored, frame, model.contract.key), preserve_index=False)
            made = made.replace_schema_metadata({**made.schema.metadata, b"of": f"{table} {rows[0]}".encode()})
            writer = writer or pq.ParquetWriter(draft, made.schema, compression="lz4")
            writer.write_table(made)
            at += len(frame)
        if writer is not None:
            writer.close()
        digest, _ = home.objects.stage(draft)
        home.objects.publish([digest])
    finally:
        if os.path.exists(draft):
            os.unlink(draft)
    return {"digest": digest, "rows": at - rows[0], "unseen": unseen}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of one slice.

    Examples
    --------
    >>> words = "--root . --workflow churn --version 7 --table ab12 --rows 0:50000 --gap age"
    >>> parse(words.split()).rows, parse(words.split()).gap
    ((0, 50000), ['age'])
    """

    def rows(text: str) -> tuple[int, int]:
        first, _, last = text.partition(":")
        return int(first), int(last)

    parser = argparse.ArgumentParser("penstock.serve.slice", allow_abbrev=False)
    for name in ("--root", "--workflow", "--table"):
        parser.add_argument(name, required=True)
    parser.add_argument("--version", required=True, type=int)
    parser.add_argument("--rows", required=True, type=rows)
    parser.add_argument("--gap", action="append", default=[])
    parser.add_argument("--env")
    return parser.parse_args(list(arguments))


def main(argv: Sequence[str] | None = None, open_home: Callable[..., Home] | None = None) -> int:
    """Answer one slice from a command line; the answer goes to standard output, or the file of `PENSTOCK_RESULT`.

    Returns
    -------
    int
        Exit code: 0, or the failure's own.
    """
    path = os.environ.pop("PENSTOCK_RESULT", "")
    if os.environ.pop("PENSTOCK_TIED", ""):
        die_with_parent()
    told: dict[str, Any]
    try:
        told = _answered(parse(sys.argv[1:] if argv is None else argv), open_home)
    except PenstockError as error:
        told = _failed(error)
    except Exception as error:
        told = _failed(InternalError(bounded(f"{type(error).__name__}: {error}", 500)))
        import traceback

        traceback.print_exc()
    line = json.dumps(told, separators=(",", ":"), allow_nan=False)
    if path:
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            file.write(line)
        os.replace(f"{path}.part", path)
    print(line, flush=True)
    return int(told["exit"])


def _answered(given: argparse.Namespace, open_home: Callable[..., Home] | None) -> dict[str, Any]:
    from penstock.formats.registry import FormatRegistry
    from penstock.serve.follow import load_version
    from penstock.serve.main import library_types
    from penstock.serve.own import Host

    if open_home is None:
        from penstock import project

        open_home = project.open_home
    home = open_home(given.root, environment=given.env)
    formats = FormatRegistry(trust=library_types(home.config.trust, home.config.root))
    model = load_version(given.workflow, given.version, home.ledger, home.objects, formats, Host.of(home.config))
    try:
        made = answer(home, model, given.table, given.rows, frozenset(given.gap))
    finally:
        model.close()
    return {"state": "done", "exit": 0, **made}


def _failed(error: PenstockError) -> dict[str, Any]:
    again = error.exit_code not in FINAL_CODES or isinstance(error, StoreError)
    told = {"state": "failed", "exit": error.exit_code, "retriable": again, "error": error.to_json()}
    return told | {"reason": error.what}


if __name__ == "__main__":
    raise SystemExit(main())
