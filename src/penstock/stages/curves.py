"""Points of the plots in a report, few enough to store: ROC, precision–recall, calibration, residuals."""

from __future__ import annotations

from typing import Any

from penstock.stages.bands import bands
from penstock.stages.predicted import Predicted
from penstock.stats.intervals import wilson_interval
from penstock.stats.weighting import weighted_quantile, weighted_share

MAX_POINTS = 200
MAX_RESIDUALS = 500
BINS = 10


def curves(predicted: Predicted) -> dict[str, Any]:
    """Points for plots, as plain JSON.

    Parameters
    ----------
    predicted : Predicted

    Returns
    -------
    dict
        binary {"roc", "precision_recall", their bands (see `bands.bands`), "calibration"}; multiclass {"calibration"}
        of the predicted class; regression {"residuals", "residual_bins"}.
    """
    if len(predicted) == 0:
        return {}
    if predicted.problem.task == "regression":
        return {"residuals": _residuals(predicted), "residual_bins": _residual_bins(predicted)}
    found: dict[str, Any] = {}
    weighing = predicted.y if predicted.weight is None else predicted.y[predicted.weight > 0]
    both = 0 < int(weighing.sum()) < len(weighing)
    if predicted.problem.task == "binary" and both:
        found = {"roc": _roc(predicted), "precision_recall": _precision_recall(predicted), **bands(predicted)}
    if predicted.has_proba:
        found["calibration"] = _calibration(predicted)
    return found


def confusion(predicted: Predicted) -> dict[str, Any] | None:
    """Rows (what they weigh, with weights) by true (outer) and predicted class (inner), in the order of "classes".

    None for regression.
    """
    import numpy as np

    if predicted.problem.task == "regression":
        return None
    k = len(predicted.problem.classes)
    place = predicted.y * k + predicted.column("label").astype(np.int64)
    cells = np.bincount(place, weights=predicted.weight, minlength=k * k)
    cells = cells if predicted.weight is None else cells.round(3)
    return {"classes": list(predicted.problem.classes), "counts": cells.reshape(k, k).tolist()}


def _ranked(predicted: Predicted) -> tuple[Any, Any, Any]:
    """Rows passed and positives among them, as the threshold falls, and the threshold, a step for each tie."""
    import numpy as np

    score = predicted.column("score")
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    if predicted.weight is None:
        return last + 1, np.cumsum(predicted.y[order])[last], ranked[last]
    weight = predicted.weight[order]
    passed, hits = np.cumsum(weight)[last], np.cumsum(weight * predicted.y[order])[last]
    some = passed > 0
    return passed[some], hits[some], ranked[last][some]


def _thin(n: int, most: int = MAX_POINTS) -> Any:
    """Evenly spaced positions, first and last among them."""
    import numpy as np

    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def _points(**columns: Any) -> dict[str, list[float]]:
    return {name: [round(float(value), 6) for value in values] for name, values in columns.items()}


def _roc(predicted: Predicted) -> dict[str, list[float]]:
    import numpy as np

    passed, hits, _ = _ranked(predicted)
    x = np.append(0.0, (passed - hits) / (passed[-1] - hits[-1]))
    y = np.append(0.0, hits / hits[-1])
    keep = _thin(len(x))
    return _points(false_positive_rate=x[keep], true_positive_rate=y[keep])


def _precision_recall(predicted: Predicted) -> dict[str, list[float]]:
    passed, hits, threshold = _ranked(predicted)
    keep = _thin(len(passed))
    return _points(
        recall=(hits / hits[-1])[keep], precision=(hits / passed)[keep], threshold=threshold[keep].clip(-1e300, 1e300)
    )


def _calibration(predicted: Predicted) -> list[dict[str, float | int]]:
    """Predicted probability against observed share in ten bins of equally many rows, with Wilson's interval.

    With weights both are weighted, and the interval is Wilson's on the effective number of rows.
    """
    import numpy as np

    proba = predicted.column("proba")
    if predicted.problem.task == "binary":
        said, hit = proba[:, 1], predicted.y == 1
    else:
        said, hit = proba.max(axis=1), predicted.y == proba.argmax(axis=1)
    bins = []
    for rows in np.array_split(np.argsort(said, kind="stable"), min(BINS, len(said))):
        weight = None if predicted.weight is None else predicted.weight[rows]
        if weight is None:
            share, mean = wilson_interval(int(hit[rows].sum()), len(rows)), float(said[rows].mean())
        elif weight.sum() > 0:
            part, trials = weighted_share(hit[rows], weight)
            share, mean = wilson_interval(part * trials, trials), float(weight @ said[rows] / weight.sum())
        else:
            continue
        bins.append(
            {
                "predicted": round(mean, 6),
                "observed": round(share.value, 6),
                "low": round(share.low, 6),
                "high": round(share.high, 6),
                "n": len(rows),
            }
        )
    return bins


def _residuals(predicted: Predicted) -> dict[str, list[float]]:
    keep = _thin(len(predicted), MAX_RESIDUALS)
    return {
        "predicted": [float(value) for value in predicted.answers[keep, 0]],
        "observed": [float(value) for value in predicted.y[keep]],
    }


def _residual_bins(predicted: Predicted) -> list[dict[str, float | int]]:
    """Median and quartiles of observed minus predicted, in ten bins of equally many rows by what was predicted."""
    import numpy as np

    said = predicted.answers[:, 0]
    rest = predicted.y - said
    bins: list[dict[str, float | int]] = []
    for rows in np.array_split(np.argsort(said, kind="stable"), min(BINS, len(said))):
        weight = None if predicted.weight is None else predicted.weight[rows]
        if weight is not None and not weight.sum() > 0:
            continue
        low, middle, high = (weighted_quantile(rest[rows], q, weight) for q in (0.25, 0.5, 0.75))
        mean = float(np.average(said[rows], weights=weight))
        bins.append({"predicted": mean, "low": low, "median": middle, "high": high, "n": len(rows)})
    return bins
