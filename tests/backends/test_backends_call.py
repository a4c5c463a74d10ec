"""Starting the worker and believing its answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.backends.call import call
from penstock.backends.compiled import compiled
from penstock.errors import UsageError

SAYS = "import json, os, sys; json.dump({answer}, open(os.environ['PENSTOCK_RESULT'], 'w')); sys.exit({code})"
FLOW = """
import penstock as ps

@ps.step
def first(n: int, loud: bool):
    print("hello from the step")
    return n

@ps.step
def second(n):
    return n + 1

flow = ps.Flow(second(first(ps.Param("n", 1), ps.Param("loud", False))), name="small")
"""


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


@pytest.mark.parametrize(
    ("answer", "code", "state", "retriable"),
    [
        ({"state": "done"}, 0, "done", False),
        ({"state": "reused"}, 0, "reused", False),
        ({"state": "skipped"}, 99, "skipped", False),
        ({"state": "failed"}, 0, "failed", True),
        ({"state": "done"}, 99, "failed", True),
        ({"state": "failed", "retriable": False}, 5, "failed", False),
        ({"state": "failed", "retriable": True}, 1, "failed", True),
        ({"state": "cancelled"}, 143, "cancelled", False),
        ({"state": "failed", "retriable": True}, 2, "failed", False),
        ({"state": "cancelled"}, 0, "failed", True),
        ({"state": "failed", "steps": ["no", "answer"]}, 5, "failed", True),
        ({"state": "done", "steps": {"a": {"outputs": {"": "ab12"}}}}, 0, "failed", True),
        ({"state": "done", "error": "a text"}, 0, "failed", True),
        ({"state": ["done"]}, 0, "failed", True),
    ],
)
def test_a_code_counts_when_the_answer_says_the_same(answer: dict, code: int, state: str, retriable: bool) -> None:
    told = call(python(SAYS.format(answer=answer, code=code)))
    assert (told.code, told.state, told.retriable) == (code, state, retriable)


@pytest.mark.parametrize("code", [0, 99, -9])
def test_a_process_that_says_nothing_has_failed_and_may_be_tried_again(code: int) -> None:
    end = f"import os; os._exit({code})" if code >= 0 else "import os; os.kill(os.getpid(), 9)"
    told = call(python(end))
    assert (told.code, told.state, told.retriable) == (code, "failed", True)
    assert "no answer" in told.reason


@pytest.mark.parametrize("code", [2, 3, 6])
def test_what_no_try_mends_is_final_without_an_answer_too(code: int) -> None:
    told = call(python(f"import sys; sys.exit({code})"))
    assert (told.code, told.state, told.retriable) == (code, "failed", False)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"state": "done"', "[1]", "null", '"done"', "\x00" * 9])
def test_a_file_that_holds_no_answer_is_none(text: str) -> None:
    told = call(python(f"import os; open(os.environ['PENSTOCK_RESULT'], 'w').write({text!r})"))
    assert (told.state, told.retriable, dict(told.answer)) == ("failed", True, {})


def test_an_answer_without_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.backends.call.MOST_ANSWER", 100)
    told = call(python(SAYS.format(answer={"state": "done", "reason": "x" * 200}, code=0)))
    assert (told.state, dict(told.answer)) == ("failed", {})


def test_a_program_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    told = call([str(tmp_path / "python"), "-P"])
    assert (told.state, told.retriable, told.answer["error"]["error"]) == ("failed", False, "UsageError")
    assert "does not start: No such file" in told.reason
    assert "--python" in told.answer["error"]["hint"]


def test_a_refusal_is_no_failure() -> None:
    told = call(python(SAYS.format(answer={"state": "done", "passed": False, "reason": "worse"}, code=0)))
    assert (told.state, told.refused, told.reason) == ("done", True, "worse")


def test_lines_of_the_log_come_while_they_are_written() -> None:
    seen: list[tuple[str, float]] = []
    text = "import sys, time; print('one', file=sys.stderr, flush=True); time.sleep(1.5); print('two', file=sys.stderr)"
    call(python(text), echo=lambda line: seen.append((line, time.monotonic())))
    assert [line for line, _ in seen] == ["one", "two"]
    assert seen[1][1] - seen[0][1] > 1.0


def test_a_log_that_is_not_taken_does_not_end_the_worker() -> None:
    def full(line: str) -> None:
        raise RuntimeError(f"the database of events is locked: {line}")

    text = f"import sys; [print('line', file=sys.stderr, flush=True) for _ in range(9)]; {SAYS}"
    assert call(python(text.format(answer={"state": "done"}, code=0)), echo=full).state == "done"


def test_a_limit_ends_the_worker_and_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    text = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"open({str(mark)!r}, 'w').write(str(p.pid)); time.sleep(600)"
    )
    told = call(python(text), timeout_s=3.0)
    assert (told.state, told.retriable, told.answer["error"]["error"]) == ("failed", True, "StepTimeoutError")
    assert "after 3 s" in told.reason
    child = int(mark.read_text())
    end = time.monotonic() + 10
    while _runs(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(child)


HANDLES = """
import json, os, signal, sys, time
def stop(*_):
    json.dump({answer}, open(os.environ["PENSTOCK_RESULT"], "w"))
    os._exit({code})
