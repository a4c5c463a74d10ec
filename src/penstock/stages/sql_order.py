"""The order of rows that a database gives without one: by their values, column by column."""

from __future__ import annotations

import os
import re
import tempfile
from typing import Any

from penstock.core.artifact import Written

_PASSED_OVER = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|\$(\w*)\$.*?\$\1\$""", re.DOTALL
)
"""Comments, texts and quoted names: an ORDER BY in them orders nothing."""
_WORDS = re.compile(r"\border\s+by\b", re.IGNORECASE)


def has_order(text: str) -> bool:
    """Whether a query orders its own rows: an ORDER BY that stands in no parentheses.

    Examples
    --------
    >>> has_order("select * from t order by id"), has_order("select * from (select * from t order by id) x")
    (True, False)
    >>> has_order("select 'order by' from t -- order by id"), has_order("select sum(x) over (order by y) from t")
    (False, False)
    """
    plain = _PASSED_OVER.sub(" ", text)
    while (shorter := re.sub(r"\([^()]*\)", " ", plain)) != plain:
        plain = shorter
    return _WORDS.search(plain) is not None


def in_order(table: Any, folder: str = "") -> Any:
    """Rows in the order of their values, the first column first, what is missing last.

    Equal rows stand side by side, so the order does not depend on the one in which they came.

    Parameters
    ----------
    table : pyarrow.Table or Written
        A written one is ordered by polars' streaming engine, and written again.
    folder : str
        Where the file of a written one may lie meanwhile.
    """
    if isinstance(table, Written):
        return _written_in_order(table, folder)
    import pyarrow.compute as pc

    keys = [(field.name, "ascending") for field in table.schema]
    plain = _without_dictionaries(table)
    return table.take(pc.sort_indices(plain, sort_keys=keys)).combine_chunks()


def _without_dictionaries(table: Any) -> Any:
    """Categories are ordered by their words, not by the order in which the words were met."""
    import pyarrow as pa

    types = [pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(types))


def _written_in_order(table: Written, folder: str) -> Written:
    import polars as pl
    import pyarrow.parquet as pq

    from penstock.stages.columns import write

    schema = pq.read_schema(table.path)
    handle, path = tempfile.mkstemp(suffix=".parquet", dir=folder or None)
    os.close(handle)
    rows = pl.scan_parquet(table.path)
    rows.sort(schema.names, nulls_last=True).sink_parquet(path)
    os.unlink(table.path)
    with pq.ParquetFile(path) as file:
        made = write(batch.cast(schema.remove_metadata()) for batch in file.iter_batches(batch_size=1 << 16))
    os.unlink(path)
    return made
