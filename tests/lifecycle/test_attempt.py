"""An attempt at the champion: who is promoted, who is refused, and what is put on record of it, once.

The engine is the real one; its workers are a desk that gives the answers that a test lays on it.
"""

import json
from dataclasses import replace
from typing import NamedTuple

import pytest

from penstock.core.digest import digest_bytes, digest_code
from penstock.core.facts import Facts
from penstock.core.flow import Graph, Node
from penstock.core.ports import Config, Home
from penstock.core.run import Entry, Run
from penstock.core.tree import encode, refs_in
from penstock.engine.local import Execution
from penstock.engine.pool import Answer
from penstock.errors import ConflictError, MissingExtraError, RefusedError, UntrustedTypeError
from penstock.formats.registry import FormatRegistry
from penstock.lifecycle import promote
from penstock.lifecycle.attempt import NOTHING, Attempt
from penstock.lifecycle.run import Report
from penstock.lifecycle.versions import CHALLENGER, CHAMPION, alias, version
from penstock.stats.looks import levels
from penstock.store.fsck import fsck
from penstock.testing import MemoryLedger, MemoryObjects

SENTENCES = {"better": "it is better", "worse": "roc_auc is worse", "not enough evidence": "40 rows are too few"}
FIRST_LOOK = {"generation": "g", "number": 1, "tests": 0, "share": 0.2, "left": 0.5}
FINDING = {"grade": "error", "what": "column `paid` tells the target"}


# ── a small workflow of data, and a desk for workers ─────────────────────────────────────────────────────────


class At(NamedTuple):
    """The promised output of a step."""

    step: str
    output: str = ""


def node(step, *args, kind="step", outputs=(), codes=None, **kwargs):
    tree = encode([list(args), kwargs], "", lambda value: ["ref", *value] if isinstance(value, At) else None)
    entry = f"penstock.lifecycle:{step}" if kind == "effect" else f"penstock.stages.{step}:{step}"
    code = {entry: digest_bytes(step.encode())} if kind == "step" else {}
    if codes is not None:
        codes[digest_code(code)] = code
    needs = tuple(refs_in(tree))
    return Node(step, entry, tree, digest_code(code) if code else "", kind, outputs, needs, part=step)


def workflow(model, rows, told):
    """The steps of a workflow's life, as `lower` joins them; `told` makes recipes differ where answers do."""
    codes = {}

    def step(name, *args, **kwargs):
        return node(name, *args, codes=codes, **kwargs)

    nodes = (
        step("split", rows=rows, outputs=("train", "test", "report")),
        step("train", At("split", "train"), model=model, outputs=("fitted", "report")),
        step("evaluate", At("split", "train"), model=model),
        step("audit", At("split", "train"), told=told["findings"]),
        step("package", At("train", "fitted"), **told["more"], outputs=("input", "golden", "profile", *told["more"])),
        node(
            "register",
            kind="effect",
            estimator=At("train", "fitted"),
            input=At("package", "input"),
            golden=At("package", "golden"),
            profile=At("package", "profile"),
            metrics=At("evaluate"),
            audit=At("audit"),
            **{name: At("package", name) for name in told["more"]},
        ),
        node("champion", At("register"), At("audit"), kind="effect", outputs=("fitted", "seen", "held", "about")),
        step(
            "compare",
            At("split", "test"),
            fitted=At("train", "fitted"),
            champion=At("champion", "fitted"),
            seen=At("champion", "seen"),
            about=At("champion", "about"),
            rules=told["outcome"],
        ),
        node("gate", At("compare"), At("register"), At("champion", "about"), kind="effect"),
        node("deploy", At("gate"), At("register"), At("compare"), kind="effect"),
    )
    return Graph("churn", nodes, codes)


class Desk:
    """A pool whose workers know every answer."""

    logs = ""

    def __init__(self, home, answers):
        self.home, self.answers, self.waiting, self.ran = home, answers, [], []

    @property
    def running(self):
        return len(self.waiting)

    def room(self):
        return 9 - self.running

    def give(self, tasks):
        self.waiting += tasks

    def poll(self, _timeout):
        done, self.waiting = self.waiting, []
        return [self.answer(node, task) for node, task in done]

    def answer(self, node, task):
        self.ran.append(node.id)
        told = self.answers[node.id]
        told = told(task["inputs"]) if callable(told) else told
        values = told if node.outputs else (told,)
        made = [self.home.formats.dump(value, self.home.objects.stage).to_json() for value in values]
        return Answer(node, {"outputs": made, "wall_s": 0.0}, None)

    def close(self):
        assert not self.waiting


