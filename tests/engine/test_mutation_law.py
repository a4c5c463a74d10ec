"""The mutation law: whatever a step runs, changing it changes the digest of the step's code; nothing else does."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
DRIVER = HERE / "mutation" / "driver.py"


def _material() -> Any:
    spec = importlib.util.spec_from_file_location("mutation_projects", HERE / "mutation_projects.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutation_projects"] = module
    spec.loader.exec_module(module)
    return module


material = _material()
PROJECTS = {project.name: project for project in material.projects()}


class Driver:
    """The process that imports projects, each in a child of its own, and digests them."""

    def __init__(self, folder: Path, hash_seed: str = "0") -> None:
        source = str(HERE.parent.parent / "src")
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(DRIVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )

    def ask(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """All that the child said which did it."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the driver ended"
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    made = Driver(tmp_path_factory.mktemp("driver"))
    yield made
    made.close()


def write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def request(what: str, root: Path, project: Any, **more: Any) -> dict[str, Any]:
    asked = {"what": what, "root": str(root), "entry": project.entry, "step": project.step, "also": project.also}
    return asked | more


def as_files(project: Any, edit: Any) -> dict[str, dict[str, str | None]]:
    """An edit as the files to write, and those to put back."""
    return {"write": {edit.file: edit.text}, "restore": {edit.file: project.files.get(edit.file)}}


@dataclass
class Study:
    """What the driver found of a project: as it is, and after each edit."""

    base: dict[str, Any]
    mutants: list[tuple[Any, dict[str, Any]]]
    harmless: list[tuple[str, dict[str, Any]]]
    missed: list[str]

    def ran(self, edit: Any) -> bool:
        """Whether an edit replaces code that the step ran."""
        executed = {(file, line, name) for file, line, name in self.base["executed"]}
        return any((edit.file, *key) in executed for key in edit.replaces)

    @property
    def together(self) -> dict[str, Any]:
        """After all harmless edits at once."""
        return dict(self.harmless)["all harmless edits together"]

    def unseen(self, digest: str) -> list[str]:
        """Replaced definitions that the step ran and a digest does not tell."""
        return [edit.label for edit, found in self.mutants if self.ran(edit) and found[digest] == self.base[digest]]

    def disturbed(self) -> list[str]:
        """Harmless edits that change the digest: each would run a step for nothing."""
        return [label for label, found in self.harmless if found["digest"] != self.base["digest"]]


def examine(driver: Driver, root: Path, project: Any) -> Study:
    """Digest every edit; where a mutant's digest stays, see whether the step's result stays too."""
    write(root, project.files)
    changes = material.mutants(project)
    together = {"write": material.all_harmless(project), "restore": project.files}
    edits = [*(as_files(project, edit) for edit in [*changes, *project.keeps]), together]
    cache = str(root.with_name(f"{root.name}.cache"))
    for edit in edits[::10]:
        edit["cache"] = cache
    said = driver.ask(request("visit", root, project, edits=edits, crippled=True, cache=cache))
    assert len(said) == 1 + len(edits), said[-1:]
    base, found, kept = said[0], said[1 : 1 + len(changes)], said[1 + len(changes) :]
    labels = [*(edit.label for edit in project.keeps), "all harmless edits together"]
    study = Study(base, list(zip(changes, found, strict=True)), list(zip(labels, kept, strict=True)), [])
    if kept[-1]["digest"] != base["digest"]:  # which of them?
        keeps = material.harmless(project)
        said = driver.ask(request("visit", root, project, edits=[as_files(project, edit) for edit in keeps]))
        study.harmless += [(edit.label, answer) for edit, answer in zip(keeps, said[1:], strict=True)]
    for edit, after in study.mutants:
        if after["digest"] == base["digest"] and not after["uncacheable"]:
            study.missed += verdict(driver, root, project, edit, study)
    return study


def verdict(driver: Driver, root: Path, project: Any, edit: Any, study: Study) -> list[str]:
    """Say what a mutant with the digest of the original would do in a run: nothing, or a false hit."""
    answer: dict[str, Any] = {}
    for said in driver.ask(request("trial", root, project, edit=as_files(project, edit))):
        answer |= said
    if "import" in answer:  # it runs nowhere, but its text was judged in the visit
        after = next(found for other, found in study.mutants if other is edit)
        same = after["digest"] == study.base["digest"]
        return [f"{edit.label} (run by the step)"] if study.ran(edit) and same else []
    if answer["digest"] != study.base["digest"] or answer["uncacheable"]:
        return []
    result = answer.get("result", "ended by the time limit")
    if "import " in edit.label and "left out" in edit.label and "AttributeError: module" in result:
        return []  # a submodule that is no longer imported: the step cannot run, and what is reused is right
    if result != study.base["result"]:
        return [f"{edit.label} ({study.base['result']} became {result})"]
    return [f"{edit.label} (run by the step)"] if study.ran(edit) else []


@pytest.fixture(scope="module")
def study(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Study]:
    """Studies a project, once."""
    known: dict[str, Study] = {}

    def of(name: str) -> Study:
        if name not in known:
            known[name] = examine(driver, tmp_path_factory.mktemp(name), PROJECTS[name])
        return known[name]

    return of


