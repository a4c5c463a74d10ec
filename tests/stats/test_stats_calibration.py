"""The calibration error: without bias where a model is calibrated, an upper bound that holds, groups counted once."""

import math

import numpy as np
import pytest

from penstock.errors import DataError, UsageError
from penstock.stats.calibration import bins_of, calibration_error


def draw(n, seed, base=0.0, slope=1.0, shift=0.0):
    """Probabilities p, the true ones q, and what came true."""
    rng = np.random.default_rng(seed)
    z = base + rng.normal(size=n)
    p, q = (1 / (1 + np.exp(-one)) for one in (z, slope * z + shift))
    return p, q, rng.random(n) < q


def true_error(p, q):
    group = bins_of(p)
    size = np.bincount(group)
    return math.sqrt(np.average((np.bincount(group, q - p) / size) ** 2, weights=size))


@pytest.mark.parametrize(
    "law", [{}, {"base": -4.0}, {"shift": 0.5}, {"slope": 1.5, "shift": 1.0}, {"base": -4.0, "shift": 0.7}]
)
def test_the_upper_bound_holds_as_often_as_it_says(law):
    """400 draws of 500 rows: one-sided 0.95, Monte-Carlo error 1.1 points; two points are allowed as everywhere."""
    missed = 0
    for seed in range(400):
        p, q, y = draw(500, seed, **law)
        missed += true_error(p, q) > calibration_error(p, y, 0.90).high
    assert missed / 400 <= 0.05 + 0.02 + 2 * math.sqrt(0.05 * 0.95 / 400)


def test_where_a_model_is_calibrated_the_bias_of_noise_is_taken_off():
    """The control: without that, 10 bins of 50 rows seem to err by 0.06."""
    found, raw = [], []
    for seed in range(200):
        p, _, y = draw(500, seed)
        group = bins_of(p)
        size = np.bincount(group)
        raw.append(np.average((np.bincount(group, y - p) / size) ** 2, weights=size))
        found.append(calibration_error(p, y).value)
    assert math.sqrt(np.mean(raw)) > 0.05
    assert np.median(found) < 0.02


def test_a_model_that_errs_is_found_to():
    p, q, y = draw(5000, 0, shift=0.5)
    found = calibration_error(p, y)
    assert found.low > 0.05
    assert found.value == pytest.approx(true_error(p, q), abs=0.02)


def test_rows_of_one_group_count_once():
    p, _, y = draw(300, 1)
    once = calibration_error(p, y, bins=5)
    copies = [np.repeat(one, 4) for one in (p, y)]
    clustered = calibration_error(*copies, bins=5, clusters=np.repeat(np.arange(300), 4))
    assert clustered.high == pytest.approx(once.high, rel=0.02)
    assert calibration_error(*copies, bins=5).high < once.high - 0.005  # the sabotage: copies taken for rows


def test_no_hit_among_small_probabilities_is_not_taken_for_certainty():
    found = calibration_error(np.full(300, 1e-3), np.zeros(300), bins=1)
    assert found.high > 1e-3


def test_bins_are_of_equal_size_and_equal_probabilities_share_one():
    assert np.bincount(bins_of(np.arange(300) / 300)).tolist() == [30] * 10
    assert bins_of(np.full(300, 0.2)).tolist() == [0] * 300
    assert len(set(bins_of(np.arange(59) / 59).tolist())) == 1


def test_what_is_no_probability_is_refused():
    with pytest.raises(DataError):
        calibration_error([0.5, 1.5], [0, 1])
    with pytest.raises(DataError):
        calibration_error([], [])
    with pytest.raises(UsageError):
        calibration_error([0.5], [1], bins=0)
