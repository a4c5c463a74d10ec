"""What a person sees on a terminal: lines in the order of the stages, within its width, and colours where wanted."""

from __future__ import annotations

import os
import re
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli import output
from penstock.cli.output import clean, clip, columns, duration
from penstock.cli.progress import Progress
from penstock.core.artifact import Artifact
from penstock.core.flow import Graph, Node
from penstock.core.plan import Decision, Reason
from penstock.core.run import Run
from penstock.engine.events import Event

RUN = Run("3f9c" * 4, "churn", "run", "running", 0.0)


def report_of(text: str) -> Artifact:
    return Artifact("0" * 64, "json", 2, text)


class Formats:
    """Reads an artifact's text as its report's one fact."""

    def load(self, artifact, _objects):
        return {"summary": artifact.text, "n_features": 2, "left_out": {}}


def node(step: str, kind: str = "step", outputs: tuple[str, ...] = ()) -> Node:
    stage = f"penstock.stages.{step}:{step}" if kind == "step" and outputs else "prep:f"
    return Node(step, stage, [], "", kind, outputs, part=step)


def done(step: str, *facts: str) -> Event:
    decision = Decision(step, "run", Reason("new"))
    return Event("done", step, decision, tuple(report_of(fact) for fact in facts), 0.1)


def progress(nodes: tuple[Node, ...], about: dict | None = None, **options) -> Progress:
    home = SimpleNamespace(formats=Formats(), objects=None, config=SimpleNamespace(root="."))
    made = Progress(home, "churn.py", **options)
    made.began(Graph("churn", nodes, about=about or {}), RUN)
    return made


STAGES = (
    node("validate", outputs=("table", "schema", "report")),
    node("train", outputs=("fitted", "report")),
    node("evaluate", outputs=("report", "predictions")),
)


@given(order=st.permutations(["train", "evaluate"]))
def test_lines_come_in_the_order_of_the_stages_whichever_ends_first(order):
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock.cli.progress.say", lambda text="", **_: said.append(text))
        shown = progress(STAGES, {"workflow": "churn"})
        shown(Event("started", "validate", Decision("validate", "run", Reason("new"))))
        shown(done("validate", "t", "s", "240 rows"))
        for step in order:
            shown(done(step, *(("m", "Logistic") if step == "train" else ("roc_auc", "p"))))
        shown.flush()
    assert [line.split()[1] for line in said[1:]] == ["validate", "train", "evaluate"]


def test_a_run_that_reuses_everything_says_nothing_by_itself(capsys):
    shown = progress(STAGES[:1], {"workflow": "churn"})
    shown(Event("reused", "validate", Decision("validate", "reuse", Reason("unchanged")), (report_of("x"),) * 3))
    shown.flush()
    assert capsys.readouterr().out == ""


def test_a_long_flow_is_counted_not_listed(capsys):
    nodes = tuple(node(f"s{i}") for i in range(31))
    shown = progress(nodes)
    for one in nodes:
        shown(Event("started", one.id, Decision(one.id, "run", Reason("new"))))
        shown(done(one.id, "x"))
    shown.flush()
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_failure_in_a_long_flow_is_told_all_the_same(capsys):
    nodes = tuple(node(f"s{i}") for i in range(31))
    shown = progress(nodes)
    shown(Event("failed", "s7", Decision("s7", "run", Reason("new")), (), 0.1, {"what": "ValueError: no"}))
    shown.flush()
    assert " ✗ s7" in capsys.readouterr().out


def test_long_names_of_steps_keep_the_columns(capsys):
    names = ["load", "join_customers_orders", "x" * 40]
    nodes = tuple(node(name) for name in names)
    shown = progress(nodes)
    for one in nodes:
        shown(Event("started", one.id, Decision(one.id, "run", Reason("new"))))
        shown(done(one.id, "x"))
    shown.flush()
    _, *lines = capsys.readouterr().out.splitlines()
    assert len({line.index("0.1 s") for line in lines}) == 1
    assert [line.split()[1] for line in lines] == [*names[:2], "x" * 23 + "…"]


def test_quiet_says_nothing_while_it_goes(capsys):
    shown = progress(STAGES[:1], {"workflow": "churn"}, quiet=True)
    shown(done("validate", "t", "s", "240 rows"))
    shown.flush()
    assert capsys.readouterr().out == ""


# ── width and colour ────────────────────────────────────────────────────────────────────────────────────────────


@given(st.text(max_size=200), st.integers(4, 120))
def test_a_clipped_text_fits(text, room):
    assert len(clip(text, room)) <= room
    assert clip(text, len(text)) == text


@given(st.text())
def test_a_clean_text_is_one_harmless_line(text):
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", clean(text))


@given(st.lists(st.tuples(st.text("ab·", max_size=9), st.text("12.", min_size=1, max_size=5)), max_size=6))
def test_columns_end_under_one_another(rows):
    lines = columns(["name", "n"], rows, right=[1])
    assert len(lines) == len(rows) + 1
    assert len({len(line) for line in lines}) == 1


@given(st.floats(0, 1e7))
def test_a_duration_is_short(seconds):
    assert len(duration(seconds)) <= 14


def test_colours_are_for_terminals_that_want_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.paint("yes", "green") == "yes"
    monkeypatch.setattr(output, "is_terminal", lambda **_: True)
    assert output.paint("yes", "green") == "\x1b[32myes\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.paint("yes", "green") == "yes"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_of_eighty_columns_each_line_fits_and_the_live_line_is_gone(step_file):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shop = step_file('return __import__("time").sleep(1.2) or ' + repr("x" * 300))
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")} | {"TERM": "xterm"}
    process = shop.start("run", "prep.py", stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    said = b""
    while part := _read(ours):
        said += part
    assert process.wait(30) == 0, said
    text = said.decode()
    assert " … clean " in text, "the live line was drawn"
    kept = [line.rpartition("\x1b[2K")[2] for line in text.replace("\r\n", "\n").split("\n")]
    seen = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in kept]
    assert not any("…" in line for line in seen), "and wiped"
    assert max(map(len, seen)) <= 80


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says so when the other end was closed
        return b""
