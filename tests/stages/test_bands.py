"""Bands hold the truth as often as they say, and mean the same with weights."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.stats import norm

from penstock.stages.bands import MAX_CUTS, bands
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem

TWO = Problem("binary", ("no", "yes"))


def ranking(n, seed=0, apart=1.0):
    """Scores of two normal classes, a given distance apart: the true curve is known."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    score = rng.normal(size=n) + apart * y
    return Predicted(TWO, y, np.column_stack([score > 0, score]), decision=slice(1, 2))


def test_at_a_threshold_the_rectangle_holds_the_true_point_in_95_of_100_samples():
    held = 0
    for seed in range(400):
        found = ranking(240, seed)
        band = bands(found)["roc_band"]
        cut = np.unique(found.column("score"))[::-1][round(29 * 239 / 59)]
        x, y = norm.sf(cut), norm.sf(cut - 1)
        held += band["x_low"][30] <= x <= band["x_high"][30] and band["y_low"][30] <= y <= band["y_high"][30]
    assert 0.92 <= held / 400 <= 0.985


def test_a_band_is_bounded_rises_and_never_shrinks_to_the_curve():
    band = bands(ranking(3_000, apart=50.0))
    roc = band["roc_band"]
    assert len(roc["x_low"]) == MAX_CUTS + 1
    assert all(a <= b for side in roc.values() for a, b in pairwise(side))
    assert min(high - low for high, low in zip(roc["y_high"], roc["y_low"], strict=True)) > 0
    assert all(
        low <= high for low, high in zip(*(band["precision_recall_band"][k] for k in ("low", "high")), strict=True)
    )


def test_equal_weights_change_nothing_and_unequal_ones_widen():
    found = ranking(400)
    bare = bands(found)
    assert (
        bands(replace(found, weight=np.full(400, 3.0)))["precision_recall_band"]["recall"]
        == (bare["precision_recall_band"]["recall"])
    )
    heavy = bands(replace(found, weight=np.where(np.arange(400) % 4 < 2, 9.0, 0.1)))

    def area(one):
        return sum(high - low for high, low in zip(one["roc_band"]["y_high"], one["roc_band"]["y_low"], strict=True))

    assert area(heavy) > 1.2 * area(bare)


def test_rows_of_no_weight_are_as_if_they_were_not_there():
    found = ranking(200)
    weight = np.ones(200)
    weight[150:] = 0
    half = replace(found.take(np.arange(150)), weight=np.ones(150))
    assert bands(replace(found, weight=weight)) == bands(half)
