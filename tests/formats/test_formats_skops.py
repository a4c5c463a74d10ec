"""Canonical skops: what is neutralised, what is refused at writing, and what is never run at reading."""

from __future__ import annotations

import functools
import io
import json
import pickle
import re
import sys
import types
import zipfile

import joblib
import numpy as np
import pytest
import scipy.sparse
import skops.io
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from penstock.errors import FormatError, UntrustedTypeError
from penstock.formats import archive, neutral, npy, trust
from penstock.formats.skops import best_of, canonical, dumps_canonical, loads, types_in, untrusted_in

X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)


@pytest.fixture
def project():
    """A module of the user's own, as if imported from their file."""
    module = types.ModuleType("churn_project")

    class Clip(TransformerMixin, BaseEstimator):
        def __init__(self, low=0.0, extras=None):
            self.low = low
            self.extras = extras

        def fit(self, X, y=None):
            self.fitted_ = True
            return self

        def transform(self, X):
            return np.maximum(X, self.low)

    def log_it(X):
        return np.log1p(np.abs(X))

    for thing in (Clip, log_it):
        thing.__module__ = "churn_project"
        thing.__qualname__ = thing.__name__
        setattr(module, thing.__name__, thing)
    sys.modules["churn_project"] = module
    yield module
    del sys.modules["churn_project"]


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def rebuilt(data: bytes, change) -> bytes:
    """The archive with its schema changed."""
    parts = members(data)
    schema = json.loads(parts.pop("schema.json"))
    change(schema)
    return archive.write_zip([("schema.json", json.dumps(schema).encode()), *parts.items()])


# ── the canonical form ───────────────────────────────────────────────────────────────────────────────────────


def test_the_form_of_the_archive():
    data = dumps_canonical(RandomForestClassifier(3, random_state=0).fit(X, Y))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        entries = file.infolist()
    assert entries[0].filename == "schema.json"
    assert [entry.filename for entry in entries[1:]] == sorted(entry.filename for entry in entries[1:])
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    schema = members(data)["schema.json"].decode()
    assert "\n" not in schema
    ids = [int(text) for text in re.findall(r'"__id__":(\d+)', schema)]
    assert list(dict.fromkeys(sorted(set(ids)))) == list(range(1, len(set(ids)) + 1))


def test_plain_skops_reads_it():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    back = skops.io.loads(dumps_canonical(model))
    assert (back.predict_proba(X) == model.predict_proba(X)).all()


def test_the_order_of_dicts_stays_and_sets_are_sorted(project):
    model = project.Clip(extras={"z": 1, "a": {"q", "c", "x"}, 3: "three", "m": frozenset("hgf")})
    data = dumps_canonical(model)
    back = loads(data, ["churn_project.Clip"])
    assert list(back.extras) == ["z", "a", 3, "m"]
    assert back.extras == model.extras
    text = members(data)["schema.json"].decode()
    assert text.index('\\"c\\"') < text.index('\\"q\\"') < text.index('\\"x\\"')
    assert text.index('\\"f\\"') < text.index('\\"g\\"') < text.index('\\"h\\"')
    assert dumps_canonical(back) == data


def test_what_was_one_object_is_one_object_again(project):
    shared = [1, 2]
    back = loads(dumps_canonical(project.Clip(extras=[shared, shared, [1, 2]])), ["churn_project.Clip"])
    assert back.extras[0] is back.extras[1]
    assert back.extras[0] is not back.extras[2]


def test_padding_of_structured_arrays_leaves_no_trace(project):
    kind = np.dtype([("a", "u1"), ("b", "f8"), ("c", [("d", "u1"), ("e", "f4")])], align=True)
    arrays, memory = [], []
    for dirt in (0x00, 0xFF):
        memory.append(bytearray([dirt]) * kind.itemsize * 4)
        array = np.frombuffer(memory[-1], kind)
        for name in ("a", "b"):
            array[name] = range(4)
        array["c"]["d"], array["c"]["e"] = 1, 2
        arrays.append(array)
    assert memory[0] != memory[1]
    assert (arrays[0] == arrays[1]).all()
    first, second = (dumps_canonical(project.Clip(extras=array)) for array in arrays)
    assert first == second
    assert (loads(first, ["churn_project.Clip"]).extras == arrays[0]).all()


