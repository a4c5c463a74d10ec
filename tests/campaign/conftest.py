"""Long campaigns run only when they are asked for: `pytest -m campaign`."""

import pytest


def pytest_collection_modifyitems(config, items):
    if "campaign" in config.getoption("markexpr"):
        return
    long = [item for item in items if item.get_closest_marker("campaign") is not None]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item.get_closest_marker("campaign") is None]


@pytest.fixture
def report(capfd):
    """Prints a line past pytest's capture: what a campaign did, for the record."""

    def say(line):
        with capfd.disabled():
            print(f"\n{line}")

    return say
