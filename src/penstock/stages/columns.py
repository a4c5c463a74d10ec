"""What CSV and Parquet sources share: which columns are read, and how a large table is written block by block."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from typing import Any

from penstock.core.artifact import Written
from penstock.core.names import did_you_mean
from penstock.core.source import Source
from penstock.errors import DataError

COLUMNS_SHOWN = 20


def chosen(header: list[str], source: Source, where: str) -> list[str]:
    """Columns to read; every column that the declaration names must be there.

    Raises
    ------
    DataError
        With the nearest right name.
    """
    named: dict[str, str] = {}
    for option, names in (("columns", source.columns or ()), ("types", source.types), ("dates", source.dates)):
        named |= {name: option for name in names if name not in header}
    if named:
        faults = [f"{option}= names {name!r}{did_you_mean(name, header)}" for name, option in named.items()]
        shown = ", ".join(header[:COLUMNS_SHOWN]) + (" …" if len(header) > COLUMNS_SHOWN else "")
        raise DataError(
            f"columns that the file does not have: {'; '.join(faults)}", where=where, hint=f"it has {shown}"
        )
    return list(source.columns) if source.columns else header


def write(batches: Iterable[Any]) -> Written:
    """Write batches to a Parquet file, one at a time; the same settings as every table of ours."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    handle, path = tempfile.mkstemp(prefix="penstock-", suffix=".parquet")
    os.close(handle)
    writer = None
    try:
        for batch in batches:
            if writer is None:
                categories = [field.name for field in batch.schema if pa.types.is_dictionary(field.type)]
                writer = pq.ParquetWriter(
                    path, batch.schema, compression="lz4", use_dictionary=categories or False, write_statistics=False
                )
            writer.write_batch(batch)
        if writer is not None:
            writer.close()
    except BaseException:
        if writer is not None:
            writer.close()
        os.unlink(path)
        raise
    return Written(path, "parquet")
