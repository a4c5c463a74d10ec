"""Thresholds: exact over all cut points, honest on the rows that chose them, refused where nothing can be chosen."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.core.threshold import Threshold
from penstock.errors import DeclarationError, RefusedError
from penstock.stages import scoring, thresholds
from penstock.stages.decide import decide, rejudged
from penstock.stages.evaluate import evaluate
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem
from penstock.stages.stored import from_frame

PROBLEM = Problem("binary", ("no", "yes"))
BINARY = {"task": "binary", "classes": ["no", "yes"], "positive": "yes"}


def answers(y, score, problem=PROBLEM):
    score = np.asarray(score, dtype=float)
    labels = (score >= 0.5).astype(float)
    return Predicted(problem, np.asarray(y), np.column_stack([labels, 1 - score, score]), proba=slice(1, 3))


def noisy(n=400, seed=0):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(int)
    return answers(y, np.round(1 / (1 + np.exp(-(2 * y - 1.5 + rng.normal(size=n)))), 2))


rankings = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])), min_size=2, max_size=12
).filter(lambda rows: len({y for y, _ in rows}) == 2)


@given(rankings, st.sampled_from(sorted(thresholds.OF_COUNTS)))
@settings(max_examples=150, deadline=None)
def test_no_other_threshold_gives_a_better_metric_and_the_value_is_scikit_learns(rows, name):
    y, score = zip(*rows, strict=True)
    given_ = answers(y, score)
    found = thresholds.choose(Threshold(maximise=name), given_)
    tried = [scoring.figure(name, thresholds.relabelled(given_, at)) for at in (*score, 2.0)]
    at_chosen = scoring.figure(name, thresholds.relabelled(given_, found.threshold))
    assert at_chosen == pytest.approx(max(tried))
    assert found.value == pytest.approx(at_chosen)


@given(rankings, st.sampled_from(["recall", "precision", "rate"]), st.sampled_from([0.2, 0.5, 0.9]))
@settings(max_examples=150, deadline=None)
def test_a_share_is_met_and_only_just(rows, rule, share):
    y, score = (np.array(part) for part in zip(*rows, strict=True))
    found = thresholds.choose(Threshold(**{rule: share}), answers(y, score))

    def reached(at):
        said = score >= at
        if rule == "rate":
            return said.mean()
        of = y == 1 if rule == "recall" else said
        return (said & (y == 1)).sum() / of.sum() if of.sum() else float("nan")

    value = reached(found.threshold)
    cuts = sorted({*score.tolist(), 2.0})
    if rule == "recall":
        assert value >= share
        assert all(
            reached(at) < share
            for at in cuts
            if at > found.threshold and (score >= at).sum() < (score >= found.threshold).sum()
        )
    elif rule == "rate":
        assert value <= share
        assert all(reached(at) > share for at in cuts if (score >= at).sum() > (score >= found.threshold).sum())
    else:
        assert found.met == any(reached(at) >= share for at in cuts)
        if found.met:
            assert value >= share
            assert not any(
                reached(at) >= share for at in cuts if (score >= at).sum() > (score >= found.threshold).sum()
            )


def test_of_equally_good_thresholds_the_highest_is_taken():
    found = thresholds.choose(Threshold(maximise="accuracy"), answers([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]))
    assert found.threshold == 0.35 or 0.3 < found.threshold <= 0.4
    assert found.value == 0.75


def test_a_threshold_is_a_short_number_between_two_scores():
    found = thresholds.choose(Threshold(maximise="f1"), answers([0, 0, 1, 1], [0.11, 0.2123, 0.7456, 0.9]))
    assert found.threshold == 0.5


def test_neighbouring_scores_are_still_told_apart():
    low = 0.3
    high = np.nextafter(low, 1.0)
    found = thresholds.choose(Threshold(maximise="f1"), answers([0, 1], [low, high]))
    assert found.threshold == high


def test_weights_count_as_repeated_rows():
    given_ = noisy()
    weight = np.random.default_rng(1).integers(1, 4, len(given_))
    repeated = given_.take(np.repeat(np.arange(len(given_)), weight))
    for rule in (Threshold(maximise="f1"), Threshold(recall=0.8), Threshold(rate=0.1)):
        weighted = thresholds.choose(rule, replace(given_, weight=weight.astype(float)))
        assert weighted.threshold == thresholds.choose(rule, repeated).threshold
        assert weighted.value == pytest.approx(thresholds.choose(rule, repeated).value)


def test_a_metric_that_counts_cannot_give_is_found_as_exactly_by_trying():
    given_ = noisy(300)
    assert "jaccard_micro" not in thresholds.OF_COUNTS
    found = thresholds.choose(Threshold(maximise="jaccard_micro"), given_)
    score = thresholds.scores(given_)
    best = max(scoring.figure("jaccard_micro", thresholds.relabelled(given_, at)) for at in np.unique(score))
    assert found.value == pytest.approx(best)


def test_an_error_is_minimised_under_either_name():
    assert thresholds.metric_of(Threshold(minimise="neg_negative_likelihood_ratio"), PROBLEM) == (
        "neg_negative_likelihood_ratio",
        1.0,
    )
    assert thresholds.metric_of(Threshold(minimise="negative_likelihood_ratio"), PROBLEM) == (
        "neg_negative_likelihood_ratio",
        1.0,
    )
    assert thresholds.metric_of(Threshold(minimise="recall"), PROBLEM) == ("recall", -1.0)


@pytest.mark.parametrize(
    ("rule", "says"),
    [(Threshold(maximise="roc_auc"), "reads scores"), (Threshold(maximise="fl"), "'fl' is no metric")],
)
def test_a_metric_that_no_threshold_changes_is_refused(rule, says):
    with pytest.raises(DeclarationError, match=says):
        thresholds.choose(rule, noisy())


@pytest.mark.parametrize("at", [27, 1.7, -0.1])
def test_what_is_no_probability_is_refused_as_a_threshold_of_them(at):
    with pytest.raises(DeclarationError, match="lie between 0 and 1"):
        thresholds.choose(Threshold(at=at), noisy())
    ranked = noisy()
    ranked = Predicted(PROBLEM, ranked.y, ranked.answers[:, [0, 2]], decision=slice(1, 2))
    assert thresholds.choose(Threshold(at=at), ranked).threshold == at  # a decision value has no bounds


def test_three_classes_have_no_threshold_and_it_is_said_before_anything_is_fitted():
    with pytest.raises(DeclarationError, match="parts two classes, and this is a multiclass target"):
        thresholds.check_rule(Threshold(at=0.5), Problem("multiclass", (0, 1, 2)))


def test_a_model_that_gives_labels_only_has_no_threshold():
    with pytest.raises(DeclarationError, match="labels only"):
        thresholds.scores(Predicted(PROBLEM, np.array([0, 1]), np.array([[0.0], [1.0]])))


# ── the stage ────────────────────────────────────────────────────────────────────────────────────────────────


def table(n=600, seed=0, signal=1.0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": range(n), "a": rng.normal(size=n), "b": rng.normal(size=n)})
    frame["y"] = np.where(signal * frame.a + rng.normal(size=n) > 1, "yes", "no")
    return frame


KNOWN = {"target": Target("y"), "schema": BINARY}
JUDGED = {**KNOWN, "roles": Roles(key=("id",)), "split": Split(folds=4), "slices": (), "seed": 0}


def test_what_is_decided_stands_with_its_curve():
    data = table()
    _, predictions = evaluate(data, model=LogisticRegression(), metrics=("f1",), **JUDGED)
    decision, report = decide(predictions, decide=Threshold(recall=0.9), **KNOWN)
    assert decision | {"threshold": None} == {
        "threshold": None,
        "score": "proba",
        "positive": "yes",
        "negative": "no",
        "rule": "recall 0.9",
    }
    found = predictions.proba >= decision["threshold"]
    assert (found & (predictions.y_true == "yes")).sum() / (predictions.y_true == "yes").sum() >= 0.9
    assert report["share_positive"] == pytest.approx(found.mean())
    curve = report["curve"]
    assert len(curve["threshold"]) == len(curve["recall"]) <= thresholds.CURVE_POINTS
    assert curve["threshold"] == sorted(curve["threshold"], reverse=True)
    assert (curve["recall"][0], curve["recall"][-1], curve["precision"][0]) == (0.0, 1.0, None)


def test_a_precision_that_cannot_be_had_is_refused_with_the_best_there_is():
    data = table(signal=0.0)
    _, predictions = evaluate(data, model=LogisticRegression(), metrics=("f1",), **JUDGED)
    predictions["y_true"] = "no"
    predictions.loc[0, "y_true"] = "yes"
    predictions["proba"] = np.where(predictions.index == 0, 0.1, 0.2)
    with pytest.raises(RefusedError, match=r"no threshold gives precision 0.9 .* the best is 0.002") as caught:
        decide(predictions, decide=Threshold(precision=0.9), **KNOWN)
    assert caught.value.exit_code == 4


def test_label_metrics_are_cross_fitted_and_the_others_stay():
    data = table()
    plain, before = evaluate(data, model=LogisticRegression(), metrics=("roc_auc", "f1"), **JUDGED)
    rule = Threshold(maximise="f1")
    report, after = evaluate(data, model=LogisticRegression(), metrics=("roc_auc", "f1"), decide=rule, **JUDGED)
    assert report["metrics"]["roc_auc"] == plain["metrics"]["roc_auc"]
    assert report["metrics"]["f1"]["value"] > plain["metrics"]["f1"]["value"]
    pd.testing.assert_frame_equal(after.drop(columns="label"), before.drop(columns="label"))
    pooled = from_frame(after, PROBLEM)
    for number in range(4):
        inside = (after.fold == number).to_numpy()
        others = thresholds.choose(rule, pooled.take(~inside)).threshold
        assert ((after.proba[inside] >= others) == (after.label[inside] == "yes")).all()


def flattery(fit_on):
    """How much better f1 looks than it is where nothing can be learned, over many small tables."""
    gaps = []
    rule = Threshold(maximise="f1")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        given_ = answers((rng.random(60) < 0.3).astype(int), rng.random(60))
        fold = np.arange(60) % 4
        told = scoring.figure("f1", fit_on(rule, given_, fold))
        fresh = answers((rng.random(4000) < 0.3).astype(int), rng.random(4000))
        threshold = thresholds.choose(rule, given_).threshold
        gaps.append(told - scoring.figure("f1", thresholds.relabelled(fresh, threshold)))
    return float(np.mean(gaps))


def test_cross_fitting_does_not_flatter_and_its_lack_does():
    """Sabotage: the threshold chosen on the very rows that it is judged by looks better than it is."""

    def in_sample(rule, given_, _fold):
        return thresholds.relabelled(given_, thresholds.choose(rule, given_).threshold)

    assert flattery(thresholds.cross_fitted) < 0.02
    assert flattery(in_sample) > 0.04


def test_another_threshold_changes_what_reads_labels_and_nothing_else():
    data = table()
    old, predictions = evaluate(data, model=LogisticRegression(), metrics=("roc_auc", "f1"), **JUDGED)
    new, told, decision = rejudged(old, predictions, threshold=0.2, schema=BINARY, target=Target("y"), seed=0)
    assert new["metrics"]["roc_auc"] == old["metrics"]["roc_auc"]
    labels = thresholds.relabelled(from_frame(predictions, PROBLEM), 0.2)
    assert new["metrics"]["f1"]["value"] == pytest.approx(scoring.figure("f1", labels))
    assert new["metrics"]["f1"]["baseline"] == old["metrics"]["f1"]["baseline"]
    assert new["confusion"] == told["confusion"] != old["confusion"]
    assert (decision["threshold"], decision["rule"]) == (0.2, "at 0.2, by hand")


def test_with_weights_a_threshold_by_hand_is_told_as_a_declared_one_is():
    data = table().assign(w=lambda frame: np.where(frame.y == "yes", 5.0, 1.0))
    given_ = {**JUDGED, "roles": Roles(key=("id",), weight="w")}
    old, predictions = evaluate(data, model=LogisticRegression(), metrics=("f1",), **given_)
    _, by_hand, _ = rejudged(old, predictions, threshold=0.2, **KNOWN, seed=0)
    _, declared = decide(predictions, decide=Threshold(at=0.2), **KNOWN)
    _, unweighted = decide(predictions.drop(columns="weight"), decide=Threshold(at=0.2), **KNOWN)
    assert by_hand["curve"] == declared["curve"] != unweighted["curve"]


def test_a_threshold_on_several_classes_is_refused_by_validate_before_anything_is_fitted():
    import penstock as ps
    from penstock.core.flow import calls_of
    from penstock.lifecycle.lower import lower
    from penstock.stages.validate import validate

    declared = {"name": "w", "data": ps.read("t.csv"), "target": "y", "decide": ps.Threshold(at=0.3)}
    outputs, _ = lower(ps.Workflow(model=LogisticRegression(), **declared), "w.py")
    fits = next(call for call in calls_of(outputs) if call.name == "validate").kwargs["fits"]
    table = pd.DataFrame({"a": range(30), "y": ["x", "y", "z"] * 10})
    known = {"roles": Roles(), "schema": None, "target": Target("y")}
    with pytest.raises(
        DeclarationError, match="decide=: a threshold parts two classes, and this is a multiclass target"
    ):
        validate(table, **known, fits=fits)
    two = table.assign(y=[0, 1] * 15)
    validate(two, **known, fits=fits)
    with pytest.raises(DeclarationError, match="this is a model for regression"):
        lower(ps.Workflow(model=LinearRegression(), **declared), "w.py")
    outputs, _ = lower(ps.Workflow(model=LogisticRegression(), **{**declared, "decide": None}), "w.py")
    assert "fits" not in next(call for call in calls_of(outputs) if call.name == "validate").kwargs
