"""What must hold of the repository as a whole: nothing of a machine in it, nothing unfinished, nothing undocumented."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
MAX_LINES = 500
MAX_BYTES = 1_000_000

# Put together here, so that this file does not hold what it forbids.
HOSTS = re.compile(
    "|".join(("py" + r"pi\.org", "python" + r"hosted\.", "npm" + r"js\.", "deb" + r"ian\.org", "conda" + r"\.anaconda"))
)
MACHINE_PATHS = re.compile(
    r"(?<![\w./~$}-])/(?:" + "|".join(("ho" + "me", "ro" + "ot", "wo" + "rk", "fa" + "rm", "Us" + "ers")) + r")/\w"
)
UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")))


def tracked() -> list[Path]:
    """Files that git tracks or would track; without git, all files outside hidden folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        found = (
            path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        )
    else:
        found = (ROOT / name for name in done.stdout.split("\0") if name)
    return sorted(path for path in found if path.is_file())


def texts(*suffixes: str, under: str = "") -> Iterator[tuple[str, str]]:
    """Path from the root, and content, of each text file; only those with a suffix when one is given."""
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(under) or (suffixes and path.suffix not in suffixes):
            continue
        try:
            yield name, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def hits(pattern: re.Pattern[str], name: str, text: str) -> list[str]:
    """Each line that a pattern matches, as `file:line: text`."""
    lines = enumerate(text.splitlines(), 1)
    return [f"{name}:{number}: {line.strip()[:100]}" for number, line in lines if pattern.search(line)]


# ── nothing of a machine ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pattern", [HOSTS, MACHINE_PATHS], ids=["registry host", "machine path"])
def test_no_file_names_a_registry_host_or_a_machines_path(pattern: re.Pattern[str]) -> None:
    assert [hit for name, text in texts() for hit in hits(pattern, name, text)] == []


def test_planted_hosts_and_paths_would_be_seen() -> None:
    assert hits(HOSTS, "f", "# from https://" + "py" + "pi.org/simple")
    assert hits(MACHINE_PATHS, "f", 'open("/wo' + 'rk/main/x")')
    assert hits(MACHINE_PATHS, "f", "see /ho" + "me/ann/x")
    assert not hits(MACHINE_PATHS, "f", "tests/work/main and ../home/x")


def test_no_file_is_large() -> None:
    assert [str(path) for path in tracked() if path.stat().st_size > MAX_BYTES] == []


