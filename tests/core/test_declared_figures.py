"""What a declaration may say of figures: metrics, baseline, checks and answers to the audit; faults all at once."""

from functools import partial

import numpy as np
import pandera.pandas as pa
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import fbeta_score, make_scorer, mean_pinball_loss

import penstock as ps
from penstock.core.metric import metric_of, named_rules, own_metrics, scorer_names
from penstock.core.tree import encode
from penstock.core.workflow import Workflow
from penstock.errors import DeclarationError
from penstock.lifecycle.lower import lower

SCHEMA = pa.DataFrameSchema({"price": pa.Column(float)})


@ps.metric(greater_is_better=False, columns=["amount"])
def cost(y_true, y_pred, *, amount, sample_weight=None):
    return float(np.average(amount * (y_true != y_pred), weights=sample_weight))


@ps.metric
def hits(y_true, y_pred):
    return float((y_true == y_pred).mean())


def price_is_positive(table):
    return table["price"] > 0


def last_week(table):
    return table["lag"]


def workflow(**fields):
    given = {"name": "shop", "data": ps.read("a.csv"), "target": "sold", "model": LogisticRegression()}
    return Workflow(**{**given, **fields})


def faults_of(**fields):
    with pytest.raises(DeclarationError) as caught:
        workflow(**fields)
    return caught.value.faults


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_metric_is_still_its_function():
    assert cost(np.array([1, 0]), np.array([1, 1]), amount=np.array([4.0, 2.0])) == 1.0
    assert repr(cost) == "<Metric cost>"
    assert (cost.scorer, hits.scorer) == ("neg_cost", "hits")
    assert (cost.takes_weight, hits.takes_weight) == (True, False)


def test_metrics_may_be_names_objects_and_functions_one_or_several():
    assert workflow(metrics=cost).metrics == (cost,)
    assert workflow(metrics="roc_auc").metrics == ("roc_auc",)
    declared = workflow(metrics=["roc_auc", cost, make_scorer(fbeta_score, beta=2)])
    assert scorer_names(declared.metrics) == ("roc_auc", "neg_cost", "fbeta_score(beta=2)")
    assert "<Metric cost>" in repr(declared)
    assert declared.replace(seed=3).metrics == declared.metrics


