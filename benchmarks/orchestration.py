"""What Penstock costs beside the bare script: every figure on orchestration, in one run, on this machine.

    python -m benchmarks.orchestration [--only ten fan …] [--repeat 5] [--rows 1000]
    python -m benchmarks.orchestration --peers [dagster prefect airflow] [--only ten fan sklearn warm]

Each kind of work exists twice, as a plain script and as the same functions in a flow; `python script.py` and
`python -m penstock run flow.py` alternate, with byte code on and threads pinned to one for both. What counts is CPU
seconds, user and system, of the process and all its descendants: wall times on a shared machine move by a factor of
two or three. "From – to" are the ratios of neighbouring runs.

With `--peers` the same work, written natively for each, is done by them too: `make peers` makes their environments.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import orchestration_work as work
from benchmarks.measure import Contender, adopt_orphans, alternate, ratio, span

TINY_STEPS = 10_000
FEW_TINY = 1_000
PEERS = ("dagster", "prefect", "airflow")
HEADER = "| work | bare | ours | figure | from – to | goal | |\n|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Line:
    """One line of the table: what it cost, the figure with its range, the goal, and whether it is reached."""

    work: str
    bare: str
    ours: str
    figure: float
    low: float
    high: float
    goal: float
    unit: str = "×"

    def __str__(self) -> str:
        said = "reached" if self.figure <= self.goal else "**short**"
        digits = 3 if self.unit == " s" else 2
        figure, low, high = (f"{value:.{digits}f}" for value in (self.figure, self.low, self.high))
        cells = [self.work, self.bare, self.ours, f"**{figure}{self.unit}**", f"{low} – {high}"]
        return f"| {' | '.join([*cells, f'≤ {self.goal:g}{self.unit}', said])} |"


@dataclass(frozen=True)
class Options:
    """Where projects are made, how many times each command runs, how many rows small frames have."""

    folder: Path
    repeat: int
    rows: int

    @property
    def turns(self) -> int:
        """Turns of short commands: nine, unless fewer than five were asked for, which is a trial."""
        return max(self.repeat, 9) if self.repeat >= 5 else self.repeat

    def project(self, name: str, files: dict[str, str]) -> Path:
        """A folder that holds files and is a project of its own."""
        folder = self.folder / name
        (folder / ".penstock").mkdir(parents=True)
        for file, text in files.items():
            (folder / file).write_text(text)
        return folder


def python(*words: str) -> list[str]:
    """A command line of this Python."""
    return [sys.executable, *words]


def penstock(*words: str) -> list[str]:
    """A command line of Penstock's."""
    return python("-m", "penstock", *words)


def emptied(folder: Path) -> Callable[[], None]:
    """What empties a project's store, byte code of the user's file included."""

    def prepare() -> None:
        shutil.rmtree(folder / ".penstock", ignore_errors=True)
        (folder / ".penstock").mkdir()

    return prepare


def from_nothing(folder: Path, file: str = "flow.py") -> Contender:
    """A run that finds an empty store."""
    return Contender(penstock("run", file), folder, emptied(folder))


def compare(title: str, bare: Contender, ours: Contender, repeat: int, goal: float) -> Line:
    """Two whole commands side by side."""
    spent = alternate({"bare": bare, "ours": ours}, repeat)
    low, high = span(spent["ours"], spent["bare"])
    figure = ratio(spent["ours"], spent["bare"])
    cells = (f"{median(spent['bare']):.2f} s", f"{median(spent['ours']):.2f} s")
    return Line(title, *cells, figure, low, high, goal)


def ten(options: Options) -> list[Line]:
    """Ten steps, one after another."""
    rows, steps = options.rows, 10
    files = {
        "bare.py": work.frames_bare(work.LINEAR, rows, steps),
        "flow.py": work.frames_flow(work.LINEAR, rows, steps),
    }
    folder = options.project("ten", files)
    bare = Contender(python("bare.py"), folder)
    return [compare(f"10 steps in a row, {rows:,} × 10", bare, from_nothing(folder), options.turns, 1.8)]


def fan(options: Options) -> list[Line]:
    """A hundred steps, 98 of them side by side."""
    rows, steps = options.rows, 100
    files = {"bare.py": work.frames_bare(work.FAN, rows, steps), "flow.py": work.frames_flow(work.FAN, rows, steps)}
    folder = options.project("fan", files)
    bare = Contender(python("bare.py"), folder)
    return [compare(f"a fan of 100 steps, {rows:,} × 10", bare, from_nothing(folder), options.turns, 1.8)]


def _small(options: Options, name: str) -> Path:
    files = {"bare.py": work.sklearn_bare(), "flow.py": work.sklearn_flow(), "customers.csv": work.customers()}
    return options.project(name, files)


def sklearn(options: Options) -> list[Line]:
    """Read, split, fit, score."""
    folder = _small(options, "sklearn")
    bare = Contender(python("bare.py"), folder)
    return [compare("a small scikit-learn pipeline", bare, from_nothing(folder), options.repeat, 1.25)]


