"""Documentation is tested: the Python on a page runs, as one script, in a folder of its own.

A fenced block that cannot run says why: ```` ```python exec="false" reason="…" ````. A block whose first line is
`# NAME.py` is also written to that file, so that later blocks may import it.

The commands of a page run too: of each `console` block every line after "$ ", from the top of the page to its end, with
the page's Python run or written where it stands. What is shown below a command must be what it says, line by line; "…"
stands for anything. A command that ends otherwise than with 0 says so: `# ends with 8`. One that ends with " &" runs
until the page's end; port 8000 becomes a free one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from command_line import call

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(
    r"^(?P<indent> *)```python(?P<options>[^\n]*)\n(?P<code>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL
)
CONSOLE = re.compile(r"^```console\n(?P<text>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
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


class Said(NamedTuple):
    """A command of a page: its line there, the text, the lines shown below it."""

    line: int
    command: str
    shown: list[str]


def commands(text: str) -> list[Block | Said]:
    """The Python blocks and commands of a page, in order."""
    found: list[Block | Said] = list(blocks(text))
    for match in CONSOLE.finditer(text):
        line = text[: match.start("text")].count("\n") + 1
        for place, shown in enumerate(match["text"].splitlines()):
            if shown.startswith("$ "):
                found.append(Said(line + place, shown[2:], []))
            elif shown.startswith("> ") and not found[-1].shown:
                found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{shown[2:]}")
            else:
                found[-1].shown.append(shown)
    return sorted(found, key=lambda one: one.line)


PAGE = """
import json, sys
space = {"__name__": "page"}
for line in sys.stdin:
    exec(compile(json.loads(line), "page", "exec"), space)
    print("the block is done", flush=True)
