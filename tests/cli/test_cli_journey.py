"""A model's life through the command line: what each verb says, in words and as JSON."""

from __future__ import annotations

import json

import pytest

FIRST = """\
churn · run ID · churn.py
 ✓ ingest T  customers.csv · "," utf-8 · 240 × 4
 ✓ validate T  240 rows × 4 columns · binary, churned = 1 N % · schema inferred
 ✓ split T  train 185 · test 55 · by customer_id · churned: 90 (N %) / 29 (N %) · roc_auc ± N to expect
 ✓ train T  LogisticRegression · seed 0
 ✓ evaluate T  roc_auc N [N, N] · baseline N
 ✓ audit T  no copy or re-coding of the target among 2 columns · 0 of 55 held-out rows also in train
 ✓ register T  churn@1
 ✓ gate T  roc_auc N [N, N] ≥ N ✓
                        no champion yet: better than the baseline: roc_auc N [N, N] ✓
 ✓ deploy T  20 golden rows answered over HTTP as in training
  better than the baseline: roc_auc N [N, N]
→ champion: churn@1 (local store) · T
note  only 26 held-out rows have churned = 0: about 60 held-out rows would hold 30
note  only 29 held-out rows have churned = 1: about 61 held-out rows would hold 30
page  .penstock/reports/churn-1.html
next  penstock serve churn · penstock show churn@1 · penstock schema accept churn.py
"""


def told(shop, *words: str) -> str:
    """Standard output of a verb that ends well and complains of nothing."""
    ended = shop.call(*words)
    assert (ended.code, ended.err) == (0, ""), ended
    return ended.out


def as_json(shop, *words: str):
    return json.loads(told(shop, *words, "--json"))


# ── run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_first_run_tells_one_fact_a_stage(shop):
    first = shop.said["first"]
    assert shop.scrubbed(first.out) == FIRST
    assert (first.code, first.err) == (0, "")


def test_times_stand_right_aligned(shop):
    ends = {line.index(" s  ") for line in shop.said["first"].out.splitlines() if line.startswith(" ✓ ")}
    assert len(ends) == 1


def test_a_first_run_fits_twenty_lines(shop):
    assert len(shop.said["first"].out.splitlines()) <= 20


def test_a_second_run_says_that_there_is_nothing_to_do(shop):
    assert shop.scrubbed(shop.said["again"].out) == ("nothing to do: all steps reused; no look spent · churn@1 · T\n")


def test_a_refused_version_ends_with_4_and_its_reason(shop):
    refused = shop.said["refused"]
    data = json.loads(refused.out)
    assert refused.code == data["exit_code"] == 4
    assert (data["version"], data["champion"], data["looked"]) == ("churn@2", False, True)
    assert data["verdict"]["outcome"] == "worse"
    assert "churn@2 refused: " in data["ending"]
    assert {step["state"] for step in data["steps"]} >= {"done", "reused", "skipped"}


def test_quiet_is_one_line(shop):
    assert len(told(shop, "run", "-q").splitlines()) == 1


def test_a_forced_step_runs_again_and_says_so(shop):
    out = told(shop, "run", "--force", "split", "-v")
    assert "   split: forced\n" in out
    assert "no look" not in out
    assert shop.call("log", "--json").out.count('"kind": "look"') == 2


# ── try ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tries_are_ranked_and_spend_no_look(shop):
    assert "the first try on these rows" in shop.said["tried"].out
    text = shop.scrubbed(shop.said["tried_other"].out)
    assert "try 2 of 2" in text
    lines = text.splitlines()[-2:]
    assert lines[0].split()[-4:] == ["LogisticRegression", "as", "it", "stands"]
    assert lines[1].startswith("▸  2")
    assert lines[1].split()[-3:] == ["DummyClassifier", "a", "dummy"]


def test_a_try_that_equals_another_says_so(shop):
    data = as_json(shop, "try")
    assert [one["model"] for one in data["board"]] == ["LogisticRegression", "DummyClassifier"]
    assert data["try"]["result"] == data["board"][0]["result"]
    assert "equal to run:" in told(shop, "try", "-q")


# ── plan ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_counts_what_it_lists(shop):
    out = told(shop, "plan", "--force", "train")
    actions = [line.split()[0] for line in out.splitlines()[:-1]]
    assert out.splitlines()[-1] == "churn: " + ", ".join(
        f"{actions.count(action)} {word}"
        for action, word in (("run", "to run"), ("wait", "waiting for them"), ("reuse", "to reuse"))
    )
    assert " run    train      forced" in out
    assert "\n train 185 · test 55 · by customer_id · churned: " in out  # before anything is trained
    assert " to expect\n only 26 held-out rows have churned = 0" in out