@pytest.fixture
def home(tmp_path):
    home = Home(Config(str(tmp_path), "", ""), MemoryObjects(), MemoryLedger(), FormatRegistry())
    yield home
    assert fsck(home.objects, home.ledger) == []


class World:
    """Runs the workflow again and again in one home."""

    def __init__(self, home, kind=Attempt):
        self.home, self.kind, self.desk, self.count = home, kind, None, 0

    def run(
        self,
        model="one",
        outcome="better",
        *,
        findings=(),
        rows="2025",
        rehearse=lambda *_: 3,
        release="auto",
        rules=(),
        more=None,
        search=False,
        fought=True,
        meanwhile=None,
        **settings,
    ):
        """`more`: further files of the bundle."""
        more = more or {}
        self.count += 1
        home = replace(self.home, config=replace(self.home.config, **settings))
        graph = workflow(model, rows, {"findings": list(findings), "outcome": outcome, "more": more})

        def compare(inputs):
            [about] = [json.loads(artifact["text"]) for _, output, artifact in inputs if output == "about"]
            told = {"outcome": outcome, "sentence": SENTENCES[outcome], "rules": list(rules), "of": model}
            told["looks"] = {"search": search, "share": about["looks"]["share"]} if fought else {}
            if meanwhile is not None:
                meanwhile()
            return {**told, "against": about["champion"]}

        answers = {
            "split": (f"train {rows}".encode(), f"test {rows}".encode(), {"n_train": 80, "n_test": 20}),
            "train": (f"fitted {model} on {rows}".encode(), {}),
            "evaluate": {"auc": 0.9},
            "audit": {"findings": list(findings)},
            "package": ({"columns": [{"name": "age"}]}, {"rows": []}, {}, *more.values()),
            "compare": compare,
        }
        self.desk = Desk(home, answers)
        record = Run(f"{self.count:016x}", "churn", "run", "running", float(self.count))
        file = f"{home.config.root}/churn.py"
        attempt = self.kind(home, graph, record.id, "ada@lab", file, rehearse, release)
        facts = Facts(sources={"customers": digest_bytes(rows.encode())})
        execution = Execution(graph, facts, home, record, lambda: self.desk, effects=attempt.effects())
        return Report(graph, execution.execute(), attempt)

    def alias(self, name=CHAMPION):
        found, _ = alias(self.home.ledger, "churn", name)
        return found.number if found else None

    def stream(self, kind):
        return self.home.ledger.stream(f"churn/{kind}")

    def version(self, number):
        return version(self.home.ledger, "churn", number)


@pytest.fixture
def world(home):
    return World(home)


def skipped(report):
    return [step for step, state in report.outcome.states.items() if state == "skipped"]


# ── passed ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_version_is_judged_rehearsed_and_promoted(world):
    asked = []
    report = world.run(rehearse=lambda home, found: asked.append(found.name) or 3)
    assert (report.exit_code, report.error, report.attempt.promoted, report.attempt.golden) == (0, None, True, 3)
    assert asked == ["churn@1"]
    assert (world.alias(), world.alias(CHALLENGER)) == (1, 1)
    [verdict], [look] = world.stream("verdict"), world.stream("look")
    assert (verdict.body["version"], verdict.body["against"], verdict.body["passed"]) == (1, None, True)
    assert (look.body["version"], look.body["verdict"]) == (1, 1)
    [move] = world.stream("alias/champion")
    assert (move.body["verdict"], move.why, move.who) == (1, "it is better", "ada@lab")
    assert world.stream("deployment")[0].body["bundle"] == world.version(1).bundle.to_json()


def test_what_is_registered_tells_where_it_came_from(world):
    world.run()
    body = world.version(1).body
    assert set(body["recipes"]) == {"split", "train", "evaluate", "audit", "package"}
    assert body["sources"] == {"customers": digest_bytes(b"2025")}
    assert body["rows"] == {"n_train": 80, "n_test": 20}
    assert body["git"] == {}


