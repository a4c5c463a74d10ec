"""What is recorded of the machine."""

import pytest

from penstock.core.flow import Graph
from penstock.core.plan import Decision, Reason
from penstock.core.run import Run
from penstock.engine.outcome import Outcome
from penstock.lifecycle import machine as module
from penstock.lifecycle.machine import cpu_level, machine
from penstock.lifecycle.run import Report
from penstock.lifecycle.story import of_the_run

V2, V3, V4 = {"sse4_2"}, {"sse4_2", "avx2", "bmi2", "fma"}, {"sse4_2", "avx2", "bmi2", "fma", "avx512f", "avx512bw"}


@pytest.mark.parametrize(
    ("flags", "name", "level"),
    [
        (V4, "x86_64", "x86-64-v4"),
        (V4 - {"avx512bw"}, "x86_64", "x86-64-v3"),
        (V3, "x86_64", "x86-64-v3"),
        (V3 - {"fma"}, "x86_64", "x86-64-v2"),
        (V2, "x86_64", "x86-64-v2"),
        (set(), "x86_64", "x86-64"),
        (V4, "aarch64", "aarch64"),
        (set(), "unknown", "unknown"),
    ],
)
def test_the_highest_level_whose_flags_are_all_there(flags, name, level):
    assert cpu_level(frozenset(flags), name) == level


def test_what_another_processor_made_is_told_once_with_how_often():
    elsewhere = Reason("elsewhere", "made on x86-64-v3, this is x86-64-v4")
    told = {"a": elsewhere, "b": elsewhere, "c": Reason("unchanged")}
    run = Run("a" * 16, "churn", "run", "done", 0.0)
    outcome = Outcome(run, decisions={step: Decision(step, "reuse", why) for step, why in told.items()})
    graph = Graph("churn", ())
    [text] = of_the_run(Report(graph, outcome))
    assert text.startswith("2 reused results were made on x86-64-v3, this is x86-64-v4: last digits may differ here")
    outcome.decisions = {"a": Decision("a", "run", elsewhere), "c": Decision("c", "reuse", Reason("unchanged"))}
    assert of_the_run(Report(graph, outcome)) == []


def test_this_machine_is_known_and_asked_once():
    assert machine() is machine()
    assert machine()["threads"] == 1
    assert machine()["cpu"] == cpu_level(module._flags(), module._machine_name())


def test_without_a_list_of_flags_the_level_is_the_lowest(monkeypatch):
    def nothing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", nothing)
    flags = module._flags()
    monkeypatch.undo()
    assert (flags, cpu_level(flags, "x86_64")) == (frozenset(), "x86-64")