def test_a_plan_as_json_agrees(shop):
    data = as_json(shop, "plan", "--force", "train")
    assert sum(data["counts"].values()) == len(data["steps"])
    assert next(one["because"] for one in data["steps"] if one["step"] == "train") == "forced"


# ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_shown_by_any_of_its_names(shop):
    run = json.loads(shop.said["refused"].out)["run"]
    out = told(shop, "show", f"run:{run[:6]}")
    assert "churn · run " in out
    assert "refused" in out
    assert "version churn@2" in out
    assert as_json(shop, "show", f"run:{run}")["run"] == run


def test_a_version_is_shown_with_figures_gate_and_audit(shop):
    out = told(shop, "show", "churn@1")
    assert out.startswith("churn@1 · challenger · champion · passed")
    assert "gate, against the baseline" in out
    assert "≥ 0.600 ✓" in out
    assert "audit: " in out
    assert as_json(shop, "show", "churn")["version"] == "churn@1"


def test_models_lists_workflows_and_versions(shop):
    assert as_json(shop, "models")[0]["champion"] == "churn@1"
    lines = told(shop, "models", "churn").splitlines()
    assert [line.split()[0] for line in lines] == ["version", "churn@2", "churn@1"]
    assert told(shop, "models", "churn.py").splitlines() == lines


def test_the_log_tells_who_moved_what_and_why(shop):
    out = told(shop, "log", "churn@1")
    assert "champion → churn@1 · because better than the baseline" in out
    assert "2 looks at the hold-out of churn" in out
    assert "looks" not in told(shop, "log", "-q")


def test_runs_lists_notes_and_versions(shop):
    notes = {run["info"].get("note") for run in as_json(shop, "runs", "--limit", "100")}
    assert {"a dummy", "as it stands"} <= notes
    assert "a dummy" in told(shop, "runs", "--limit", "100")


def test_diff_says_what_changed_between_two_runs(shop):
    data = as_json(shop, "diff", "churn@1", "churn@2")
    assert any("model" in reason for reason in data["steps"]["train"])
    assert "validate" not in data["steps"]
    old, new = data["figures"]["roc_auc"]
    assert old["value"] > new["value"]
    assert "train" in told(shop, "diff", "churn@1", "churn@2")


def test_diff_of_a_run_that_reused_everything_finds_its_steps(shop):
    told(shop, "run", "-q")
    assert as_json(shop, "show", "last")["counts"]["run"] == 0
    assert as_json(shop, "diff", "churn@1", "last")["steps"] == {}
    assert "the same steps" in told(shop, "diff", "churn@1", "last")
    assert "train" in as_json(shop, "diff", "churn@2", "last")["steps"]


def test_lineage_goes_back_and_forth(shop):
    data = as_json(shop, "lineage", "churn@1")
    assert [(one["file"], one["now"]) for one in data["data"]] == [("customers.csv", "the same")]
    assert "scikit-learn" in data["environment"]
    by_file = {one["version"] for one in as_json(shop, "lineage", "customers.csv")["versions"]}
    assert by_file == {"churn@1", "churn@2"}
    assert as_json(shop, "lineage", data["data"][0]["digest"])["versions"] != []
    assert {one["steps"][0] for one in as_json(shop, "lineage", "churn.py")["versions"]} == {"declaration"}


def test_lineage_says_when_the_data_moved_on(shop):
    before = (shop.folder / "customers.csv").read_text()
    try:
        shop.write("customers.csv", before + "c999,1,1,1\n")
        assert "now changed" in told(shop, "lineage", "churn@1")
        assert "in no version" in told(shop, "lineage", "customers.csv")
    finally:
        shop.write("customers.csv", before)


# ── releasing ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_forced_promotion_and_its_rollback_are_on_record(shop):
    refused = shop.call("promote", "churn@2", "--because", "I know better")
    assert refused.code == 4
    assert "--force promotes it all the same" in refused.err
    assert "→ champion: churn@2 (was churn@1)" in told(shop, "promote", "churn@2", "--because", "trial", "--force")
    assert "already" in told(shop, "promote", "churn@2", "--because", "again", "--force")
    assert as_json(shop, "rollback", "--to", "churn@1", "--because", "trial over")["champion"] == "churn@1"
    log = told(shop, "log")
    assert "trial (forced past the gate)" in log
    assert "trial over" in log