def test_a_better_one_takes_the_place(world):
    world.run()
    report = world.run("two")
    assert (report.attempt.promoted, world.alias()) == (True, 2)
    assert world.stream("verdict")[-1].body["against"] == "churn@1"
    assert world.stream("deployment")[-1].body["previous"] == 1


def test_the_same_again_costs_nothing_and_looks_at_nothing(world):
    world.run()
    report = world.run()
    assert (report.exit_code, report.idle, world.desk.ran) == (0, True, [])
    assert report.attempt.reason == "churn@1 is the champion"
    assert set(skipped(report)) == {"compare", "gate", "deploy"}
    assert (len(world.stream("look")), len(world.stream("version"))) == (1, 1)


def test_the_same_estimator_in_another_bundle_needs_no_second_look(world):
    world.run()
    warned = [{"grade": "warning", "what": "few rows"}]
    report = world.run(findings=warned)
    assert (report.exit_code, len(world.stream("version")), len(world.stream("look"))) == (0, 2, 1)
    assert report.attempt.reason == "churn@1 is the champion, and its estimator is the same"
    assert world.alias() == 1


# ── refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("outcome", "code", "reason"),
    [("worse", 4, "roc_auc is worse"), ("not enough evidence", 7, "40 rows are too few")],
)
def test_who_does_not_pass_stays_outside_and_the_look_is_spent(world, outcome, code, reason):
    world.run()
    report = world.run("two", outcome)
    assert (report.exit_code, report.error, report.attempt.passed) == (code, None, False)
    assert report.attempt.reason == reason
    assert (world.alias(), world.alias(CHALLENGER)) == (1, 1)
    assert skipped(report) == ["deploy"]
    last = world.stream("verdict")[-1].body
    assert (last["outcome"], last["passed"], last["sentence"]) == (outcome, False, reason)
    assert last["audit_errors"] == 0
    assert len(world.stream("look")) == 2


REFUSED = f"the audit found an error, so it was not compared: {FINDING['what']}"


def test_a_version_that_the_audit_refuses_opens_no_hold_out(world):
    world.run()
    report = world.run("two", findings=(FINDING,), search=True)
    assert (report.exit_code, report.error, report.attempt.passed, report.attempt.reason) == (4, None, False, REFUSED)
    assert "compare" not in world.desk.ran
    assert set(skipped(report)) == {"compare", "gate", "deploy"}
    assert (world.alias(), world.alias(CHALLENGER), len(world.stream("look"))) == (1, 1, 1)
    last = world.stream("verdict")[-1].body
    assert (last["version"], last["outcome"], last["passed"]) == (2, "not compared", False)
    assert (last["against"], last["sentence"], last["audit_errors"], last["rules"]) == (None, REFUSED, 1, [])
    again = world.run("two", findings=(FINDING,), search=True)
    assert (again.exit_code, again.idle, len(world.stream("verdict"))) == (4, True, 2)
    answered = world.run("two", search=True)  # waived: it is fought now
    assert (answered.exit_code, world.alias(), len(world.stream("look"))) == (0, 3, 2)


@pytest.mark.parametrize(("findings", "told"), [((FINDING,), 1), ((), 0)])
def test_the_final_hold_out_of_a_refused_version_is_opened_and_its_note_says_so(world, findings, told):
    attempt = world.run(findings=findings).attempt
    figures = {"summary": "auc 0.8", "n_rows": 40, "metrics": {}}
    found = attempt.home.formats.dump(figures, attempt.home.objects.stage)
    about = attempt.load(attempt.final(None, {("final", ""): found}, None).outputs[0])
    assert [note.startswith("churn@1 was refused") for note in about["notes"]] == [True] * told


def test_a_proof_with_an_error_is_refused_whoever_reigns(world):
    world.run()
    report = world.run(findings=(FINDING,))  # the champion's own estimator, in another bundle
    assert (report.exit_code, report.attempt.reason, world.alias()) == (4, REFUSED, 1)
    assert len(world.stream("look")) == 1


