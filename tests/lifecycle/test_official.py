"""What a split of more than a share makes of the flow: the same steps for the official file, apart."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

import penstock as ps
from penstock.core.flow import calls_of, needs_of, step_ids
from penstock.core.step import Ref, call_of
from penstock.errors import DeclarationError
from penstock.lifecycle.lower import lower
from penstock.lifecycle.official import official_table, rule_of_folds
from penstock.lifecycle.parameters import flat


@ps.step
def cleaned(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    return table


@ps.step
def holidays() -> pd.DataFrame:
    return pd.DataFrame()


@ps.step(outputs=("left", "right"))
def parted(table: pd.DataFrame, days: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return table, days


def positive(table):
    return table["y"] > 0


def declare(**fields):
    return ps.Workflow("w", **({"data": ps.read("train.csv"), "target": "y", "model": LinearRegression()} | fields))


def chain():
    return parted(cleaned(ps.read("train.csv"), ["a", "b"]), holidays.ref())[1]


def ids(workflow, **more):
    calls = calls_of(lower(workflow, "w.py", **more)[0])
    names, notes = step_ids(calls)
    assert notes == ()
    return {names[id(call)]: call for call in calls}


def test_an_official_file_goes_through_the_same_steps_by_itself():
    calls = ids(declare(data=chain(), split=ps.Split(test=ps.read("holdout.csv"))))
    assert {"cleaned", "parted", "test.cleaned", "test.parted", "holidays", "holdout", "train_file"} <= set(calls)
    assert "test.holidays" not in calls  # it reads nothing of the table
    assert [call.name for call in needs_of(calls["test.cleaned"])] == ["holdout"]
    assert [call.name for call in needs_of(calls["test.parted"])] == ["test.cleaned", "holidays"]
    assert calls["test.cleaned"].args[1] == ["a", "b"]
    held = calls["validate.test"]
    assert [call.name for call in needs_of(held)] == ["test.parted", "validate"]  # against the training schema
    assert calls["split"].kwargs["split"] == ps.Split()
    assert call_of(calls["split"].kwargs["official"]) is held


def test_the_result_of_steps_is_taken_as_it_is():
    made = cleaned(ps.read("other.csv"), ["c"])
    workflow = declare(data=chain(), split=ps.Split(test=made))
    assert official_table(workflow) is made
    bare = ps.read("holdout.csv")
    assert official_table(declare(split=ps.Split(test=bare))) is bare
    assert official_table(declare()) is None


def test_training_hangs_on_no_file_mask_or_final_rows_but_through_its_rows():
    plain = ids(declare())
    for split in (ps.Split(test=ps.read("holdout.csv")), ps.Split(test=positive), ps.Split(final=0.1)):
        calls = ids(declare(split=split))
        assert calls["train"].kwargs["split"] == plain["train"].kwargs["split"] == ps.Split()
    assert rule_of_folds(ps.Split(test=0.3)) == ps.Split(test=0.3)
    assert plain["split"].options.outputs == ("train", "test", "report")
    assert "official" not in plain["split"].kwargs


def proven(**fields):
    """What the proof is given of the hold-outs."""
    calls = ids(declare(**fields))
    told = calls["scramble"].kwargs
    assert call_of(told["test"]) is calls["split"]
    return told


def test_the_proof_knows_both_hold_outs_and_what_leads_to_an_official_file():
    single = cleaned(ps.read("train.csv"), ["a"])
    assert not {"final", "official"} & set(proven(data=single))
    final = proven(data=single, split=ps.Split(final=0.1))["final"]
    assert (call_of(final).name, repr(final)) == ("split", "<Ref split.final>")
    assert proven(data=single, split=ps.Split(test=ps.read("holdout.csv")))["official"] == ()
    assert proven(data=chain(), split=ps.Split(test=ps.read("holdout.csv")))["official"] == (2,)  # the holidays
    prices = ps.read("prices.csv")

    def beside(file, prices, name="parted"):
        return parted(ps.read(file), prices, name=name)[0]

    for shared in (prices, ps.read("prices.csv", name="again")):
        split = ps.Split(test=beside("holdout.csv", shared, "for_test"))
        told = proven(data=beside("train.csv", prices), split=split)
        assert [told["steps"].calls[at].name for at in told["official"]] == ["prices"]
    apart = ps.Split(test=cleaned(ps.read("other.csv"), []))
    assert proven(data=beside("train.csv", prices), split=apart)["official"] == ()


def test_the_final_hold_out_is_opened_only_when_asked():
    workflow = declare(split=ps.Split(final=0.1))
    closed, opened = ids(workflow), ids(workflow, final=True)
    assert set(opened) - set(closed) == {"final", "opened"}
    assert closed["split"].options.outputs == ("train", "test", "report", "final")
    rows = [ref for call in closed.values() for ref in (*call.args, *call.kwargs.values()) if isinstance(ref, Ref)]
    assert not any(repr(ref) == "<Ref split.final>" for ref in rows)
    with pytest.raises(DeclarationError, match="--final: the split keeps no final hold-out"):
        lower(declare(), "w.py", final=True)


def test_a_file_called_as_a_stage_gets_another_name_and_a_step_is_refused():
    assert "train_file" in ids(declare())
    with pytest.raises(DeclarationError, match="a step is called 'split'"):
        lower(declare(data=cleaned(ps.read("a.csv"), [], name="split")), "w.py")
    with pytest.raises(DeclarationError, match="a step is called 'final'"):
        lower(declare(data=cleaned(ps.read("a.csv"), [], name="final"), split=ps.Split(final=0.1)), "w.py")
    assert "final" in ids(declare(data=cleaned(ps.read("a.csv"), [], name="final")))


def test_what_a_run_keeps_of_such_a_split_is_text():
    told = flat(declare(split=ps.Split(test=ps.read("holdout.csv"))))["declared"]
    assert told["split.test"] == "<Ref holdout>"
    assert flat(declare(split=positive))["declared"]["split.test"] == "positive"
