"""The argument tree: one canonical form for each value, none for what has none."""

import collections
import datetime as dt
import decimal
import enum
import functools
import io
import operator
import pathlib
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from penstock.core import tree as trees
from penstock.core.digest import canonical
from penstock.core.secret import Secret
from penstock.core.split import Split
from penstock.core.tree import NotCanonical, children, copy_value, encode, refs_in, resolve
from penstock.engine.reasons import differences

RECORD = Path(__file__).parents[2] / "docs" / "decisions" / "0001-recipe.md"


class Colour(enum.Enum):
    RED = 1


GOLDEN = [
    (None, "null"),
    (True, "true"),
    (7, "7"),
    ("ü", '"ü"'),
    (0.1, '["float","0.1"]'),
    (-0.0, '["float","-0.0"]'),
    (float("nan"), '["float","nan"]'),
    (float("-inf"), '["float","-inf"]'),
    (1 + 2j, '["complex","(1+2j)"]'),
    (b"\x00\xff", '["bytes","AP8="]'),
    (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), '["datetime","2026-01-02T03:04:05+00:00"]'),
    (dt.date(2026, 1, 2), '["date","2026-01-02"]'),
    (Secret("env:TOKEN"), '["secret","env:TOKEN"]'),
    (dt.time(3, 4), '["time","03:04:00"]'),
    (dt.timedelta(days=1, seconds=2, microseconds=3), '["timedelta",[1,2,3]]'),
    (decimal.Decimal("1.50"), '["decimal","1.50"]'),
    (range(1, 9, 2), '["range",[1,9,2]]'),
    (..., '["ellipsis"]'),
    ([1, "a"], '["list",[1,"a"]]'),
    ((1, [2]), '["tuple",[1,["list",[2]]]]'),
    ({"b": 1, "a": 2}, '["dict",[["a",2],["b",1]]]'),
    ({2: "x", 1: "y"}, '["dict",[[1,"y"],[2,"x"]]]'),
    ({3, 1, 2}, '["set",[1,2,3]]'),
    (frozenset({"b", "a"}), '["frozenset",["a","b"]]'),
    (collections.OrderedDict, '["class","collections:OrderedDict"]'),
    (len, '["function","builtins:len"]'),
    (np.log1p, '["function","numpy:log1p"]'),
    (special.expit, '["function","scipy.special:expit"]'),
    (np.nan_to_num, '["function","numpy:nan_to_num"]'),
    (pathlib.PurePosixPath("a/b"), '["path","a/b"]'),
    (slice(1, None, 2), '["slice",[1,null,2]]'),
    (functools.partial(operator.add, 1), '["partial",[["function","_operator:add"],["list",[1]],["dict",[]]]]'),
    (
        Split(),
        (
            '["data","penstock.core.split:Split",'
            '{"by":null,"folds":5,"gap":null,"salt":0,"stable":true,"test":["float","0.2"]}]'
        ),
    ),
    (
        np.arange(3, dtype="<i8"),
        '["ndarray","<i8",[3],"ab25350e3e65efebe24584461683ecda68725576e825e550038b90e7b1479946"]',
    ),
    (np.array(["a", None], dtype=object), '["ndarray","O",[2],["list",["a",null]]]'),
    (np.float64(0.5), '["scalar","<f8","0.5"]'),
    (np.int32(3), '["scalar","<i4","3"]'),
    (np.dtype("<f4"), '["dtype","<f4"]'),
    (
        stats.uniform(0, 1),
        '["frozen","scipy.stats._continuous_distns:uniform_gen",["list",[["list",[0,1]],["dict",[]]]]]',
    ),
    (
        KFold(3),
        '["object","sklearn.model_selection._split:KFold",{"n_splits":3,"random_state":null,"shuffle":false}]',
    ),
    (
        StandardScaler(with_std=False),
        '["estimator","sklearn.preprocessing._data:StandardScaler",{"copy":true,"with_mean":true,"with_std":false}]',
    ),
    (
        StandardScaler().set_output(transform="pandas"),
        (
            '["estimator","sklearn.preprocessing._data:StandardScaler",{"copy":true,"with_mean":true,"with_std":true},'
            '{"_sklearn_output_config":["dict",[["transform","pandas"]]]}]'
        ),
    ),
]


@pytest.mark.parametrize(("value", "form"), GOLDEN, ids=[form[:40] for _, form in GOLDEN])
def test_golden_forms(value, form):
    assert canonical(encode(value)) == form


def test_an_enum_is_named():
    assert encode(Colour.RED)[2] == "RED"


def test_every_golden_form_is_in_the_record():
    text = RECORD.read_text()
    assert [form for _, form in GOLDEN if form not in text] == []


