"""The user's file: under one name, without byte code in the work tree, its faults as the user's own."""

import os
import sys
import time

import pytest

from penstock.engine.importing import module_name, pick
from penstock.errors import DeclarationError, UsageError

STEP = "@ps.step\ndef one(x: int) -> int:\n    return x\n\nout = one(ps.Param('x', 1))\n"


def refused(project, file="flows.py", kind=UsageError, **request):
    with pytest.raises(kind) as caught:
        project.run(file, **request)
    assert caught.value.exit_code == 2
    return caught.value


def test_a_missing_file(project):
    assert "there is no file" in refused(project, "nowhere.py").what


@pytest.mark.parametrize("stem", ["json", "random", "numpy", "sklearn", "penstock", "pytest"])
def test_a_stem_that_shadows_a_library(project, stem):
    project.write(STEP, f"{stem}.py")
    error = refused(project, f"{stem}.py")
    assert f"a library is called {stem!r}" in error.what
    assert error.hint == "rename the file"


@pytest.mark.parametrize(("stem", "better"), [("my-flow", "my_flow"), ("1st", "workflow_1st"), ("a b", "a_b")])
def test_a_stem_that_is_no_identifier_is_answered_with_one(project, stem, better):
    project.write(STEP, f"{stem}.py")
    assert f"{better}.py" in refused(project, f"{stem}.py").hint


def test_a_file_in_a_package_has_its_dotted_name(project):
    project.write("", "shop/__init__.py")
    project.write("", "shop/flows/__init__.py")
    project.write("def double(x):\n    return 2 * x\n", "shop/helpers.py")
    project.write(
        "from ..helpers import double\n" + STEP.replace("return x", "return double(x)"), "shop/flows/daily.py"
    )
    report = project.run("shop/flows/daily.py")
    assert project.value(report, "one") == 2
    assert report.graph.nodes[0].entry == "shop.flows.daily:one"
    assert module_name(str(project.root / "shop/flows/daily.py")) == ("shop.flows.daily", str(project.root))


def test_helpers_beside_the_file_are_found_from_anywhere(project, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    project.write("def double(x):\n    return 2 * x\n", "helpers.py")
    project.write("from helpers import double\n" + STEP.replace("return x", "return double(x)"))
    assert project.value(project.run(), "one") == 2


def test_the_working_directory_is_not_on_the_path(project, monkeypatch, tmp_path):
    (tmp_path / "json.py").write_text("raise RuntimeError('the wrong json')\n")
    monkeypatch.chdir(tmp_path)
    project.write("import json\n" + STEP)
    assert project.run().error is None


def test_a_file_that_raises_shows_the_users_traceback(project):
    project.write("def broken():\n    raise KeyError('age')\n\nbroken()\n")
    error = refused(project, kind=DeclarationError)
    assert "KeyError: 'age'" in error.what
    assert error.where == "flows.py"
    assert "in broken" in error.traceback
    assert "importlib" not in error.traceback
    assert "penstock/engine" not in error.traceback


def test_a_syntax_error(project):
    project.write("def broken(:\n")
    assert "SyntaxError" in refused(project, kind=DeclarationError).what


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sys.exit(3)", "called sys.exit(3)"),
        ("os._exit(3)", "ended with exit code 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_an_import_that_ends_the_process(project, line, words):
    project.write(line + "\n")
    error = refused(project, kind=DeclarationError)
    assert words in error.what
    assert error.where == "flows.py"
    assert error.hint or line.startswith("raise")


def test_no_byte_code_in_the_work_tree(project, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    project.write("def double(x):\n    return 2 * x\n", "helpers.py")
    project.write("import helpers\n" + STEP)
    for path in project.root.glob("*.py"):
        os.utime(path, (1.7e9, 1.7e9))  # of a file that was written just now no byte code is kept
    assert project.run().error is None
    assert [path for path in project.root.rglob("__pycache__") if ".penstock" not in path.parts] == []
    assert len(list((project.root / ".penstock" / "pycache").rglob("*.pyc"))) == 2


def test_control_without_the_loader_byte_code_is_written(project, monkeypatch):
    import importlib
    import subprocess

    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    project.write("x = 1\n", "helpers.py")
    subprocess.run([sys.executable, "-c", "import helpers"], cwd=project.root, check=True)
    assert list(project.root.glob("__pycache__/*.pyc"))
    importlib.invalidate_caches()


# ── picking ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_edit_within_the_same_second_is_never_run_as_it_was(project, monkeypatch):
    """Byte code is told by size and second: without care the second run would keep 2 under the recipe of 3."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    project.write(STEP.replace("return x", "return 2"))
    assert project.value(project.run(), "one") == 2
    file = project.write(STEP.replace("return x", "return 3"))
    now = time.time()
    os.utime(file, (now, now))
    assert project.value(project.run(), "one") == 3


def test_one_declaration_needs_no_name_several_do(project):
    project.write(STEP + "a = ps.Flow(out, name='a')\nb = ps.Flow(out, name='b')\n")
    error = refused(project, kind=DeclarationError)
    assert "holds 2: a, b" in error.what
    assert project.run(variable="b").graph.name == "b"
    assert "called 'c'" in refused(project, kind=DeclarationError, variable="c").what


def test_loose_promises_run_together_under_the_files_name(project):
    project.write(STEP + "more = one(ps.Param('x', 1), name='two')\n")
    report = project.run()
    assert report.graph.name == "flows"
    assert set(report.outcome.states) == {"one", "two"}


def test_a_file_without_a_declaration(project):
    project.write("x = 1\n")
    assert "no workflow in it" in refused(project, kind=DeclarationError).what


def test_what_begins_with_an_underscore_is_not_picked():
    import types

    module = types.ModuleType("m")
    module._hidden, module.shown = 1, 2
    assert pick(module, (int,), None) == 2
    assert pick(module, (int,), "_hidden") == 1


def test_the_same_variable_twice_is_one_declaration():
    import types

    module = types.ModuleType("m")
    module.a = module.b = ["x"]
    assert pick(module, (list,), None) == ["x"]


def test_a_name_inside_penstock_is_never_shadowed(tmp_path):
    folder = tmp_path / "penstock"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    with pytest.raises(UsageError, match="penstock"):
        module_name(os.fspath(folder / "flows.py"))