def test_a_scorer_object_is_named_by_its_function_and_what_that_is_given():
    assert metric_of(make_scorer(mean_pinball_loss, alpha=0.9, greater_is_better=False)).scorer == (
        "neg_mean_pinball_loss(alpha=0.9)"
    )
    assert ps.metric(make_scorer(fbeta_score, beta=2), name="f2").name == "f2"
    assert workflow(metrics=make_scorer(partial(fbeta_score, beta=2))).metrics[0].name == "fbeta_score"
    assert workflow(decide=ps.Threshold(maximise=make_scorer(fbeta_score, beta=2))).decide.text == (
        "maximise fbeta_score(beta=2)"
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"metrics": [3]}, "a scorer's name"),
        ({"metrics": 3}, "a scorer's name"),
        ({"slices": 3}, "names of columns are meant"),
        ({"gate": [ps.AtLeast(["roc_auc"], 0.5)]}, "a scorer's name"),
        ({"gate": [ps.AtLeast("roc_auc", 0.5, confidence="high")]}, "between 0.5 and 1"),
        ({"gate": [ps.MaxGap("tpr", by="sex", at_most=0)]}, "a number above 0"),
        ({"gate": [ps.MaxGap("tprr", by="sex", at_most=0.1)]}, "is no metric"),
        ({"gate": [ps.MaxGap("tpr", by=3, at_most=0.1)]}, "the name of a column"),
        ({"gate": [ps.Calibrated(at_most=-1)]}, "a number above 0"),
        ({"gate": [ps.Calibrated(bins=0)]}, "a whole number from 1"),
        ({"gate": [ps.Faster(0)]}, "a number above 0"),
        ({"gate": [ps.Faster(0.5, by=0.1)]}, "say the number"),
        ({"gate": [ps.Faster("baseline")]}, "stored nowhere"),
        ({"gate": [ps.Faster(rows=0)]}, "a whole number from 1"),
        ({"gate": [ps.Smaller(by=1.0)]}, "from 0 to below 1"),
        ({"gate": [ps.Beats("the last one")]}, "an alias such as 'champion'"),
        ({"gate": [ps.Beats("challenger")]}, "what the gate judges"),
        ({"gate": [lambda c: True]}, "at module level"),
        ({"metrics": ["roc_auk"]}, 'did you mean "roc_auc"'),
        ({"metrics": [hits], "weight": "w"}, "takes no sample_weight"),
        ({"metrics": [ps.metric(hits.function, name="f1")]}, "scorer of that name"),
        ({"metrics": [hits, ps.metric(cost.function, columns=["amount"], name="hits")]}, "two metrics have that name"),
        ({"metrics": [ps.metric(lambda y, p: 0.0, name="mine")]}, "at module level"),
        ({"gate": [ps.AtLeast(cost, 3)]}, "lower is better: AtMost"),
        ({"gate": [ps.AtMost("coast", 3)]}, "is no metric"),
        ({"metrics": ["neg_max_error"], "weight": "w"}, "knows no weights"),
        ({"gate": [ps.AtMost("max_error", 3)], "weight": "w"}, "knows no weights"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_when_declared(fields, said):
    assert any(said in fault for fault in faults_of(**fields)), faults_of(**fields)


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (lambda y_true: 0.0, {"name": "one"}, "must take y_true and y_pred"),
        (lambda y, p: 0.0, {"name": "one", "columns": ["amount"]}, "is no parameter"),
        (lambda y, p, amount: 0.0, {"name": "one"}, "name the column in columns="),
        (lambda y, p: 0.0, {"name": "neg_one"}, "not begin with neg_"),
        (lambda y, p: 0.0, {"name": "one", "needs": "logit"}, "one of label, score"),
        (3, {}, "is no function"),
        (max, {}, "does not tell its parameters"),
        (make_scorer(fbeta_score, beta=2), {"columns": ["amount"]}, "columns= says what a scorer object says itself"),
        (make_scorer(fbeta_score, beta=2), {"greater_is_better": False}, "says what a scorer object says itself"),
    ],
)
def test_a_function_that_cannot_be_called_as_a_metric_is_refused(function, options, said):
    with pytest.raises(DeclarationError, match=said):
        ps.metric(function, **options)


def test_rules_name_metrics_by_object_or_by_name_and_errors_as_people_say_them():
    rules = (ps.AtMost(cost, 5), ps.AtMost("cost", 5), ps.Beats(metric=cost), ps.NotWorse(metric="cost"), ps.Improves())
    own = own_metrics((), rules)
    assert own == (cost,)
    assert [rule.metric for rule in named_rules(rules, own)] == ["cost", "cost", "neg_cost", "neg_cost", None]
    assert workflow(gate=list(rules)).gate[0].metric is cost


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (LinearRegression(), {"metrics": ["roc_auc"]}),
        (LogisticRegression(), {"metrics": ["r2"]}),
        (LogisticRegression(), {"gate": [ps.AtMost("root_mean_squared_error", 3)]}),
        (LinearRegression(), {"metrics": [ps.metric(hits.function, needs="score")]}),
        (LogisticRegression(), {"metrics": [ps.metric(hits.function, needs="value")]}),
    ],
)
def test_a_metric_that_never_fits_the_estimator_is_refused_before_anything_runs(model, fields, tmp_path):
    with pytest.raises(DeclarationError, match="does not fit"):
        lower(workflow(model=model, **fields), str(tmp_path / "shop.py"))


# ── what is lowered ──────────────────────────────────────────────────────────────────────────────────────────────


def arguments(declared, step, tmp_path):
    from penstock.core.flow import calls_of

    refs, _ = lower(declared, str(tmp_path / "shop.py"))
    return {call.name: call.kwargs for call in calls_of(refs)}[step]


