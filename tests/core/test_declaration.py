"""The declaration: inert, checked at once, every fault in one error; steps promise, references refuse."""

import dataclasses
import importlib.util
import math
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer_names
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import penstock as ps
from penstock.core import names, notes, urls
from penstock.core.flow import Graph, Node, calls_of, needs_of, params_of, set_params, step_ids, substitute
from penstock.core.names import did_you_mean
from penstock.core.notes import begin, log, note, take, take_pictures
from penstock.core.resources import memory_bytes
from penstock.core.split import duration_s
from penstock.core.step import call_of
from penstock.core.target import Roles
from penstock.core.workflow import LATER
from penstock.errors import DeclarationError, PenstockError, RefUseError

# Scorers of clusterings need no target column; Penstock has nothing for them to score.
CLUSTERING = {
    "adjusted_mutual_info_score",
    "adjusted_rand_score",
    "completeness_score",
    "fowlkes_mallows_score",
    "homogeneity_score",
    "mutual_info_score",
    "normalized_mutual_info_score",
    "rand_score",
    "v_measure_score",
}
CURVE = "<svg xmlns='http://www.w3.org/2000/svg'/>"
# Averages over samples are for tables with several labels a row.
MULTILABEL = {"f1_samples", "jaccard_samples", "precision_samples", "recall_samples"}


@ps.step
def clean(table, floor=0):
    return [row for row in table if row >= floor]


@ps.step(outputs=("train", "test"), retries=2, timeout_s=5, memory="1GiB")
def halves(table):
    return table[::2], table[1::2]


def workflow(**fields):
    given = {"name": "churn", "data": ps.read("customers.csv"), "target": "churned", "model": LogisticRegression()}
    return ps.Workflow(**{**given, **fields})


def faults_of(**fields):
    with pytest.raises(DeclarationError) as caught:
        workflow(**fields)
    assert caught.value.exit_code == 2
    return caught.value.faults


# ── steps and references ────────────────────────────────────────────────────────────────────────────────────


def test_a_step_called_with_values_is_its_function():
    assert clean([1, -1]) == [1]
    assert halves([1, 2, 3]) == ([1, 3], [2])


def test_a_step_called_with_a_promise_promises():
    promised = clean(ps.read("a.csv"))
    assert repr(promised) == "<Ref clean>"
    assert repr(clean([1], floor=ps.Param("floor", 0))) == "<Ref clean>"
    assert repr(clean([ps.read("a.csv")])) == "<Ref clean>"
    assert repr(clean({"a": (ps.read("a.csv"),)})) == "<Ref clean>"
    assert [repr(ref) for ref in halves(promised)] == ["<Ref halves.train>", "<Ref halves.test>"]
    assert repr(clean.ref([1], name="other")) == "<Ref other>"


USES = {
    "bool": bool,
    "iter": iter,
    "len": len,
    "item": lambda ref: ref[0],
    "attribute": lambda ref: ref.columns,
    "equal": lambda ref: ref == 1,
    "unequal": lambda ref: ref != 1,
    "less": lambda ref: ref < 1,
    "at least": lambda ref: ref >= 1,
    "plus": lambda ref: ref + 1,
    "plus from the right": lambda ref: 1 + ref,
    "times": lambda ref: ref * 2,
    "minus": lambda ref: -ref,
    "call": lambda ref: ref(),
    "unpack": lambda ref: [*ref],
    "in": lambda ref: 1 in ref,
    "and": lambda ref: ref & True,
    "float": float,
}


@pytest.mark.parametrize("use", USES)
def test_a_reference_refuses_to_be_used_as_a_value_in_a_sentence(use):
    with pytest.raises(RefUseError) as caught:
        USES[use](clean(ps.read("a.csv")))
    assert "clean(…)" in caught.value.what
    assert "promised output" in caught.value.what
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_a_reference_can_be_hashed_copied_into_sets_and_asked_by_notebooks():
    ref = clean(ps.read("a.csv"))
    assert len({ref, ref}) == 1
    assert not hasattr(ref, "_repr_html_")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"retries": -1}, "retries=-1"),
        ({"retries": 1.5}, "retries=1.5"),
        ({"timeout_s": 0}, "timeout_s=0"),
        ({"memory": "lots"}, "memory='lots'"),
        ({"outputs": ("a", "a")}, "outputs="),
        ({"outputs": ("a b",)}, "outputs="),
    ],
)
def test_options_of_a_step_are_checked(options, word):
    with pytest.raises(DeclarationError, match="step: ") as caught:
        ps.step(**options)
    assert word in caught.value.what


