"""Why a step runs again is said as the user wrote it."""

from __future__ import annotations

import pytest

from penstock.core.flow import set_params
from penstock.core.split import Split
from penstock.core.tree import encode
from penstock.engine.reasons import differences, shown
from penstock.errors import DeclarationError


class Stub:
    def __init__(self, depth=8):
        self.depth = depth

    def get_params(self, deep=False):
        return {"depth": self.depth}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((), "()"),
        (("hospital_number",), "('hospital_number',)"),
        ([1, 0.5, None], "[1, 0.5, None]"),
        ({"C": [0.1, 1.0]}, "{'C': [0.1, 1.0]}"),
        (Stub(3), "Stub(depth=3)"),
        (Split, "Split"),
    ],
)
def test_a_value_is_shown_as_it_was_written(value, text):
    assert shown(encode(value)) == text


def test_a_long_value_is_cut_at_the_limit():
    assert len(shown(encode(list(range(100))), limit=30)) == 30


def test_a_part_of_a_pipeline_is_called_by_its_name():
    before, now = (encode({"model": [("scale", Stub(1)), ("forest", Stub(depth))]}) for depth in (8, 9))
    assert list(differences(before, now)) == [("model.forest.depth", 8, 9)]


def test_a_renamed_part_is_no_part_of_the_same_name():
    before, now = encode([("a", 1)]), encode([("b", 1)])
    assert [place for place, _, _ in differences(before, now)] == ["[0]"]


@pytest.mark.parametrize(
    ("default", "said"),
    [(1, "a whole number"), (0.5, "a number"), (True, "true or false")],
    ids=["int", "float", "bool"],
)
def test_a_param_of_the_wrong_kind_is_told_in_words(default, said):
    with pytest.raises(DeclarationError, match=f"--param late=abc: {said} is asked for"):
        set_params({"late": default}, {"late": "abc"})