def test_sabotage_without_the_refusal_the_hold_out_is_opened(world, monkeypatch):
    monkeypatch.setattr(Attempt, "_refusal", lambda *_: None)
    world.run("one", findings=(FINDING,))
    assert len(world.stream("look")) == 1


def test_a_gate_that_could_fight_nobody_is_on_record_without_a_look(world):
    world.run()
    report = world.run("two", "not enough evidence", search=True, fought=False)
    assert (report.exit_code, report.attempt.looked, len(world.stream("look"))) == (7, False, 1)
    assert (len(world.stream("verdict")), "looks" in world.stream("verdict")[-1].body) == (2, False)


# ── one look ─────────────────────────────────────────────────────────────────────────────────────────────────


def check_looks(world):
    """The law: equal evidence on one version is one verdict, and each verdict is one look."""
    verdicts = [(e.body["version"], e.body["comparison"]["digest"]) for e in world.stream("verdict")]
    assert len(set(verdicts)) == len(verdicts)
    assert [e.body["verdict"] for e in world.stream("look")] == [e.number for e in world.stream("verdict")]


def test_equal_evidence_is_one_verdict_however_often_it_is_run(world):
    world.run()
    for _ in range(3):
        report = world.run("two", "worse")
        assert report.exit_code == 4
        check_looks(world)
    assert (report.idle, world.desk.ran, report.attempt.looked) == (True, [], False)
    assert (len(world.stream("verdict")), len(world.stream("look"))) == (2, 2)


def test_a_search_spends_a_level_of_its_own_and_a_refresh_none(world):
    for model, outcome, search in (("one", "better", True), ("two", "worse", False), ("three", "worse", True)):
        world.run(model, outcome, search=search)
    looks = [look.body for look in world.stream("look")]
    assert [(one["search"], one["won"]) for one in looks] == [(True, True), (False, False), (True, False)]
    shares = levels([True, False], 1.0)
    assert [one["share"] for one in looks] == pytest.approx([shares[0], 0.0, shares[1]])
    assert [verdict.body["looks"]["search"] for verdict in world.stream("verdict")] == [True, False, True]
    assert len({one["generation"] for one in looks}) == 1
    assert world.version(1).body["generation"] == looks[0]["generation"]


def test_an_equal_fight_keeps_its_level_whatever_was_spent_since(world):
    world.run("one", search=True)
    world.run("two", "worse", search=True)
    world.run("three", "worse", search=True)
    report = world.run("two", "worse", search=True)
    assert (report.idle, world.desk.ran, len(world.stream("look"))) == (True, [], 3)


def test_of_two_runs_that_decided_at_one_level_the_second_is_sent_back(world):
    world.run("one", search=True)
    rival = World(world.home)
    rival.count = 50
    report = world.run("two", search=True, meanwhile=lambda: rival.run("three", "worse", search=True))
    assert (report.exit_code, report.attempt.passed, world.alias()) == (7, None, 1)
    assert "other runs looked at the same hold-out meanwhile" in report.attempt.reason
    assert (len(world.stream("verdict")), len(world.stream("look"))) == (2, 2)
    again = world.run("two", search=True)
    assert (again.exit_code, world.alias()) == (0, 2)
    shares = [look.body["share"] for look in world.stream("look")]
    assert shares == pytest.approx(levels([True, False, True], 1.0))


def test_sabotage_without_the_second_reading_both_spend_the_same(world, monkeypatch):
    """The control: what would be on record if the ledger were not asked again."""
    monkeypatch.setattr("penstock.lifecycle.attempt.next_look", lambda *_: FIRST_LOOK)
    world.run("one", search=True)
    rival = World(world.home)
    rival.count = 50
    world.run("two", search=True, meanwhile=lambda: rival.run("three", "worse", search=True))
    shares = [look.body["share"] for look in world.stream("look")]
    assert shares[1] == shares[2]


def test_a_refresh_beside_a_search_is_sent_nowhere(world):
    world.run("one", search=True)
    rival = World(world.home)
    rival.count = 50
    report = world.run("two", search=True, meanwhile=lambda: rival.run("three", "worse", search=False))
    assert (report.exit_code, world.alias()) == (0, 2)
    check_looks(world)