def test_sparse_matrices_are_stored_plainly(project):
    matrix = scipy.sparse.random(30, 40, 0.1, format="csr", random_state=0)
    data = dumps_canonical(project.Clip(extras=matrix))
    (name,) = [name for name in members(data) if name.endswith(".npz")]
    assert set(archive.read_npz(members(data)[name])) >= {"data.npy", "indices.npy"}
    assert (loads(data, ["churn_project.Clip"]).extras != matrix).nnz == 0
    inside = archive.read_npz(members(data)[name])
    for part, place, value in (("indices", 0, 10**6), ("indices", 0, -1), ("indptr", -1, 10**6), ("indptr", 3, 10**6)):
        array = npy.loads(inside[f"{part}.npy"])
        array[place] = value
        forged = archive.write_zip([*(inside | {f"{part}.npy": npy.dumps(array)}).items()])
        with pytest.raises(FormatError, match="do not fit its shape"):
            loads(archive.write_zip([*(members(data) | {name: forged}).items()]), ["churn_project.Clip"])


# ── neutralised ──────────────────────────────────────────────────────────────────────────────────────────────


def test_how_it_was_fitted_is_left_out(tmp_path):
    one = RandomForestClassifier(3, random_state=0, n_jobs=1).fit(X, Y)
    two = RandomForestClassifier(3, random_state=0, n_jobs=2, verbose=0).fit(X, Y)
    assert dumps_canonical(one) == dumps_canonical(two)
    assert two.n_jobs == 2  # the caller's own is left as it is
    pipes = [
        Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())], memory=memory).fit(X, Y)
        for memory in (None, str(tmp_path))
    ]
    assert dumps_canonical(pipes[0]) == dumps_canonical(pipes[1])
    assert str(tmp_path).encode() not in dumps_canonical(pipes[1])


def test_times_and_addresses_are_left_out():
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, Y)
    other = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, Y)
    other.refit_time_ += 1
    assert dumps_canonical(search) == dumps_canonical(other)
    assert search.refit_time_ > 0
    assert loads(dumps_canonical(search)).refit_time_ == 0
    words = TfidfVectorizer(stop_words=["the"]).fit(["the cat", "a dog"])
    assert b"_stop_words_id" in skops.io.dumps(words)
    assert b"_stop_words_id" not in dumps_canonical(words)


def test_catboosts_guid_and_date_are_fixed():
    """By a stand-in of the same shape; CatBoost itself is not a dependency."""

    class Model(BaseEstimator):
        def __init__(self, guid="a1"):
            self.guid = guid
            self.kept = {"model_guid": guid, "train_finish_time": "2026", "params": "{}"}

        def is_fitted(self):
            return self.guid != ""

        def get_metadata(self):
            return self.kept

    Model.__module__, Model.__qualname__ = "catboost.core", "Model"
    first, second = Model("a1"), Model("b2")
    assert neutral.neutral_copy(first).kept == neutral.neutral_copy(second).kept
    assert neutral.neutral_copy(first).kept["params"] == "{}"
    assert first.kept["model_guid"] == "a1"
    assert neutral.neutral_copy(Model("")).kept["model_guid"] == ""


def test_control_without_neutralising_the_bytes_differ(monkeypatch):
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, Y)
    other = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, Y)
    other.refit_time_ += 1
    monkeypatch.setattr(neutral, "neutral_copy", lambda estimator: estimator)
    assert dumps_canonical(search) != dumps_canonical(other)


def test_the_best_of_a_search():
    search = GridSearchCV(LogisticRegression(), {"C": [0.1]}, cv=2).fit(X, Y)
    assert best_of(search) is search.best_estimator_
    assert best_of(search.best_estimator_) is search.best_estimator_


# ── refused at writing ───────────────────────────────────────────────────────────────────────────────────────


def module_level(X):
    return X


class ScriptScaler(StandardScaler):
    pass


