"""Garbage is searched for seldom while modules are imported, and as before afterwards."""

from __future__ import annotations

import gc

import pytest

from penstock.engine.garbage import FEW, few_collections


@pytest.mark.parametrize(("before", "within"), [((700, 10, 10), FEW), ((0, 10, 10), 0), ((10**6, 5, 5), 10**6)])
def test_a_threshold_of_ones_own_is_kept(before: tuple[int, int, int], within: int) -> None:
    found = gc.get_threshold()
    try:
        gc.set_threshold(*before)
        with pytest.raises(KeyError), few_collections():
            assert gc.get_threshold() == (within, *before[1:])
            raise KeyError
        assert gc.get_threshold() == before
    finally:
        gc.set_threshold(*found)


def test_what_a_user_s_file_says_of_it_holds() -> None:
    found = gc.get_threshold()
    try:
        with few_collections():
            gc.set_threshold(50_000, 3, 3)
        assert gc.get_threshold() == (50_000, 3, 3)
    finally:
        gc.set_threshold(*found)
