"""The rules of tests/conftest.py hold: a skip that CI forbids is red there, and only there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SKIPS = """
    import pytest

    def test_command(): pytest.skip("needs system package strace (command strace)")
    @pytest.mark.skipif(True, reason="not built yet: a verb")
    def test_mark(): pass
    def test_data(): pytest.skip("no shared data: ../shared/data is absent")
    @pytest.mark.xfail(reason="needs system package, but expected")
    def test_expected(): raise ValueError
    def test_plain(): pass
"""
WHOLE_FILE = """
    import pytest

    pytest.skip("not built yet: a module", allow_module_level=True)
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A test run of its own, with our conftest."""
    monkeypatch.delenv("PENSTOCK_CI", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    shutil.copy(Path(__file__).with_name("conftest.py"), pytester.path / "conftest.py")
    pytester.makepyfile(test_skips=SKIPS, test_whole_file=WHOLE_FILE)
    return pytester


def test_skips_are_skips_on_a_persons_machine(inner: pytest.Pytester) -> None:
    result = inner.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, skipped=4, xfailed=1)


def test_forbidden_skips_fail_in_ci(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CI", "1")
    result = inner.runpytest_subprocess("-p", "no:cacheprovider", "--continue-on-collection-errors")
    # A skip in a test fails it; one by mark or of a whole file is an error, since nothing of it has run.
    result.assert_outcomes(passed=1, failed=1, errors=2, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(["*nothing may be missing here*needs system package strace*"])