# ── the law ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", PROJECTS)
def test_whatever_a_step_runs_counts(name: str, study: Callable[[str], Study]) -> None:
    found = study(name)
    assert "raised" not in found.base["result"]
    assert any(found.ran(edit) for edit, _ in found.mutants)
    assert not found.missed, "\n".join([f"false hits in {name}:", *found.missed])


@pytest.mark.parametrize("name", PROJECTS)
def test_what_a_step_does_not_run_does_not_count(name: str, study: Callable[[str], Study]) -> None:
    disturbed = study(name).disturbed()
    assert not disturbed, "\n".join([f"run for nothing in {name}:", *disturbed])


@pytest.mark.parametrize("name", PROJECTS)
def test_a_cache_changes_no_digest_and_no_project_fails(name: str, study: Callable[[str], Study]) -> None:
    found = study(name)
    everything = [found.base, *(answer for _, answer in [*found.mutants, *found.harmless])]
    assert [answer["fault"] for answer in everything if "fault" in answer] == []
    assert [answer["digest"] for answer in everything if "cached" in answer] == [
        answer["cached"] for answer in everything if "cached" in answer
    ]
    if not PROJECTS[name].opaque:
        assert found.base["uncacheable"] == ""


@pytest.mark.campaign
@pytest.mark.parametrize("name", PROJECTS)
def test_every_mutant_that_behaves_differently_counts_after_an_import_of_its_own(
    name: str, driver: Driver, study: Callable[[str], Study], tmp_path: Path
) -> None:
    found, project = study(name), PROJECTS[name]
    write(tmp_path, project.files)
    missed = [line for edit, _ in found.mutants for line in verdict(driver, tmp_path, project, edit, found)]
    assert not missed, "\n".join([f"false hits in {name}:", *missed])


# ── the law can fail ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_digest_of_the_entry_alone_breaks_the_law_nearly_everywhere(study: Callable[[str], Study]) -> None:
    broken = [name for name in PROJECTS if study(name).unseen("entry_only")]
    assert len(broken) > 0.8 * len(PROJECTS)


def test_a_digest_of_all_bytes_is_disturbed_everywhere(study: Callable[[str], Study]) -> None:
    assert [name for name in PROJECTS if study(name).base["whole_tree"] == study(name).together["whole_tree"]] == []


def test_a_false_hit_is_named_by_project_and_definition(
    driver: Driver, study: Callable[[str], Study], tmp_path: Path
) -> None:
    project = PROJECTS["helper_chain"]
    found = study(project.name)
    write(tmp_path, project.files)
    edit = next(edit for edit, _ in found.mutants if "_fill: other body" in edit.label)
    # As if the digest had been taken after the edit: the edit is then no change of it.
    after = next(answer for other, answer in found.mutants if other is edit)
    lines = verdict(
        driver, tmp_path, project, edit, Study(found.base | {"digest": after["digest"]}, found.mutants, [], [])
    )
    assert lines == ["clean.py: line 4: _fill: other body (26 became 'mutantmutant')"]


# ── what else a digest must not depend on ────────────────────────────────────────────────────────────────────

SOME = ["helper_chain", "registry_by_decorator", "closure_factory", "plugins_by_pkgutil", "mixins", "star_import"]


