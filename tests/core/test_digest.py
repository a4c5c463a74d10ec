"""The names of content: golden values that freeze the scheme (docs/decisions/0001-recipe.md holds the same)."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core import digest
from penstock.core.digest import canonical, digest_bytes, digest_code, digest_value

RECORD = Path(__file__).parents[2] / "docs" / "decisions" / "0001-recipe.md"
CODE = {"prep:clean": "0" * 64, "library:pandas": "3.0.0", "python": "3.11.9"}
NO_ARGUMENTS = ["list", [["list", []], ["dict", []]]]
ONE_INPUT = ["list", [["list", [["artifact", "parquet", "d" * 64]]], ["dict", []]]]

GOLDEN = {
    'digest_bytes(b"penstock")': "539508beacbe5cd12935e2b721557239652992a7f89de0408224d61fca3f61a8",
    'digest_value("recipe", [1])': "762d3c16658c538ff841945b0625c395f5bd42b3f5270f703dfdd8c0047e91b6",
    'digest_value("code", [1])': "df4a7b5d29753b1eb9afbc6aaf04e50c7e8e3430adff652cac9b9f17909e5b5e",
    "digest_code(CODE)": "b0d1c4a0d241c39a9fbc5c8707b7980742d3bb1caea48bd8681172b107361150",
    'digest_recipe("c" * 64, NO_ARGUMENTS, None)': "46375a50074913e0b3d066018788769f93c5fc67c37b8151dbd3b6ad6cb3c045",
    'digest_recipe("c" * 64, ONE_INPUT, None)': "1b025df1dc43f3f5b7d7d0375be0f6ed120182cf04741ee576ee8dcbc46c8547",
    'digest_recipe("c" * 64, None, "e" * 64)': "a8e5e7b846ef16bed69da87eab2743736775d268746d86e7f5744fca813d8c29",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("expression", GOLDEN)
def test_golden_digests(expression):
    names = {**vars(digest), "CODE": CODE, "NO_ARGUMENTS": NO_ARGUMENTS, "ONE_INPUT": ONE_INPUT}
    assert eval(expression, names) == GOLDEN[expression]


def test_the_record_holds_the_same_golden_values():
    text = RECORD.read_text()
    assert [value for value in GOLDEN.values() if value not in text] == []


def test_the_scheme_is_inside_what_is_hashed(monkeypatch):
    before = digest_value("recipe", [1])
    monkeypatch.setattr(digest, "SCHEME", digest.SCHEME + 1)
    assert digest_value("recipe", [1]) != before


@given(json_values)
def test_canonical_json_says_the_value_and_nothing_of_its_order(value):
    assert json.loads(canonical(value)) == value
    assert canonical(value) == canonical(json.loads(json.dumps(value)[::1]))
    if isinstance(value, dict):
        assert canonical(dict(reversed(value.items()))) == canonical(value)


@given(json_values, json_values)
def test_different_values_have_different_names(one, other):
    same = canonical(one) == canonical(other)
    assert (digest_value("recipe", one) == digest_value("recipe", other)) == same


def test_what_json_cannot_say_is_refused():
    with pytest.raises(ValueError, match="Out of range"):
        canonical(float("nan"))


def test_text_that_is_no_unicode_has_a_name_too():
    assert digest_value("recipe", "\udc80") != digest_value("recipe", "\udc81")


def test_control_without_a_tag_two_kinds_collide(monkeypatch):
    """The tag is what tells a recipe from a code part: without it these two are one."""

    def untagged(_tag, value):
        return digest_bytes(canonical(value).encode())

    parts = {"a": "b"}
    assert digest_code(parts) != digest_value("recipe", parts)
    monkeypatch.setattr(digest, "digest_value", untagged)
    assert digest.digest_code(parts) == digest.digest_value("recipe", parts)
