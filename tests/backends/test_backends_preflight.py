"""What is known beforehand to go wrong on a backend is told beforehand, each with its remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock import __version__
from penstock.backends.backend import Finding, Options
from penstock.backends.compiled import Compiled, compiled
from penstock.backends.preflight import described, preflight
from penstock.core.flow import Node
from penstock.core.query import READ_SQL
from penstock.errors import UsageError

CHURN = """
import wave
import penstock as ps
from beside import Wider

churn = ps.Workflow(
    name="churn", data=ps.read("a.csv"), target="y", key="id", model=Wider(), metrics=["roc_auc"],
    resources={"train": ps.Resources(cpu=2, memory="1GiB", labels={"queue": "big"})},
)
"""
BESIDE = """
from sklearn.linear_model import LogisticRegression

class Wider(LogisticRegression):
    pass
"""
FLOW = """
import sys
sys.path.append(OUTSIDE)
import penstock as ps
from shared_code import helped

@ps.step(retries=2, timeout_s=60)
def first(table, n: int):
    return helped(n)

flow = ps.Flow(first(ps.read(OUTSIDE + "/data.csv"), ps.Param("n", 1)), name="small")
"""


class Plain:
    """A backend that has nothing of its own to say."""

    name = "plain"
    away = False

    def check(self, flow: Compiled, options: Options) -> list[Finding]:
        return []


class Away(Plain):
    away = True


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("churn")
    (folder / "penstock.toml").write_text('[env.prod]\nstore = "prod-store"\n')
    (folder / "churn.py").write_text(CHURN)
    (folder / "beside.py").write_text(BESIDE)
    (folder / "a.csv").write_text("id,x,y\n1,2,0\n")
    return compiled(str(folder / "churn.py"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder, outside = tmp_path_factory.mktemp("small"), tmp_path_factory.mktemp("outside")
    (folder / "penstock.toml").write_text("")
    (folder / "flows.py").write_text(FLOW.replace("OUTSIDE", repr(str(outside))))
    (outside / "shared_code.py").write_text("def helped(n):\n    return n\n")
    (outside / "data.csv").write_text("x\n1\n")
    return compiled(str(folder / "flows.py"))


def configured(flow: Compiled, **changes: Any) -> Compiled:
    return replace(flow, home=replace(flow.home, config=replace(flow.home.config, **changes)))


def found(flow: Compiled, backend: Any = None, grade: str = "error", **options: Any) -> list[Finding]:
    return [one for one in preflight(flow, backend or Plain(), Options(**options)) if one.grade == grade]


def python(folder: Path, lacks: tuple[str, ...]) -> str:
    """A Python that is this one without some modules."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({lacks!r}))\n")
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def answering(folder: Path, **told: Any) -> str:
    """A program that answers whatever it is asked."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
    path.chmod(0o755)
    return str(path)


# ── what other machines cannot see ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("backend", "options"), [(Away(), {}), (Plain(), {"image": "churn@sha256:1"})])
def test_a_local_store_is_no_store_for_other_machines(churn: Compiled, backend: Any, options: Any) -> None:
    store, ledger = found(churn, backend, **options)
    assert store.what == "the store is .penstock on this machine, which no other one sees"
    assert 'store = "s3://bucket/penstock"' in store.remedy
    assert "PENSTOCK_LEDGER" in ledger.remedy
    elsewhere = configured(churn, store="s3://b/x", ledger="postgresql://db/x", trust=("own",))
    assert found(elsewhere, backend, **options) == []


def test_on_this_machine_a_local_store_is_seen(churn: Compiled) -> None:
    assert found(churn) == []


def test_a_source_outside_the_project_is_on_this_machine_alone(small: Compiled) -> None:
    told = [one.what for one in found(small, Away()) if one.what.startswith("source data reads")]
    assert len(told) == 1
    assert "data.csv, outside the project" in told[0]


@pytest.mark.parametrize(
    ("url", "alone", "lacks"),
    [
        ("sqlite:///data.db", True, []),
        ("postgresql://ana@localhost:5432/x", True, ["postgres"]),
        ("postgresql+psycopg://127.0.0.1/x", True, ["postgres"]),
        ("postgresql://db.acme/x", False, ["postgres"]),
    ],
)
def test_a_database_of_this_machine_alone_is_none_of_others(
    small: Compiled, tmp_path: Path, url: str, alone: bool, lacks: list[str]
) -> None:
    tree = ["list", [["list", [["source", ["dict", [["query", "select 1"], ["url", url]]]]]], ["dict", []]]]
    query = Node("orders", READ_SQL, tree, "", kind="source")
    flow = replace(small, graph=replace(small.graph, nodes=(query,), about={}))
    told = [one.what for one in found(flow, Away()) if "orders" in one.what]
    assert told == ([f"source orders queries {url}, which is this machine's alone"] if alone else [])
    other = replace(flow, python=answering(tmp_path, version=__version__, lacks=["psycopg", "sqlalchemy"], codes={}))
    assert [one.what.rpartition(" ")[2] for one in found(other)] == ["sql", *lacks]


def test_a_python_of_another_machine_is_not_looked_at(small: Compiled) -> None:
    away = replace(small, python="/srv/python", file="/srv/flows.py")
    assert [one.what for one in found(away) if "python" in one.what] == []
    [told] = [one for one in found(away, grade="note") if "python" in one.what]
    assert told.what == "/srv/python is not on this machine: whether it can run the steps was not looked at"
    assert told.remedy == "there: /srv/python -m penstock export plain FILE --check"


def test_code_outside_the_project_is_told_on_every_backend(small: Compiled) -> None:
    [told] = found(small)
    assert "shared_code.py belongs to the declaration and lies outside the project" in told.what
    assert "install it as a package" in told.remedy


def test_an_image_must_hold_the_file_its_modules_and_extras(churn: Compiled) -> None:
    [told] = [one.what for one in found(churn, grade="note", image="churn@sha256:1") if "must hold" in one.what]
    assert told.startswith("the image churn@sha256:1 must hold penstock[serve] as here")
    assert "beside.py, churn.py" in told


# ── the Python that runs the steps ──────────────────────────────────────────────────────────────────────────────


def test_this_python_is_not_started_again(churn: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it has just imported the file"))
    assert found(churn) == []


def test_a_python_that_lacks_what_deploying_needs(churn: Compiled, tmp_path: Path) -> None:
    other = replace(churn, python=answering(tmp_path, version=__version__, lacks=["uvicorn"], codes={}))
    [told] = found(other)
    assert told.what.endswith("lacks the extra serve")
    assert told.remedy == "pip install 'penstock[serve]' there, or --until register where others deploy"
    assert found(configured(other, release="never")) == []
    held = configured(other, release="ci")
    assert found(held) == []
    assert [one.what for one in found(held, environment={"PENSTOCK_RELEASE": "ci"})] == [told.what]


def test_a_python_that_cannot_import_the_file(churn: Compiled, tmp_path: Path) -> None:
    [told] = found(replace(churn, python=python(tmp_path, ("wave",))))
    assert "cannot import churn.py" in told.what
    assert "wave" in told.what
    assert told.remedy == "install there what the project needs"


def test_a_python_that_has_no_penstock(small: Compiled, tmp_path: Path) -> None:
    other = replace(small, python=python(tmp_path, ("penstock",)))
    assert [one.remedy for one in found(other) if "cannot import penstock" in one.what] == [
        f"{other.python} -m pip install penstock"
    ]


@pytest.mark.parametrize("text", ["", "#!/bin/sh\nexit 3\n", "#!/bin/sh\necho hello\n", "#!/bin/sh\necho '[1]'\n"])
def test_a_python_that_is_none(small: Compiled, tmp_path: Path, text: str) -> None:
    path = tmp_path / "python"
    if text:
        path.write_text(text)
        path.chmod(0o755)
    told = [one for one in found(replace(small, python=str(path))) if "does not run" in one.what]
    assert len(told) == 1
    assert told[0].remedy == "--python names the Python that runs the steps of plain"


def test_another_version_there_is_told(small: Compiled, tmp_path: Path) -> None:
    [told] = found(replace(small, python=answering(tmp_path, version="0.0.1", lacks=[])), grade="warning")
    assert "has penstock 0.0.1, and this is" in told.what


def test_steps_that_have_another_recipe_there_are_told_with_the_library(small: Compiled, tmp_path: Path) -> None:
    other = replace(small, python=python(tmp_path, ()))
    assert found(other, grade="warning") == []
    codes = {
        digest: {name: "0.0" if name == "library:numpy" else value for name, value in parts.items()}
        for digest, parts in small.graph.codes.items()
    }
    [told] = found(replace(other, graph=replace(small.graph, codes=codes)), grade="warning")
    assert told.what.startswith("1 of 2 steps have another recipe there, so what is made here is not reused: numpy 0.0")


# ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_own_types_need_trust_where_others_write_too(churn: Compiled) -> None:
    shared = configured(churn, store="s3://b/x", ledger="postgresql://db/x", release="auto")
    [told] = [one for one in found(shared) if "code of this project" in one.what]
    assert "beside:Wider" in told.what
    assert 'trust = ["own"]' in told.remedy
    assert not [one for one in found(configured(shared, trust=("own",))) if "code of this project" in one.what]
    assert not [one for one in found(configured(shared, release="never")) if "code of this project" in one.what]


def test_a_secret_is_written_nowhere(small: Compiled) -> None:
    [told] = [one for one in found(small, environment={"DB_PASSWORD": "x1"}) if "secret" in one.what]
    assert (told.what, told.remedy) == (
        "DB_PASSWORD holds a secret, and would stand in the file",
        "--secret DB_PASSWORD",
    )
    url = "postgresql://ana:s3cret@db/x"
    given = replace(small, request=replace(small.request, params={"n": url}))
    told = [one for one in found(given, environment={"PLACE": url}) if "s3cret" in one.what + one.remedy]
    assert told == []
    assert [one.what[:22] for one in found(given, environment={"PLACE": url})][1:] == [
        "PLACE holds a secret, ",
        "the value of n holds a",
    ]


def test_what_two_looks_find_is_told_once_and_errors_first(churn: Compiled) -> None:
    class Twice(Plain):
        def check(self, flow: Compiled, options: Options) -> list[Finding]:
            return [
                Finding("note", "hm"),
                *[Finding("error", "DB_TOKEN holds a secret, and would stand in the file")] * 2,
            ]

    told = preflight(churn, Twice(), Options(environment={"DB_TOKEN": "x"}))
    assert [one.grade for one in told] == ["error", "note"]


def test_a_flow_is_described_by_its_tasks(churn: Compiled) -> None:
    lines = described(churn, Plain(), Options())
    assert lines[0].startswith("prepare: a, validate, split")
    assert " · after prepare · 2 cpu · 1 GiB memory · queue=big" in lines[1]
    assert lines[-1].startswith(f"each starts {sys.executable} · store ")


def test_an_environment_holds_for_one_flow_alone(churn: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_ENV", raising=False)
    prod = compiled(churn.request.file, env="prod", until="a")
    assert "PENSTOCK_ENV" not in os.environ
    assert prod.home.config.store.endswith("prod-store")
    assert prod.arguments(["a"], "plain")[-2:] == ["--env", "prod"]
    assert "--env" not in churn.arguments(["a"], "plain")


MAIN = """
import penstock as ps
from penstock.backends.compiled import compiled

@ps.step
def first(n: int):
    return n

flow = ps.Flow(first(ps.Param("n", 1)), name="here")
if __name__ == "__main__":
    compiled(flow)
"""


def test_a_step_of_the_script_that_runs_is_in_no_other_process(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "script.py").write_text(MAIN)
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "UsageError" in ended.stderr
    assert "only this process holds it" in ended.stderr
    assert "write it to a file, and name that file or import it" in ended.stderr
    assert compiled(str(tmp_path / "script.py")).name == "here"


def test_what_no_file_holds_is_refused(churn: Compiled) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        compiled(f"{churn.request.file}x")
