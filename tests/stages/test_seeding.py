"""Every random part gets a seed of its own, and nothing else is touched."""

import pytest
from scipy.stats import randint
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, ShuffleSplit
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from penstock.stages.seeding import SEED_LIMIT, derive, seeded, seeds


def tree():
    return Pipeline(
        [
            ("prep", ColumnTransformer([("q", QuantileTransformer(), ["a"]), ("s", SimpleImputer(), ["b"])])),
            ("union", FeatureUnion([("q", QuantileTransformer())])),
            (
                "vote",
                VotingClassifier([("bag", BaggingClassifier(LogisticRegression())), ("rf", RandomForestClassifier())]),
            ),
        ]
    )


def test_every_random_state_at_any_depth_is_set_by_its_own_path():
    model = tree()
    given = seeds(model, 0)
    every = {path for path in model.get_params() if path.endswith("random_state")}
    assert set(given) == every
    assert len(every) == 5
    assert len(set(given.values())) == len(given)
    assert all(0 <= value < SEED_LIMIT for value in given.values())


def test_seeded_equals_set_params_with_the_listed_seeds():
    model = tree()
    params = seeded(model, 3).get_params()
    by_hand = clone(model).set_params(**seeds(model, 3)).get_params()
    assert {k: v for k, v in params.items() if "random_state" in k} == {
        k: v for k, v in by_hand.items() if "random_state" in k
    }


def test_the_declared_estimator_is_not_changed():
    model = tree()
    seeded(model, 0)
    assert not seeds(model, 0).keys() - {p for p, v in model.get_params().items() if v is None}


def test_a_seed_of_the_users_stays():
    model = Pipeline([("a", QuantileTransformer(random_state=0)), ("m", RandomForestClassifier())])
    assert seeded(model, 9).get_params()["a__random_state"] == 0
    assert list(seeds(model, 9)) == ["m__random_state"]


def test_a_seed_depends_on_path_and_workflow_seed_only():
    alone = Pipeline([("m", RandomForestClassifier())])
    moved = Pipeline([("s", StandardScaler()), ("m", RandomForestClassifier(n_estimators=7))])
    assert seeds(alone, 0) == seeds(moved, 0)
    assert seeds(alone, 0) != seeds(alone, 1)
    # Golden: another derivation would silently change every user's model.
    assert derive(0, "random_state") == 998360519


def test_candidates_in_a_grid_and_splitters_are_seeded():
    pipeline = Pipeline([("m", LogisticRegression())])
    grid = {"m": [LogisticRegression(), RandomForestClassifier(), RandomForestClassifier(random_state=4)]}
    search = seeded(GridSearchCV(pipeline, grid, cv=KFold(3, shuffle=True)), 0)
    states = [candidate.random_state for candidate in search.param_grid["m"]]
    assert None not in states
    assert states[2] == 4
    assert states[0] != states[1]
    assert search.cv.random_state is not None
    assert seeded(GridSearchCV(pipeline, grid, cv=KFold(3)), 0).cv.random_state is None
    assert seeded(GridSearchCV(pipeline, grid, cv=ShuffleSplit(3)), 0).cv.random_state is not None


def test_a_randomised_search_over_distributions_is_seeded():
    search = RandomizedSearchCV(RandomForestClassifier(), {"max_depth": randint(2, 9)})
    assert set(seeds(search, 0)) == {"random_state", "estimator__random_state"}


def test_what_is_frozen_is_left_alone():
    fitted = LogisticRegression().fit([[0], [1]], [0, 1])
    stack = StackingClassifier([("f", FrozenEstimator(fitted))], RandomForestClassifier())
    seeded(stack, 0)
    assert fitted.random_state is None


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_seeding_twice_gives_the_same(seed):
    assert seeds(tree(), seed) == seeds(tree(), seed)