def test_the_lock_is_whole() -> None:
    text = (ROOT / "requirements" / "dev.txt").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text)
    pinned = {re.match(r"[\w.-]+", entry)[0] for entry in entries if "==" in entry.partition("\n")[0]}  # type: ignore[index]
    assert all("--hash=sha256:" in entry for entry in entries if not entry.startswith("#"))
    assert not re.search(r"://|--index|--extra-index|--find-links|file:", text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    wanted += [*extras["serve"], *project["dependency-groups"]["dev"]]
    assert {re.match(r"[\w.-]+", name)[0] for name in wanted} <= pinned, "run `make lock`"  # type: ignore[index]


def test_each_system_package_is_used_by_a_test() -> None:
    words = [line.partition("#")[0].split() for line in (ROOT / ".ci" / "packages").read_text().splitlines()]
    tests = "".join(text for _, text in texts(".py", under="tests/"))
    unused = [line[0] for line in words if line and not any(f'"{Path(command).name}"' in tests for command in line[1:])]
    assert unused == []


# ── nothing unfinished ───────────────────────────────────────────────────────────────────────────────────────


def test_the_source_holds_no_unfinished_work() -> None:
    assert [hit for name, text in texts(".py", under="src/") for hit in hits(UNFINISHED, name, text)] == []


def test_planted_unfinished_work_would_be_seen() -> None:
    assert hits(UNFINISHED, "f", "x = 1  # TO" + "DO: later")


def test_no_source_file_is_long() -> None:
    long = {name: text.count("\n") for name, text in texts(".py", under="src/") if text.count("\n") > MAX_LINES}
    assert long == {}


def test_nothing_is_pickled() -> None:
    importing = re.compile(r"^\s*(?:import|from)\s+(?:pickle|cloudpickle|dill|joblib|marshal|shelve)\b")
    assert [hit for name, text in texts(".py", under="src/") for hit in hits(importing, name, text)] == []


def test_every_waived_rule_has_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    waived = text.partition("\nignore = [\n")[2].partition("\n]")[0].splitlines()
    assert len(waived) > 10
    assert [line for line in waived if not re.search(r'",\s+# \S', line)] == []


def test_the_licence_is_there() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


def test_changelog_fragments_are_well_named() -> None:
    names = {path.name for path in (ROOT / "changes").iterdir()} - {"README.md"}
    good = re.compile(r"(?:\d+|\+[\w-]+)(?:\.\d+)?\.(?:feature|bugfix|doc|removal|misc)(?:\.\d+)?\.md")
    assert [name for name in names if not good.fullmatch(name)] == []


def test_decision_records_are_numbered_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [name[:4] for name in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    assert sorted(set(re.findall(r"\]\((\d{4}[\w-]*\.md)\)", (folder / "README.md").read_text()))) == records


def test_relative_links_lead_somewhere() -> None:
    broken = []
    for name, text in texts(".md"):
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
            if "://" not in target and not (ROOT / name).parent.joinpath(target).exists():
                broken.append(f"{name} → {target}")
    assert broken == []


# ── nothing undocumented ─────────────────────────────────────────────────────────────────────────────────────


def test_every_exported_name_is_in_the_reference() -> None:
    exported = set(importlib.import_module("penstock").__all__)
    documented = set(re.findall(r"^#+ .*?`ps\.(\w+)", (REFERENCE / "api.md").read_text(), re.MULTILINE))
    assert documented == exported


def test_every_field_of_a_workflow_is_in_the_reference() -> None:
    module = importlib.import_module("penstock.core.workflow")
    rows = re.findall(r"^\| ((?:`\w+` ?)+)\|", (REFERENCE / "api.md").read_text(), re.MULTILINE)
    documented = set(re.findall(r"\w+", " ".join(rows)))
    assert documented == {field.name for field in dataclasses.fields(module.Workflow)} - set(module.LATER)


def verbs() -> set[str]:
    """Names of the command line's verbs, hidden ones left out."""
    if importlib.util.find_spec("penstock.cli") is None or not hasattr(importlib.import_module("penstock.cli"), "main"):
        pytest.skip("not built yet: penstock.cli")
    command = importlib.import_module("penstock.cli.verbs").app()
    context = importlib.import_module("click").Context(command)
    return {name for name in command.list_commands(context) if not command.get_command(context, name).hidden}


def test_every_verb_is_in_the_reference() -> None:
    text = (REFERENCE / "cli.md").read_text()
    assert set(re.findall(r"^#+ `penstock (\w+)", text, re.MULTILINE)) == verbs()


def test_every_command_that_is_told_exists() -> None:
    told = {
        (word, name)
        for name, text in texts(".md")
        if not name.startswith("changes/")
        for word in re.findall(r"^(?:    |`)penstock (\w+)", text, re.MULTILINE)
    }
    known = verbs()
    assert sorted((name, word) for word, name in told if word not in known) == []


def test_every_setting_is_in_the_reference() -> None:
    ports = importlib.import_module("penstock.core.ports")
    settings = {field.name for field in dataclasses.fields(ports.Config)} - {"root", "origin", "environment", "is_ci"}
    documented = set(re.findall(r"^\| `(\w+)`", (REFERENCE / "configuration.md").read_text(), re.MULTILINE))
    assert settings <= documented


def test_every_exit_code_is_in_the_reference() -> None:
    errors = importlib.import_module("penstock.errors")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    documented = {
        int(code) for code in re.findall(r"^\| (\d+) \|", (REFERENCE / "exit-codes.md").read_text(), re.MULTILINE)
    }
    assert {kind.exit_code for kind in kinds} | {0} <= documented
