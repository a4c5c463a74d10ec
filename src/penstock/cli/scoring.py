"""Scoring a file as `penstock predict` does: read as training read it, answered by the model that serving loads."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from penstock.core.ports import Home
from penstock.core.source import Source, meant_for, stem_and_suffix
from penstock.errors import DataError, SourceNotFoundError, StoreError, UsageError
from penstock.lifecycle.records import source_options
from penstock.lifecycle.versions import Version

SUFFIXES = (".csv", ".parquet")
"""Of what is written."""
KINDS = "CSV, JSON lines, Parquet, Arrow or Excel"


def score(home: Home, version: Version, path: str) -> tuple[Any, dict[str, int]]:
    """Answers for the rows of a table, beside its key.

    Parameters
    ----------
    path : str
        Of any format that `ps.read` reads, read with the options that the declaration gives.

    Returns
    -------
    scored : pandas.DataFrame of shape (n_rows, n_key + n_answer_columns)
        In the table's order.
    unseen : dict
        Column → rows with a level that training never saw.

    Raises
    ------
    SourceNotFoundError, DataError, UntrustedTypeError
    """
    from penstock.formats.registry import FormatRegistry
    from penstock.serve.follow import load_version
    from penstock.serve.main import library_types
    from penstock.serve.own import Host

    formats = FormatRegistry(trust=library_types(home.config.trust, home.config.root))
    model = load_version(version.workflow, version.number, home.ledger, home.objects, formats, Host.of(home.config))
    # Types that sniffing a few rows may tell otherwise: codes that look like numbers, dates.
    told = {"text": "str", "datetime": "datetime"}
    types = {column.name: told[column.kind] for column in model.contract.columns if column.kind in told}
    frame = _read(path, types, source_options(home, version))
    try:
        answers = model.score_frame(frame)
    except DataError as error:
        raise DataError(error.what, where=path, hint=f"{error.hint}; `penstock show {version.name}` tells") from error
    for at, name in enumerate(name for name in model.contract.key if name in frame.columns):
        answers.insert(at, name if name not in answers.columns else f"key:{name}", frame[name])
    return answers, dict(answers.attrs.get("unseen", {}))


def _suffix(path: str) -> str:
    return stem_and_suffix(path)[1]


def _read(path: str, types: dict[str, str], declared: dict[str, Any]) -> Any:
    """A table, read by the ingest stage."""
    if not os.path.isfile(path):
        raise SourceNotFoundError(f"there is no file {path}", hint=f"--input names a file: {KINDS}")
    from penstock.core.artifact import Written
    from penstock.stages.ingest import read

    suffix = _suffix(path)
    keep = {name: declared[name] for name in meant_for(suffix, str(declared.get("suffix", ""))) if name in declared}
    try:
        table, _ = read(Source(os.path.abspath(path), suffix, types=types, **keep))
    except DataError:  # held against the model, what is wrong with a column is told in the model's words
        table, _ = read(Source(os.path.abspath(path), suffix, **keep))
    if not isinstance(table, Written):
        return table.to_pandas()
    import pandas as pd

    try:
        return pd.read_parquet(table.path)
    finally:
        os.unlink(table.path)


def check_output(path: str) -> None:
    """Refuse an output that is neither CSV nor Parquet, before anything is scored.

    Raises
    ------
    UsageError
    """
    if not path.endswith(SUFFIXES):
        raise UsageError(f"--out {path}: a name that ends with .csv or .parquet is meant")


def write(scored: Any, path: str) -> None:
    """Write a table in one move: a file of that name is either whole or as it was.

    Raises
    ------
    StoreError
    """
    draft = ""
    try:
        handle, draft = tempfile.mkstemp(prefix=".predicted-", dir=os.path.dirname(os.path.abspath(path)))
        os.close(handle)
        scored.to_parquet(draft, index=False) if path.endswith(".parquet") else scored.to_csv(draft, index=False)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except OSError as error:
        if draft and os.path.exists(draft):
            os.unlink(draft)
        raise StoreError(f"the answers cannot be written: {error.strerror}", where=path) from error
