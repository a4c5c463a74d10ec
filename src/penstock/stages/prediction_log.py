"""Reading the append-only prediction log back into tables."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from penstock.core.notes import note
from penstock.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def read_log(folder: str, *, model: str | None = None, since: float = 0.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Inputs and answers of logged predictions.

    Parameters
    ----------
    folder : str
        Holds segments `*.jsonl`, one JSON object a line: "id", "at" (Unix time in seconds), "model", "row",
        "answer". A last line that was cut off by a crash is left out and counted.
    model : str, optional
        Only what this version answered, as "churn@7".
    since : float, default=0.0
        Only what was answered at or after this Unix time.

    Returns
    -------
    inputs : DataFrame of shape (n_predictions, n_columns)
        What was asked, a row a prediction.
    predictions : DataFrame of shape (n_predictions, …)
        "id", "at", "model", the row's key where it was sent, and the fields of the answers; the same rows in the
        same order.

    Raises
    ------
    DataError
        No prediction was logged that fits.
    """
    import pandas as pd

    inputs: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    broken = 0
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if not name.endswith(".jsonl"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    broken += 1
                    continue
                if entry["at"] < since or (model is not None and entry["model"] != model):
                    continue
                inputs.append(entry["row"])
                answer = {k: v for k, v in entry["answer"].items() if k != "scores"}
                names = {"id": entry["id"], "at": entry["at"], "model": entry["model"]}
                answers.append(entry.get("key", {}) | names | answer)
    note(predictions=len(answers), broken_lines=broken)
    if not answers:
        asked = f" by {model}" if model else ""
        raise DataError(
            f"no prediction{asked} is in the log yet",
            where=folder,
            hint="send some to `penstock serve`, or give a table: penstock monitor … --data FILE",
        )
    return pd.DataFrame(inputs), pd.DataFrame(answers)
