"""The same work in Dagster, Prefect and Airflow: whole commands and a warm step, all taking turns with the bare script.

Called by `python -m benchmarks.orchestration --peers`. Each peer runs by the Python of its own environment; one whose
environment is not there is named as not measured. The turn that is not timed tells the memory, and whether the peer
comes to the script's own answer.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from benchmarks import orchestration_natives as natives
from benchmarks import orchestration_work as work
from benchmarks.measure import ROOT, Contender, children, cpu_s, environment, ratio, resident, span, used_s
from benchmarks.orchestration import Options, from_nothing, python

NAMES = {"dagster": "dagster", "prefect": "prefect", "airflow": "airflow-peer"}
"""Peers, with the name of the environment that holds each beside numpy, pandas and scikit-learn."""
KINDS = {
    "ten": "10 steps in a row, {rows:,} × 10",
    "fan": "a fan of 100 steps, {rows:,} × 10",
    "sklearn": "a small scikit-learn pipeline",
    "warm": "one more warm step, its frame kept, {rows:,} × 10",
}
FEW = 2
MANY = {"bare": 102, "ours": 102, "dagster": 52, "server": 52, "airflow": 12}
"""Steps of the long chain, by who runs it: fewer where a step costs more."""
HOW = {
    "bare": "bare script",
    "ours": "Penstock",
    "dagster": "Dagster, in process",
    "prefect": "Prefect, ephemeral",
    "server": "Prefect, a server up",
    "served": "the same with the server's own work",
    "airflow": "Airflow, `dags test`",
}
PATIENCE = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180", "PREFECT_API_REQUEST_TIMEOUT": "120"}
SETTLE_S = 1.0


def python_of(peer: str) -> Path:
    """The Python of a peer's environment."""
    return ROOT / f".venv-{NAMES[peer]}" / "bin" / "python"


def present(peers: Sequence[str]) -> list[str]:
    """The peers whose environments are there; the others are named, loudly."""
    found = [peer for peer in peers if python_of(peer).exists()]
    for peer in set(peers) - set(found):
        print(f"NOT MEASURED: {peer}, for .venv-{NAMES[peer]} is not there: make peers", file=sys.stderr, flush=True)
    return found


def version(peer: str) -> str:
    """Name and version of a peer."""
    package = "apache-airflow" if peer == "airflow" else peer
    code = f"import importlib.metadata as m; print({package!r}, m.version({package!r}))"
    return subprocess.check_output([str(python_of(peer)), "-c", code], text=True, env=environment()).strip()


@dataclass(frozen=True)
class Runner:
    """Who runs a kind of work: by which command, how often it is timed, which service helps, how many lines it took."""

    contender: Contender
    turns: int
    lines: int
    service: int | None = None


@dataclass
class Spent:
    """What somebody's runs cost: CPU seconds of each, and of the service meanwhile; resident bytes at their peak.

    `largest` is that of one process, `together` the plain sum of all, the service's included.
    """

    own: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    largest: int = 0
    together: int = 0

    @property
    def both(self) -> list[float]:
        """CPU seconds of the command and of the service."""
        return [a + b for a, b in zip(self.own, self.served, strict=True)]