@pytest.mark.parametrize("thing", [3, "clean", [1]])
def test_what_is_no_function_is_no_step(thing):
    with pytest.raises(DeclarationError, match="is no function"):
        ps.step(thing)


def test_faults_of_options_come_together():
    with pytest.raises(DeclarationError) as caught:
        ps.step(retries=-1, timeout_s=-1, outputs=("a", "a"))
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize(
    ("text", "size"), [("2KiB", 2048), ("1.5 GB", 1_500_000_000), ("7", 7), (9, 9), (None, None), ("3B", 3)]
)
def test_sizes(text, size):
    assert memory_bytes(text) == size


# ── sources ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_path_is_relative_to_the_declaring_file(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "flows.py").write_text("import penstock as ps\ntable = ps.read('data/a.csv')\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    spec = importlib.util.spec_from_file_location("flows_for_read", folder / "flows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    [source] = call_of(module.table).args
    assert source.path == str(folder / "data" / "a.csv")


def test_options_of_a_source_hold_all_but_the_path():
    [source] = call_of(ps.read("x/a.csv.gz", sep=";", na="?", types={"n": "int"})).args
    assert "path" not in source.options()
    assert source.options()["suffix"] == ".csv.gz"
    assert source.options()["na"] == ("?",)
    assert repr(ps.read("x/a.csv.gz")) == "<Ref a>"


def test_a_limit_or_an_option_that_is_not_given_disturbs_no_recipe():
    [plain] = call_of(ps.read("a.xlsx")).args
    [limited] = call_of(ps.read("a.xlsx", max_rows=10, max_bytes="1GiB")).args
    [other] = call_of(ps.read("a.xlsx", sheet="Sales")).args
    assert list(plain.options()) == ["suffix", "sep", "encoding", "na", "strip", "types", "dates", "columns"]
    assert limited.options() == plain.options()
    assert other.options() == plain.options() | {"sheet": "Sales"}


def test_a_list_of_files_keeps_each_place():
    [source] = call_of(ps.read(["a.csv", "b.csv", "s3://lake/c.csv"])).args
    assert [os.path.basename(place) for place in (source.path, *source.more)] == ["a.csv", "b.csv", "c.csv"]
    assert source.suffix == ".csv"
    assert "more" not in source.options()


@pytest.mark.parametrize(
    ("source", "fields", "word"),
    [
        ("ftp://host/a.csv", {}, "URL of the kind 'ftp'"),
        ("file:///etc/passwd", {}, "a path is written as it is"),
        ("simplecache::s3://bucket/a.csv", {}, "URL of the kind"),
        ("https://host/*.csv", {}, "over HTTP nothing can be listed"),
        ("https://me:word@host/a.csv", {}, "credential"),
        ("https://host/a.csv?X-Amz-Signature=abc", {}, "credential"),
        ("https://host/a.csv?access_token=abc", {}, "credential"),
        ("https://host/a.csv?apikey=abc", {}, "credential"),
        ("postgresql://host/db", {"query": "t", "max_rows": 0}, "max_rows="),
        ("postgresql://host/db", {"query": "t", "max_bytes": "much"}, "read: max_bytes="),
        ("postgresql://host/db", {"query": "t", "strip": False}, "strip="),
        ("", {}, "path of a file"),
        ([], {}, "no file at all"),
        ("a.xlsx", {"sheet": 1.5}, "sheet="),
        ("a.csv", {"max_rows": 0}, "max_rows="),
        ("a.csv", {"max_bytes": "much"}, "max_bytes="),
        ("a.csv", {"query": " ; "}, "query="),
        ("a.csv", {"params": {"a": 1}}, "params="),
        ("a.csv", {"secret": "env:X"}, "secret="),
    ],
)
def test_what_cannot_be_read_is_refused(source, fields, word):
    with pytest.raises(DeclarationError, match=word):
        ps.read(source, **fields)