def test_every_tag_that_the_module_writes_has_a_golden_value():
    """A new form without a golden value would be frozen by nothing."""
    import re

    written = set(re.findall(r'return \["(\w+)"', Path(trees.__file__).read_text()))
    written |= set(re.findall(r': lambda [v_]: \["(\w+)"', Path(trees.__file__).read_text()))
    frozen = {form.split('"')[1] for _, form in GOLDEN if form.startswith('["')} | {"enum", "artifact"}
    assert written - frozen == set()
    assert {"float", "estimator", "object"} <= written


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["ref", "artifact", "dict", "list", "estimator", "source"])
    | st.floats()
    | st.binary(max_size=6)
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["ref", "artifact"]), inner, max_size=4)
    ),
    max_leaves=15,
)


def reordered(value):
    """The same value, every dict in another order."""
    if type(value) is dict:
        return {key: reordered(item) for key, item in reversed(value.items())}
    if type(value) in (list, tuple):
        return type(value)(reordered(item) for item in value)
    return value


@given(plain)
def test_the_order_of_dicts_is_left_out(value):
    assert encode(reordered(value)) == encode(value)


@given(st.frozensets(st.text() | st.integers() | st.none()))
def test_the_order_of_sets_is_left_out(value):
    assert encode(frozenset(reversed(list(value)))) == encode(value)


@given(plain)
def test_a_tree_is_plain_json_and_names_no_reference_by_itself(value):
    """Whatever words a user's values hold, they never look like a reference."""
    tree = encode(value)
    assert canonical(tree)
    assert refs_in(tree) == []
    assert resolve(tree, {}) == tree


@given(plain, plain)
def test_differences_are_told_exactly_where_there_are_some(one, other):
    found = list(differences(encode(one), encode(other)))
    assert bool(found) == (encode(one) != encode(other))


@pytest.mark.parametrize(
    "value", [["ref", "clean", ""], {"ref": 1}, [("ref", StandardScaler(), ["ref", "x"])], ["ref"]]
)
def test_a_column_called_ref_is_a_column(value):
    tree = encode(value)
    assert refs_in(tree) == []
    assert resolve(tree, {}) == tree


def test_a_list_that_begins_like_a_dict_can_be_compared():
    assert list(differences(encode(["dict", 0.5]), encode(["dict", 0.25]))) == [
        ("[1]", ["float", "0.5"], ["float", "0.25"])
    ]


def test_a_reference_is_found_and_replaced_wherever_it_stands():
    def special(value):
        return ["ref", "clean", "table"] if value == "REF" else None

    for value in (
        "REF",
        ["REF"],
        {"a": ("REF",)},
        functools.partial(operator.add, "REF"),
        SimpleImputer(fill_value="REF"),
    ):
        tree = encode(value, "", special)
        assert refs_in(tree) == [("clean", "table")]
        assert ["artifact", "parquet", "d"] in leaves(resolve(tree, {("clean", "table"): ["parquet", "d"]}))


def leaves(tree):
    below = [part for _, part in children(tree)]
    return [leaf for part in below for leaf in leaves(part)] if below else [tree]


@pytest.mark.parametrize(
    "value",
    [
        lambda x: x,
        io.StringIO("x"),
        threading.Lock(),
        object(),
        (i for i in ()),
        np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]),
        type("Mine", (), {})(),
        memoryview(b""),
    ],
    ids=["lambda", "file", "lock", "object", "generator", "structured array", "instance", "memoryview"],
)
def test_what_has_no_canonical_form_is_refused_by_place_and_type(value):
    with pytest.raises(NotCanonical) as caught:
        encode({"a": [0, value]}, "model")
    assert caught.value.path == "model.a[1]"
    assert caught.value.kind.rpartition(".")[2] == type(value).__qualname__.rpartition(".")[2]


def test_a_local_function_is_refused():
    def local():
        return 0

    with pytest.raises(NotCanonical):
        encode(local)


def test_what_only_changes_the_time_of_a_fit_is_left_out():
    assert encode(RandomForestClassifier(n_jobs=1)) == encode(RandomForestClassifier(n_jobs=4, verbose=3))
    assert encode(RandomForestClassifier(max_depth=1)) != encode(RandomForestClassifier(max_depth=2))


