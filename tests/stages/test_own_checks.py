"""Checks of the user's own: every answer that a function may give, pandera, severities, and whose fault an error is."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pandera.polars as pl_pa
import polars as pl
import pytest

import penstock as ps
from penstock.core.data_check import check_of
from penstock.core.target import Roles, Target
from penstock.errors import DeclarationError, StepOutputError, ValidationFailedError
from penstock.stages.audit import audit, waived
from penstock.stages.betrayal import Finding
from penstock.stages.validate import validate

FRAME = pd.DataFrame({"id": range(8), "price": [1.0, 2.0, -1.0, 4.0, -5.0, 6.0, 7.0, 8.0], "y": ["no", "yes"] * 4})
SCHEMA = pa.DataFrameSchema({"price": pa.Column(float, pa.Check.ge(0)), "y": pa.Column(str, pa.Check.isin(["no"]))})
FINE = pa.DataFrameSchema({"price": pa.Column(float)})
POLARS = pl_pa.DataFrameSchema({"price": pl_pa.Column(pl.Float64, pl_pa.Check.ge(0))})


class Prices(pa.DataFrameModel):
    """A schema as a class."""

    price: float = pa.Field(ge=0)


def no_negative_price(table):
    return table["price"] >= 0


def as_array(table):
    return table["price"].to_numpy() >= 0


def enough_rows(table):
    return len(table) > 100


def says(table):
    return "too few rows" if len(table) < 100 else ""


def says_several(table):
    return [f"row {i} is odd" for i in (1, 2)]


def nothing(table):
    return None


def number(table):
    return 3


def wrong_length(table):
    return table["price"].head(2) > 0


def raising(table):
    return table["pricee"] > 0


def changing(table):
    table["price"] = 0.0
    return True


def test_true_and_empty_are_fine():
    for answer in (True, np.True_, "", [], (), pd.Series([True] * 8), np.ones(8, dtype=bool)):
        assert checked(_answering(answer))["summary"].endswith("1 check of your own")


def _answering(answer):
    def fine(_table):
        return answer

    fine.__qualname__ = "fine"
    return fine


def checked(*checks, frame=FRAME, **more):
    given = {"target": Target("y"), "roles": Roles(key=("id",)), "schema": None, **more}
    return validate(frame, checks=tuple(check_of(one) for one in checks), **given)[2]


def failures(*checks, **more):
    with pytest.raises(ValidationFailedError) as caught:
        checked(*checks, **more)
    assert caught.value.exit_code == 3
    return caught.value.report["failures"]


@pytest.mark.parametrize("check", [no_negative_price, as_array])
def test_bad_rows_are_counted_and_shown_with_their_key(check):
    (found,) = failures(check)
    assert (found["kind"], found["column"], found["count"]) == ("check", check.__name__, 2)
    assert [(sample["row"], sample["key"]) for sample in found["samples"]] == [(3, "id 2"), (5, "id 4")]


def test_a_missing_answer_is_a_bad_row():
    (found,) = failures(_answering(pd.Series([True] * 7 + [None], dtype="boolean")))
    assert found["count"] == 1


def test_false_a_text_and_several_texts_are_failures_and_all_are_told():
    found = failures(enough_rows, says, says_several)
    assert [one["text"] for one in found] == [
        "enough_rows does not hold",
        "says: too few rows",
        "says_several: row 1 is odd",
        "says_several: row 2 is odd",
    ]


def test_they_are_told_beside_the_built_in_ones():
    found = failures(no_negative_price, frame=FRAME.assign(id=0))
    assert [one["kind"] for one in found] == ["duplicate key", "check"]


def test_empty_texts_count_for_nothing_however_many():
    assert checked(_answering([""] * 60))["summary"].endswith("1 check of your own")
    assert [one["count"] for one in failures(_answering(["", "odd"] * 30 + ["odd"] * 30))][-1] == 10


def test_a_warning_is_shown_and_stops_nothing():
    report = checked(ps.check(no_negative_price, severity="warning"))
    assert report["warnings"][0]["count"] == 2
    assert report["notes"][0].startswith("warning: no_negative_price does not hold in 2 rows")
    assert report["summary"].endswith("1 check of your own, 1 warning")
    assert "warnings" not in checked()


@pytest.mark.parametrize("check", [nothing, number, wrong_length])
def test_an_answer_that_says_nothing_is_the_checks_fault(check):
    with pytest.raises(StepOutputError, match=check.__name__):
        checked(check)


def test_an_error_names_the_check_and_the_line_unless_the_table_is_at_fault():
    with pytest.raises(KeyError) as caught:
        checked(raising)
    assert "the check 'raising', test_own_checks.py line " in caught.value.__notes__[0]
    found = failures(raising, frame=FRAME.assign(id=0))
    assert "could not be run after the failures above: KeyError" in found[-1]["text"]


def test_a_check_cannot_change_the_table():
    given = {"target": Target("y"), "roles": Roles(key=("id",)), "schema": None}
    table, _, _ = validate(FRAME, checks=(check_of(changing),), **given)
    assert table["price"].tolist() == FRAME["price"].tolist()


@pytest.mark.parametrize("schema", [Prices, POLARS])
def test_a_pandera_schema_is_held_against_all_rows(schema):
    (found,) = failures(schema)
    assert found["count"] == 2
    assert [(sample["row"], sample["value"]) for sample in found["samples"]] == [(3, "-1.0"), (5, "-5.0")]


def test_every_failure_of_a_pandera_schema_is_told():
    found = failures(SCHEMA)
    assert [(one["column"], one["count"]) for one in found] == [("SCHEMA", 2), ("SCHEMA", 4)]
    assert "price fails greater_than_or_equal_to(0) in 2 rows" in found[0]["text"]
    assert checked(FINE)["checks"] == 1
    missing = failures(FINE, frame=FRAME.drop(columns="price").assign(other=1.0))
    assert "the table fails column_in_dataframe: 'price'" in missing[0]["text"]


def test_rows_are_numbered_as_in_the_table_that_was_read():
    frame = FRAME.copy()
    frame.loc[0, "y"] = None
    (found,) = failures(Prices, frame=frame, target=Target("y", missing="drop"))
    assert [sample["row"] for sample in found["samples"]] == [2, 4]  # of the rows that are kept


def test_a_metric_that_does_not_fit_the_classes_is_refused_before_anything_is_trained():
    fits = {"roc_auc": ("binary",), "top_k_accuracy": ("multiclass",)}
    with pytest.raises(DeclarationError, match="'top_k_accuracy' does not fit a binary target"):
        checked(fits=fits)
    checked(fits={"roc_auc": ("binary",)})


def test_columns_that_figures_read_are_looked_for():
    (found,) = failures(columns={"metric cost": ("amount",), "baseline": ("price",)})
    assert "metric cost names the column 'amount'" in found["text"]


# ── answers to the audit ─────────────────────────────────────────────────────────────────────────────────────────


def betrayed(n=400):
    rng = np.random.default_rng(0)
    y = np.where(rng.random(n) < 0.4, "yes", "no")
    return pd.DataFrame({"id": range(n), "x": rng.normal(size=n), "copy": (y == "yes") * 1.0, "y": y})


def proof(**more):
    frame = betrayed()
    schema = {"task": "binary", "classes": ["no", "yes"], "positive": "yes"}
    given = {"target": Target("y"), "roles": Roles(key=("id",)), "schema": schema, **more}
    return audit(frame[:300], frame[300:].reset_index(drop=True), **given)


def test_a_waived_finding_is_a_note_with_its_reason():
    assert proof()["grade"] == "error"
    found = proof(waive={"copy": "the form asks for it"})
    assert found["grade"] == "note"
    assert found["n_findings"]["error"] == 0
    (note,) = [one for one in found["findings"] if one["column"] == "copy"]
    assert note["what"].endswith("(waived: the form asks for it)")


def test_a_waiver_that_waives_nothing_is_said():
    found = proof(waive={"x": "honest"})
    assert found["grade"] == "error"
    assert any("waives nothing" in one["what"] for one in found["findings"])


def test_what_a_step_does_to_several_columns_is_waived_by_its_name_or_by_all_of_them():
    """A price list that is known says nothing of the label that leaks beside it."""
    leak = Finding("error", "labels", "price, rate of 3 training rows move", "price + rate", step="joined")
    assert waived([leak], {"price": "printed in January"})[0] == leak
    answers = ({"joined": "a"}, {"price": "a", "rate": "b"})
    assert [[one.grade for one in waived([leak], answer)] for answer in answers] == [["note"], ["note"]]


def test_rows_on_both_sides_are_not_waived_by_a_column():
    overlap = Finding("error", "key", "the same key on both sides", "id")
    assert waived([overlap], {"id": "why not"})[0] == overlap