def test_one_name_may_stand_for_a_list_of_names():
    [source] = call_of(ps.read("a.csv", na="?", dates="day", columns="day")).args
    assert (source.na, source.dates, source.columns) == (("?",), ("day",), ("day",))
    [query] = call_of(ps.read("postgresql://host/db", query="t", dates="day", columns="day")).args
    assert (query.dates, query.columns) == (("day",), ("day",))
    joined = call_of(ps.asof_join(ps.read("a.csv"), ps.read("b.csv"), by="who", on="day", columns="plan"))
    assert joined.kwargs["columns"] == ("plan",)


@pytest.mark.parametrize("arguments", [{"by": 5}, {"on": 5}, {"tolerance": [1]}, {"tolerance": True}])
def test_what_no_join_can_take_is_a_fault(arguments):
    with pytest.raises(DeclarationError, match=f"{next(iter(arguments))}="):
        ps.asof_join(ps.read("a.csv"), ps.read("b.csv"), **{"by": "who", "on": "day", **arguments})


@pytest.mark.parametrize(
    "url",
    ["ftp://host/a.csv?token=hunter2", "https://hunter2@host/a.csv", "https://host/a.csv?a=1&X-Api-Key=hunter2"],
)
def test_a_credential_of_a_file_is_never_repeated(url):
    with pytest.raises(DeclarationError) as caught:
        ps.read(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ana:hunter2@db/x",
        "postgresql://ana@corp:hunter2@db/x",
        "postgresql://ana:hunt/er2@db/x",
        "postgresql://db/x?a=1&sslpassword=hunter2",
        "https://h/x?access_token=hunter2&b=2",
        "mssql+pyodbc:///?odbc_connect=UID%3Dana%3BPWD%3Dhunter2",
    ],
)
def test_a_url_is_shown_without_its_password(url):
    assert urls.has_password(url)
    assert "er2" not in urls.masked(f"cannot reach {url} now")
    assert "now" in urls.masked(f"cannot reach {url} now")


@pytest.mark.parametrize("url", ["postgresql://ana@db:5432/x", "postgresql://db/x?sslmode=require", "s3://b/k@v1"])
def test_a_url_without_a_password_is_shown_as_it_is(url):
    assert urls.masked(url) == url


def test_a_password_is_never_repeated():
    with pytest.raises(DeclarationError) as caught:
        ps.read("postgresql://me:hunter2@host/db")
    assert "hunter2" not in str(caught.value)
    assert "me:***@" in str(caught.value)


# ── flows ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_calls_stand_after_what_they_need():
    train, test = halves(clean(ps.read("a.csv")))
    calls = calls_of((test, train))
    assert [call.name for call in calls] == ["a", "clean", "halves"]
    assert needs_of(calls[2]) == [calls[1]]


def test_repeated_names_are_numbered_and_a_note_says_so():
    first = clean(ps.read("a.csv"))
    calls = calls_of((clean(clean(first)), clean(first, name="clean_2")))
    ids, notes = step_ids(calls)
    assert len(set(ids.values())) == len(calls) == 5
    assert "name= at the call" in notes[0]


def test_a_chain_may_be_longer_than_the_stack():
    ref = clean(ps.read("a.csv"))
    for _ in range(5_000):
        ref = clean(ref)
    assert len(calls_of((ref,))) == 5_002


def test_a_flow_takes_references_steps_and_tuples():
    assert repr(ps.Flow(ps.read("a.csv"), *halves(ps.read("b.csv")), name="x")) == "<Flow x: 3 outputs>"
    with pytest.raises(DeclarationError):
        ps.Flow(1)
    with pytest.raises(DeclarationError):
        ps.Flow()


def test_parameters_are_read_as_their_defaults_type():
    declared = {"n": 1, "rate": 0.5, "on": True, "since": "2026", "none": None}
    given_ = {"n": "3", "rate": "2", "on": "no", "since": "2027", "none": "text"}
    assert set_params(declared, given_) == {"n": 3, "rate": 2.0, "on": False, "since": "2027", "none": "text"}
    assert set_params(declared, {}) == declared


def test_faults_of_parameters_come_together_with_the_nearest_word():
    with pytest.raises(DeclarationError) as caught:
        set_params({"n": 1, "on": True, "since": ""}, {"n": "x", "on": "maybe", "sinse": "1"})
    assert len(caught.value.faults) == 3
    assert 'did you mean "since"?' in str(caught.value)