def test_what_no_other_process_could_find_is_refused_with_its_place():
    def local(X):
        return X

    class Local(StandardScaler):
        pass

    script = type("Script", (StandardScaler,), {"__module__": "__main__"})
    nested = type("Inner", (StandardScaler,), {"__qualname__": "Outer.Inner"})
    for part, word in (
        (FunctionTransformer(lambda X: X), "lambda"),
        (FunctionTransformer(local), "inside a function"),
        (FunctionTransformer(functools.partial(local)), "inside a function"),
        (Local(), "inside a function"),
        (script(), "__main__"),
        (nested(), "inside a class"),
    ):
        with pytest.raises(FormatError, match=word) as caught:
            dumps_canonical(make_pipeline(StandardScaler(), part))
        assert caught.value.where.startswith("estimator.steps[1][1]")
        assert caught.value.hint


def test_what_skops_cannot_keep_is_refused(project):
    for extra, word in (
        ({True: 1, False: 2}, "keys of type bool"),
        ({None: 1}, "NoneType"),
        ({1: "a", "1": "b"}, "differ by type alone"),
        ((value for value in "ab"), "cannot be copied"),
        (np.array([1, None], dtype=[("a", "O")]), "cannot be stored"),
    ):
        with pytest.raises(FormatError, match=word):
            dumps_canonical(project.Clip(extras=extra))


def test_a_partly_renamed_archive_is_no_surprise():
    model = LogisticRegression().fit(X, Y)
    assert canonical(dumps_canonical(model)) == dumps_canonical(model)


# ── trust ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_types_of_the_project_are_loaded_only_when_named(project):
    model = make_pipeline(project.Clip(), FunctionTransformer(project.log_it)).fit(X)
    data = dumps_canonical(model)
    names = ["churn_project.Clip", "churn_project.log_it"]
    assert set(names) <= set(types_in(data))
    assert untrusted_in(data) == names
    assert untrusted_in(data, names) == []
    with pytest.raises(UntrustedTypeError) as caught:
        loads(data, names[:1])
    assert "churn_project.log_it" in caught.value.what
    assert 'trust = ["churn_project.log_it"]' in caught.value.hint
    assert (loads(data, names).transform(X) == model.transform(X)).all()
    assert trust.names_of(["churn_project"]) >= {"churn_project.log_it"}


def test_a_prefix_trusts_nothing(project):
    data = dumps_canonical(project.Clip())
    for prefix in ("churn_project", "churn_project.", "churn_project.*", "churn_project.Cli"):
        with pytest.raises(UntrustedTypeError):
            loads(data, [prefix])


def test_types_in_imports_nothing(project):
    data = dumps_canonical(project.Clip())
    del sys.modules["churn_project"]
    try:
        assert "churn_project.Clip" in types_in(data)
        assert "churn_project" not in sys.modules
    finally:
        sys.modules["churn_project"] = project


def test_the_files_own_word_is_ignored():
    def plant(schema):
        schema["trusted"] = ["posix.system"]
        schema["__trusted__"] = True
        schema["content"]["content"]["func"] = {
            "__class__": "system",
            "__module__": "posix",
            "__loader__": "FunctionNode",
            "trusted": True,
        }

    data = rebuilt(dumps_canonical(FunctionTransformer()), plant)
    assert untrusted_in(data) == ["posix.system"]
    with pytest.raises(UntrustedTypeError, match=r"posix\.system"):
        loads(data)


def test_every_name_on_the_list_exists_here():
    """A name that moved away with a new version of its library is taken off the list, not kept for luck."""
    for library in ("python", "numpy", "scipy", "scikit-learn"):
        for name in trust.TRUSTED[library]:
            module, _, word = name.rpartition(".")
            assert hasattr(__import__(module, fromlist=[word]), word), name


def test_functions_on_the_list_are_the_ones_reviewed():
    functions = set()
    for name in trust.KNOWN:
        module, _, word = name.rpartition(".")
        if module.split(".")[0] in ("sklearn", "scipy", "numpy", "functools", "collections", "builtins"):
            thing = getattr(__import__(module, fromlist=[word]), word)
            if not isinstance(thing, type):
                functions.add(name)
    scorers = {get_scorer(name)._score_func for name in get_scorer_names()}
    scored = {f"{function.__module__}.{function.__name__}" for function in scorers}
    assert scored <= trust.KNOWN
    assert functions - scored == {
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "sklearn.feature_selection._mutual_info.mutual_info_classif",
        "sklearn.feature_selection._mutual_info.mutual_info_regression",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.utils.validation.check_array",
    }