def test_another_champion_is_another_comparison(world):
    world.run()
    world.run("two", "worse")
    world.run("three")
    world.run("two", "worse")
    assert [e.body["against"] for e in world.stream("verdict")] == [None, "churn@1", "churn@1", "churn@3"]
    check_looks(world)


class Forgetful(Attempt):
    """Records each verdict as if it were the first."""

    def _record(self, comparison, about):
        number = self.home.ledger.streams().get("churn/verdict", 0) + 1
        body = {"version": self.version.number, "passed": self.passed, "comparison": comparison.to_json()}
        body |= {"against": about["champion"], "sentence": self.verdict["sentence"]}
        look = {"version": self.version.number, "verdict": number, "fight": self.fight, "looks": about["looks"]}
        self.home.ledger.append([Entry("churn/verdict", number, body), Entry("churn/look", number, look)])
        return number


def test_whoever_records_twice_is_found(home):
    """Sabotage of the law."""
    world = World(home, Forgetful)
    world.run()
    world.run("two", "worse")
    check_looks(world)
    world.run("two", "worse")
    with pytest.raises(AssertionError):
        check_looks(world)


def test_two_equal_runs_at_once_spend_one_look(world, monkeypatch):
    """The other records its verdict between our look at the stream and our transaction."""
    world.run()
    ledger, plain, other = world.home.ledger, world.home.ledger.append, []

    def append(entries, *, key=None):
        if entries[0].stream == "churn/verdict" and not other:
            other.append(True)
            plain([replace(entry, who="eve@lab") for entry in entries])
        return plain(entries, key=key)

    monkeypatch.setattr(ledger, "append", append)
    report = world.run("two", "worse")
    assert (report.exit_code, report.attempt.looked, other) == (4, False, [True])
    assert [e.who for e in world.stream("verdict")] == ["ada@lab", "eve@lab"]
    check_looks(world)


def test_a_number_taken_by_another_verdict_is_followed_by_the_next(world, monkeypatch):
    world.run()
    ledger, plain, other = world.home.ledger, world.home.ledger.append, []

    def append(entries, *, key=None):
        if entries[0].stream == "churn/verdict" and not other:
            other.append(True)
            strange = {**entries[0].body, "version": 1}
            plain([replace(entries[0], body=strange), entries[1]])
        return plain(entries, key=key)

    monkeypatch.setattr(ledger, "append", append)
    assert world.run("two").attempt.looked
    assert [e.body["version"] for e in world.stream("verdict")] == [1, 1, 2]
    check_looks(world)


def test_a_large_comparison_is_durable_before_its_verdict(world):
    world.run(rules=[{"what": "x" * 5_000}])
    body = world.stream("verdict")[0].body
    digest = body["artifacts"]["comparison"]
    assert digest == body["comparison"]["digest"]
    assert digest in world.home.objects.published


def test_whoever_always_loses_the_number_is_told_so(world, monkeypatch):
    plain = world.home.ledger.append

    def append(entries, *, key=None):
        if entries[0].stream == "churn/verdict":
            plain([replace(entries[0], body={**entries[0].body, "version": 1, "comparison": {"digest": ""}})])
        return plain(entries, key=key)

    monkeypatch.setattr(world.home.ledger, "append", append)
    with pytest.raises(ConflictError, match="recorded by others all the time"):
        world.run()
    assert (world.stream("look"), world.alias()) == ([], None)


# ── what a comparison is told ────────────────────────────────────────────────────────────────────────────────


def told(report):
    about = report.outcome.artifacts["champion", "about"]
    return json.loads(about.text), report.outcome.artifacts["champion", "seen"]


def test_a_comparison_knows_whom_it_fights(world):
    about, seen = told(world.run())
    assert (about["champion"], about["moves"], seen) == (None, 0, NOTHING)
    about, seen = told(world.run(rows="2026"))
    assert (about["champion"], about["moves"], about["champion_input"]) == ("churn@1", 1, ["age"])
    assert (about["same_declaration"], about["newer_data"]) == (True, True)
    assert world.home.objects.read(seen.digest) == b"train 2025"  # rows that the champion has seen
    about, seen = told(world.run("three", rows="2026"))
    assert (about["same_declaration"], about["newer_data"], seen) == (False, False, NOTHING)