def test_one_parameter_with_two_defaults_is_a_fault():
    refs = (clean(ps.Param("p", 1)), clean(ps.Param("p", 2)))
    with pytest.raises(DeclarationError, match="two defaults"):
        params_of(calls_of(refs))


def test_substitute_puts_values_for_promises():
    ref = clean(ps.read("a.csv"))
    found = {id(call_of(ref)): {"": [1]}}
    assert substitute({"a": [ref, (ps.Param("p"),)], "b": 2}, found, {"p": 5}) == {"a": [[1], (5,)], "b": 2}


def test_a_graph_survives_json():
    node = Node("a", "m:a", ["list", []], "c" * 64, outputs=("x", "y"), needs=(("b", ""),), timeout_s=1.0, path="p")
    graph = Graph("g", (node,), {"c": {"m:a": "1"}}, {"p": 1}, ("note",), {"workflow": "w"})
    import json

    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
    assert graph.node("a") is node
    with pytest.raises(KeyError):
        graph.node("z")


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_our_scorers_are_scikit_learns():
    assert set(get_scorer_names()) - CLUSTERING - MULTILABEL == set(names.SCORERS)


def test_the_nearest_word():
    assert did_you_mean("roc_auk", names.SCORERS) == '; did you mean "roc_auc"?'
    assert did_you_mean("zzzzzz", names.SCORERS) == ""


@given(st.floats(0.001, 1e6), st.sampled_from([("s", 1), ("min", 60), ("h", 3600), ("d", 86400), ("w", 604800)]))
def test_durations(number, unit):
    text = f"{number:.4f}{unit[0]}"
    assert duration_s(text) == pytest.approx(float(f"{number:.4f}") * unit[1])


@pytest.mark.parametrize("text", ["", "d", "90", "90 years", "-1d", "1d2h"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a duration"):
        duration_s(text)


def test_what_the_model_sees():
    target = ps.Target("y", time="known_at", after=("refund",))
    roles = Roles(key=("id",), time="at", groups=("house",), drop=("notes",))
    columns = ["id", "at", "house", "x", "y", "known_at", "refund", "notes"]
    assert roles.visible(columns, target) == ["x"]
    assert dataclasses.replace(roles, features=("id", "x")).visible(columns, target) == ["id", "x"]


def test_notes_are_taken_once():
    take()
    note(rows=1)
    note(rows=2, wide=True)
    assert take() == {"rows": 2, "wide": True}
    assert take() == {}


def test_a_later_value_replaces_an_earlier_one_of_another_kind(monkeypatch):
    monkeypatch.setattr(notes, "_running", [False])
    begin()
    log(costs=1, curve=CURVE)
    log(costs=CURVE, curve=2)
    assert (take(), list(take_pictures())) == ({"curve": 2}, ["costs"])


# ── the workflow ────────────────────────────────────────────────────────────────────────────────────────────


def test_only_four_fields_are_required_and_the_rest_is_sound():
    w = workflow()
    assert (w.seed, w.release, w.gate, w.split.test) == (0, None, (ps.Improves(),), 0.2)
    assert w.target == ps.Target("churned")


def test_nothing_given_names_the_four():
    with pytest.raises(DeclarationError) as caught:
        ps.Workflow()
    text = str(caught.value)
    assert [word for word in ("name=", "data=", "target=", "model=") if word not in text] == []


def test_every_fault_in_one_error():
    found = faults_of(
        name="Churn!",
        data="customers.csv",
        target=7,
        model=LogisticRegression,
        metrics=["roc_auk"],
        split=ps.Split(by="time", test=1.5, folds=1, gap="soon"),
        gate=[ps.AtLeast("roc_auk", 0.7), "better", ps.Beats(confidence=1.5)],
        release="sometimes",
        monitor=True,
        seed=-1,
        retrain="daily",
        modle=1,
    )
    words = ["name='Churn!'", "data=", "target=7", "a class", "roc_auk", "by='time' needs", "test=1.5", "folds=1"]
    words += ["gap", "gate=: AtLeast", "'better'", "confidence=1.5", "release=", "monitor=", "seed=-1", "retrain="]
    words += ['modle=: no such field; did you mean "model"?']
    missing = [word for word in words if not any(word in fault for fault in found)]
    assert missing == []


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (ps.AtLeast("roc_auc", "high"), "AtLeast: value='high': a number"),
        (ps.AtMost("log_loss", math.nan), "AtMost: value=nan: a number"),
        (ps.Beats(by=-0.1), "Beats: by=-0.1: a number from 0"),
        (ps.Beats(by="a little"), "Beats: by='a little': a number from 0"),
        (ps.NotWorse(margin=math.inf), "NotWorse: margin=inf: a number above 0"),
        (ps.NotWorse(margin=0), "ps.Beats() asks to be better"),  # else a search that spends nothing
        (ps.NoWorseOn("sex", margin=-1), "NoWorseOn: margin=-1: a number from 0"),
    ],
)
def test_a_limit_that_is_none_is_refused_before_anything_runs(rule, told):
    with pytest.raises(DeclarationError) as refused:
        ps.Workflow(name="c", data=ps.read("a.csv"), target="y", model=DummyClassifier(), gate=[rule])
    assert told in str(refused.value)


