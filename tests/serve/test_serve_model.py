"""A model loads only when every digest holds and every golden row gets its answer; it answers by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_bytes
from penstock.errors import (
    CorruptObjectError,
    DataError,
    FormatError,
    MissingObjectError,
    NotReproducibleError,
    PenstockError,
    StoreTooNewError,
    UnknownNameError,
    UntrustedTypeError,
)
from penstock.formats.registry import FormatRegistry
from penstock.serve import model as model_module
from penstock.serve.model import Model, same_answer
from penstock.serve.openapi import describe


def test_a_loaded_model_answers_as_the_pipeline_does(house, kit):
    estimator, _, frame = kit.customers_pipeline()
    house.register(house.customers())
    model = house.load(1)
    assert model.name == "churn@1"
    given = model.answer(kit.plain_records(frame))
    expected = estimator.predict_proba(frame)[:, 1]
    assert [answer["score"] for answer in given] == pytest.approx(list(expected), abs=1e-12)
    assert [answer["label"] for answer in given] == list(estimator.predict(frame))


def test_a_decided_threshold_makes_the_label_and_stands_in_every_answer_and_in_the_description(house, kit):
    estimator, _, frame = kit.customers_pipeline()
    house.register(house.customers(decision={"threshold": 0.9}))
    model = house.load(1)
    scores = estimator.predict_proba(frame)[:, 1]
    given = model.answer(kit.plain_records(frame))
    assert [answer["label"] for answer in given] == [int(score >= 0.9) for score in scores]
    assert [answer["label"] for answer in given] != list(estimator.predict(frame))
    assert {answer["threshold"] for answer in given} == {0.9}
    scored = model.score_frame(frame)
    assert list(scored.columns) == ["label", "score", "threshold"]
    fields = describe(model)["components"]["schemas"]["Prediction"]
    assert fields["properties"]["threshold"]["const"] == 0.9
    assert "threshold" in fields["required"]


def test_a_version_whose_golden_labels_are_of_another_threshold_does_not_load(house):
    """Sabotage: without the decision in the answers, a changed threshold would go unnoticed."""
    made = house.customers(decision={"threshold": 0.9})
    manifest = json.loads(house.objects.read(made.digest))
    other = FormatRegistry().dump({"threshold": 0.1}, house.objects.stage)
    manifest["files"]["decision"] = other.to_json()
    digest, size = house.objects.stage(json.dumps(manifest).encode())
    house.register(Artifact(digest, "bundle", size))
    with pytest.raises(NotReproducibleError, match="row 0"):
        house.load(1)


def test_the_frame_is_built_by_name_with_the_training_dtypes(customers_model, kit):
    _, contract, frame = kit.customers_pipeline()
    shuffled = [dict(reversed(list(record.items()))) | {"customer_id": 7} for record in kit.plain_records(frame)]
    built = customers_model.frame(shuffled)
    assert list(built.columns) == [column["name"] for column in contract["columns"]]
    assert [str(dtype) for dtype in built.dtypes] == [str(dtype) for dtype in frame.dtypes]
    assert built.equals(frame.reset_index(drop=True))


@pytest.mark.parametrize("part", ["estimator", "input", "golden", "lineage", "manifest"])
def test_a_flipped_bit_anywhere_is_found_and_nothing_is_loaded(house, part):
    house.register(house.customers())
    entry = house.ledger.stream("churn/version")[0]
    bundle = Artifact.from_json(entry.body["bundle"])
    manifest = json.loads(house.objects.read(bundle.digest))
    if part == "manifest":
        bundle = _damaged(house, bundle)
    else:
        manifest["files"][part] = _damaged(house, Artifact.from_json(manifest["files"][part])).to_json()
        digest, size = house.objects.stage(json.dumps(manifest).encode())
        bundle = Artifact(digest, "bundle", size)
    with pytest.raises(CorruptObjectError):
        Model.load("churn", 1, bundle, house.objects, house.formats)


def _damaged(house, artifact):
    """An artifact under its old name, with one bit turned, in a store that does not look."""
    data = artifact.text.encode() if artifact.text is not None else house.objects.read(artifact.digest)
    wrong = bytes([data[0] ^ 1]) + data[1:]
    if artifact.text is not None:
        return replace(artifact, text=wrong.decode())
    house.objects.published[artifact.digest] = wrong
    house.objects.staged.pop(artifact.digest, None)
    return artifact


def test_the_digest_is_held_against_the_bytes_here_even_if_the_store_does_not_look(house):
    bundle = house.customers()

    class Blind:
        def read(self, digest):
            data = house.objects.read(digest)
            return data[:-1] + b" " if digest == bundle.digest else data

    with pytest.raises(CorruptObjectError, match=bundle.digest[:12]):
        Model.load("churn", 1, bundle, Blind(), house.formats)


def test_a_missing_file_is_named(house):
    bundle = house.customers()
    house.objects.delete(json.loads(house.objects.read(bundle.digest))["files"]["estimator"]["digest"])
    with pytest.raises(MissingObjectError):
        Model.load("churn", 1, bundle, house.objects, house.formats)


def test_a_golden_row_with_another_answer_refuses_the_model(house, kit):
    estimator, contract, frame = kit.customers_pipeline()
    from penstock.core.answer import answers

    expected = answers(estimator, frame, contract)
    expected[3]["score"] += 1e-6
    golden = {"rows": kit.plain_records(frame), "expected": expected}
    with pytest.raises(NotReproducibleError, match="row 3: expected"):
        Model.load("churn", 1, house.customers(golden=golden), house.objects, house.formats)


def test_sabotage_without_the_golden_check_a_wrong_model_would_load(house, kit, monkeypatch):
    _, _, frame = kit.customers_pipeline()
    wrong = {"rows": kit.plain_records(frame), "expected": [{"label": 1, "score": 0.5}] * len(frame)}
    bundle = house.customers(golden=wrong)
    with pytest.raises(NotReproducibleError):
        Model.load("churn", 1, bundle, house.objects, house.formats)
    monkeypatch.setattr(model_module, "same_answer", lambda *_: True)
    assert Model.load("churn", 1, bundle, house.objects, house.formats).version == 1


def test_no_golden_rows_prove_nothing(house):
    with pytest.raises(NotReproducibleError, match="nothing proves"):
        Model.load("churn", 1, house.customers(golden={"rows": [], "expected": []}), house.objects, house.formats)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"penstock": "bundle/2"}, StoreTooNewError, "bundle/2"),
        ({"penstock": "something"}, FormatError, "not a bundle"),
        ({"workflow": "fraud"}, FormatError, "another workflow"),
        ({"files": {}}, FormatError, "no estimator, no input, no golden"),
    ],
)
def test_what_is_not_this_bundle_is_refused(house, changes, error, words):
    with pytest.raises(error, match=words):
        Model.load("churn", 1, house.customers(**changes), house.objects, house.formats)


def test_an_unknown_kind_of_column_is_refused(house, kit):
    estimator, contract, frame = kit.customers_pipeline()
    contract["columns"][0]["kind"] = "image"
    bundle = house.bundle(estimator, contract, frame)
    with pytest.raises(FormatError, match='kind "image"'):
        Model.load("churn", 1, bundle, house.objects, house.formats)


def test_an_unknown_version_is_refused(house):
    for version in (0, 1, -3):
        with pytest.raises(UnknownNameError, match="no churn@"):
            house.load(version)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150)
@given(
    part=st.sampled_from(["manifest", "files", "estimator", "input", "columns", "column", "golden"]), value=json_values
)
def test_law_whatever_a_manifest_holds_only_our_errors_come_out(lasting, part, value):
    house, good = lasting
    manifest = json.loads(house.objects.read(good.digest))
    texts = {name: json.loads(manifest["files"][name]["text"]) for name in ("input", "golden")}
    if part in ("files", "estimator"):
        (manifest if part == "files" else manifest["files"])[part] = value
    elif part in ("column", "columns", "input"):
        columns = {"columns": value} if part == "columns" else {"columns": [value]}
        wrong = value if part == "input" else texts["input"] | columns
        manifest["files"]["input"] = house.formats.dump(wrong, house.objects.stage).to_json()
    elif part == "golden":
        rows = {"rows": value, "expected": value}
        manifest["files"]["golden"] = house.formats.dump(rows, house.objects.stage).to_json()
    else:
        manifest = value
    digest, size = house.objects.stage(json.dumps(manifest).encode())
    with pytest.raises(PenstockError):
        Model.load("churn", 1, Artifact(digest, "bundle", size), house.objects, house.formats)


@pytest.fixture(scope="module")
def lasting(kit):
    house = kit.House()
    return house, house.customers()


customers = st.fixed_dictionaries(
    {
        "age": st.none() | st.floats(-100, 200),
        "visits": st.integers(-5, 100),
        "member": st.booleans(),
        "city": st.sampled_from(["Bern", "Genf", "Zürich", "Paris"]),
        "gender": st.sampled_from(["f", "m"]),
    }
)


@settings(max_examples=25)
@given(records=st.lists(customers, min_size=1, max_size=5))
def test_law_an_answer_depends_on_its_record_alone(customers_model, records):
    """Neither its neighbours in the request nor the order of fields or records move it."""
    together = customers_model.answer(records)
    alone = [customers_model.answer([dict(reversed(list(record.items())))])[0] for record in records]
    for one, other in zip(together, alone, strict=True):
        assert same_answer(one, other, 1e-12)


def test_pickle_offered_as_estimator_is_never_run(house, tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "sentinel"), "w"))

    data = pickle.dumps(Bomb())
    bundle = house.customers()
    manifest = json.loads(house.objects.read(bundle.digest))
    digest, size = house.objects.stage(data)
    manifest["files"]["estimator"] = Artifact(digest, "skops", size).to_json()
    digest, size = house.objects.stage(json.dumps(manifest).encode())
    assert digest == digest_bytes(house.objects.read(digest))
    with pytest.raises(FormatError):
        Model.load("churn", 1, Artifact(digest, "bundle", size), house.objects, house.formats)
    assert not (tmp_path / "sentinel").exists()
    pickle.loads(data).close()  # the control: it would have been made
    assert (tmp_path / "sentinel").exists()


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ({"label": "a"}, {"label": "a"}, True),
        ({"label": 1}, {"label": True}, False),
        ({"value": 1.0}, {"value": 1.0 + 1e-8}, False),
        ({"value": 1e12}, {"value": 1e12 + 1}, True),
        ({"value": 0.5}, {"value": float("nan")}, False),
        ({"scores": {"a": 0.5}}, {"scores": {"b": 0.5}}, False),
        ({"scores": {"a": 0.5}}, {"scores": {"a": 0.5}}, True),
        ({"label": 1}, {"label": 1, "score": 0.5}, False),
    ],
)
def test_same_answer(expected, got, same):
    assert same_answer(expected, got) is same


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_scored_as_the_pipeline_would_whatever_its_order_and_dtypes(customers_model, kit, monkeypatch):
    import pandas as pd

    estimator, _, frame = kit.customers_pipeline()
    expected = estimator.predict_proba(frame)[:, 1]
    monkeypatch.setattr(model_module, "CHUNK_ROWS", 3)
    table = frame[list(reversed(frame.columns))].astype({"visits": "float64", "city": object, "member": object})
    table = table.assign(customer_id=range(len(frame)), member=table["member"].map({True: "true", False: "FALSE"}))
    table.index = pd.Index(range(100, 100 + len(frame)))
    scored = customers_model.score_frame(table)
    assert list(scored.columns) == ["label", "score"]
    assert list(scored.index) == list(table.index)
    assert list(scored["score"]) == pytest.approx(list(expected), abs=1e-12)
    assert scored.attrs["unseen"] == {}


def test_every_fault_of_a_file_is_said_at_once(customers_model, kit):
    _, _, frame = kit.customers_pipeline()
    table = frame.drop(columns="age").assign(aeg=1.0, gender=["x", "y", *frame["gender"][2:]], visits="many")
    with pytest.raises(DataError) as caught:
        customers_model.score_frame(table)
    text = str(caught.value)
    assert caught.value.exit_code == 3
    assert 'column "age" is missing; did you mean "aeg"?' in text
    assert 'column "gender" has levels that training never saw: 2 rows, such as "x"' in text
    assert 'column "visits" must be a whole number' in text
    assert len(caught.value.faults) == 3


def test_unseen_levels_are_counted_where_the_encoder_passes_over_them(customers_model, kit):
    _, _, frame = kit.customers_pipeline()
    table = frame.assign(city=["Paris", "Lyon", *frame["city"][2:]])
    assert customers_model.score_frame(table).attrs["unseen"] == {"city": 2}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("visits", 1.5, "whole number"),
        ("visits", None, "has no value in 1 row"),
        ("age", float("inf"), "finite number"),
        ("member", "maybe", "true or false"),
        ("gender", None, "has no value"),
    ],
)
def test_a_file_with_a_wrong_value_is_refused(customers_model, kit, name, value, words):
    _, _, frame = kit.customers_pipeline()
    values = frame[name].astype(object)
    values.iloc[2] = value
    with pytest.raises(DataError, match=words):
        customers_model.score_frame(frame.assign(**{name: values}))


def test_an_empty_file_and_a_column_that_is_there_twice_are_refused(customers_model, kit):
    import pandas as pd

    _, _, frame = kit.customers_pipeline()
    with pytest.raises(DataError, match="no rows"):
        customers_model.score_frame(frame.head(0))
    with pytest.raises(DataError, match='"age" is there 2 times'):
        customers_model.score_frame(pd.concat([frame, frame[["age"]]], axis=1))


def test_a_file_with_objects_is_cast_to_the_levels_of_training(kit):
    import pandas as pd

    from penstock.serve.contract import Contract
    from penstock.serve.table import as_trained

    columns = [
        kit.column("b", "object", "text", categories=[False, True], missing="allow"),
        kit.column("c", "category", "text", categories=[1, 2], missing="allow"),
        kit.column("t", "str", "text"),
        kit.column("d", "datetime64[us]", "datetime", missing="allow"),
    ]
    contract = Contract.from_json({"task": "regression", "columns": columns})
    table = pd.DataFrame({"b": ["True", None], "c": [2.0, None], "t": [1234.0, "x"], "d": ["2026-01-31", None]})
    frame = as_trained(table, contract).frame
    assert frame["b"].tolist() == [True, None]
    assert frame["c"].tolist()[0] == 2
    assert frame["t"].tolist() == ["1234", "x"]
    assert [str(dtype) for dtype in frame.dtypes] == ["object", "category", "str", "datetime64[us]"]
    with pytest.raises(DataError, match="must be a date"):
        as_trained(table.assign(d=["soon", None]), contract)


def test_columns_whose_names_look_like_tags_are_read(house, kit):
    """Canonical JSON marks what JSON has no word for with `$`; a column may be called so all the same."""
    import pandas as pd
    from sklearn.dummy import DummyRegressor

    frame = pd.DataFrame({"$tuple": [1.0, 2.0]})
    contract = {"task": "regression", "classes": None, "positive": None}
    columns = {"columns": [kit.column("$tuple", "float64", "number")]}
    house.register(house.bundle(DummyRegressor().fit(frame, [1.0, 2.0]), contract | columns, frame))
    assert house.load(1).answer([{"$tuple": 5.0}]) == [{"value": 1.5}]


def test_a_class_of_the_project_is_refused_by_the_real_formats(house, tmp_path, monkeypatch):
    """The file names `ownclip.Clip`; the server neither trusts nor imports it, and says what to do."""
    import sys

    (tmp_path / "ownclip.py").write_text(
        "from sklearn.base import BaseEstimator\n"
        "class Clip(BaseEstimator):\n"
        "    def fit(self, X, y=None):\n"
        "        return self\n"
        "    def predict(self, X):\n"
        "        return [0.0] * len(X)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import ownclip
    import pandas as pd

    columns = [{"name": "age", "dtype": "float64", "kind": "number"}]
    contract = {"task": "regression", "classes": None, "positive": None, "columns": columns}
    house.register(house.bundle(ownclip.Clip(), contract, pd.DataFrame({"age": [1.0]})))
    sys.modules.pop("ownclip")
    with pytest.raises(UntrustedTypeError, match=r"churn@1 cannot be served.*ownclip\.Clip") as caught:
        house.load(1)
    assert "project's own" in caught.value.hint
    assert "ownclip" not in sys.modules


def test_multiclass_scores_get_a_column_each(house, kit):
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    frame = pd.DataFrame({"age": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    estimator = LogisticRegression().fit(frame, ["a", "b", "c", "a", "b", "c"])
    contract = {"task": "multiclass", "classes": ["a", "b", "c"], "positive": None}
    columns = {"columns": [kit.column("age", "float64", "number")]}
    house.register(house.bundle(estimator, contract | columns, frame))
    scored = house.load(1).score_frame(frame)
    assert list(scored.columns) == ["label", "score_a", "score_b", "score_c"]
    assert scored[["score_a", "score_b", "score_c"]].sum(axis=1).tolist() == pytest.approx([1.0] * 6)