ESTIMATORS = [
    LogisticRegression(C=0.3),
    Ridge(alpha=2.0),
    RandomForestClassifier(n_estimators=3, random_state=1),
    GradientBoostingClassifier(init=DecisionTreeClassifier(max_depth=1)),
    HistGradientBoostingClassifier(categorical_features=["a"], max_iter=3),
    DecisionTreeClassifier(class_weight={0: 1.0, 1: 2.0}),
    GaussianNB(priors=np.array([0.4, 0.6])),
    KNeighborsClassifier(3, metric="cosine"),
    MLPClassifier((3, 2)),
    SVC(kernel="poly", degree=2),
    PCA(2),
    TfidfVectorizer(ngram_range=(1, 2), stop_words=["a", "b"], dtype=np.float32),
    SelectKBest(f_classif, k=2),
    FunctionTransformer(np.log1p, inverse_func=np.expm1, kw_args={"where": True}),
    GaussianProcessRegressor(RBF(2.0) + WhiteKernel(0.1)),
    TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
    Pipeline([("scale", StandardScaler()), ("skip", "passthrough"), ("model", LogisticRegression())]),
    ColumnTransformer(
        [("num", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]), ("cat", OneHotEncoder(), ["city"])],
        remainder="drop",
        transformer_weights={"num": 2.0},
    ),
    FeatureUnion([("pca", PCA(1)), ("best", SelectKBest(k=1))]),
    VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())], weights=[1, 2]),
    StackingClassifier([("a", GaussianNB())], final_estimator=LogisticRegression(C=2.0), cv=3),
    CalibratedClassifierCV(SVC(), cv=StratifiedKFold(3, shuffle=True, random_state=0)),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=KFold(3), scoring="roc_auc"),
    RandomizedSearchCV(LogisticRegression(), {"C": stats.loguniform(0.1, 10)}, n_iter=2, random_state=0),
    StandardScaler().set_output(transform="pandas"),
]


def shape(value):
    """An estimator as nested plain data, its configuration of output with it."""
    return canonical(encode(value)), sorted(value.get_params()), repr(getattr(value, "_sklearn_output_config", None))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=[type(e).__name__ for e in ESTIMATORS])
def test_a_copy_equals_scikit_learns_clone(estimator):
    ours, theirs = copy_value(estimator), clone(estimator)
    assert shape(ours) == shape(theirs) == shape(estimator)
    assert ours is not estimator


def test_a_copy_shares_nothing_that_can_change():
    pipeline = Pipeline([("scale", StandardScaler()), ("model", DecisionTreeClassifier(class_weight={0: 1}))])
    twin = copy_value(pipeline)
    pipeline.set_params(model__max_depth=9)
    pipeline.named_steps["model"].class_weight[0] = 5
    assert twin.named_steps["model"].max_depth is None
    assert twin.named_steps["model"].class_weight == {0: 1}


def test_routing_of_metadata_is_copied():
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        asked = LogisticRegression().set_fit_request(sample_weight=True)
        assert copy_value(asked).get_metadata_routing()._serialize() == clone(asked).get_metadata_routing()._serialize()


def test_what_is_set_beside_the_parameters_is_part_of_the_form():
    """`set_output` changes what the next step of a pipeline is given, so it changes the recipe."""
    import sklearn

    assert encode(StandardScaler().set_output(transform="pandas")) != encode(StandardScaler())
    with sklearn.config_context(enable_metadata_routing=True):
        asked, refused = LogisticRegression(), LogisticRegression()
        asked.set_fit_request(sample_weight=True)
        refused.set_fit_request(sample_weight=False)
        assert encode(asked) != encode(refused) != encode(LogisticRegression())


def test_a_copy_is_unfitted():
    model = GaussianNB().fit([[0.0], [1.0]], [0, 1])
    assert not hasattr(copy_value(model), "theta_")


def test_core_imports_no_library():
    code = "import sys, penstock.core.tree, penstock.core.workflow, penstock.core.flow; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    for library in ("numpy", "pandas", "sklearn", "scipy", "polars", "pyarrow"):
        assert f"'{library}'" not in done.stdout


class Opaque(BaseEstimator):
    def __init__(self, thing=None):
        self.thing = thing


def test_an_estimator_is_refused_by_the_parameter_that_has_no_form():
    with pytest.raises(NotCanonical) as caught:
        encode(make_pipeline(Opaque(threading.Lock())), "model")
    assert caught.value.path.endswith("[0][1].thing")


def test_control_repr_would_have_told_two_values_apart_by_their_address():
    """Why nothing is named by `repr`: the same value in another process would have another recipe."""
    assert repr(object()) != repr([object()][0]) or repr(Opaque(object())) != repr(Opaque(object()))
    with pytest.raises(NotCanonical):
        encode(Opaque(object()))


def test_a_catboost_that_names_columns_can_be_cloned_once_it_is_copied():
    from catboost import CatBoostClassifier
    from sklearn.base import clone

    given = CatBoostClassifier(cat_features=["city"])
    with pytest.raises(RuntimeError, match="Cannot clone"):
        clone(given)
    assert clone(copy_value(given)).get_params()["cat_features"] == ("city",)