@pytest.mark.parametrize("word", LATER)
def test_a_later_field_is_refused_with_its_sentence(word):
    [fault] = [fault for fault in faults_of(**{word: "x"}) if fault.startswith(f"{word}=")]
    assert LATER[word] in fault


def test_refitting_is_on_all_rows_or_not_done():
    assert workflow(refit="all").refit == "all"
    assert faults_of(refit="some") == ["refit='some': one of no, all"]


def test_several_candidates_are_checked_each_by_its_name():
    found = faults_of(model={"plain": LogisticRegression, "1": LogisticRegression(), "good": LogisticRegression()})
    assert [fault.partition(";")[0] for fault in found] == [
        "model['plain']=LogisticRegression: a class",
        "model=: '1' names a candidate: letters, digits, - and _, a letter first",
    ]
    assert faults_of(model={}) == ["model=: no candidate; an estimator, or several as {'linear': …, 'trees': …}"]
    given = LogisticRegression()
    kept = workflow(model={"one": given}).model["one"]
    assert kept is not given  # as a single estimator, it is copied


@pytest.mark.parametrize(
    ("decide", "says"),
    [
        (0.3, "float; ps.Threshold(at=0.3)"),
        (ps.Threshold(), "was given nothing"),
        (ps.Threshold(at=0.3, recall=0.9), "was given at, recall"),
        (ps.Threshold(recall=1.0), "Threshold(recall=1.0): a share between 0 and 1"),
        (ps.Threshold(at=float("nan")), "Threshold(at=nan): a number is meant"),
        (ps.Threshold(rate=True), "Threshold(rate=True): a number is meant"),
        (ps.Threshold(maximise=3), "the name of a metric of labels"),
        (ps.Threshold(maximise=max), "the name of a metric of labels"),
    ],
)
def test_a_threshold_is_one_rule_with_a_number_it_can_have(decide, says):
    [fault] = faults_of(decide=decide)
    assert says in fault


class NoParameters:
    def fit(self, X, y):
        return self


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (LogisticRegression, "a class"),
        (None, "has no fit"),
        (object(), "has no fit"),
        (NoParameters(), "no get_params"),
        (DummyClassifier().fit([[0]], [0]), "already fitted"),
        (make_pipeline(StandardScaler().fit([[0.0]]), LogisticRegression()), "already fitted"),
        (make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression()), "a lambda"),
        (ColumnTransformer([("f", FunctionTransformer(lambda x: x), ["a"])]), "a lambda"),
    ],
    ids=["class", "None", "object", "no get_params", "fitted", "fitted inside", "lambda", "lambda inside"],
)
def test_models_that_are_none(model, word):
    found = faults_of(model=model)
    assert any(word in fault for fault in found)


def test_a_parameter_without_a_form_is_named():
    class Held(BaseEstimator):
        def __init__(self, thing=None):
            self.thing = thing

        def fit(self, X, y):
            return self

    assert any("model.thing" in fault for fault in faults_of(model=Held(object())))


@pytest.mark.parametrize("name", ["", "1a", "Churn", "a b", "a" * 64, "../x", 7, None])
def test_names_that_are_none(name):
    assert any(fault.startswith("name=") for fault in faults_of(name=name))