def test_what_is_not_declared_stands_in_no_recipe(tmp_path):
    bare = {step: set(arguments(workflow(), step, tmp_path)) for step in ("validate", "evaluate", "compare", "audit")}
    assert bare["validate"] == {"target", "roles", "schema", "slices", "task"}
    assert not {"own", "baseline", "waive"} & (bare["evaluate"] | bare["compare"] | bare["audit"])


def test_what_is_declared_reaches_its_stages(tmp_path):
    declared = workflow(
        metrics=[cost, "roc_auc"],
        baseline="lag",
        checks=[price_is_positive, SCHEMA],
        audit=ps.Audit(waive={"tenure": "signed"}, known_late=["duration"]),
    )
    validate = arguments(declared, "validate", tmp_path)
    assert validate["target"].after == ("duration",)
    assert [(check.name, check.entry.rpartition(":")[2]) for check in validate["checks"]] == [
        ("price_is_positive", "price_is_positive"),
        ("SCHEMA", "SCHEMA"),
    ]
    assert validate["columns"] == {"metric cost": ("amount",), "baseline": ("lag",), "waive": ("tenure",)}
    assert validate["fits"] == {"roc_auc": ("binary",)}
    evaluate = arguments(declared, "evaluate", tmp_path)
    assert (evaluate["metrics"], evaluate["own"], evaluate["baseline"]) == (("neg_cost", "roc_auc"), (cost,), "lag")
    assert arguments(declared, "audit", tmp_path)["waive"] == {"tenure": "signed"}


def test_all_that_is_declared_has_a_canonical_form():
    for value in (
        cost,
        metric_of(make_scorer(fbeta_score, beta=2)),
        *workflow(checks=[price_is_positive, SCHEMA]).checks,
    ):
        assert encode(value)[0] == "data"
    assert encode(cost) != encode(ps.metric(cost.function, greater_is_better=True, columns=["amount"]))


# ── baseline, checks, audit ──────────────────────────────────────────────────────────────────────────────────────


def test_a_baseline_may_be_an_estimator_a_column_or_a_function():
    for baseline in (None, "lag", last_week, DummyClassifier()):
        assert workflow(baseline=baseline).baseline is baseline


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"baseline": 3}, "has no fit"),
        ({"baseline": lambda table: table}, "at module level"),
        ({"baseline": ""}, "name of a column"),
        ({"baseline": DummyClassifier}, "make an object of it"),
        ({"checks": [3]}, "a function of the table or a pandera schema"),
        ({"checks": [lambda table: True]}, "at module level"),
        ({"checks": [price_is_positive, price_is_positive]}, "two are called"),
        ({"checks": [pa.DataFrameSchema({})]}, "in a variable at module level"),
        ({"audit": {"waive": {}}}, "ps.Audit"),
        ({"audit": ps.Audit(known_late=["sold"])}, "is the target"),
        ({"audit": ps.Audit(known_late=["late"]), "features": ["late"]}, "stands in features="),
    ],
)
def test_what_cannot_be_is_refused_when_declared(fields, said):
    assert any(said in fault for fault in faults_of(**fields)), faults_of(**fields)


def test_several_faults_of_figures_are_told_at_once():
    assert len(faults_of(metrics=[3], checks=[4], baseline=5, audit=6)) == 4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"waive": {"tenure": " "}}, "say why"),
        ({"waive": ["tenure"]}, "a dict of column to reason"),
        ({"waive": None, "known_late": ["a"]}, "a dict of column to reason"),
        ({"known_late": [3]}, "names of columns"),
        ({"waive": {"a": "why"}, "known_late": "a"}, "at once"),
    ],
)
def test_an_answer_to_the_audit_without_sense_is_refused(fields, said):
    with pytest.raises(DeclarationError, match=said):
        ps.Audit(**fields)


def test_a_marked_check_keeps_its_severity_and_runs_as_a_function():
    marked = ps.check(price_is_positive, severity="warning")
    assert workflow(checks=marked).checks[0].severity == "warning"
    assert marked({"price": np.array([1.0])}).tolist() == [True]
    with pytest.raises(DeclarationError, match="error, warning"):
        ps.check(price_is_positive, severity="fatal")