@pytest.mark.parametrize("lost", ["result", "object"])
def test_rows_that_are_not_kept_any_more_are_not_told(world, lost):
    world.run()
    objects, ledger = world.home.objects, world.home.ledger
    if lost == "result":
        ledger.forget(ledger.recipes())
    else:
        objects.delete(digest_bytes(b"train 2025"))
    about, seen = told(world.run(rows="2026"))
    assert seen == NOTHING
    assert about["unseen_from"].startswith("churn@1 carries no digests of the rows that it has learned from")
    objects.publish([objects.stage(b"train 2025")[0]])


KEYED = {"seen": b"digests of 2025", "learned": {"by": "key", "columns": ["id"], "n_rows": 80}}


def test_digests_in_the_bundle_tell_what_was_seen_though_all_else_is_lost(world):
    world.run(more=KEYED)
    world.home.ledger.forget(world.home.ledger.recipes())
    about, seen = told(world.run(rows="2026"))
    assert world.home.objects.read(seen.digest) == b"digests of 2025"
    assert (about["learned"]["columns"], about["unseen_from"], about["champion_refit"]) == (["id"], None, False)


def test_a_refitted_champion_is_asked_as_it_answers_and_said_to_be_one(world):
    world.run(more=KEYED | {"judged": b"fitted one on 2025, judged"})
    about, _ = told(world.run(rows="2026"))
    assert (about["champion_refit"], about["same_estimator"]) == (True, False)


def test_of_equal_twins_the_judged_ones_are_compared_on_all_rows(world):
    world.run(more=KEYED | {"judged": b"judged twin", "decision": {"threshold": 0.5}})
    report = world.run(more=KEYED | {"judged": b"judged twin", "decision": {"threshold": 0.4}})
    about, seen = told(report)
    assert (about["same_estimator"], about["champion_threshold"], seen) == (True, 0.5, NOTHING)
    assert world.home.objects.read(report.outcome.artifacts["champion", "fitted"].digest) == b"judged twin"


def test_the_same_estimator_under_another_threshold_is_another_version_to_judge(world):
    world.run(more={"decision": {"threshold": 0.5}})
    report = world.run(more={"decision": {"threshold": 0.4}})
    assert (report.attempt.looked, report.attempt.promoted, world.alias()) == (True, True, 2)
    report = world.run(more={"decision": {"threshold": 0.4}}, findings=[{"grade": "warning", "what": "few rows"}])
    assert report.attempt.reason == "churn@2 is the champion, and its estimator is the same"


def test_what_a_person_decided_is_not_undone_by_running_again(world):
    world.run()
    first = world.version(1)
    body = dict(first.body) | {"decided": {"from": 1, "threshold": 0.3}, "content": "another"}
    [entry] = world.home.ledger.append([Entry("churn/version", 2, body)])
    promote.move(world.home, replace(first, number=2, entry=entry), why="fewer people", who="ada@lab")
    report = world.run()
    assert (report.exit_code, report.attempt.promoted, world.alias(), len(world.stream("look"))) == (0, False, 2, 1)
    assert "it is churn@1 from 0.3 on, as a person decided" in report.attempt.reason


def rolled_back(world, **given):
    """one is champion, two takes its place, a person goes back; gives the run of two again."""
    world.run("one")
    world.run("two")
    promote.rollback(world.home, "churn", why="complaints", who="ada@lab")
    return world.run("two", **given)


def test_what_a_person_went_back_from_does_not_come_back_by_itself(world):
    report = rolled_back(world)
    assert (report.exit_code, report.attempt.promoted, world.alias(), len(world.stream("look"))) == (0, False, 1, 2)
    assert "ada@lab went back from churn@2 (complaints)" in report.attempt.reason
    assert "penstock promote churn@2 --because" in report.attempt.reason
    again = world.run("two", findings=[{"grade": "warning", "what": "few rows"}])  # another bundle, the same answers
    assert (again.attempt.version.number, again.attempt.promoted, world.alias()) == (3, False, 1)


