"""A schema describes a table, and its text is read back as it was."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.core.target import Roles, Target
from penstock.errors import DeclarationError
from penstock.stages import schema as stage


def infer(table, target="y", task="binary", positive=1, **roles):
    return stage.infer(table, target=Target(target), roles=Roles(**roles), task=task, positive=positive)


def column(values, **roles):
    table = pd.DataFrame({"v": values})
    table["y"] = np.arange(len(table)) % 2
    return infer(table, **roles)["columns"][0]


# ── what is inferred ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([17, 90], {"type": "integer", "null": False, "min": 0, "max": 170}),
        ([-5, 10], {"type": "integer", "null": False, "min": -20, "max": 25}),
        ([-9.0, -3.0], {"type": "number", "null": False, "min": -15, "max": 0}),
        ([0, 1, 1], {"type": "integer", "null": False, "min": 0, "max": 1}),
        ([0, 0], {"type": "integer", "null": False, "min": 0, "max": 1}),
        ([5, 5], {"type": "integer", "null": False, "min": 0, "max": 10}),
        ([0.123, 0.456], {"type": "number", "null": False, "min": 0, "max": 0.79}),
        ([2.0, None], {"type": "number", "null": True, "min": 0, "max": 4}),
        ([1e308, -1e308], {"type": "number", "null": False}),
        ([True, False], {"type": "boolean", "null": False}),
        (["b", "a", "b", None], {"type": "text", "null": True, "categories": ["a", "b"]}),
        (["a", "b", "c"], {"type": "text", "null": False}),
        (pd.Categorical(["a", "a"]), {"type": "text", "null": False, "categories": ["a"]}),
        (pd.to_datetime(["2026-01-01", "2026-01-02"]), {"type": "datetime", "null": False}),
        ([1.5, float("inf")], {"type": "number", "null": False, "min": 0, "max": 3}),
    ],
)
def test_a_column_is_described(values, expected):
    assert column(values) == {"name": "v", "role": "feature", **expected}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
@example([0.0, 5e-324])
def test_what_was_seen_always_lies_inside_its_own_range(values):
    found = column(values)
    assert found.get("min", -np.inf) <= min(values)
    assert max(values) <= found.get("max", np.inf)


def test_long_lists_of_values_are_free_text():
    assert "categories" not in column([f"w{i}" for i in range(60)] * 3)
    assert "categories" in column([f"w{i}" for i in range(50)] * 3)


def test_roles():
    table = pd.DataFrame({name: [0, 1] for name in ("id", "at", "home", "w", "x", "late", "gone", "y")})
    schema = stage.infer(
        table,
        target=Target("y", after=("late",)),
        roles=Roles(key=("id",), time="at", groups=("home",), weight="w", drop=("gone",)),
        task="binary",
        positive=1,
    )
    assert {c["name"]: c["role"] for c in schema["columns"]} == {
        "id": "key",
        "at": "time",
        "home": "groups",
        "w": "weight",
        "x": "feature",
        "late": "hidden",
        "gone": "hidden",
        "y": "target",
    }
    assert [c["name"] for c in stage.features_of(schema)] == ["x"]
    shown = infer(table, key=("id",), features=("id", "x"))
    assert [c["name"] for c in stage.features_of(shown)] == ["id", "x"]


@pytest.mark.parametrize(
    ("labels", "given_task", "task"),
    [
        ([0, 1], None, "binary"),
        (["a", "b"], None, "binary"),
        (["a", "b", "c"], None, "multiclass"),
        (list(range(10)), None, "multiclass"),
        (list(range(11)), None, "regression"),
        ([1.0, 2.0, 3.0], None, "multiclass"),
        ([1.0, 2.0, 3.5], None, "regression"),
        ([f"c{i}" for i in range(99)], None, "multiclass"),
        ([1, 2, 3], "regression", "regression"),
        ([0, 1], "regression", "regression"),
        (list(range(50)), "classification", "multiclass"),
        ([1, 2], "classification", "binary"),
    ],
)
def test_the_task(labels, given_task, task):
    assert stage.task_of(pd.Series(labels), given_task) == task


# ── as text ──────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
NUMBERS = st.one_of(st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False))
COLUMNS = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["feature", "key", "hidden"]),
        "type": st.sampled_from(["integer", "number", "boolean", "text", "datetime"]),
        "null": st.booleans(),
    },
    optional={
        "unique": st.booleans(),
        "min": NUMBERS,
        "categories": st.lists(NAMES, max_size=4),
        "feature": st.just(True),
    },
)


@example(columns={"a\n": {"role": "feature", "type": "integer", "null": False}}, classes=[0, 1])
@given(
    columns=st.dictionaries(NAMES, COLUMNS, min_size=1, max_size=6),
    classes=st.one_of(
        st.lists(st.integers(), min_size=2, max_size=4, unique=True),
        st.lists(NAMES, min_size=2, max_size=4, unique=True),
    ),
)
def test_text_comes_back_as_the_same_schema(columns, classes):
    target = next(iter(columns))
    schema = {"version": 1, "task": "binary", "target": target, "classes": classes, "positive": classes[-1]}
    schema["columns"] = [{"name": name, **column} for name, column in columns.items()]
    text = stage.to_toml(schema)
    assert stage.from_toml(text) == schema
    assert stage.to_toml(stage.from_toml(text)) == text
    assert [c["name"] for c in stage.from_toml(text)["columns"]] == list(columns)


def test_the_text_is_one_line_a_column():
    table = pd.DataFrame({"id": [1, 2], "city name": ['Rome "eternal"', 'Rome "eternal"'], "y": ["No", "Yes"]})
    schema = infer(table, positive="Yes", key=("id",))
    lines = stage.to_toml(schema).splitlines()
    assert lines[1:6] == [
        "version = 1",
        'task = "binary"',
        'target = "y"',
        'classes = ["No", "Yes"]',
        'positive = "Yes"',
    ]
    assert lines[-3:] == [
        'id = { role = "key", type = "integer", null = false, unique = true }',
        '"city name" = { role = "feature", type = "text", null = false, categories = ["Rome \\"eternal\\""] }',
        'y = { role = "target", type = "text", null = false }',
    ]
    assert json.loads(json.dumps(schema)) == schema


GOOD = stage.to_toml(
    {
        "version": 1,
        "task": "binary",
        "target": "y",
        "classes": [0, 1],
        "positive": 1,
        "columns": [
            {"name": "x", "role": "feature", "type": "number", "null": False, "min": 0, "max": 5},
            {"name": "y", "role": "target", "type": "integer", "null": False},
        ],
    }
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version = 1", "version = ", r"not valid TOML: .*line 2"),
        ("version = 1", "version = 9", "line 2: version must be 1, not 9"),
        ('"binary"', '"binry"', "line 3: task must be one of"),
        ('target = "y"', 'target = "z"', "line 4: target must be one of the columns, not 'z'"),
        ("[0, 1]", "[0]", "line 5: classes must list at least two labels"),
        ("positive = 1", "positive = 2", "line 6: positive = 2 is not one of the classes"),
        ("positive", "postive", "line 6: 'postive' is not a field; did you mean \"positive\""),
        ('"number"', '"float"', "line 13: x: type must be one of"),
        ('"feature"', '"features"', "line 13: x: role must be one of"),
        ("null = false, min", "null = 0, min", "line 13: x: null must be true or false"),
        ("min = 0", "unique = 1", "line 13: x: unique must be true or false"),
        ("min = 0", "min = 9", "line 13: x: min = 9 lies above max = 5"),
        ("min = 0", 'min = "a"', "line 13: x: min and max must be numbers"),
        ("max = 5", "mx = 5", "line 13: x: 'mx' is not a field"),
        ("max = 5", "categories = [1]", "line 13: x: categories must be a list of texts"),
        ("y = {", "x = {", "not valid TOML"),
        ("[columns]", "[column]", "must have a line for each column"),
    ],
)
def test_faults_in_the_text_are_named_with_their_line(old, new, message):
    assert old in GOOD
    with pytest.raises(DeclarationError, match=message) as caught:
        stage.from_toml(GOOD.replace(old, new), where="churn.schema.toml")
    assert caught.value.where == "churn.schema.toml"


def test_all_faults_are_told_at_once():
    with pytest.raises(DeclarationError) as caught:
        stage.from_toml(GOOD.replace('"binary"', '"x"').replace("min = 0", "min = 9").replace('"integer"', '"i"'))
    assert len(caught.value.faults) == 3
