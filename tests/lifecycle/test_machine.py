"""What is recorded of the machine."""

import pytest

from penstock.lifecycle import machine as module
from penstock.lifecycle.machine import cpu_level, machine

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
