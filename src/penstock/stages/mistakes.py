"""The worst mistakes out of fold, with what the model read in those rows, as far as that is fit to be shown."""

from __future__ import annotations

from typing import Any

from penstock.stages import scoring
from penstock.stages.dependence import RARE
from penstock.stages.package import json_cell
from penstock.stages.predicted import Predicted
from penstock.stages.profiles import kind_of
from penstock.stats.checks import json_number

WORST_ROWS = 10
MAX_COLUMNS = 8


def worst_rows(predicted: Predicted, rows: Any, X: Any, columns: list[str]) -> list[dict[str, Any]]:
    """The rows with the greatest loss: log loss where there are probabilities, else wrong labels or errors.

    Keys, groups and times are not among the columns that a model reads unless they were listed as features; of these
    columns a text is shown only where `RARE` rows or more share it: one that few share may name a person.

    Parameters
    ----------
    predicted : Predicted
    rows : ndarray of int
        Position of each answer's row in the training table.
    X : DataFrame of shape (n_train, n_features)
        What the model reads of the training table.
    columns : list of str
        The most important first; at most `MAX_COLUMNS` are told.

    Returns
    -------
    list of dict
        "row", "loss", "y_true", "predicted"; "score" (the probability of the positive class) of a binary task with
        probabilities; "values": column → cell; "rare": columns whose text is not shown.
    """
    import numpy as np

    problem = predicted.problem
    name = "neg_mean_absolute_error" if problem.task == "regression" else "neg_log_loss"
    loss = -scoring.row_scores(name if problem.task == "regression" or predicted.has_proba else "accuracy", predicted)
    worst = np.lexsort((rows, -loss))[:WORST_ROWS]
    frame = predicted.take(worst).to_frame()
    said = frame["value" if problem.task == "regression" else "label"].tolist()
    score = frame["proba"].tolist() if "proba" in frame.columns else None
    named = {str(column): column for column in X.columns}
    shown = {column: X[named[column]] for column in columns[:MAX_COLUMNS] if column in named}
    common = {column: _common(values) for column, values in shown.items()}
    found = []
    for i, at in enumerate(worst):
        cells = {column: json_cell(values.iloc[int(rows[at])]) for column, values in shown.items()}
        rare = [c for c, cell in cells.items() if cell is not None and not _fit(cell, common[c])]
        told = {"row": int(rows[at]), "loss": json_number(float(loss[at])), "y_true": frame["y_true"].tolist()[i]}
        told |= {"predicted": said[i], "values": {c: cell for c, cell in cells.items() if c not in rare}, "rare": rare}
        found.append(told | ({"score": json_number(score[i])} if score is not None else {}))
    return found


def _fit(cell: Any, common: set[str] | None) -> bool:
    return common is None or str(cell) in common


def _common(values: Any) -> set[str] | None:
    """Texts that enough rows share; None of a column without texts."""
    if kind_of(values) != "text":
        return None
    counts = values.dropna().map(str).value_counts()
    return set(counts.index[counts >= RARE])
