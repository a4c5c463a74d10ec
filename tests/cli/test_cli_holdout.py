"""A new hold-out on purpose: a number in the schema file, other rows held out, and the number is kept."""

import json


def held_out(shop):
    """What the run's split said, and which hold-out a version of it would be judged on."""
    from penstock.project import open_home

    assert shop.call("run", "churn.py", "--until", "split").code == 0
    with_home = open_home(str(shop.folder))
    run = with_home.ledger.runs(limit=1)[0]
    shown = json.loads(shop.call("show", f"run:{run.id[:8]}", "--json").out)
    [split] = [one for one in shown["steps"] if one["step"] == "split"]
    return [artifact["digest"] for artifact in split["outputs"][:2]] if "outputs" in split else split["recipe"]


def test_other_rows_are_held_out_from_then_on_and_the_schema_says_so(empty):
    first = held_out(empty)
    assert empty.call("schema", "accept", "churn.py").code == 0
    assert "holdout" not in (empty.folder / "churn.schema.toml").read_text()
    assert held_out(empty) == first
    ended = empty.call("schema", "accept", "churn.py", "--new-holdout")
    assert (ended.code, ended.err) == (0, "")
    frozen = (empty.folder / "churn.schema.toml").read_text()
    assert "\nholdout = 2\n" in frozen
    assert held_out(empty) != first
    again = empty.call("schema", "accept", "churn.py")
    assert again.out == "churn.schema.toml says so already\n"
    assert (empty.folder / "churn.schema.toml").read_text() == frozen
    (empty.folder / "churn.schema.toml").write_text(frozen.replace("holdout = 2", "holdout = 1"))
    assert held_out(empty) == first


def test_it_goes_with_accept_and_not_where_the_newest_rows_are_held_out(empty):
    ended = empty.call("schema", "show", "churn.py", "--new-holdout")
    assert (ended.code, "--new-holdout goes with accept" in ended.err) == (2, True)
    rows = [f"2026-01-{1 + i // 10:02d},{line}" for i, line in enumerate(empty.table(240).splitlines()[1:])]
    empty.write("customers.csv", "\n".join(["day,customer_id,a,b,churned", *rows]) + "\n")
    empty.write("churn.py", empty.declared.replace('key="customer_id"', 'key="customer_id", time="day"'))
    assert empty.call("run", "churn.py", "--until", "split").code == 0
    ended = empty.call("schema", "accept", "churn.py", "--new-holdout")
    assert ended.code == 2
    assert "the held-out rows of churn are the same under any number" in ended.err


def test_a_number_that_is_none_is_told_with_its_line(empty):
    assert empty.call("run", "churn.py", "--until", "validate").code == 0
    assert empty.call("schema", "accept", "churn.py").code == 0
    path = empty.folder / "churn.schema.toml"
    path.write_text(path.read_text().replace("[columns]", "holdout = 0\n[columns]", 1))
    ended = empty.call("plan", "churn.py")
    assert ended.code == 2
    assert "holdout counts hold-outs from 1, not 0" in ended.err