def test_newer_data_another_model_or_a_person_bring_it_on_again(world):
    assert rolled_back(world, rows="2026").attempt.promoted
    promote.rollback(world.home, "churn", why="again", who="ada@lab")
    assert world.run("three").attempt.promoted
    promote.rollback(world.home, "churn", why="and again", who="ada@lab", to=1)
    assert not world.run("three").attempt.promoted
    promote.promote(world.home, world.version(4), why="it was the network", who="ada@lab")
    assert world.run("five").attempt.promoted
    assert world.run("three").attempt.promoted  # it was overtaken, and nobody went back from it


def test_control_without_memory_of_the_roll_back_the_old_verdict_promotes_again(world, monkeypatch):
    monkeypatch.setattr(promote, "taken_back", lambda *_: {})
    assert rolled_back(world).attempt.promoted


# ── held back ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("release", "is_ci", "held"),
    [("never", False, True), ("never", True, True), ("ci", False, True), ("ci", True, False), ("auto", False, False)],
)
def test_release_says_who_may_promote(world, release, is_ci, held):
    report = world.run(release=release, is_ci=is_ci, environment="ci")  # the environment's name decides nothing
    assert (report.exit_code, report.attempt.passed, report.attempt.promoted) == (0, True, not held)
    assert (world.alias(), world.alias(CHALLENGER)) == (None if held else 1, 1)
    if held:
        assert f"release is {release!r}" in report.attempt.reason
        assert "`penstock promote churn@1 --because …`" in report.attempt.reason
        assert skipped(report) == ["deploy"]
        assert promote.promote(world.home, world.version(1), why="by hand", who="ada@lab").body["verdict"] == 1


# ── the rehearsal ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            MissingExtraError("serving needs uvicorn", hint="pip install 'penstock[serve]'"),
            "churn@2 stays challenger: serving needs uvicorn (pip install 'penstock[serve]')",
        ),
        (
            UntrustedTypeError("churn@2 holds types that no server runs.", hint="trust them"),
            "churn@2 holds types that no server runs (trust them)",
        ),
    ],
)
def test_what_cannot_be_rehearsed_here_stays_challenger(world, error, reason):
    def rehearse(_home, _version):
        raise error

    world.run()
    report = world.run("two", rehearse=rehearse)
    assert (report.exit_code, report.attempt.promoted, report.attempt.reason) == (0, False, reason)
    assert (world.alias(), world.alias(CHALLENGER)) == (1, 2)


def test_an_answer_that_differs_promotes_nobody(world):
    def rehearse(_home, found):
        raise RefusedError(f"{found.name} answers 1 of 3 golden rows otherwise")

    world.run()
    with pytest.raises(RefusedError):
        world.run("two", rehearse=rehearse)
    assert (world.alias(), world.alias(CHALLENGER), len(world.stream("deployment"))) == (1, 2, 1)
    assert world.home.ledger.runs(limit=1)[0].state == "failed"
    assert world.run("two").attempt.promoted  # the verdict stands: no second look is needed
    check_looks(world)


# ── somebody else meanwhile ──────────────────────────────────────────────────────────────────────────────────


def test_a_champion_that_moved_meanwhile_leaves_it_undecided(world):
    world.run()
    world.run("two", release="never")

    def meanwhile(home, _version):
        promote.promote(home, world.version(2), why="by hand", who="eve@lab")
        return 3

    report = world.run("three", rehearse=meanwhile)
    assert (report.exit_code, report.attempt.passed, report.attempt.promoted) == (7, None, False)
    assert report.attempt.reason == "champion moved to churn@2 meanwhile; run again to compare with it"
    assert world.alias() == 2
    assert [e.body["version"] for e in world.stream("deployment")] == [1, 2]
    assert world.run("three").attempt.promoted  # compared with the new one now
    assert world.stream("verdict")[-1].body["against"] == "churn@2"


def test_another_run_of_the_same_that_was_first_is_no_failure(world):
    world.run()

    def meanwhile(home, found):
        promote.move(home, found, why="the same", who="eve@lab")
        return 3

    report = world.run("two", rehearse=meanwhile)
    assert (report.exit_code, report.attempt.promoted, report.attempt.reigns) == (0, False, True)
    assert "another run of the same was first" in report.attempt.reason
    assert (world.alias(), len(world.stream("deployment"))) == (2, 2)
