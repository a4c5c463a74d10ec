"""The language of `runs --where`: what it says, what it refuses and where, and that it only ever compares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import UsageError
from penstock.lifecycle.query import MOST_DEPTH, column, holds, parse

KNOWN = ["roc_auc", "note", "started", "dirty", "params.model.model__C", "params.model.a__max", "params.model.b__max"]
ROW = {"roc_auc": 0.9, "note": "with WoE", "started": 1_700_000_000.0, "dirty": True, "params.model.model__C": 10}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("roc_auc > 0.8 and params.C >= 1 and note ~ 'woe'", True),
        ("roc_auc > 0.8 and not note ~ 'woe'", False),
        ("roc_auc<.5 or (note ~ woe_is_no_column)", None),
        ("roc_auc < 0.5 or note !~ 'x'", True),
        ("not (roc_auc < 0.5 or dirty = true) or dirty = true", True),
        ("params.C = 1e1 AND dirty != false", True),
        ("started > '2023-01-01' and started < '2024-01-01'", True),
        ("`params.model.model__C` == 10", True),
        ("0.5 < roc_auc", True),
        ("roc_auc > 'x'", False),
        ("params.a__max = none", True),
    ],
)
def test_conditions(where, expected):
    if expected is None:
        with pytest.raises(UsageError, match="no column is called"):
            parse(where, KNOWN)
    else:
        assert parse(where, KNOWN)(ROW) is expected


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("roc_auk > 1", 'did you mean "roc_auc"'),
        ("roc_auc > 0.8 nd note ~ 'a'", "character 15"),
        ("roc_auc >", "at its end"),
        ("(roc_auc > 1", "a bracket is not closed"),
        ("roc_auc", "an operator is meant"),
        ("roc_auc > 1 ; drop", "';' begins no word"),
        ("__import__('os').system('x')", "'.' begins no word"),
        ("__import__('os') = 1", "no column is called '__import__'"),
        ("params.max > 1", "write one of them out"),
        ("(" * (MOST_DEPTH + 2) + "roc_auc > 1", "brackets"),
        ("not " * (MOST_DEPTH + 2) + "roc_auc > 1", "times not"),
        ("x" * 3_000, "characters"),
        ("", "a column, a number"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(where, said):
    with pytest.raises(UsageError) as caught:
        parse(where, KNOWN)
    assert said in f"{caught.value.what} {caught.value.hint}"


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_a_fault_of_ours(where):
    try:
        test = parse(where, KNOWN)
    except UsageError:
        return
    assert test(ROW) in (True, False)


@given(st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5)), st.floats(allow_nan=False))
def test_less_and_not_less_never_hold_together(left, right):
    assert not (holds(left, "<", right) and holds(left, ">=", right))
    assert holds(left, "=", right) != holds(left, "!=", right)


def test_a_parameter_is_found_by_its_last_part():
    assert column("params.C", KNOWN) == "params.model.model__C"
    assert column("params.a__max", KNOWN) == "params.model.a__max"