# ── operating ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_predict_scores_csv_to_the_screen_and_parquet_to_a_file(shop):
    shop.write("new.csv", shop.table(30, seed=5))
    ended = shop.call("predict", "--input", "new.csv")
    assert ended.out.splitlines()[0] == "customer_id,label,score"
    assert len(ended.out.splitlines()) == 31
    assert ended.err == "churn@1 · 30 rows\n"
    data = json.loads(shop.call("predict", "churn@1", "-i", "new.csv", "-o", "out.parquet", "--json").out)
    assert (data["rows"], data["output"]) == (30, "out.parquet")
    pandas = pytest.importorskip("pandas")
    assert list(pandas.read_parquet(shop.folder / "out.parquet")["customer_id"][:2]) == ["c0", "c1"]


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl", ".feather", ".xlsx"])
def test_predict_reads_every_format_with_the_key_beside_the_answers(shop, suffix):
    pandas = pytest.importorskip("pandas")
    shop.write("plain.csv", shop.table(20, seed=5))
    frame, path = pandas.read_csv(shop.folder / "plain.csv"), shop.folder / f"asked{suffix}"
    writers = {
        ".csv.gz": lambda: frame.to_csv(path, index=False),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".feather": lambda: frame.to_feather(path),
        ".xlsx": lambda: frame.to_excel(path, index=False),
    }
    writers[suffix]()
    asked = shop.call("predict", f"asked{suffix}")
    assert asked.code == 0, asked.err
    assert asked.out == shop.call("predict", "--input", "plain.csv").out
    assert asked.out.startswith("customer_id,label,score\n")


def test_monitor_raises_an_alarm_on_a_world_that_moved_and_none_on_one_that_did_not(shop):
    shop.write("calm.csv", shop.table(240, seed=8))
    shop.write("moved.csv", shop.table(240, shift=3.0, seed=7))
    calm = shop.call("monitor", "--data", "calm.csv")
    assert (calm.code, calm.err) == (0, "")
    assert "no alarm" in calm.out
    moved = shop.call("monitor", "churn.py", "--data", "moved.csv", "--json")
    assert moved.code == json.loads(moved.out)["exit_code"] == 8
    assert {one["what"] for one in json.loads(moved.out)["alarms"]} == {"a", "score"}


# ── keeping ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_schema_is_shown_then_frozen_beside_the_declaration(shop):
    file = shop.folder / "churn.schema.toml"
    try:
        told(shop, "run", "-q", "--until", "validate")
        assert "[columns]" in shop.call("schema", "show").out
        assert not file.exists()
        assert told(shop, "schema", "accept") == "wrote churn.schema.toml: review and commit it\n"
        assert "[columns]" in file.read_text()
        unread = shop.call("schema", "accept")
        assert unread.code == 2
        assert "--until validate` does it" in unread.err
    finally:
        file.unlink(missing_ok=True)


def test_fsck_finds_a_flipped_bit_and_repairs_it(empty):
    assert empty.call("run", "-q", "--until", "split").code == 0
    assert "are whole" in told(empty, "fsck")
    objects = [path for path in (empty.folder / ".penstock" / "objects").rglob("*") if path.is_file()]
    victim = max((path for path in objects if path.read_bytes()[:4] == b"PAR1"), key=lambda path: path.stat().st_size)
    victim.chmod(0o644)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    found = empty.call("fsck")
    assert found.code == 1
    assert "corrupt" in found.out
    repaired = empty.call("fsck", "--repair")
    assert repaired.code == 1, "what was moved aside is missing until its maker runs"
    assert "put right corrupt" in repaired.out
    assert "next  penstock run" in repaired.out
    assert empty.call("run", "-q", "--until", "split").code == 0
    assert json.loads(empty.call("fsck", "--json").out)["exit_code"] == 0


def test_gc_only_says_what_would_go(shop):
    data = as_json(shop, "gc", "--dry-run", "--grace", "0s", "--keep", "0s")
    assert data["dry_run"] is True
    assert "would remove" in told(shop, "gc", "--dry-run")


def test_doctor_tells_each_origin(shop, monkeypatch):
    monkeypatch.setenv("PENSTOCK_JOBS", "1")
    data = as_json(shop, "doctor")
    assert data["configuration"]["jobs"] == {"value": 1, "origin": "PENSTOCK_JOBS"}
    assert data["problems"] == []
    assert "(PENSTOCK_JOBS)" in told(shop, "doctor")