class Peers:
    """The peers of one comparison: their services, and the commands that do a kind of work."""

    def __init__(self, options: Options, peers: Sequence[str], airflow_turns: int) -> None:
        self.options = options
        self.peers = peers
        self.airflow_turns = airflow_turns
        self.env = {"DO_NOT_TRACK": "1", "DAGSTER_DISABLE_TELEMETRY": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        self.server: int | None = None
        self._server_env: dict[str, str] = {}

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Prefect's server runs, and Airflow's database is made."""
        with contextlib.ExitStack() as stack:
            if "airflow" in self.peers:
                home = self._airflow_env(self.options.project("airflow", {}))
                subprocess.run([self._python("airflow"), "-m", "airflow", "db", "migrate"], check=True,
                               env=environment() | home, capture_output=True)  # fmt: skip
            if "prefect" in self.peers:
                from tests.backends.engines.prefect import Prefect

                prefect = Prefect()
                stack.callback(prefect.close)
                (self.server,) = children(os.getpid())
                self._server_env = {"PREFECT_API_URL": prefect.url}
            yield

    def _python(self, peer: str) -> str:
        return str(python_of(peer))

    def _airflow_env(self, home: Path) -> dict[str, str]:
        settings = {"CORE__LOAD_EXAMPLES": "False", "CORE__DAGS_FOLDER": str(home / "dags")}
        return self.env | {"AIRFLOW_HOME": str(home)} | {f"AIRFLOW__{name}": text for name, text in settings.items()}

    def runners(self, kind: str, steps: Mapping[str, int] | int) -> dict[str, Runner]:
        """Everybody, the bare script first, each in a folder of its own."""
        found = {"bare": self._of_ours("bare", kind, steps), "ours": self._of_ours("ours", kind, steps)}
        for peer in self.peers:
            for who in {"prefect": ("prefect", "server")}.get(peer, (peer,)):
                if kind != "kept" or who in MANY:
                    found[who] = self._of_peer(peer, who, kind, steps)
        return found

    def _folder(self, who: str, kind: str, steps: int, files: dict[str, str]) -> Path:
        files = files | ({"customers.csv": work.customers()} if kind == "sklearn" else {})
        return self.options.project(f"{kind}-{steps}-{who}", files)

    def _of_ours(self, who: str, kind: str, steps: Mapping[str, int] | int) -> Runner:
        number = steps if isinstance(steps, int) else steps[who]
        text = (bare if who == "bare" else ours)(kind, self.options.rows, number)
        folder = self._folder(who, kind, number, {"flow.py": text})
        contender = Contender(python("flow.py"), folder) if who == "bare" else from_nothing(folder)
        return Runner(contender, self.options.repeat, natives.lines(text))

    def _of_peer(self, peer: str, who: str, kind: str, steps: Mapping[str, int] | int) -> Runner:
        number = steps if isinstance(steps, int) else steps[who]
        text = getattr(natives, peer)(kind, self.options.rows, number)
        folder = self._folder(who, kind, number, {"flow.py": text})
        runner = Runner(Contender([self._python(peer), "flow.py"], folder, env=self.env), self.options.repeat,
                        natives.lines(text))  # fmt: skip
        if peer == "airflow":
            (folder / "dags").mkdir()
            (folder / "flow.py").rename(folder / "dags" / "flow.py")
            shutil.copy(self.options.folder / "airflow" / "airflow.db", folder)
            command = [self._python(peer), "-m", "airflow", "dags", "test", "flow"]
            return replace(runner, contender=Contender(command, folder, env=self._airflow_env(folder)),
                           turns=self.airflow_turns)  # fmt: skip
        if peer == "prefect":
            env = self.env | PATIENCE | {"PREFECT_HOME": str(folder / "home")}
            env |= self._server_env if who == "server" else {}
            contender = replace(runner.contender, env=env)
            return replace(runner, contender=contender, service=self.server if who == "server" else None)
        return runner

    def in_turns(self, runners: Mapping[str, Runner], answer: str = "") -> dict[str, Spent]:
        """What everybody spent, taken in turns and in changing order; the first turn is watched instead of timed.

        Raises
        ------
        AssertionError
            A peer did not come to the script's answer.
        """
        spent = {who: Spent() for who in runners}
        for turn in range(max(runner.turns for runner in runners.values()) + 1):
            for who in list(runners) if turn % 2 else list(runners)[::-1]:
                if turn <= runners[who].turns:
                    self._once(who, runners[who], spent[who], timed=turn > 0, answer=answer)
        return spent

    def _once(self, who: str, runner: Runner, spent: Spent, *, timed: bool, answer: str) -> None:
        contender, service = runner.contender, runner.service

        def watch(pid: int) -> None:
            each = resident(pid) + (resident(service) if service else [])
            spent.largest, spent.together = max([spent.largest, *each]), max(spent.together, sum(each))

        contender.prepare()
        before = used_s(service) if service else 0.0
        own = cpu_s(
            contender.command,
            contender.folder,
            contender.env,
            beside=[self.server] if self.server else [],
            watch=None if timed else watch,
        )
        if service:
            time.sleep(SETTLE_S)  # what the client left to do
        if timed:
            spent.own.append(own)
            spent.served.append(used_s(service) - before if service else 0.0)
        elif who not in ("bare", "ours"):
            told = (contender.folder / "output.txt").read_text(errors="replace")
            assert answer in told, f"{who} did not come to {answer}: {told[-2000:]}"


def bare(kind: str, rows: int, steps: int) -> str:
    """The script that everybody is compared with."""
    if kind == "sklearn":
        return work.sklearn_bare()
    return work.frames_bare({"fan": work.FAN, "kept": work.KEPT}.get(kind, work.LINEAR), rows, steps)


def ours(kind: str, rows: int, steps: int) -> str:
    """The same as a flow of ours."""
    return work.sklearn_flow() if kind == "sklearn" else work.frames_flow(
        work.FAN if kind == "fan" else work.LINEAR, rows, steps
    )  # fmt: skip


def answer_of(kind: str, runner: Runner) -> str:
    """The number that the bare script comes to; empty where it comes to a frame."""
    folder = runner.contender.folder
    if kind == "fan":
        (folder / "answer.py").write_text((folder / "flow.py").read_text() + "print(last)\n")
        return subprocess.check_output(python("answer.py"), cwd=folder, text=True, env=environment()).strip()
    if kind == "sklearn":
        return subprocess.check_output(python("flow.py"), cwd=folder, text=True, env=environment()).strip()
    return ""


def commands(peers: Peers, kind: str) -> str:
    """The table of whole commands that do one kind of work."""
    runners = peers.runners(kind, {"ten": 10, "fan": 100, "sklearn": 4}[kind])
    spent = peers.in_turns(runners, answer_of(kind, runners["bare"]))
    title = KINDS[kind].format(rows=peers.options.rows)
    lines = [
        f"| {title} | CPU | beside the script | from – to | peak MiB, one / all | lines |",
        "|---|---|---|---|---|---|",
    ]
    base = spent["bare"].own
    for who, cost in spent.items():
        memory = f"{cost.largest >> 20} / {cost.together >> 20}"
        lines.append(row(who, cost.own, base, memory, str(runners[who].lines)))
        if runners[who].service:
            lines.append(row("served", cost.both, base, "", ""))
    return "\n".join(lines)


def row(who: str, seconds: Sequence[float], base: Sequence[float], *more: str, unit: str = " s") -> str:
    """One contender's row."""
    low, high = span(seconds, base[: len(seconds)])
    cells = [HOW[who], f"{median(seconds):.2f}{unit}", f"**{ratio(seconds, base):.1f}×**"]
    cells += ["" if who == "bare" else f"{low:.1f} – {high:.1f}", *more]
    return f"| {' | '.join(cells)} |"


def warm(peers: Peers) -> str:
    """The table of what one more step costs: the difference of a long chain and a short one, by its steps."""
    chains = {FEW: peers.runners("kept", FEW), 0: peers.runners("kept", MANY)}
    runners = {(who, few): runner for few, each in chains.items() for who, runner in each.items()}
    named = {f"{who} {few}": runner for (who, few), runner in runners.items()}
    spent = peers.in_turns(named)
    title = KINDS["warm"].format(rows=peers.options.rows)
    lines = [f"| {title} | CPU a step | beside Parquet | from – to |", "|---|---|---|---|"]

    def a_step(who: str, what: str) -> list[float]:
        few, many = (getattr(spent[f"{who} {length}"], what) for length in (FEW, 0))
        return [(b - a) / (MANY[who] - FEW) * 1e3 for a, b in zip(few, many, strict=True)]

    base = a_step("bare", "own")
    for who in chains[FEW]:
        lines.append(row(who, a_step(who, "own"), base, unit=" ms"))
        if named[f"{who} {FEW}"].service:
            lines.append(row("served", a_step(who, "both"), base, unit=" ms"))
    return "\n".join(lines)


def compare(options: Options, peers: Sequence[str], kinds: Sequence[str], airflow_turns: int) -> None:
    """Measure and print a table for each kind of work."""
    found = present(peers)
    print(", ".join(map(version, found)), end="\n\n", flush=True)
    together = Peers(options, found, airflow_turns)
    with together.started():
        for kind in kinds:
            print(warm(together) if kind == "warm" else commands(together, kind), end="\n\n", flush=True)
            load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
            print(f"Load {load}.\n", flush=True)