# ── hostile bytes ────────────────────────────────────────────────────────────────────────────────────────────


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_pickles_are_refused_by_content_and_never_run(tmp_path):
    sentinel = tmp_path / "ran"
    joblib.dump(Bomb(sentinel), tmp_path / "model.skops")
    npz = io.BytesIO()
    np.savez(npz, x=np.array([Bomb(sentinel)], dtype=object))
    npy = io.BytesIO()
    np.save(npy, np.array([Bomb(sentinel)], dtype=object))
    inside = archive.write_zip([("schema.json", b"{}"), ("0.npy", npy.getvalue())])
    for data in (
        pickle.dumps(Bomb(sentinel)),
        pickle.dumps(Bomb(sentinel), 0),
        (tmp_path / "model.skops").read_bytes(),
        npz.getvalue(),
        npy.getvalue(),
        inside,
    ):
        for read in (loads, types_in, untrusted_in):
            with pytest.raises(FormatError):
                read(data)
    assert not sentinel.exists()
    pickle.loads(pickle.dumps(Bomb(sentinel))).close()
    assert sentinel.exists()  # the control: these bytes do run when they are unpickled


def test_damage_is_told_as_damage():
    data = dumps_canonical(DecisionTreeClassifier(max_depth=2).fit(X, Y))
    for broken in (data[:100], data[:-30], data[: len(data) // 2], b"PK\x03\x04" + bytes(100), b"", data[50:]):
        with pytest.raises(FormatError):
            loads(broken)
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 0xFF
    with pytest.raises(FormatError, match="CRC"):
        loads(bytes(flipped))


def test_bounds_are_held_before_anything_is_built():
    data = dumps_canonical(LogisticRegression().fit(X, Y))
    parts = members(data)
    huge = parts[next(name for name in parts if name.endswith(".npy"))].replace(
        b"'shape': (1, 3)", b"'shape': (9**9,3)"
    )
    claimed = io.BytesIO()
    np.save(claimed, np.zeros(1))
    claimed_bytes = claimed.getvalue().replace(b"(1,), }          ", b"(1000000000000,),}")
    assert claimed_bytes != claimed.getvalue()
    for name, content, word in (
        ("0.npy", claimed_bytes, "another size"),
        ("0.npy", huge[:40], "npy format"),
        ("0.npy", b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b" " * 64, "npy format"),
        ("../../etc/0.npy", b"", "does not write"),
        ("0.pkl", b"", "does not write"),
    ):
        with pytest.raises(FormatError, match=word):
            loads(archive.write_zip([*parts.items(), (name, content)]))


def test_compressed_and_overlapping_members_are_refused():
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("schema.json", b" " * 10_000_000)
    assert len(bomb.getvalue()) < 20_000
    with pytest.raises(FormatError, match="compressed"):
        loads(bomb.getvalue())
    plain = archive.write_zip([("schema.json", b"{}"), ("0.bin", b"x" * 5_000), ("1.bin", b"x" * 10)])
    start = plain.rindex(b"PK\x01\x02")
    overlapping = bytearray(plain)
    overlapping[start + 20 : start + 28] = (6_000).to_bytes(4, "little") * 2
    with pytest.raises(FormatError, match="overlap"):
        loads(bytes(overlapping))


def test_too_many_members_are_refused(monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    with pytest.raises(FormatError, match="members"):
        loads(dumps_canonical(LogisticRegression().fit(X, Y)))


@pytest.mark.parametrize("protocol", [0, 1, None, True, "2", 99, 2**70])
def test_other_protocols_are_refused(protocol):
    """An older protocol picks older readers, which check less."""
    data = rebuilt(dumps_canonical(LogisticRegression()), lambda schema: schema.update(protocol=protocol))
    with pytest.raises(FormatError):
        loads(data)


def test_schemas_that_are_not_one_are_refused():
    for text in (b"", b"[]", b"null", b'{"protocol":2}', b"[" * 100_000, b'{"protocol":2,"__loader__":"Nope"}'):
        with pytest.raises(FormatError):
            loads(archive.write_zip([("schema.json", text)]))