def test_digests_do_not_depend_on_process_hash_seed_folder_or_cwd(
    study: Callable[[str], Study], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    for seed in ("1", "77"):
        other = Driver(tmp_path / "elsewhere", hash_seed=seed)
        try:
            for name in SOME:
                root = tmp_path / f"a folder {seed}" / name
                write(root, PROJECTS[name].files)
                asked = request("visit", root, PROJECTS[name], edits=[], cwd=str(tmp_path))
                (said,) = other.ask(asked)
                assert (name, said["digest"]) == (name, study(name).base["digest"])
                assert said["parts"] == study(name).base["parts"]
        finally:
            other.close()


NAMES = ["alpha", "beta", "gamma", "delta", "epsilon"]


def permuted(order: list[int], after: bool) -> dict[str, str]:
    """A project of independent helpers and constants in some order, the step in front of them or behind."""
    blocks = [f"K_{n} = {i}\n\n\ndef {n}(x):\n    return x * {i} + K_{n}\n" for i, n in enumerate(NAMES)]
    step = "@ps.step\ndef go(x):\n    return [" + ", ".join(f"{n}(x)" for n in NAMES) + "]\n"
    helpers = [blocks[i] for i in order]
    return {"app.py": "import penstock as ps\n\n\n" + "\n\n".join([*helpers, step] if after else [step, *helpers])}


@given(order=st.permutations(range(len(NAMES))), after=st.booleans())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_independent_definitions_may_stand_in_any_order(
    order: list[int], after: bool, driver: Driver, tmp_path: Path
) -> None:
    project = material.Project("permuted", "app:go", "go", dynamic=False, opaque=False, also=[])
    digests = []
    for files in (permuted(list(range(len(NAMES))), after=True), permuted(order, after)):
        write(tmp_path, files)
        (said,) = driver.ask(request("visit", tmp_path, project, edits=[]))
        assert said["result"] == "[0, 4, 8, 12, 16]"
        digests.append(said["digest"])
    assert digests[0] == digests[1]


# ── parts: what reasons are made of ──────────────────────────────────────────────────────────────────────────


def look(driver: Driver, root: Path, files: dict[str, str], entry: str = "app:go", step: str = "go") -> dict[str, Any]:
    """What the closure says of a project that is written here."""
    write(root, {path: "import penstock as ps\n" * (path == "app.py") + text for path, text in files.items()})
    project = material.Project("here", entry, step, dynamic=False, opaque=False, also=[])
    (said,) = driver.ask(request("visit", root, project, edits=[]))
    return said


@pytest.mark.parametrize("name", [name for name, project in PROJECTS.items() if not project.opaque])
def test_a_change_shows_in_a_part_of_the_module_that_changed(name: str, study: Callable[[str], Study]) -> None:
    found = study(name)
    for edit, after in found.mutants:
        if not found.ran(edit):
            continue  # an import that is left out shows where its name is used
        old, new = found.base["parts"], after["parts"]
        differ = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        assert (after["digest"] == found.base["digest"]) == (not differ), edit.label
        module = edit.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        modules = {key.partition(":")[0] for key in differ}
        # A folder that the file itself put on `sys.path` is not part of the name.
        assert not differ or any(module == m or module.endswith(f".{m}") for m in modules), (edit.label, differ)


def test_python_and_the_libraries_that_are_reached_are_parts_and_others_not(driver: Driver, tmp_path: Path) -> None:
    app = """
import markupsafe
from helpers import f

@ps.step
def go(x):
    return f(x)

@ps.step
def other(x):
    return markupsafe.escape(x)
"""
    helpers = """
def f(x):
    import jinja2
    return jinja2.Template("{{ x }}").render(x=x)

def g(x):
    import sklearn.linear_model
    return sklearn
"""
    said = look(driver, tmp_path, {"app.py": app, "helpers.py": helpers})
    libraries = {key.lower() for key in said["parts"] if key.startswith("library:")}
    # What a step receives is a pandas frame where nothing else is said, so pandas may stand there too.
    assert libraries - {"library:pandas"} == {"library:jinja2"}
    assert "python" in said["parts"]
    late = look(driver, tmp_path, {"app.py": app.replace("return f(x)", "return g(x)").replace("import f", "import g")})
    libraries = {key.lower() for key in late["parts"] if key.startswith("library:")}
    assert "library:scikit-learn" in libraries  # and perhaps what it stands on
    assert not libraries & {"library:jinja2", "library:markupsafe"}


def test_files_of_an_environment_inside_the_root_are_libraries(driver: Driver, tmp_path: Path) -> None:
    inside = "venv/lib/python3/site-packages"
    app = f"""
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "{inside}"))
import bundled_library

@ps.step
def go(x):
    return bundled_library.f(x)
"""
    library = "def f(x):\n    return x + 1\n"
    said = look(driver, tmp_path, {"app.py": app, f"{inside}/bundled_library.py": library})
    assert said["result"] == "4"
    assert [key for key in said["parts"] if key.startswith("bundled_library:")] == []


# ── steps whose code an entry does not name ──────────────────────────────────────────────────────────────────


SHARED_ENTRIES = {
    "app:make.<locals>.go": """
def make(k):
    def go(x):
        return x * k
    return go

go = ps.step(make(3))
other = ps.step(make(5))
""",
    "app:<lambda>": """
go = ps.step(lambda x: x + 1)
other = ps.step(lambda x: x + 2)
""",
    "app:logged.<locals>.inner": """
def logged(f):
    def inner(x):
        return f(x)
    return inner

@ps.step
@logged
def go(x):
    return x

@ps.step
@logged
def other(x):
    return -x
""",
    "app:_go": """
import functools

def logged(f, by):
    return functools.wraps(f)(lambda x: f(x) + by)

def _go(x):
    return x

go = ps.step(logged(_go, 1))
other = ps.step(logged(_go, 2))
""",
}


@pytest.mark.parametrize("entry", SHARED_ENTRIES)
def test_a_step_that_shares_its_entry_with_another_is_not_cacheable(entry: str, driver: Driver, tmp_path: Path) -> None:
    said = look(driver, tmp_path, {"app.py": SHARED_ENTRIES[entry]}, entry)
    assert "fault" not in said
    assert said["uncacheable"]


def test_our_own_steps_are_digested_by_our_own_modules(driver: Driver, tmp_path: Path) -> None:
    write(tmp_path, {"app.py": ""})
    project = material.Project("ours", "penstock.stages.ingest:read", "read", dynamic=False, opaque=False, also=[])
    said = driver.ask(request("visit", tmp_path, project, edits=[]))[0]
    assert any(key.startswith("penstock.stages.ingest:") for key in said["parts"])
    assert not said["uncacheable"]
