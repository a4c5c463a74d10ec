"""Digests of the rows that a version has learned from: known again by key, whatever became of the table."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.target import Roles, Target
from penstock.formats.npy import dumps
from penstock.stages import keys
from penstock.stages.package import contents
from penstock.stages.seen import digests, unseen, unseen_of_table

KEYED, KEYLESS = Roles(key=("id",)), Roles()


def rows(ids, start=0.0):
    return pd.DataFrame(
        {"id": ids, "a": np.arange(len(ids)) + start, "y": [0, 1] * (len(ids) // 2) + [0] * (len(ids) % 2)}
    )


@given(st.sets(st.integers(-(10**12), 10**12), max_size=40), st.sets(st.integers(-(10**12), 10**12), max_size=40))
def test_exactly_the_rows_that_were_not_seen_are_fresh(seen, asked):
    known, learned = digests([rows(sorted(seen))], KEYED)
    later = rows(sorted(asked), start=7.5)
    assert later["id"].iloc[unseen(later, known, learned)].tolist() == sorted(asked - seen)


def test_a_key_is_known_again_in_another_type_and_order():
    known, learned = digests([rows([1, 2, 3])], KEYED)
    later = pd.DataFrame({"id": ["3", "4", "1"]})
    assert unseen(later, known, learned).tolist() == [1]


def test_without_a_key_rows_are_known_by_their_content_the_target_included():
    known, learned = digests([rows([1, 2, 3])], KEYLESS)
    assert (learned["by"], learned["columns"]) == ("content", ["a", "id", "y"])
    later = rows([1, 2, 3])
    later.loc[1, "y"] = 5
    assert unseen(later, known, learned).tolist() == [1]
    assert unseen(later[["y", "a", "id"]], known, learned).tolist() == [1]


def test_where_the_columns_are_gone_nothing_is_claimed():
    known, learned = digests([rows([1, 2, 3])], KEYLESS)
    assert unseen(pd.DataFrame({"id": [1]}), known, learned) is None
    assert unseen_of_table(pd.DataFrame({"id": [1]}), pd.DataFrame({"other": [1]}), Target("y"), KEYED) is None


def test_digests_agree_with_the_table_itself():
    data, later = rows(list(range(50))), rows(list(range(30, 90)))
    known, learned = digests([data], KEYED)
    assert unseen(later, known, learned).tolist() == unseen_of_table(later, data, Target("y"), KEYED).tolist()


def test_equal_rows_give_equal_bytes_whatever_their_order():
    first, _ = digests([rows([1, 2, 3])], KEYED)
    second, _ = digests([rows([3, 1]), rows([2, 3])], KEYED)
    assert dumps(first) == dumps(second)
    assert first.dtype == np.uint64


def test_no_key_stands_in_the_digests():
    ids = list(range(1000, 1100))
    known, learned = digests([rows(ids)], KEYED)
    assert not set(known.tolist()) & set(ids)
    assert "1000" not in str(learned)


def test_a_refit_has_seen_the_held_out_rows_too():
    from sklearn.linear_model import LogisticRegression

    train, test = rows(list(range(20))), rows(list(range(20, 30)))
    known = {"target": Target("y"), "roles": KEYED, "schema": {"task": "binary", "classes": [0, 1], "positive": 1}}
    fitted = LogisticRegression().fit(train[["a"]], train.y)
    *_, seen, learned, held = contents(train, test=test, fitted=fitted, **known)
    assert (len(seen), learned["n_rows"], len(held)) == (20, 20, 10)
    *_, seen, learned, _ = contents(train, test=test, refitted=True, fitted=fitted, **known)
    assert (len(seen), learned["n_rows"]) == (30, 30)


def test_a_digest_of_few_bits_would_lose_rows(monkeypatch):
    """Sabotage: with 16 bits, fresh rows are taken for seen ones by chance."""
    data, later = rows(list(range(5_000))), rows(list(range(5_000, 10_000)))
    known, learned = digests([data], KEYED)
    assert len(unseen(later, known, learned)) == 5_000
    whole = keys.rows
    monkeypatch.setattr(keys, "rows", lambda *given: whole(*given) & np.uint64(0xFFFF))
    known, learned = digests([data], KEYED)
    assert len(unseen(later, known, learned)) < 5_000
