"""The split as a step of a workflow: the task comes from the schema that validation gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.artifact import StoredTable
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages.split import split as divide

if TYPE_CHECKING:
    import pandas as pd


def partition(
    table: pd.DataFrame | StoredTable,
    *,
    schema: dict[str, Any],
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    frozen_columns: tuple[str, ...] = (),
    official: pd.DataFrame | StoredTable | None = None,
) -> tuple[Any, ...]:
    """Divide a validated table into rows to learn from and rows to judge by.

    Parameters
    ----------
    table : DataFrame or StoredTable of shape (n_rows, n_columns)
    schema : dict
        From `validate`; its "task" decides.
    target, roles, split, seed, frozen_columns, official
        As for `stages.split.split`.

    Returns
    -------
    train, test : DataFrame or Batched
    report : dict
    final : DataFrame or Batched
        Only where it is declared.

    Raises
    ------
    DeclarationError, DataError
        As `stages.split.split`.
    """
    return divide(
        table,
        target=target,
        roles=roles,
        split=split,
        seed=seed,
        task=schema["task"],
        frozen_columns=frozen_columns,
        official=official,
    )
