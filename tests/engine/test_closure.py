from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.core.digest import digest_code, digest_value
from penstock.engine import closure as closure_module
from penstock.engine.analysis import analyse
from penstock.engine.closure import PYTHON, Closure, CodePart, origins_of
from penstock.engine.effects import Effect, Effects
from penstock.engine.libraries import ABSENT, Libraries
from penstock.engine.memory import MOST_MODULES, Memory
from penstock.engine.normal import normal_text
from penstock.engine.source_files import source_files
from penstock.engine.summary import ANALYSIS, Summary

PREP = """
import penstock as ps
import numpy as np
from zz_helper import fill, unused
from sklearn.pipeline import Pipeline
from sklearn.linear_model import LogisticRegression

LIMIT = 10
SPARE = 11

def inner(x):
    return np.log(x)

@ps.step(retries=2)
def clean(x):
    return inner(fill(x)) + LIMIT

@ps.step
def other(x):
    return x + SPARE

flow = ps.Workflow(name="one", data=clean(ps.read("a.csv")), target="y",
                   model=Pipeline([("m", LogisticRegression(C=1.0))]))
"""
HELPER = """
TABLE = {}

def register(f):
    TABLE[f.__name__] = f
    return f

@register
def plugin(x):
    return x + 1

def deep(x):
    return x

def fill(x):
    return [f(x) for f in TABLE.values()]

def unused(x):
    return x
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(textwrap.dedent(text))
    return root


@pytest.fixture
def part(tmp_path: Path) -> Callable[..., CodePart]:
    """Writes a project and gives the code part of its entry, each time with nothing remembered."""

    def of(entry: str = "zz_prep:clean", **files: str) -> CodePart:
        write(tmp_path, {f"{name.replace('__', '/')}.py": text for name, text in files.items()})
        return Closure(str(tmp_path)).of(entry)

    return of


def project(old: str = "", new: str = "") -> dict[str, str]:
    """The small project, with one text replaced in both files."""
    assert not old or old in PREP + HELPER
    return {
        "zz_prep": PREP.replace(old, new) if old else PREP,
        "zz_helper": HELPER.replace(old, new) if old else HELPER,
    }


# ── what a part holds ────────────────────────────────────────────────────────────────────────────────────────


def test_parts_are_definitions_libraries_and_python(part: Callable[..., CodePart]) -> None:
    found = part(**project())
    assert set(found.parts) == {
        "zz_prep:clean",
        "zz_prep:inner",
        "zz_prep:LIMIT",
        "zz_prep:fill",
        "zz_prep:np",
        "zz_helper:fill",
        "zz_helper:TABLE",
        "zz_helper:register",
        "zz_helper:plugin",
        "library:numpy",
        "python",
    }
    assert found.parts["python"] == PYTHON
    assert found.digest == digest_code(found.parts)
    assert found.uncacheable == ""


COUNTS = {
    "the step": ("inner(fill(x)) + LIMIT", "inner(fill(x)) - LIMIT"),
    "a helper": ("np.log(x)", "np.exp(x)"),
    "a constant": ("LIMIT = 10", "LIMIT = 12"),
    "a constant of another type": ("LIMIT = 10", "LIMIT = 10.0"),
    "an imported function": ("[f(x) for f in TABLE.values()]", "(f(x) for f in TABLE.values())"),
    "a registered function": ("return x + 1\n", "return x + 2\n"),
    "what registers": ("TABLE[f.__name__] = f", "TABLE[f.__name__ + '_'] = f"),
    "another library under one name": ("import numpy as np", "import scipy as np"),
    "the step's outputs": ("@ps.step(retries=2)", "@ps.step(outputs=('a', 'b'))"),
}
DOES_NOT_COUNT = {
    "a comment": ("LIMIT = 10", "LIMIT = 10  # rows"),
    "a docstring": ("def inner(x):\n", "def inner(x):\n    '''The logarithm.'''\n"),
    "layout": ("return np.log(x)", "return (np.log(\n        x))"),
    "another step": ("x + SPARE", "x - SPARE"),
    "another constant": ("SPARE = 11", "SPARE = 12"),
    "an unused helper": ("def unused(x):\n    return x", "def unused(x):\n    return -x"),
    "the declaration": ('name="one"', 'name="two"'),
    "an estimator's parameter": ("C=1.0", "C=2.0"),
    "how the engine runs it": ("@ps.step(retries=2)", "@ps.step(retries=9, timeout_s=3)"),
    "an unused import": ("from zz_helper import fill, unused", "from zz_helper import fill"),
    "what runs as a script": ("SPARE = 11", "SPARE = 11\nif __name__ == '__main__':\n    inner(3)"),
}


@pytest.mark.parametrize("edit", COUNTS)
def test_what_counts(edit: str, part: Callable[..., CodePart]) -> None:
    assert part(**project()).digest != part(**project(*COUNTS[edit])).digest


@pytest.mark.parametrize("edit", DOES_NOT_COUNT)
def test_what_does_not_count(edit: str, part: Callable[..., CodePart]) -> None:
    assert part(**project()).parts == part(**project(*DOES_NOT_COUNT[edit])).parts


def test_sabotage_without_the_effects_a_registered_function_is_not_seen(
    part: Callable[..., CodePart], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = COUNTS["a registered function"]
    assert part(**project()).digest != part(**project(*edit)).digest
    monkeypatch.setattr(Effects, "of", lambda *_: Effect())
    assert part(**project()).digest == part(**project(*edit)).digest


def test_sabotage_with_docstrings_in_the_normal_form_a_docstring_counts(
    part: Callable[..., CodePart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.engine.normal.is_docstring", lambda _: False)
    assert part(**project()).digest != part(**project(*DOES_NOT_COUNT["a docstring"])).digest


# ── golden: what each form of top-level code does to `go`, which reads STATE ─────────────────────────────────

STATE = "STATE = []\ndef go(x):\n    return STATE\ndef near():\n    return 3\n"
TOUCHES = [
    "STATE.append(3)",
    "STATE[:] = [3]",
    "STATE += [3]",
    "del STATE[:]",
    "for i in range(3):\n    STATE.append(i)",
    "if near():\n    STATE.append(3)",
    "try:\n    STATE.append(near())\nexcept ValueError:\n    pass",
    "with open('x') as f:\n    STATE.append(f)",
    "alias = STATE\nalias.append(3)",
    "def put(f):\n    STATE.append(f)\n    return f\n@put\ndef plug():\n    return 3",
    "def put(to):\n    to.append(3)\nx = put(STATE)",
    "class Base:\n    def __init_subclass__(cls):\n        STATE.append(cls)\nclass Sub(Base):\n    pass",
    "class Meta(type):\n    def __init__(cls, *a):\n        STATE.append(cls)\nclass Sub(metaclass=Meta):\n    pass",
    "x = [STATE.append(i) for i in range(3)]",
    "x = (y := STATE).append(3)",
    "import heapq\nx = heapq.heappushpop(STATE, 3)",
    "def change():\n    global STATE\n    STATE = [4]\nx = change()",
    "globals()['STATE'] = [3]",
    "import warnings\nwarnings.simplefilter('error')",
    "import os\nos.environ['MODE'] = '3'",
    "near()",
]
LEAVES = [
    "x = 3",
    "x = len(STATE)",
    "x = near()",
    "x = STATE[0] if STATE else None",
    "x = STATE + [3]",
    "def f():\n    STATE.append(3)",
    "class C:\n    def f(self):\n        STATE.append(3)",
    "import functools\n@functools.lru_cache\ndef f():\n    return 3",
    "import dataclasses\n@dataclasses.dataclass\nclass C:\n    x: int = 3",
    "if False:\n    x = 3",
    "OTHER = []\nOTHER.append(3)",
    "print('imported')",
    "import logging\nlogging.basicConfig(level=3)",
    "import penstock as ps\nps.log('imported')",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zz_nowhere",
]


@pytest.mark.parametrize("code", TOUCHES)
def test_a_statement_that_may_change_what_is_reached_counts(code: str, part: Callable[..., CodePart]) -> None:
    assert part("zz_s:go", zz_s=STATE).digest != part("zz_s:go", zz_s=STATE + code).digest


@pytest.mark.parametrize("code", LEAVES)
def test_a_statement_that_cannot_does_not(code: str, part: Callable[..., CodePart]) -> None:
    assert part("zz_s:go", zz_s=STATE).parts == part("zz_s:go", zz_s=STATE + code).parts


def test_effects_count_in_their_order_and_definitions_in_any(part: Callable[..., CodePart]) -> None:
    one, two = "STATE.append(1)\n", "STATE.extend([2])\n"
    assert part("zz_s:go", zz_s=STATE + one + two).digest != part("zz_s:go", zz_s=STATE + two + one).digest
    f, g = "def f():\n    return 1\nA = 1\n", "B = [2]\ndef g():\n    return 2\n"
    use = "def go(x):\n    return f() + g() + A + B[0]\n"
    assert part("zz_s:go", zz_s=f + g + use).parts == part("zz_s:go", zz_s=use + g + f).parts


def test_a_read_before_or_after_a_change_is_not_the_same(part: Callable[..., CodePart]) -> None:
    go = "def go(x):\n    return COUNT\n"
    first = part("zz_s:go", zz_s="STATE = []\nCOUNT = len(STATE)\nSTATE.append(1)\n" + go).parts
    second = part("zz_s:go", zz_s="STATE = []\nSTATE.append(1)\nCOUNT = len(STATE)\n" + go).parts
    assert {name for name in first if first[name] != second[name]} == {"zz_s:<top>"}


def test_the_order_of_imports_counts_where_both_act(part: Callable[..., CodePart]) -> None:
    shared = {"zz_reg": "REG = []\n", "zz_a": "from zz_reg import REG\nREG.append(1)\n"}
    shared["zz_b"] = "from zz_reg import REG\nREG.append(2)\n"
    go = "from zz_reg import REG\ndef go(x):\n    return REG\n"
    one = part("zz_m:go", zz_m="import zz_a\nimport zz_b\n" + go, **shared)
    two = part("zz_m:go", zz_m="import zz_b\nimport zz_a\n" + go, **shared)
    assert one.digest != two.digest
    alone = part("zz_m:go", zz_m="import zz_a\n" + go, **shared)
    assert not any(name.startswith("zz_b") for name in alone.parts)


def test_estimators_of_the_project_in_the_declaration_do_not_tie_steps_to_it(part: Callable[..., CodePart]) -> None:
    model = """
    NUMERIC = ["age"]
    class Clip:
        def __init__(self, columns, by=1):
            self.columns = columns
            self.by = by
        def fit(self, X):
            self.low_ = X[NUMERIC]
            return self
    def step(x):
        return x[NUMERIC]
    """
    app = """
    import penstock as ps
    from zz_model import NUMERIC, Clip, step
    flow = ps.Workflow(name="a", data=step, target="y", model=Clip(NUMERIC, by=1))
    @ps.step
    def go(x):
        return Clip(NUMERIC).fit(step(x))
    """
    one = part("zz_app:go", zz_app=app, zz_model=model)
    assert "zz_model:Clip" in one.parts
    assert one.parts == part("zz_app:go", zz_app=app.replace("by=1)", "by=2)"), zz_model=model).parts


# ── modules ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_imports_are_followed_in_every_form(part: Callable[..., CodePart]) -> None:
    found = part(
        "zz_pkg.main:go",
        zz_pkg____init__="",
        zz_pkg__main="""
        import zz_pkg.one
        import zz_pkg.two as second
        from . import three
        from .four import f as fourth
        def go(x):
            from zz_pkg import five
            return [zz_pkg.one.f(x), second.f(x), three.f(x), fourth(x), five.f(x)]
        """,
        **{
            f"zz_pkg__{name}": "def f(x):\n    return x\ndef g(x):\n    return x\n"
            for name in ("one", "two", "three", "four", "five")
        },
    )
    assert [name for name in sorted(found.parts) if name.endswith(":f")] == [
        f"zz_pkg.{name}:f" for name in ("five", "four", "one", "three", "two")
    ]
    assert not any(name.endswith(":g") for name in found.parts)


@pytest.mark.parametrize(
    "body",
    ["eval('f')(x)", "globals()['f'](x)", "getattr(x, x)", "vars()[x]", "setattr(x, 'a', 3)", "x.__dict__", "exec(x)"],
)
def test_what_hides_names_reaches_the_whole_module_and_its_imports(body: str, part: Callable[..., CodePart]) -> None:
    found = part(
        "zz_s:go", zz_s=f"import zz_t\ndef go(x):\n    return {body}\ndef f(x):\n    return 1\n", zz_t="A = 1\n"
    )
    assert {"zz_s:f", "zz_t:A"} <= set(found.parts)


def test_a_module_that_is_passed_on_is_reached_whole(part: Callable[..., CodePart]) -> None:
    found = part("zz_s:go", zz_s="import zz_t\ndef go(f):\n    return f(zz_t)\n", zz_t="A = 1\nB = 2\n")
    assert {"zz_t:A", "zz_t:B"} <= set(found.parts)


def test_modules_by_computed_names_reach_every_file(
    part: Callable[..., CodePart], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"zz_s": "import importlib\ndef go(x):\n    return importlib.import_module(x)\n", "zz_t": "A = 1\n"}
    found = part("zz_s:go", **files)
    assert "zz_t:A" in found.parts
    assert not found.uncacheable
    monkeypatch.setattr("penstock.engine.reach.MOST_FILES", 1)
    assert "computed names" in part("zz_s:go", **files).uncacheable


def test_a_module_by_a_constant_name_is_an_import(part: Callable[..., CodePart]) -> None:
    files = {"zz_s": "import importlib\ndef go(x):\n    return importlib.import_module('zz_t').A\n", "zz_t": "A = 1\n"}
    found = part("zz_s:go", **files, zz_u="B = 1\n")
    assert "zz_t:A" in found.parts
    assert "zz_u:B" not in found.parts


def test_a_broken_or_binary_module_counts_by_its_bytes(tmp_path: Path) -> None:
    import importlib.machinery

    binary = tmp_path / f"zz_fast{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    write(tmp_path, {"zz_s.py": "import zz_bad, zz_fast\ndef go(x):\n    return zz_bad.f(x), zz_fast.f(x)\n"})
    digests = set()
    for text in ("def f(:", "def g(:"):
        for data in (b"\0one", b"\0two"):
            (tmp_path / "zz_bad.py").write_text(text)
            binary.write_bytes(data)
            digests.add(Closure(str(tmp_path)).of("zz_s:go").digest)
    assert len(digests) == 4


def test_environments_inside_the_root_are_not_the_project(tmp_path: Path) -> None:
    found = closure_module.Modules(str(tmp_path), analyse_any, Libraries())
    assert found.is_below(str(tmp_path / "a.py"))
    assert found.is_below(str(tmp_path / "pkg" / "a.py"))
    for folder in (".venv/lib", ".penstock/pycache", "env/lib/site-packages"):
        assert not found.is_below(str(tmp_path / folder / "a.py"))
    assert not found.is_below(os.__file__)
    assert not found.is_below(None)


def analyse_any(data: bytes, path: str, own: bool) -> Summary:
    return analyse(data if path.endswith(".py") else b"")


def test_a_root_below_the_prefix_of_python_is_still_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path.parent))
    write(tmp_path, {"zz_s.py": "def go(x):\n    return x\n"})
    assert "zz_s:go" in Closure(str(tmp_path)).of("zz_s:go").parts


def test_what_another_imported_module_patches_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = "import zz_prep\nzz_prep.LIMIT = 3\n"
    write(tmp_path, {"zz_prep.py": "LIMIT = 1\ndef go(x):\n    return LIMIT\n", "zz_main.py": main})
    alone = Closure(str(tmp_path)).of("zz_prep:go")
    module = types.ModuleType("zz_main")
    module.__file__ = str(tmp_path / "zz_main.py")
    monkeypatch.setitem(sys.modules, "zz_main", module)
    patched = Closure(str(tmp_path)).of("zz_prep:go")
    assert set(patched.parts) - set(alone.parts) == {"zz_main:<top>:zz_prep", "zz_main:zz_prep"}


def test_a_patch_of_a_function_made_anew_counts_where_nothing_was(part: Callable[..., CodePart]) -> None:
    files = {"zz_t": "def f(x):\n    return added(x)\n", "zz_s": "import zz_t\ndef go(x):\n    return zz_t.f(x)\n"}
    plain = part("zz_s:go", **files)
    added = "def new(x):\n    return 1\nzz_t.added = new\n"
    assert part("zz_s:go", zz_t=files["zz_t"], zz_s=files["zz_s"] + added).digest != plain.digest


# ── entries and live objects ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("entry", ["__main__:f", "zz_s:make.<locals>.f", "zz_s:<lambda>", "zz_not_there:f"])
def test_what_has_no_name_or_source_is_not_cacheable(entry: str, part: Callable[..., CodePart]) -> None:
    found = part(entry, zz_s="def make():\n    def f(x):\n        return x\n    return f\n")
    assert found.uncacheable
    assert len(found.digest) == 64


def test_classes_of_arguments_count_with_their_bases_and_libraries(tmp_path: Path) -> None:
    text = "class Base:\n    by = 1\nclass Clip(Base):\n    pass\ndef go(x):\n    return x\n"
    write(tmp_path, {"zz_own.py": text})
    namespace: dict[str, Any] = {"__name__": "zz_own"}
    exec(text, namespace)  # what the process holds; the code is read off the file

    from sklearn.linear_model import Ridge

    plain = Closure(str(tmp_path)).of("zz_own:go")
    found = Closure(str(tmp_path)).of("zz_own:go", [namespace["Clip"](), Ridge(), len, 3])
    assert set(found.parts) - set(plain.parts) >= {
        "zz_own:Clip",
        "zz_own:Base",
        "library:scikit-learn",
        "library:numpy",
    }
    write(tmp_path, {"zz_own.py": text.replace("by = 1", "by = 2")})
    assert Closure(str(tmp_path)).of("zz_own:go", [namespace["Clip"]()]).digest != found.digest


@pytest.mark.parametrize("is_editable", [True, False])
def test_library_that_is_edited_where_it_lies_counts_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_editable: bool
) -> None:
    """Its version stays while its files change: by that alone a result would be used again wrongly."""
    text = "def cut(x):\n    return x + 1\n"
    url = {"url": f"file://{tmp_path}/beside", "dir_info": {"editable": is_editable}}
    about = "site/zz_sibling-1.0.dist-info"
    declared = "from zz_sibling import cut\ndef go(x):\n    return cut(x)\n"
    write(tmp_path, {"project/zz_goes.py": declared, "beside/zz_sibling.py": text, f"{about}/RECORD": ""})
    write(tmp_path, {f"{about}/METADATA": "Metadata-Version: 2.1\nName: zz_sibling\nVersion: 1.0\n"})
    write(tmp_path, {f"{about}/direct_url.json": json.dumps(url)})
    for folder in ("site", "beside", "project"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    root = tmp_path / "project"
    before = Closure(str(root)).of("zz_goes:go")
    assert ("zz_sibling:cut" in before.parts, "library:zz_sibling" in before.parts) == (is_editable, not is_editable)
    told = source_files(Closure(str(root)), str(root / "zz_goes.py"), str(root))
    assert (list(told["files"]), told["outside"]) == (["zz_goes.py"], [])  # a library all the same
    write(tmp_path, {"beside/zz_sibling.py": text.replace("x + 1", "x + 2")})
    assert (Closure(str(root)).of("zz_goes:go").digest != before.digest) is is_editable


def test_origins_of_live_objects() -> None:
    import functools
    import math
    from fractions import Fraction

    assert origins_of(textwrap.dedent) == ["textwrap:dedent"]
    assert origins_of(math.floor) == ["math:floor"]
    assert origins_of(Fraction(1)) == [
        "fractions:Fraction",
        "numbers:Rational",
        "numbers:Real",
        "numbers:Complex",
        "numbers:Number",
    ]
    assert origins_of(functools.partial(textwrap.dedent, "a")) == ["textwrap:dedent"]
    assert origins_of(Fraction.from_float)[0] == "fractions:Fraction"
    assert origins_of(analyse_any) == [f"{__name__}:analyse_any"]

    def local() -> None: ...

    assert origins_of(local) == [f"{__name__}:test_origins_of_live_objects"]


def test_a_step_among_the_arguments_is_its_function(tmp_path: Path) -> None:
    from penstock.core.step import Step

    function = types.FunctionType((lambda x: x).__code__, {"__name__": "zz_s"}, "helper")
    function.__module__, function.__qualname__ = "zz_s", "helper"
    write(tmp_path, {"zz_s.py": "def helper(x):\n    return x\ndef go(x):\n    return x\n"})
    from penstock.core.step import Options

    found = Closure(str(tmp_path)).of("zz_s:go", [Step(function, Options())])
    assert "zz_s:helper" in found.parts


def test_our_own_steps_are_digested_by_our_own_definitions(tmp_path: Path) -> None:
    found = Closure(str(tmp_path)).of("penstock.stages.ingest:read")
    assert "penstock.stages.ingest:read" in found.parts
    assert "library:pyarrow" in found.parts
    assert not any(name.startswith(("library:penstock", "penstock:__version__")) for name in found.parts)
    assert not any(name.startswith(("penstock.engine", "penstock.serve", "penstock.store")) for name in found.parts)


def test_a_users_step_does_not_follow_penstock(part: Callable[..., CodePart]) -> None:
    found = part("zz_s:go", zz_s="import penstock as ps\n@ps.step\ndef go(x):\n    ps.log('a', 1)\n    return x\n")
    assert set(found.parts) == {"zz_s:go", "python"}


# ── libraries ────────────────────────────────────────────────────────────────────────────────────────────────


def test_versions_are_those_of_the_metadata() -> None:
    from importlib import metadata

    libraries = Libraries()
    for module, name in {"sklearn": "scikit-learn", "numpy": "numpy", "pandas": "pandas", "yaml": "PyYAML"}.items():
        if module in metadata.packages_distributions():
            assert libraries.versions(module)[name] == metadata.version(name)
    assert set(libraries.versions("sklearn")) == {"scikit-learn", "numpy", "scipy"}
    assert libraries.versions("zz_no_such_library") == {"zz_no_such_library": ABSENT}


def test_a_library_that_is_only_annotated_counts(part: Callable[..., CodePart]) -> None:
    text = "import typing\nif typing.TYPE_CHECKING:\n    import polars as pl\ndef go(x: pl.DataFrame):\n    return x\n"
    assert "library:polars" in part("zz_s:go", zz_s=text).parts
    quoted = text.replace("pl.DataFrame)", "'pl.DataFrame')")
    assert "library:polars" in part("zz_s:go", zz_s=quoted).parts


# ── stability, memory, speed ─────────────────────────────────────────────────────────────────────────────────


def test_digests_do_not_depend_on_the_process(tmp_path: Path) -> None:
    write(tmp_path, {f"{name}.py": text for name, text in project().items()})
    say = "print(Closure(sys.argv[1]).of('zz_prep:clean').digest)"
    script = f"import sys; from penstock.engine.closure import Closure; {say}"
    source = str(Path(closure_module.__file__).parents[2])
    for seed, cwd in (("0", tmp_path), ("7", tmp_path.parent)):
        environment = os.environ | {"PYTHONPATH": source, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, str(tmp_path)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment,
            check=True,
        )
        assert done.stdout.strip() == Closure(str(tmp_path)).of("zz_prep:clean").digest


def test_no_nesting_is_too_deep(part: Callable[..., CodePart]) -> None:
    chain = " + ".join(["1"] * 900)
    calls = "\n".join(f"def f{i}(x):\n    return f{i + 1}(x)" for i in range(3_000)) + "\ndef f3000(x):\n    return x\n"
    found = part("zz_s:f0", zz_s=f"A = {chain}\n{calls}")
    assert "zz_s:f3000" in found.parts


def test_the_cache_changes_nothing_and_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"{name}.py": text for name, text in project().items()})
    cache = str(tmp_path / "made" / "cache.json")
    first = Closure(str(tmp_path), cache=cache)
    plain = first.of("zz_prep:clean")
    first.save()
    monkeypatch.setattr(closure_module, "analyse", lambda _: pytest.fail("parsed again"))
    assert Closure(str(tmp_path), cache=cache).of("zz_prep:clean") == plain
    assert os.listdir(tmp_path / "made") == ["cache.json"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"penstock": "analysis"}', "other python", "other rows"])
def test_a_damaged_or_old_cache_is_ignored(damage: str, tmp_path: Path) -> None:
    write(tmp_path, {f"{name}.py": text for name, text in project().items()})
    cache = tmp_path / "cache.json"
    first = Closure(str(tmp_path), cache=str(cache))
    plain = first.of("zz_prep:clean")
    first.save()
    whole = json.loads(cache.read_text())
    if damage == "other python":
        cache.write_text(json.dumps(whole | {"python": [3, 0, 0]}))
    elif damage == "other rows":
        cache.write_text(json.dumps(whole | {"modules": {key: [False, [[1]]] for key in whole["modules"]}}))
    else:
        cache.write_text(damage)
    again = Closure(str(tmp_path), cache=str(cache))
    assert again.of("zz_prep:clean") == plain
    again.save()
    assert json.loads(cache.read_text())["modules"].keys() == whole["modules"].keys()


def test_the_cache_is_bounded_and_keeps_what_was_used(tmp_path: Path) -> None:
    memory = Memory(str(tmp_path / "cache.json"))
    for index in range(MOST_MODULES + 5):
        memory.put(str(index), Summary([]))
    memory.save()
    again = Memory(str(tmp_path / "cache.json"))
    assert again.get("0") is None
    assert again.get("5") == Summary([])
    again.put("new", Summary([]))
    again.save()
    last = Memory(str(tmp_path / "cache.json"))
    assert last.get("5") == Summary([])
    assert last.get("6") is None


def test_a_cache_that_cannot_be_written_costs_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = Memory(str(tmp_path / "file" / "cache.json"))
    memory.put("a", Summary([]))
    memory.save()
    assert memory.get("a") is None


def test_a_repeat_costs_microseconds(tmp_path: Path) -> None:
    import time

    write(tmp_path, {f"{name}.py": text for name, text in project().items()})
    made = Closure(str(tmp_path))
    first = made.of("zz_prep:clean")
    start = time.process_time()
    for _ in range(10_000):
        made.of("zz_prep:clean")
    assert time.process_time() - start < 0.2  # 20 µs each, some 30 times what it takes
    assert made.of("zz_prep:clean") is first


def test_golden_normal_form_and_analysis() -> None:
    """A change here is a change of every recipe: raise `ANALYSIS`, and say so in a changelog fragment."""
    import ast

    text = normal_text(ast.parse("def f(x, *, y=1):\n    'doc'\n    return x + 1.0, 'a', b'a', True, None, 255\n").body)
    assert text.startswith("FunctionDef('f',arguments([][arg('x',None,)]None,[arg('y',None,)][Constant(0x1,)]None,[])")
    assert "Constant(1.0,)" in text
    assert "Constant(0xff,)" in text
    if sys.version_info[:2] == (3, 11):
        summary = analyse((PREP + HELPER).encode()).to_json()
        assert (ANALYSIS, digest_value("test", summary)[:16]) == (1, GOLDEN)


GOLDEN = "603e5b1b43d44fe5"
