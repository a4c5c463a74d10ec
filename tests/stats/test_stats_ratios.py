"""Ratios of counts and means: slopes against calculus, errors against resampling and McNemar, simulated coverage."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, r2_score, roc_auc_score

from penstock.errors import UsageError
from penstock.stages.counts import OF_CELLS
from penstock.stats.auc import several
from penstock.stats.paired import paired_t
from penstock.stats.ratios import confusion, counts_interval, gradient, paired_counts, saved_rows

RECALL, F1 = OF_CELLS["recall"], OF_CELLS["f1"]


def two_labellings(n, seed, positive=0.4, rate=(0.8, 0.75)):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < positive).astype(int)
    shared = rng.random(n) < 0.5
    right = [np.where(shared, rng.random(n) < 0.8, rng.random(n) < one) for one in rate]
    return y, *(np.where(one, y, 1 - y) for one in right)


def test_the_gradient_of_recall_and_f1_is_that_of_calculus():
    cells = np.array([[50.0, 10.0], [8.0, 32.0]])
    share = cells / cells.sum()
    true, hit, said = share[1].sum(), share[1, 1], share[:, 1].sum()
    expected = np.array([[0.0, 0.0], [-hit / true**2, 1 / true - hit / true**2]])
    assert gradient(RECALL, cells) == pytest.approx(expected, abs=1e-6)
    slope = -2 * hit / (true + said) ** 2
    expected = np.array([[0.0, slope], [slope, 2 / (true + said) + 2 * slope]])
    assert gradient(F1, cells) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "name", ["f1", "recall", "precision", "balanced_accuracy", "matthews_corrcoef", "jaccard_macro"]
)
def test_the_error_of_a_difference_is_that_of_resampling_its_cells(name):
    """The eight cells drawn again 4,000 times, which is the bootstrap of the rows exactly."""
    y, a, b = two_labellings(2000, 1)
    found = paired_counts(OF_CELLS[name], y, a, b)
    cells = np.bincount(y * 4 + a * 2 + b, minlength=8)
    drawn = np.random.default_rng(0).multinomial(len(y), cells / len(y), size=4000).reshape(-1, 2, 2, 2)
    differences = [OF_CELLS[name](one.sum(axis=2)) - OF_CELLS[name](one.sum(axis=1)) for one in drawn]
    assert found.se == pytest.approx(np.std(differences), rel=0.06)
    assert found.value == pytest.approx(OF_CELLS[name](confusion(y, a)) - OF_CELLS[name](confusion(y, b)))


def test_for_recall_it_is_the_paired_error_among_the_positive_rows():
    """A closed form by itself: McNemar's (b + c - (b - c)²/m) / m² (Agresti 2013, §11.1)."""
    y, a, b = two_labellings(1500, 2)
    found = paired_counts(RECALL, y, a, b)
    only_a, only_b, m = ((y == 1) & (a == 1) & (b == 0)).sum(), ((y == 1) & (a == 0) & (b == 1)).sum(), (y == 1).sum()
    assert found.value == pytest.approx((only_a - only_b) / m)
    assert found.se == pytest.approx(math.sqrt(only_a + only_b - (only_a - only_b) ** 2 / m) / m, rel=1e-3)
    assert found.n_informative == only_a + only_b


def test_accuracy_by_cells_is_the_paired_t_of_hits():
    y, a, b = two_labellings(800, 3)
    found = paired_counts(lambda m: m.trace() / m.sum(), y, a, b)
    hits = paired_t((a == y).astype(float), (b == y).astype(float))
    assert (found.value, found.se, found.low) == pytest.approx((hits.value, hits.se, hits.low), rel=1e-6)


def test_copies_within_clusters_are_no_evidence_and_weights_count():
    y, a, b = two_labellings(400, 4)
    once = paired_counts(F1, y, a, b)
    copies = [np.repeat(one, 5) for one in (y, a, b)]
    clustered = paired_counts(F1, *copies, clusters=np.repeat(np.arange(400), 5))
    assert clustered.se == pytest.approx(once.se, rel=1e-6)
    assert clustered.n_informative == once.n_informative
    assert paired_counts(F1, *copies).se < 0.5 * once.se  # the sabotage: copies taken for rows
    weights = np.random.default_rng(0).uniform(0.2, 3, 400)
    weighted = paired_counts(F1, y, a, b, weights=weights)
    sides = [f1_score(y, one, sample_weight=weights) for one in (a, b)]
    assert weighted.value == pytest.approx(sides[0] - sides[1])
    assert weighted.se > once.se


