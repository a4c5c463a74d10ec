"""Starting from a table: read it, find out what a declaration should say, and write that as a file."""

from __future__ import annotations

import keyword
import os
import sys
from dataclasses import dataclass
from typing import Any

from penstock.core.artifact import Written
from penstock.core.source import Source, read
from penstock.core.step import call_of
from penstock.errors import SourceNotFoundError, StoreError, UsageError
from penstock.lifecycle.declaration import module_name, source_text
from penstock.stages import ingest
from penstock.stages.disguised import missing_texts
from penstock.stages.propose import Proposal, propose
from penstock.stages.task import Asked


@dataclass(frozen=True, slots=True)
class Draft:
    """A declaration that is ready to be written.

    Attributes
    ----------
    name : str
        Of workflow, variable and file.
    path : str
        Where it goes.
    text : str
    proposal : Proposal
    rows, columns : int
        Of the table.
    """

    name: str
    path: str
    text: str
    proposal: Proposal
    rows: int
    columns: int


def draft(table: str, asked: Asked, *, out: str | None = None, name: str | None = None) -> Draft:
    """Read a table and draft a declaration for it; nothing is written.

    Parameters
    ----------
    table : str
        One local file of any format that `ps.read` reads, relative to the working directory.
    asked : Asked
    out : str, optional
        The file to write; NAME.py in the working directory by default.
    name : str, optional
        Of the workflow; from the table's name by default.

    Raises
    ------
    SourceNotFoundError, DataError, DeclarationError
    UsageError
        `out` is no file that Python could import.
    """
    _check_out(out)
    source, frame, sniffed = _read(table)
    missing, why = missing_texts(sniffed.get("kept", {}), frame)
    options: dict[str, Any] = {"na": missing} if missing else {}
    if options:
        ref = read(source.path, **options)
        frame = _frame(ingest.read(call_of(ref).args[0])[0])
    found = propose(frame, asked)
    found.reasons[:] = [*why, *found.reasons]
    chosen = module_name(name or _stem(source.path), _taken() if out is None else ())
    path = os.path.abspath(out or f"{chosen}.py")
    dates = [one.column for one in [found.moment] if one is not None and one.form == "iso"]
    shown = os.path.basename(source.path)
    text = source_text(
        found,
        name=chosen,
        path=_from(path, source.path),
        options=options | ({"dates": dates} if dates else {}),
        about=f"{shown} ({len(frame):,} rows × {frame.shape[1]:,} columns)",
        table=frame,
    )
    return Draft(chosen, path, text, found, len(frame), int(frame.shape[1]))


def write(made: Draft, *, force: bool = False) -> None:
    """Write the draft's file, and the folders above it; a file that is there is kept unless forced.

    Raises
    ------
    UsageError
        The file is there.
    StoreError
        It cannot be written.
    """
    shown = os.path.relpath(made.path)
    try:
        os.makedirs(os.path.dirname(made.path), exist_ok=True)
        with open(made.path, "w" if force else "x", encoding="utf-8") as file:
            file.write(made.text)
    except FileExistsError:
        raise UsageError(f"there is a file {shown}", hint="--force writes over it; --out names another") from None
    except OSError as error:
        raise StoreError(f"the declaration cannot be written: {error.strerror}", where=shown) from error


def _check_out(out: str | None) -> None:
    """What is written must be a file that `penstock run` takes: told before the table is read."""
    if out is None:
        return
    stem, suffix = os.path.splitext(os.path.basename(out))
    if suffix != ".py" or not stem.isidentifier() or keyword.iskeyword(stem):
        folder = os.path.isdir(out) or not suffix
        better = os.path.join(out, "model.py") if folder else os.path.join(os.path.dirname(out), module_name(stem, ()))
        raise UsageError(
            f"--out {out}: this is {'a folder' if os.path.isdir(out) else 'no file that Python can import'}",
            hint=f"name a file such as {better.removesuffix('.py')}.py",
        )


def _read(table: str) -> tuple[Source, Any, dict[str, Any]]:
    path = os.path.abspath(table)
    if not os.path.isfile(path):  # of several files or a URL, one is enough to draft by
        raise SourceNotFoundError(
            f"there is no file {table}", hint="--from names one file, such as data/customers.csv; edit ps.read(…) later"
        )
    source = call_of(read(path)).args[0]
    value, sniffed = ingest.read(source)
    return source, _frame(value), sniffed


def _frame(value: Any) -> Any:
    """The table as a step of the run would receive it."""
    if not isinstance(value, Written):
        return value.to_pandas()
    import pandas as pd

    try:
        return pd.read_parquet(value.path)
    finally:
        os.unlink(value.path)


def _stem(path: str) -> str:
    stem = os.path.basename(path.rstrip("/"))
    while os.path.splitext(stem)[1] and len(os.path.splitext(stem)[1]) <= 8:
        stem = os.path.splitext(stem)[0]
    return stem


def _taken() -> set[str]:
    """Top-level modules that a file in the working directory would hide."""
    import pkgutil

    here = os.path.abspath(".")
    others = [path for path in sys.path if os.path.abspath(path or ".") != here]
    return {*sys.stdlib_module_names, *(one.name for one in pkgutil.iter_modules(others))}


def _from(file: str, table: str) -> str:
    """The table as the written file names it: relative to itself."""
    return os.path.relpath(table, os.path.dirname(file)).replace(os.sep, "/")