def warm(options: Options) -> list[Line]:
    """What one more step costs, its frame kept and read back: the difference of a long chain and a short one."""
    lines = []
    for rows, few, many in ((1_000, 2, 102), (100_000, 2, 22)):
        contenders = {}
        for steps in (few, many):
            files = {
                "bare.py": work.frames_bare(work.KEPT, rows, steps),
                "flow.py": work.frames_flow(work.LINEAR, rows, steps),
            }
            folder = options.project(f"warm-{rows}-{steps}", files)
            contenders[f"bare {steps}"] = Contender(python("bare.py"), folder)
            contenders[f"ours {steps}"] = from_nothing(folder)
        spent = alternate(contenders, options.repeat)
        a_step = {
            who: [(b - a) / (many - few) for a, b in zip(spent[f"{who} {few}"], spent[f"{who} {many}"], strict=True)]
            for who in ("bare", "ours")
        }
        low, high = span(a_step["ours"], a_step["bare"])
        cells = (f"{median(a_step['bare']) * 1e3:.1f} ms", f"{median(a_step['ours']) * 1e3:.1f} ms")
        figure = ratio(a_step["ours"], a_step["bare"])
        lines.append(Line(f"one more warm step, its frame kept, {rows:,} × 10", *cells, figure, low, high, 1.1))
    return lines


def tiny(options: Options) -> list[Line]:
    """Ten thousand tiny steps: what each costs in all, beside the floor, beside a tenth of them, and run again."""
    folder = options.project("floor", {"floor.py": work.floor(TINY_STEPS)})

    def fresh() -> None:
        (folder / "floor.db").unlink(missing_ok=True)

    contenders = {"floor": Contender(python("floor.py"), folder, fresh)}
    shapes = {"fan-in": work.FAN_IN, "chain": work.CHAIN}
    for shape, body in shapes.items():
        for steps in (FEW_TINY, TINY_STEPS):
            place = options.project(f"tiny-{shape}-{steps}", {"tiny_steps.py": work.tiny_flow(body, steps)})
            contenders[f"{shape} {steps}"] = from_nothing(place, "tiny_steps.py")
            if steps == TINY_STEPS:
                contenders[f"{shape} again"] = Contender(penstock("run", "tiny_steps.py"), place)
    spent = _in_order(contenders, options.repeat)
    lines = []
    for shape in shapes:
        lines += _tiny_lines(shape, spent)
    return lines