signal.signal(signal.SIGTERM, stop)
{before}
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("answer", "code", "state", "error"),
    [
        ({"state": "cancelled", "retriable": False, "run": "ab"}, 143, "failed", "StepTimeoutError"),
        (
            {"state": "failed", "retriable": False, "error": {"error": "DataError", "what": "x"}},
            3,
            "failed",
            "DataError",
        ),
        ({"state": "done"}, 0, "done", None),
    ],
)
def test_a_worker_over_its_time_has_failed_whatever_it_calls_itself(
    answer: dict, code: int, state: str, error: str | None
) -> None:
    told = call(python(HANDLES.format(answer=answer, code=code, before="")), timeout_s=3.0)
    assert told.state == state
    assert (told.answer.get("error") or {}).get("error") == error
    assert told.retriable is (error == "StepTimeoutError")
    assert told.answer.get("run") == answer.get("run")


def test_a_worker_that_nobody_wants_was_cancelled_whatever_it_calls_itself(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    text = HANDLES.format(
        answer={"state": "failed", "retriable": True}, code=5, before=f"open({str(begun)!r}, 'w').close()"
    )
    told = call(python(text), unwanted=begun.exists)
    assert (told.state, told.retriable) == ("cancelled", False)


@pytest.mark.parametrize("unwanted", [True, False])
def test_a_worker_that_nobody_wants_any_more_is_ended(tmp_path: Path, unwanted: bool) -> None:
    begun = tmp_path / "begun"
    text = f"open({str(begun)!r}, 'w').close(); import time; time.sleep({600 if unwanted else 0.5})"
    told = call(python(text), unwanted=lambda: unwanted and begun.exists())
    assert (told.code, told.state) == ((-15, "cancelled") if unwanted else (0, "failed"))


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_what_a_flow_is_compiled_to_runs(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(FLOW)
    flow = compiled(str(tmp_path / "flows.py"), group="step", params={"n": 4})
    assert [task.steps for task in flow.tasks] == [("first",), ("second",)]
    lines: list[str] = []
    for task in flow.tasks:
        told = call(flow.command(task.steps, "test", "r 1", {"loud": True}), echo=lines.append)
        assert told.state == "done", told.reason
    assert "hello from the step" in lines
    assert flow.home.ledger.runs()[0].info["params"] == {"n": 4, "loud": True}


def test_what_no_file_declares_cannot_run_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import penstock as ps

    monkeypatch.chdir(tmp_path)
    (tmp_path / "penstock.toml").write_text("")

    @ps.step
    def here(n: int) -> int:
        return n

    with pytest.raises(UsageError, match="only this process holds it"):
        compiled(ps.Flow(here.ref(1), name="held"))
    assert os.environ.get("PENSTOCK_ENV") is None


SLEEPS = """
import os, time
import penstock as ps

@ps.step
def slow(mark: str):
    with open(mark + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(file.name, mark)
    time.sleep(600)

flow = ps.Flow(slow(ps.Param("mark", "")), name="sleeps")
"""


def test_a_worker_and_its_step_end_when_who_called_them_is_killed(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(SLEEPS)
    mark = tmp_path / "pid"
    command = compiled(str(tmp_path / "flows.py"), params={"mark": str(mark)}).command(["slow"], "test", "r")
    caller = subprocess.Popen(python(f"from penstock.backends.call import call; call({command!r})"))
    end = time.monotonic() + 120
    while not mark.exists() and time.monotonic() < end:
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    while _runs(int(mark.read_text())) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(int(mark.read_text()))
