"""Scoring a file as `penstock predict` does: read as training read it, answered by the model that serving loads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock.core.ports import Home
from penstock.core.source import Source, meant_for, stem_and_suffix
from penstock.errors import DataError, SourceNotFoundError, StoreError, UsageError
from penstock.lifecycle.records import source_options
from penstock.lifecycle.versions import Version

if TYPE_CHECKING:
    from penstock.serve.model import Model

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
    from penstock.serve.slice import with_key

    model = model_of(home, version)
    frame = _read(path, types_of(model), source_options(home, version))
    try:
        answers = model.score_frame(frame)
    except DataError as error:
        raise DataError(error.what, where=path, hint=f"{error.hint}; `penstock show {version.name}` tells") from error
    return with_key(answers, frame, model.contract.key), dict(answers.attrs.get("unseen", {}))


def model_of(home: Home, version: Version) -> Model:
    """A version's model, verified and replayed here.

    Raises
    ------
    UntrustedTypeError
    """
    from penstock.formats.registry import FormatRegistry
    from penstock.serve.follow import load_version
    from penstock.serve.main import library_types
    from penstock.serve.own import Host

    formats = FormatRegistry(trust=library_types(home.config.trust, home.config.root))
    return load_version(version.workflow, version.number, home.ledger, home.objects, formats, Host.of(home.config))


def types_of(model: Model) -> dict[str, str]:
    """Types that sniffing a few rows may tell otherwise: codes that look like numbers, dates."""
    told = {"text": "str", "datetime": "datetime"}
    return {column.name: told[column.kind] for column in model.contract.columns if column.kind in told}


def _suffix(path: str) -> str:
    return stem_and_suffix(path)[1]


def _read(path: str, types: dict[str, str], declared: dict[str, Any]) -> Any:
    """A table as a frame."""
    from penstock.core.artifact import Written

    table = read_table(path, types, declared)
    if not isinstance(table, Written):
        return table.to_pandas()
    import pandas as pd

    try:
        return pd.read_parquet(table.path)
    finally:
        os.unlink(table.path)


def read_table(path: str, types: dict[str, str], declared: dict[str, Any]) -> Any:
    """A table, read by the ingest stage.

    Parameters
    ----------
    path : str
    types : dict
        Column → type, as far as they are known.
    declared : dict
        As `source_options` has it.

    Returns
    -------
    pyarrow.Table or Written
        The latter a Parquet file of a table that is large, which is whoever's who asked.

    Raises
    ------
    SourceNotFoundError, DataError
    """
    if not os.path.isfile(path):
        raise SourceNotFoundError(f"there is no file {path}", hint=f"--input names a file: {KINDS}")
    from penstock.stages.ingest import read

    suffix = _suffix(path)
    keep = {name: declared[name] for name in meant_for(suffix, str(declared.get("suffix", ""))) if name in declared}
    try:
        table, _ = read(Source(os.path.abspath(path), suffix, types=types, **keep))
    except DataError:  # held against the model, what is wrong with a column is told in the model's words
        table, _ = read(Source(os.path.abspath(path), suffix, **keep))
    return table


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
    whole(path, lambda draft: _write(scored, draft, is_parquet=path.endswith(".parquet")))


def _write(scored: Any, draft: str, *, is_parquet: bool) -> None:
    scored.to_parquet(draft, index=False) if is_parquet else scored.to_csv(draft, index=False)


def whole(path: str, fill: Callable[[str], None]) -> None:
    """Make a file in one move: one of that name is either whole or as it was.

    Parameters
    ----------
    path : str
    fill : callable
        Writes to the path that it is given.

    Raises
    ------
    StoreError
    """
    draft = ""
    try:
        handle, draft = tempfile.mkstemp(prefix=".predicted-", dir=os.path.dirname(os.path.abspath(path)))
        os.close(handle)
        fill(draft)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except OSError as error:
        raise StoreError(f"the answers cannot be written: {error.strerror}", where=path) from error
    finally:
        if draft and os.path.exists(draft):
            os.unlink(draft)
