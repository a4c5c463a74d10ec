"""The promises of `penstock.core.ports.Ledger` as tests."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_bytes, digest_code, digest_recipe
from penstock.core.run import Decided, Entry, Group, Result, Run, SourceStat, StepRun
from penstock.errors import ConflictError, UsageError

if TYPE_CHECKING:
    from penstock.core.ports import Ledger

CODE = digest_code({"prep.clean": digest_bytes(b"clean"), "python": "3.12.1"})


def make_artifact(name: str, *, inline: bool = False) -> Artifact:
    """An artifact whose bytes are its name, as text in the row or as an object elsewhere."""
    data = f'"{name}"'.encode()
    return Artifact(digest_bytes(data), "json", len(data), data.decode() if inline else None)


def make_result(name: str, inputs: tuple[Artifact, ...] = (), *, run: str = "00" * 8, inline: bool = False) -> Result:
    """A result with a true recipe."""
    tree = {"name": ["value", name], "inputs": [["artifact", one.format, one.digest] for one in inputs]}
    outputs = (make_artifact(name, inline=inline),)
    return Result(digest_recipe(CODE, tree, None), CODE, tree, None, outputs, {"run": run, "step": name})


def make_step_run(result: Result, run: str, step: str, attempt: int = 1) -> StepRun:
    """The row of a step that made a result."""
    reason = {"kind": "new", "text": "never run"}
    return StepRun(
        run, step, attempt, result.recipe, "run", "done", reason, result.outputs, None, {"rows": 3}, 1.5, 0.25, 0.125, 9
    )


def make_decided(result: Result, step: str) -> Decided:
    """The decision that goes with a result."""
    return Decided(step, result.recipe, result.code, result.tree, result.source)


class LedgerSuite:
    """Subclass it and give the fixture `ledger`: an empty `Ledger` whose clock says 1000.0.

    Threads stand for processes here; an adapter that other processes may open has tests of its own for that.
    """

    @pytest.fixture
    def ledger(self) -> Any:
        """An empty `Ledger`: the subclass gives it."""
        pytest.fail("the subclass must define the fixture `ledger`")

    # ── recomputable facts ───────────────────────────────────────────────────────────────────────────────────

    def test_empty(self, ledger: Ledger) -> None:
        """Nothing is known, and an empty group changes nothing."""
        ledger.commit(Group())
        assert ledger.results([]) == {}
        maps: list[Any] = [ledger.results([CODE]), ledger.codes([CODE]), ledger.sources(["x"]), ledger.decided("churn")]
        assert maps == [{}, {}, {}, {}]
        lists: list[Any] = [ledger.runs(), ledger.step_runs("x"), ledger.makers(CODE), ledger.users(CODE)]
        assert lists == [[], [], [], []]
        assert ledger.streams() == {}
        assert ledger.stream("churn/version") == []
        assert ledger.append([]) == []

    def test_a_group_comes_back(self, ledger: Ledger) -> None:
        """Every kind of row, equal to what was committed."""
        first = make_result("first", inline=True)
        second = make_result("second", first.outputs)
        run = Run("3f9c" * 4, "churn", "run", "running", 1.5, None, {"run": 2}, {"note": "ü\u2028\x00", "n": [1, None]})
        steps = [make_step_run(first, run.id, "a"), make_step_run(second, run.id, "b")]
        stat = SourceStat("data/\udcffü.csv", (10, 1_700_000_000_123_456_789, 2**64 - 1), digest_bytes(b"rows"))
        ledger.commit(
            Group(
                runs=[run],
                codes={CODE: {"prep.clean": "x"}},
                results=[first, second],
                step_runs=steps,
                decided=[("churn", make_decided(first, "a")), ("other", make_decided(second, "b"))],
                sources=[stat],
            )
        )
        assert ledger.results([first.recipe, second.recipe, CODE]) == {first.recipe: first, second.recipe: second}
        assert ledger.codes([CODE]) == {CODE: {"prep.clean": "x"}}
        assert ledger.runs() == [run]
        assert ledger.step_runs(run.id) == steps
        assert ledger.decided("churn") == {"a": make_decided(first, "a")}
        assert ledger.sources([stat.path, "none"]) == {stat.path: stat}

    def test_a_failed_step_comes_back(self, ledger: Ledger) -> None:
        """A row with an error, without recipe and outputs."""
        error = {"error": "StepError", "what": "boom", "traceback": "…"}
        row = StepRun("r1", "train", 2, None, "run", "failed", {"kind": "forced"}, (), error)
        ledger.commit(Group(step_runs=[row]))
        assert ledger.step_runs("r1") == [row]

    def test_first_writer_stays(self, ledger: Ledger) -> None:
        """A result, a code part or a step run that is there is kept as it is."""
        first = make_result("x", run="first")
        later = Result(first.recipe, first.code, first.tree, None, (make_artifact("other"),), {"run": "later"})
        steps = [make_step_run(first, "r", "x"), make_step_run(later, "r", "x")]
        ledger.commit(Group(results=[first, later], codes={CODE: {"a": "1"}}, step_runs=steps))
        ledger.commit(Group(results=[later], codes={CODE: {"b": "2"}}, step_runs=steps[1:]))
        assert ledger.results([first.recipe]) == {first.recipe: first}
        assert ledger.codes([CODE]) == {CODE: {"a": "1"}}
        assert ledger.step_runs("r") == steps[:1]
        assert ledger.makers(later.outputs[0].digest) == []

    def test_last_writer_wins(self, ledger: Ledger) -> None:
        """Runs, decisions on steps and sources are replaced."""
        one, two = make_result("one"), make_result("two")
        for number, result in enumerate((one, two)):
            ledger.commit(
                Group(
                    runs=[Run("r", "churn", "run", ("running", "done")[number], 1.0, (None, 2.0)[number])],
                    decided=[("churn", make_decided(result, "s"))],
                    sources=[SourceStat("f", (number, 2, 3), result.recipe)],
                )
            )
        assert [(run.state, run.ended) for run in ledger.runs()] == [("done", 2.0)]
        assert ledger.decided("churn") == {"s": make_decided(two, "s")}
        assert ledger.sources(["f"])["f"].digest == two.recipe

    def test_an_inline_value_is_not_lost(self, ledger: Ledger) -> None:
        """Known first as an object, then inline: the text is what may be read now."""
        bare = make_result("v")
        inline = Result(digest_recipe(CODE, ["w"], None), CODE, ["w"], None, (make_artifact("v", inline=True),))
        ledger.commit(Group(results=[bare]))
        ledger.commit(Group(results=[inline]))
        assert ledger.results([inline.recipe])[inline.recipe].outputs == inline.outputs

    def test_refs_and_many_outputs_keep_their_order(self, ledger: Ledger) -> None:
        """Outputs come back in the order of the node's outputs."""
        outputs = tuple(
            Artifact(digest_bytes(b"%d" % number), "bundle", number, None, (CODE, digest_bytes(b"file")))
            for number in (3, 1, 2)
        )
        result = Result(digest_recipe(CODE, 1, CODE), CODE, 1, CODE, outputs)
        ledger.commit(Group(results=[result]))
        assert ledger.results([result.recipe]) == {result.recipe: result}

    def test_lineage(self, ledger: Ledger) -> None:
        """Backwards to the makers of a digest, forwards to its users."""
        raw, clean = make_result("raw"), make_result("clean", make_result("raw").outputs)
        left, right = (make_result(name, clean.outputs) for name in ("left", "right"))
        ledger.commit(Group(results=[raw, clean, left, right]))
        assert ledger.makers(clean.outputs[0].digest) == [clean]
        assert ledger.users(raw.outputs[0].digest) == [clean]
        assert {one.recipe for one in ledger.users(clean.outputs[0].digest)} == {left.recipe, right.recipe}

    def test_runs_newest_first(self, ledger: Ledger) -> None:
        """By flow, by the beginning of an id, limited; % and _ mean themselves."""
        runs = [Run(f"{number:x}" * 16, ("a", "b")[number % 2], "run", "done", float(number)) for number in range(10)]
        ledger.commit(Group(runs=runs))
        assert [run.started for run in ledger.runs(limit=3)] == [9.0, 8.0, 7.0]
        assert [run.started for run in ledger.runs(flow="a")] == [8.0, 6.0, 4.0, 2.0, 0.0]
        assert [run.id for run in ledger.runs(prefix="33")] == ["3" * 16]
        assert ledger.runs(prefix="%") == ledger.runs(prefix="_") == []

    def test_many_keys_at_once(self, ledger: Ledger) -> None:
        """Thousands of recipes in one question."""
        results = [make_result(f"n{number}") for number in range(2_500)]
        ledger.commit(Group(results=results))
        assert ledger.results([one.recipe for one in results]) == {one.recipe: one for one in results}

    # ── decisions ────────────────────────────────────────────────────────────────────────────────────────────

    def test_entries_come_back(self, ledger: Ledger) -> None:
        """In order, with the clock's time where none was given."""
        given = Entry("churn/version", 1, {"artifacts": {"model": CODE}, "n": 1.5}, 5.0, "me@here", "first \udcff")
        [recorded] = ledger.append([given])
        assert recorded == given
        [later] = ledger.append([Entry("churn/version", 2, {})])
        assert later.at == 1000.0
        assert ledger.stream("churn/version") == [given, later]
        assert ledger.stream("churn/version", after=1) == [later]
        assert ledger.stream("churn/version", after=2) == []

    def test_streams_by_prefix(self, ledger: Ledger) -> None:
        """Names and heads."""
        ledger.append([Entry("churn/version", 1, {}), Entry("churn/version", 2, {}), Entry("churn/look", 1, {})])
        ledger.append([Entry("churn_2/version", 1, {}), Entry("ärger/version", 1, {})])
        assert ledger.streams("churn/") == {"churn/look": 1, "churn/version": 2}
        assert ledger.streams() == {"churn/look": 1, "churn/version": 2, "churn_2/version": 1, "ärger/version": 1}
        assert ledger.streams("none") == {}

    @pytest.mark.parametrize("number", [0, 1, 3, -1])
    def test_only_the_next_number_fits(self, ledger: Ledger, number: int) -> None:
        """Compare-and-swap: no gap, no second entry of one number."""
        [head] = ledger.append([Entry("churn/alias/champion", 1, {"version": 1, "previous": None})])
        with pytest.raises(ConflictError) as caught:
            ledger.append([Entry("churn/alias/champion", number, {"version": 2, "previous": 1})])
        assert caught.value.facts["head"] == head
        assert ledger.stream("churn/alias/champion") == [head]

    def test_conflict_on_an_empty_stream_has_no_head(self, ledger: Ledger) -> None:
        """Nothing is there to be named."""
        with pytest.raises(ConflictError) as caught:
            ledger.append([Entry("churn/version", 2, {})])
        assert caught.value.facts["head"] is None

    def test_append_is_all_or_nothing(self, ledger: Ledger) -> None:
        """A promotion and its deployment are one decision."""
        with pytest.raises(ConflictError):
            ledger.append([Entry("a/alias/x", 1, {}), Entry("a/deployment", 2, {})])
        assert ledger.streams() == {}

    def test_a_repeated_key_gives_the_first_answer(self, ledger: Ledger) -> None:
        """Asked again after an unknown outcome, nothing is written twice."""
        entries = [Entry("a/version", 1, {"x": 1}), Entry("a/look", 1, {})]
        first = ledger.append(entries, key="k1")
        ledger.append([Entry("a/version", 2, {})])
        again = [Entry("a/version", 1, {"x": 1}, at=77.0, who="later"), Entry("a/look", 1, {})]
        assert ledger.append(again, key="k1") == first
        assert ledger.streams() == {"a/look": 1, "a/version": 2}

    def test_a_key_is_for_one_request(self, ledger: Ledger) -> None:
        """The same key with other entries is refused."""
        ledger.append([Entry("a/version", 1, {"x": 1})], key="k1")
        with pytest.raises(ConflictError):
            ledger.append([Entry("a/version", 2, {"x": 2})], key="k1")
        assert ledger.streams() == {"a/version": 1}

    def test_a_refused_append_does_not_use_up_its_key(self, ledger: Ledger) -> None:
        """After a conflict the caller may decide again under the same key."""
        with pytest.raises(ConflictError):
            ledger.append([Entry("a/version", 2, {})], key="k1")
        assert len(ledger.append([Entry("a/version", 1, {})], key="k1")) == 1

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes"])
    def test_a_decision_is_plain_json(self, ledger: Ledger, value: Any) -> None:
        """NaN and Python's own types are refused, and nothing is written."""
        with pytest.raises(UsageError):
            ledger.append([Entry("a/verdict", 1, {"metric": value})])
        assert ledger.streams() == {}

    def test_one_of_two_wins(self, ledger: Ledger) -> None:
        """Eight threads race for ten numbers: each number once, gapless, every loser told."""
        outcomes: Counter[str] = Counter()
        guard = threading.Lock()

        def race(name: str) -> None:
            for number in range(1, 11):
                try:
                    ledger.append([Entry("a/version", number, {"by": name})])
                    outcome = "won"
                except ConflictError:
                    outcome = "lost"
                with guard:
                    outcomes[outcome] += 1

        threads = [threading.Thread(target=race, args=(str(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        entries = ledger.stream("a/version")
        assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
        assert outcomes["won"] == len(entries)
        assert outcomes.total() == 80

    def test_close_twice(self, ledger: Ledger) -> None:
        """Closing is final and harmless."""
        ledger.close()
        ledger.close()
