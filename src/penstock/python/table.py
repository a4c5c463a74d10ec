"""`ps.runs`: tries and runs on record as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from penstock.core import markup
from penstock.core.flow import Flow
from penstock.core.workflow import Workflow, place_of
from penstock.lifecycle.table import MOST_RUNS, cell, chosen, select

if TYPE_CHECKING:
    import pandas as pd

MOST_SHOWN = 40
"""Rows that a notebook shows; all are in the table."""


class Runs(Sequence[Mapping[str, Any]]):
    """Tries and runs on record, one flat row each.

    Attributes
    ----------
    rows : list of dict
        Column → value. Figures are as shown to people: errors and losses positive.
    columns : list of str
        Those that are shown.
    known : list of str
        All there are.
    """

    def __init__(self, rows: list[dict[str, Any]], columns: list[str], known: list[str]) -> None:
        self.rows, self.columns, self.known = rows, columns, known

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.rows)

    @overload
    def __getitem__(self, at: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, at: slice) -> Runs: ...

    def __getitem__(self, at: int | slice) -> Mapping[str, Any] | Runs:
        return Runs(self.rows[at], self.columns, self.known) if isinstance(at, slice) else self.rows[at]

    def to_pandas(self) -> pd.DataFrame:
        """Every column as a pandas frame; times are UTC.

        Returns
        -------
        DataFrame
            One row a run, or a candidate; columns as `known`.
        """
        import pandas as pd

        frame = pd.DataFrame(self.rows, columns=self.known)
        for name in ("started", "ended"):
            frame[name] = pd.to_datetime(frame[name].astype("float64"), unit="s", utc=True)
        return frame

    def __repr__(self) -> str:
        if not self.rows:
            return "no runs"
        cells = [self.columns, *([cell(name, row) for name in self.columns] for row in self.rows[:MOST_SHOWN])]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
                 for row in cells]  # fmt: skip
        return "\n".join([*lines, *self._more])

    @property
    def _more(self) -> list[str]:
        more = len(self.rows) - MOST_SHOWN
        return [f"{more:,} more"] if more > 0 else []

    def _repr_html_(self) -> str:
        if not self.rows:
            return markup.block(markup.tag("p", "no runs", "faint"))
        shown = self.rows[:MOST_SHOWN]
        rows = [[markup.safe(cell(name, row)) for name in self.columns] for row in shown]
        numeric = {name for name in self.columns if any(isinstance(row.get(name), int | float) for row in shown)}
        styles = ["th" if name == "run" else "n" if name in numeric else "" for name in self.columns]
        table = markup.table(rows, styles, [markup.safe(name) for name in self.columns])
        return markup.block(table, *(markup.tag("p", text, "faint") for text in self._more))


def runs(
    workflow: Workflow | Flow | str | None = None,
    *,
    where: str = "",
    sort: str = "",
    columns: Sequence[str] = (),
    candidates: bool = False,
    limit: int = MOST_RUNS,
    env: str | None = None,
) -> Runs:
    """Tries and runs on record, the newest first, as `penstock runs` lists them.

    Parameters
    ----------
    workflow : Workflow, Flow or str, optional
        In hand or by name; all by default. The project is that of a workflow in hand, else of the working directory.
    where : str
        Only those that fulfil a condition: ``"roc_auc > 0.8 and params.C >= 1"``.
    sort : str
        A column: of a figure the best first, of any other the smallest; "-" in front turns it round.
    columns : sequence of str
        Those that are shown beside "run"; what tells most by default.
    candidates : bool
        A row for each candidate of a try.
    limit : int
        At most this many rows.
    env : str, optional
        Environment whose ledger holds.

    Returns
    -------
    Runs
        A sequence of dicts; `to_pandas()` gives a frame.

    Raises
    ------
    UsageError
        The condition cannot be read, or there is no such column.
    """
    from penstock.project import open_home

    held = isinstance(workflow, Workflow | Flow)
    name = workflow.name if isinstance(workflow, Workflow | Flow) else workflow
    folder = place_of(workflow).folder if isinstance(workflow, Workflow) else "."
    home = open_home(folder, environment=env, make=False)
    try:
        found = home.ledger.runs(flow=name, limit=MOST_RUNS)
    finally:
        home.ledger.close()
    rows, known = select(found, where=where, sort=sort, candidates=candidates)
    shown = chosen(columns, known, rows)
    if held and not columns:
        shown.remove("flow")
    return Runs(rows[:limit], shown, known)
