"""Documentation is tested: the Python on a page runs, as one script, in a folder of its own.

A fenced block that cannot run says why: ```` ```python exec="false" reason="…" ````. A block whose first line is
`# NAME.py` is also written to that file, so that later blocks may import it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(
    r"^(?P<indent> *)```python(?P<options>[^\n]*)\n(?P<code>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL
)
WAIVED = re.compile(r'exec="false" reason="[^"]{10,}"')
TIMEOUT_S = 100


class Block(NamedTuple):
    """A fenced block of Python: line of its first statement, options after the word `python`, code."""

    line: int
    options: str
    code: str


def blocks(text: str) -> list[Block]:
    """Every fenced Python block of a page, in order."""
    return [
        Block(text[: match.start("code")].count("\n") + 1, match["options"].strip(), match["code"])
        for match in FENCE.finditer(text)
    ]


def script(page: list[Block]) -> str:
    """One script of a page's blocks, each statement on the line that it has on the page."""
    lines: list[str] = []
    for block in page:
        if not block.options:
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


def run_page(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a page's blocks as `page.py` in a folder."""
    page = blocks(text)
    for block in page:
        named = re.match(r"# (\w+\.py)\n", block.code)
        if named and not block.options:
            (folder / named[1]).write_text(block.code)
    (folder / "page.py").write_text(script(page))
    command = [sys.executable, "-W", "error", "page.py"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
WITH_PYTHON = [page for page in PAGES if blocks((ROOT / page).read_text())]


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    done = run_page((ROOT / page).read_text(), tmp_path)
    assert done.returncode == 0, f"{page}\n{done.stderr}"


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_a_block_runs_or_says_why_not(page: str) -> None:
    for block in blocks((ROOT / page).read_text()):
        assert not block.options or WAIVED.fullmatch(block.options), f"{page}:{block.line}: {block.options}"


def test_every_fence_has_a_language_that_is_known() -> None:
    known = {"python", "console", "text", "toml", "json", "bash", "yaml"}
    for page in PAGES:
        fences = re.findall(r"^ *```(\w*)", (ROOT / page).read_text(), re.MULTILINE)
        assert set(fences[::2]) <= known, page


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")]
    told = [page for page in pages if "decisions/0" not in page and page != "index.md"]
    assert [page for page in told if f"({page})" not in index] == []


def test_a_wrong_page_would_be_seen(tmp_path: Path) -> None:
    page = "text\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n"
    done = run_page(page, tmp_path)
    assert done.returncode == 1
    assert 'page.py", line 8' in done.stderr
    assert run_page(page.replace("== 2", "== 1"), tmp_path).returncode == 0


def test_a_waived_block_is_not_run(tmp_path: Path) -> None:
    page = '```python exec="false" reason="it needs a server"\n1 / 0\n```\n```python\nx = 1\n```\n'
    assert run_page(page, tmp_path).returncode == 0
    assert not WAIVED.fullmatch('exec="false"')