def test_roles_exclude_one_another():
    assert any("is the target" in fault for fault in faults_of(key="churned"))
    assert any("features" in fault for fault in faults_of(features=["a"], drop=["a"]))
    assert any("missing=" in fault for fault in faults_of(target=ps.Target("y", missing="keep")))
    assert any("delay" in fault for fault in faults_of(target=ps.Target("y", delay="later")))


def test_a_step_that_needs_nothing_may_stand_for_data():
    @ps.step
    def made():
        return 1

    assert repr(workflow(data=made).data) == "<Ref made>"

    @ps.step(outputs=("low", "high"))
    def both():
        return 1, 2

    assert any("outputs" in fault for fault in faults_of(data=both))
    assert any("missing a required argument: 'table'" in fault for fault in faults_of(data=halves))


def test_the_model_is_copied():
    model = LogisticRegression(C=0.1)
    w = workflow(model=model)
    model.C = 9.0
    assert w.model.C == 0.1


def test_a_declaration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        workflow().name = "other"


def test_replace_gives_a_checked_copy():
    w = workflow(seed=3)
    other = w.replace(model=DummyClassifier(), name="dummy")
    assert (w.name, other.name, other.seed) == ("churn", "dummy", 3)
    assert isinstance(other.model, DummyClassifier)
    with pytest.raises(DeclarationError):
        w.replace(seed=-1)
    with pytest.raises(DeclarationError, match="no such field"):
        w.replace(sed=1)


def test_repr_shows_each_field_that_works():
    text = repr(workflow(slices="gender"))
    shown = {line.strip().partition("=")[0] for line in text.splitlines()[1:-1] if line.startswith("    ")}
    fields = {f.name for f in dataclasses.fields(ps.Workflow)} - set(LATER)
    assert fields <= shown
    assert "slices=('gender',)" in text
    assert "Improves(metric=None, confidence=0.95)" in text


def test_importing_and_declaring_imports_no_library():
    import subprocess

    code = (
        "import sys, penstock as ps\n"
        "ps.read('a.csv'); ps.Split(); ps.AtLeast('roc_auc', 0.5)\n"
        "print([m for m in ('pandas', 'numpy', 'sklearn', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_error_says_what_where_and_what_next_and_is_bounded():
    error = PenstockError("x" * 10_000, where="here", hint="do this", column="age")
    assert len(str(error)) < 6_000
    assert str(error).startswith("here: ")
    assert str(error).endswith("→ do this")
    assert error.column == "age"
    with pytest.raises(AttributeError):
        _ = error.row


def test_control_without_the_refusal_a_condition_on_a_promise_is_silently_true(monkeypatch):
    """Why `Ref.__bool__` refuses: without it `if table:` takes the branch at declaration time."""
    ref = clean(ps.read("a.csv"))
    monkeypatch.delattr(ps.Ref, "__bool__")
    monkeypatch.delattr(ps.Ref, "__len__")
    assert bool(ref) is True


def test_paths_do_not_depend_on_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    [source] = call_of(ps.read("a.csv")).args
    assert source.path == os.path.join(os.path.dirname(os.path.abspath(__file__)), "a.csv")


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        (0.1, "ps.Fit(early_stopping=0.1"),
        (ps.Fit(early_stopping=0), "early_stopping=0: a share"),
        (ps.Fit(early_stopping=0.9), "early_stopping=0.9: a share"),
        (ps.Fit(early_stopping=True), "early_stopping=True: a share"),
        (ps.Fit(early_stopping=0.1, rounds=0), "rounds=0: a whole number from 1"),
        (ps.Fit(sample={}), "name at least one class"),
        (ps.Fit(sample={0: 2.0}), "2.0 for class 0: a share above 0"),
        (ps.Fit(sample=0), "sample: 0: a share above 0"),
        (ps.Fit(), "nothing is asked for"),
        (ps.Fit(early_stopping=0.1), "nothing in this model stops"),
    ],
)
def test_a_fit_that_makes_no_sense_is_refused_when_it_is_declared(fit, words):
    with pytest.raises(ps.PenstockError) as caught:
        workflow(fit=fit)
    assert words in str(caught.value)


def test_a_fit_that_makes_sense_is_kept():
    assert workflow(fit=ps.Fit(sample={0: 0.1})).fit.sample == {0: 0.1}