"""


class Session:
    """Runs the commands of a page in a folder; what it starts in the background ends with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".penstock").mkdir()
        self.page: subprocess.Popen[str] | None = None
        self.started: list[subprocess.Popen[str]] = []
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PATH": path}

    def python(self, block: Block) -> None:
        """Write a block that names a file; run any other where those before it ran."""
        named = re.match(r"# (\w+\.py)\n", block.code)
        if named:
            (self.folder / named[1]).write_text(block.code)
            return
        if self.page is None:
            command = [sys.executable, "-W", "error", "-c", PAGE]
            self.page = subprocess.Popen(
                command, cwd=self.folder, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self.page.stdin is not None
        assert self.page.stdout is not None
        self.page.stdin.write(json.dumps(block.code) + "\n")
        self.page.stdin.flush()
        assert any(line == "the block is done\n" for line in self.page.stdout), f"line {block.line}: the block failed"

    def say(self, said: Said) -> None:
        """Run one command; hold its end and its words against what the page says."""
        text = said.command.replace("8000", str(self.port))
        if text.rstrip().endswith("&"):
            self.start(text.rstrip().removesuffix("&"))
            return
        wanted = re.search(r"# ends with (\d+)$", text)
        code, output = self.run(text)
        place = f"line {said.line}: $ {text}\n{output}"
        assert code == (int(wanted[1]) if wanted else 0), f"{place}ended with {code}"
        if said.shown:
            differs = difference(said.shown, output.splitlines())
            assert differs is None, f"{place}{differs}"

    def run(self, text: str) -> tuple[int, str]:
        """Run one command: in this process where it needs no shell; gives its exit code and all that it said."""
        words = words_of(text)
        if words[:1] == ["penstock"]:
            code, output, _ = call(self.folder, *words[1:], together=True)
            return code, output
        script = f'penstock() {{ "{sys.executable}" -m penstock "$@"; }}\n{text}'
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout

    def start(self, text: str) -> None:
        """Start a server and wait until it listens."""
        command = f'exec "{sys.executable}" -m {text}'
        self.started.append(
            subprocess.Popen(
                ["bash", "-c", command], cwd=self.folder, env=self.env, stderr=subprocess.DEVNULL, text=True
            )
        )
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            with socket.socket() as door:
                if door.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(f"{text} does not listen on {self.port}")

    def end(self) -> None:
        if self.page is not None:
            self.page.communicate(timeout=30)
        for process in self.started:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def words_of(text: str) -> list[str]:
    """The words of a command; none of one that a shell must read."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    return [] if any(set(word) <= set("();<>|&") for word in words) or set(text) & set("$`*?~\n") else words


def difference(shown: list[str], said: list[str]) -> str | None:
    """The first line that is shown otherwise than it was said; "…" in what is shown stands for anything."""
    for place in range(max(len(shown), len(said))):
        want = shown[place] if place < len(shown) else "(nothing)"
        have = said[place] if place < len(said) else "(nothing)"
        if want == "…":
            return None
        if not re.fullmatch(".*".join(map(re.escape, want.rstrip().split("…"))), have.rstrip()):
            return f"shown: {want}\nsaid:  {have}"
    return None


def run_session(text: str, folder: Path) -> None:
    """Run a page's commands."""
    session = Session(folder)
    try:
        for one in commands(text):
            if isinstance(one, Said):
                session.say(one)
            elif not one.options:
                session.python(one)
    finally:
        session.end()


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
WITH_PYTHON = [page for page in PAGES if blocks((ROOT / page).read_text())]


WITH_COMMANDS = [page for page in PAGES if CONSOLE.search((ROOT / page).read_text())]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_say_what_it_shows(page: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None and "$ curl" in (ROOT / page).read_text():
        pytest.skip("curl is not installed (apt-get install curl)")
    run_session((ROOT / page).read_text(), tmp_path)


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    done = run_page((ROOT / page).read_text(), tmp_path)
    assert done.returncode == 0, f"{page}\n{done.stderr}"


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_a_block_runs_or_says_why_not(page: str) -> None:
    for block in blocks((ROOT / page).read_text()):
        assert not block.options or WAIVED.fullmatch(block.options), f"{page}:{block.line}: {block.options}"


def test_every_fence_has_a_language_that_is_known() -> None:
    known = {"python", "console", "text", "toml", "json", "bash", "yaml", "sql"}
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


SESSION = """
```python
# made.py
print("made", 1 + 1)
```
```python
open("written.txt", "w").write("once")
```
```console
$ python made.py
made 2
$ cat written.txt; exit 3  # ends with 3
on…
$ penstock runs
no runs yet…
```
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("made 2", "made 3"),
        ("# ends with 3", ""),
        ("on…", "to…"),
        ("on…", "on…\nmore"),
        ("no runs", "two runs"),
        ("penstock runs", "penstock runs  # ends with 2"),
    ],
)
def test_a_wrong_session_would_be_seen(right: str, wrong: str, tmp_path: Path) -> None:
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
    run_session(SESSION, tmp_path / "right")
    with pytest.raises(AssertionError):
        run_session(SESSION.replace(right, wrong), tmp_path / "wrong")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            'penstock try a.py --note "how (much) C"  # ends with 2',
            ["penstock", "try", "a.py", "--note", "how (much) C"],
        ),
        ("penstock show churn | grep positive", []),
        ("penstock runs --csv > tries.csv", []),
        ("penstock run $FILE", []),
        ("TOKEN=x penstock run a.py", ["TOKEN=x", "penstock", "run", "a.py"]),
    ],
)
def test_what_a_shell_must_read_is_left_to_it(command: str, words: list[str]) -> None:
    assert words_of(command) == words


COMMON = {"--help", "--json", "--quiet", "--env"}


def flags_of(verb: str) -> set[str]:
    """Long flags of a verb."""
    from penstock.cli.verbs import command_of

    return {name for param in command_of(verb).params for name in param.opts if name.startswith("--")}


def test_the_reference_names_every_verb_with_every_flag_and_no_other() -> None:
    from penstock.cli.verbs import VERBS

    text = (ROOT / "docs" / "reference" / "cli.md").read_text()
    sections = dict(re.findall(r"^### `penstock (\w+)[^\n]*`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    headings = dict(re.findall(r"^### `penstock (\w+)([^\n]*)`$", text, re.MULTILINE))
    assert list(sections) == [verb for panel in _panels() for verb in panel]
    for verb in VERBS:
        said = set(re.findall(r"(?<!-)--[a-z][a-z-]+", sections[verb] + headings[verb]))
        if "lags as for `run`" in sections[verb] or "`--jobs` and" in sections[verb]:
            said |= flags_of(verb) & flags_of("run")
        assert said - COMMON - flags_of(verb) - {"--until"} == set(), verb
        assert flags_of(verb) - COMMON - said == set(), verb


def _panels() -> list[list[str]]:
    from penstock.cli.verbs import VERBS

    return [
        [v for v, one in VERBS.items() if one.panel == panel]
        for panel in dict.fromkeys(o.panel for o in VERBS.values())
    ]