def test_equal_labels_are_no_evidence():
    y, a, _ = two_labellings(200, 5)
    found = paired_counts(F1, y, a, a)
    assert (found.value, found.se, found.n_informative) == (0.0, 0.0, 0)


@pytest.mark.parametrize("name", ["f1", "recall", "balanced_accuracy"])
def test_differences_of_ratios_cover_within_two_points(name):
    """700 draws of 500 rows, 90 % two-sided: Monte-Carlo error 1.1 points."""
    metric, held = OF_CELLS[name], 0
    y, a, b = two_labellings(2_000_000, 99)
    truth = metric(confusion(y, a)) - metric(confusion(y, b))
    for seed in range(700):
        found = paired_counts(metric, *two_labellings(500, seed))
        held += found.low <= truth <= found.high
    assert abs(held / 700 - 0.90) <= 0.02 + 2 * math.sqrt(0.09 / 700)


@pytest.mark.parametrize(
    ("cells", "scale"),
    [
        ([[50, 0], [0, 40]], "logit"),
        ([[50, 0], [0, 40]], "atanh"),
        ([[50, 10], [5, 40]], "logit"),
        ([[50, 10], [5, 40]], "none"),
    ],
)
def test_an_interval_holds_its_figure_and_stays_in_range(cells, scale):
    y, label = np.repeat([0, 0, 1, 1], np.ravel(cells)), np.repeat([0, 1, 0, 1], np.ravel(cells))
    found = counts_interval(OF_CELLS["matthews_corrcoef" if scale == "atanh" else "f1"], y, label, scale=scale)
    assert found.low < found.value <= found.high <= 1
    assert found.low > 0.5


def test_a_scale_that_is_none_is_refused():
    with pytest.raises(UsageError, match="logit"):
        counts_interval(F1, [0, 1], [0, 1], scale="probit")


def test_r2_by_its_expansion_has_the_error_of_resampling():
    rng = np.random.default_rng(0)
    y = rng.normal(size=1000)
    f = y + 0.6 * rng.normal(size=1000)
    value, rows = saved_rows((y - f) ** 2, (y - y.mean()) ** 2)
    assert value == pytest.approx(r2_score(y, f))
    assert rows.mean() == pytest.approx(value)
    drawn = [rng.integers(0, 1000, 1000) for _ in range(1500)]
    assert rows.std() / math.sqrt(1000) == pytest.approx(np.std([r2_score(y[i], f[i]) for i in drawn]), rel=0.08)
    assert math.isnan(saved_rows([1.0, 2.0], [0.0, 0.0])[0])


@pytest.mark.parametrize(("pairs", "how"), [(False, "ovr"), (True, "ovo")])
@pytest.mark.parametrize(("prevalence", "average"), [(False, "macro"), (True, "weighted")])
def test_areas_for_several_classes_are_scikit_learns_with_the_error_of_resampling(pairs, how, prevalence, average):
    rng = np.random.default_rng(0)
    y = rng.choice(3, 600, p=[0.5, 0.3, 0.2])
    proba = np.exp(1.2 * np.eye(3)[y] + rng.normal(size=(600, 3)))
    proba /= proba.sum(axis=1, keepdims=True)

    def area(rows):
        return several(y[rows], proba[rows], pairs=pairs, prevalence=prevalence)[0]

    value, influence = several(y, proba, pairs=pairs, prevalence=prevalence)
    assert value == pytest.approx(roc_auc_score(y, proba, multi_class=how, average=average))
    drawn = np.std([area(rng.integers(0, 600, 600)) for _ in range(300)])
    assert math.sqrt(influence @ influence) == pytest.approx(drawn, rel=0.15)