def mapped(options: Options) -> list[Line]:
    """One step mapped over a hundred, a thousand and ten thousand items; then one item is another."""
    contenders = {}
    command, file = penstock("run", "tiny_steps.py"), "tiny_steps.py"
    for items in (FEW_TINY // 10, FEW_TINY, TINY_STEPS):
        place = options.project(f"mapped-{items}", {file: work.mapped_flow(items)})
        contenders[f"mapped {items}"] = from_nothing(place, file)
    text = work.mapped_flow(TINY_STEPS)
    other = text.replace(f"list(range({TINY_STEPS}))", f"[*range({TINY_STEPS - 1}), -1]")

    def first() -> None:
        emptied(place)()
        (place / file).write_text(text)

    contenders[f"mapped {TINY_STEPS}"] = Contender(command, place, first)
    contenders["mapped again"] = Contender(command, place)
    contenders["mapped other"] = Contender(command, place, lambda: (place / file).write_text(other) and None)
    spent = _in_order(contenders, options.repeat)
    title = f"a step mapped over {TINY_STEPS:,} items"
    lines = [
        told(f"a step mapped over {items:,} items: an item in all", spent[f"mapped {items}"], goal, items)
        for items, goal in ((FEW_TINY // 10, 10.0), (FEW_TINY, 1.0), (TINY_STEPS, 0.5))
    ]
    growth = _growth(spent[f"mapped {FEW_TINY}"], spent[f"mapped {TINY_STEPS}"])
    lines.append(_later(f"{title}: items 1,001 to 10,000 beside all", spent[f"mapped {TINY_STEPS}"], growth))
    lines.append(told(f"{title}: run again, an item", spent["mapped again"], 0.25))
    lines.append(told(f"{title}: run again with one item changed, an item", spent["mapped other"], 0.25))
    return lines


def told(title: str, seconds: Sequence[float], goal: float, steps: int = TINY_STEPS) -> Line:
    """What each of many steps cost, in ms."""
    ms = [second / steps * 1e3 for second in seconds]
    return Line(title, "–", f"{median(seconds):.2f} s", median(ms), min(ms), max(ms), goal, " ms")


def _growth(few: Sequence[float], many: Sequence[float]) -> list[float]:
    """What later steps cost beside all: 1 where every step costs the same, above 1 where later ones cost more.

    The flow of a tenth of the size takes the start of the command off both.
    """
    return [(b - a) / (TINY_STEPS - FEW_TINY) / (b / TINY_STEPS) for a, b in zip(few, many, strict=True)]


def _later(title: str, many: Sequence[float], growth: Sequence[float]) -> Line:
    later = f"{median(growth) * median(many) / TINY_STEPS * 1e3:.3f} ms"
    return Line(title, _ms(many), later, median(growth), min(growth), max(growth), 1.1)


def _in_order(contenders: dict[str, Contender], repeat: int) -> dict[str, list[float]]:
    """As `alternate`, a turn at a time in one order: running again comes after running."""
    turns = [alternate_once(contenders) for _ in range(repeat + 1)][1:]
    return {name: [turn[name] for turn in turns] for name in contenders}


def alternate_once(contenders: dict[str, Contender]) -> dict[str, float]:
    """CPU seconds of each contender, once, in the order given."""
    from benchmarks.measure import cpu_s

    spent = {}
    for name, contender in contenders.items():
        contender.prepare()
        spent[name] = cpu_s(contender.command, contender.folder)
    return spent


def _tiny_lines(shape: str, spent: dict[str, list[float]]) -> list[Line]:
    floor, many, few = spent["floor"], spent[f"{shape} {TINY_STEPS}"], spent[f"{shape} {FEW_TINY}"]
    again = spent[f"{shape} again"]
    title = f"{TINY_STEPS:,} tiny steps, {shape}"
    a_floor = f"{median(floor) / TINY_STEPS * 1e3:.3f} ms"
    beside = span(many, floor)
    return [
        told(f"{title}: a step in all", many, 0.5),
        Line(f"{title}: beside the floor", a_floor, _ms(many), ratio(many, floor), *beside, 10),
        _later(f"{title}: steps 1,001 to 10,000 beside all", many, _growth(few, many)),
        told(f"{title}: run again, a step", again, 0.25),
    ]


def _ms(seconds: Sequence[float]) -> str:
    return f"{median(seconds) / TINY_STEPS * 1e3:.3f} ms"


def again(options: Options) -> list[Line]:
    """Nothing has changed: the whole command beside importing the same file."""
    frames = {"flow.py": work.frames_flow(work.LINEAR, options.rows, 10)}
    kinds = [
        ("numpy and pandas", options.project("again-frames", frames), 1.5),
        ("scikit-learn", _small(options, "again-sklearn"), 1.15),
    ]
    lines = []
    for name, folder, goal in kinds:
        importing = Contender(python("-c", "import flow"), folder)
        title = f"unchanged, run again; the file imports {name}"
        lines.append(compare(title, importing, Contender(penstock("run", "flow.py"), folder), options.turns, goal))
    return lines


def start(options: Options) -> list[Line]:
    """Importing the package, and its help, in seconds."""
    folder = options.project("start", {})
    contenders = {
        "python": Contender(python("-c", "pass"), folder),
        "import penstock": Contender(python("-c", "import penstock"), folder),
        "penstock --help": Contender(penstock("--help"), folder),
    }
    spent = alternate(contenders, options.turns)
    bare = f"{median(spent['python']):.3f} s"
    lines = []
    for name, goal in (("import penstock", 0.05), ("penstock --help", 0.20)):
        each = spent[name]
        text = f"{median(each):.3f} s"
        lines.append(Line(f"`{name}`", bare, text, median(each), min(each), max(each), goal, " s"))
    return lines


ROWS: dict[str, Callable[[Options], list[Line]]] = {
    "ten": ten,
    "fan": fan,
    "sklearn": sklearn,
    "warm": warm,
    "tiny": tiny,
    "mapped": mapped,
    "again": again,
    "start": start,
}
"""Name → what measures it, as `--only` takes them."""


def machine() -> str:
    """When and where this was measured, in one line."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "pandas", "pyarrow", "scikit-learn")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    words = [time.strftime("%Y-%m-%d"), f"Python {platform.python_version()}", *versions]
    return ", ".join([*words, f"{platform.system()}, {cores} cores, load {load}"])


def _with_peers(options: Options, given: argparse.Namespace) -> int:
    from benchmarks import orchestration_peers as peers

    few = given.airflow_repeat or given.repeat
    print(f"{machine()}; medians of {given.repeat}, Airflow of {few}", flush=True)
    kinds = [name for name in given.only if name in peers.KINDS]
    peers.compare(options, given.peers or PEERS, kinds, few)
    return 0


def main() -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="NAME", help=", ".join(ROWS)
    )
    parser.add_argument("--repeat", type=int, default=5, help="times each command runs; 9 for the smallest")
    parser.add_argument("--rows", type=int, default=1_000, help="rows of the small frames")
    parser.add_argument("--peers", nargs="*", choices=PEERS, metavar="PEER", help=f"{', '.join(PEERS)}; all by default")
    parser.add_argument("--airflow-repeat", type=int, metavar="N", help="times for Airflow, whose runs are long")
    given = parser.parse_args()
    adopt_orphans()
    short = 0
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        if given.peers is not None:
            return _with_peers(Options(Path(folder), given.repeat, given.rows), given)
        turns = Options(Path(folder), given.repeat, given.rows).turns
        print(f"{machine()}; medians of {given.repeat}, of {turns} for short commands\n\n{HEADER}", flush=True)
        for name in given.only:
            for line in ROWS[name](Options(Path(folder), given.repeat, given.rows)):
                short += line.figure > line.goal
                print(line, flush=True)
        print(f"\nLoad at the end: {os.getloadavg()[0]:.1f}. {short} figures fall short of their goal.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
