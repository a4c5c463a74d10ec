"""What steps log: facts as they are, figures as files, bounded, and nothing outside a run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from penstock.core import notes
from penstock.core.notes import begin, log, take, take_pictures
from penstock.errors import StepOutputError

PNG = b"\x89PNG\r\n\x1a\n0000"
SVG = "<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>"


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(notes, "_running", [False])
    begin()
    yield
    take()
    take_pictures()


@pytest.mark.usefixtures("running")
def test_facts_are_kept_as_plain_values() -> None:
    log(rows=3, share=np.float64(0.5), n=np.int64(7), name="a < b", inside={"a": [1]})
    assert take() == {"rows": 3, "share": 0.5, "n": 7, "name": "a < b", "inside": {"a": [1]}}
    assert take_pictures() == {}


@pytest.mark.usefixtures("running")
def test_files_of_figures_are_told_by_how_they_begin() -> None:
    log(a=PNG, b=SVG, c="<!DOCTYPE html><p>x", d=SVG.encode())
    assert {name: one.kind for name, one in take_pictures().items()} == {
        "a": "png",
        "b": "svg",
        "c": "html",
        "d": "svg",
    }
    assert take() == {}


@pytest.mark.usefixtures("running")
def test_equal_matplotlib_figures_have_equal_bytes() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    for name in ("first", "second"):
        axes = Figure(figsize=(1, 1)).subplots()
        axes.plot([1, 2])
        log(**{name: axes if name == "first" else axes.figure})
    kept = take_pictures()
    assert kept["first"].kind == "png"
    assert kept["first"].data.startswith(b"\x89PNG")
    assert kept["first"] == kept["second"]


@pytest.mark.usefixtures("running")
def test_figures_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StepOutputError, match="is taken"):
        log(figures=3)
    log(**{f"f{i}": PNG for i in range(notes.MOST_FIGURES)})
    log(f0=PNG)
    with pytest.raises(StepOutputError, match="more than 20"):
        log(another=PNG)
    monkeypatch.setattr(notes, "MOST_BYTES", 10)
    with pytest.raises(StepOutputError, match="figure 'f0' has"):
        log(f0=PNG)


def test_outside_a_run_no_figure_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_running", [False])
    log(a=PNG)
    assert take_pictures() == {}


def test_a_step_begins_with_nothing_of_what_ran_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_running", [True])
    log(rows=3, curve=SVG)
    begin()
    assert (take(), take_pictures()) == ({}, {})
