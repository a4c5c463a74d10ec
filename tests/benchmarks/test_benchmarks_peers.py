"""The comparison with other systems: who is missing is named, whose answer differs is refused, what is counted is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICE = """
import os, subprocess, sys, tempfile
from pathlib import Path
from benchmarks.measure import adopt_orphans, cpu_s, resident, used_s
adopt_orphans()
BURN = "import time\\nwhile time.process_time() < 0.3: pass"
WORK = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); print(1, flush=True); input()"
service = subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
service.stdout.readline()
with tempfile.TemporaryDirectory() as folder:
    seen = []
    spent = cpu_s([sys.executable, "-c", "import time; time.sleep(0.3)"], Path(folder), beside=[service.pid],
                  watch=lambda pid: seen.extend(resident(pid)))
print(service.poll(), spent < 0.3, used_s(service.pid) >= 0.3, max(seen) > 1 << 20)
service.communicate(b"\\n")
"""


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def options(tmp_path):
    from benchmarks.orchestration import Options

    return Options(tmp_path, 2, 50)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has subreapers and /proc")
def test_a_service_lives_on_and_its_time_is_its_own():
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", SERVICE]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == ["None", "True", "True", "True"], done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has /proc")
def test_what_does_not_end_in_time_is_ended_with_its_children(tmp_path, monkeypatch):
    from benchmarks import measure

    monkeypatch.setattr(measure, "TIMEOUT_S", 1)
    sleep = "import subprocess; p = subprocess.Popen(['sleep', '100']); print(p.pid, flush=True); p.wait()"
    with pytest.raises(RuntimeError, match="no end within 1 s") as raised:
        measure.cpu_s([sys.executable, "-c", sleep], tmp_path)
    child = int(str(raised.value).split()[-1])
    end = time.monotonic() + 60
    while _lives(child):  # it was told to end, and ends in its own time
        assert time.monotonic() < end
        time.sleep(0.01)


def _lives(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("peer", ["dagster", "prefect", "airflow"])
@pytest.mark.parametrize(("kind", "functions"), [
    ("ten", {"made", "moved"}), ("kept", {"made", "moved"}), ("fan", {"made", "total", "joined"}),
    ("sklearn", {"read", "split", "fit", "score"}),
])  # fmt: skip
def test_each_peer_is_given_the_same_functions(peer, kind, functions):
    from benchmarks import orchestration_natives as natives

    text = getattr(natives, peer)(kind, 50, 10)
    compile(text, f"{peer}.py", "exec")
    assert {name for name in functions | {"made", "moved", "total", "joined"} if f"def {name}(" in text} == functions
    assert "{" not in text.replace('f"c{i}"', "").replace("_{by}", "").replace("={", "") or kind == "sklearn"
    assert kind == "sklearn" or ("50, 10" in text or "size=(50, 10)" in text)


def test_lines_are_those_that_hold_something():
    from benchmarks import orchestration_natives as natives

    assert natives.lines("a\n\n   \n    b\n") == 2


def runner(folder: Path, code: str, turns: int):
    from benchmarks.measure import Contender
    from benchmarks.orchestration_peers import Runner

    folder.mkdir()
    return Runner(Contender([sys.executable, "-S", "-c", code], folder), turns, 1)


def test_the_first_turn_is_watched_and_the_others_are_timed(options, tmp_path):
    from benchmarks.orchestration_peers import Peers

    runners = {
        "bare": runner(tmp_path / "a", "print(3)", 2),
        "airflow": runner(tmp_path / "b", "import time; time.sleep(0.2); print('it is 4.25')", 1),
    }
    spent = Peers(options, [], 1).in_turns(runners, "4.25")
    assert [len(spent[who].own) for who in runners] == [2, 1]
    assert spent["airflow"].both == spent["airflow"].own
    if sys.platform.startswith("linux"):
        assert spent["airflow"].together >= spent["airflow"].largest > 1 << 20


def test_another_answer_than_the_scripts_is_refused(options, tmp_path):
    from benchmarks.orchestration_peers import Peers

    runners = {"dagster": runner(tmp_path / "a", "print('it is 4.5')", 1)}
    with pytest.raises(AssertionError, match=r"dagster did not come to 4\.25: it is 4\.5"):
        Peers(options, [], 1).in_turns(runners, "4.25")


def test_a_peer_with_fewer_turns_is_compared_with_those():
    from benchmarks.orchestration_peers import row

    told = row("airflow", [8.0], [2.0, 1.0, 4.0], "1 / 2", "17")
    assert told == "| Airflow, `dags test` | 8.00 s | **4.0×** | 4.0 – 4.0 | 1 / 2 | 17 |"


def test_a_step_is_the_difference_of_two_chains(options, monkeypatch):
    from benchmarks import orchestration_peers as peers

    class Chains(peers.Peers):
        def in_turns(self, runners, answer=""):
            cost = {"bare 2": 1.0, "bare 0": 1.5, "ours 2": 2.0, "ours 0": 3.0}
            assert list(runners) == ["bare 2", "ours 2", "bare 0", "ours 0"]
            return {who: peers.Spent([cost[who]] * 2, [0.0] * 2) for who in runners}

    lines = peers.warm(Chains(options, [], 1)).splitlines()
    assert lines[2:] == ["| bare script | 5.00 ms | **1.0×** |  |", "| Penstock | 10.00 ms | **2.0×** | 2.0 – 2.0 |"]


def test_who_is_not_there_is_named_and_the_others_are_compared(options, monkeypatch, capsys):
    from benchmarks import orchestration_peers as peers

    monkeypatch.setattr(peers, "ROOT", options.folder)
    peers.compare(replace(options, repeat=1), ["dagster"], ["fan"], 1)
    out, err = capsys.readouterr()
    assert "NOT MEASURED: dagster" in err
    rows = [line for line in out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in rows] == ["| a fan of 100 steps, 50 × 10", "| bare script", "| Penstock"]
    assert len({line.count("|") for line in rows}) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has subreapers and /proc")
def test_a_child_that_was_there_before_is_not_waited_for(tmp_path):
    from benchmarks import measure

    other = subprocess.Popen(["sleep", "100"])
    try:
        measure.cpu_s([sys.executable, "-S", "-c", "print(1)"], tmp_path)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
