"""`penstock reproduce`: identical where nothing that counts differs, and the first step and its cause where it does."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from penstock.core.artifact import Artifact
from penstock.core.ports import Home
from penstock.lifecycle.original import original_of
from penstock.lifecycle.reproduce import reproductions
from penstock.lifecycle.versions import manifest, version
from penstock.project import open_home

DECLARED = """
import os

import numpy as np
import penstock as ps
from sklearn.linear_model import LogisticRegression

from helpers import ratio


@ps.step
def prepared(table):
    table["r"] = ratio(table) + float(os.environ.get("DRIFT", "0")) * table["b"]
    if "NOISE" in os.environ:
        table["r"] += float(os.environ["NOISE"]) * np.random.default_rng().normal(size=len(table))
    return table


churn = ps.Workflow(
    name="churn",
    data=prepared(ps.read("customers.csv")),
    target="churned",
    key="customer_id",
    model=LogisticRegression(C=1.0),
    metrics=["roc_auc"],
)
"""
HELPERS = 'def ratio(table):\n    return table["a"] / (table["b"].abs() + 1)\n'


def made(shop_class: Any, folder: Path, declared: str = DECLARED, table: str = "", jobs: str = "1") -> Any:
    """A project with one registered version, that was not judged."""
    folder.mkdir(parents=True)
    shop = shop_class(folder)
    shop.write("penstock.toml", "")
    shop.write("customers.csv", table or shop_class.table())
    shop.write("helpers.py", HELPERS)
    shop.write("churn.py", declared)
    options = ["--until", "register", "--set", "model.C=0.5", "--seed", "3", "--jobs", jobs]
    ended = shop.call("run", "churn.py", *options, "--json")
    assert ended.code == 0, ended.err or ended.out  # registered, as far as was asked; nothing has judged it
    return shop


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, shop_class: type[Any]) -> Any:
    return made(shop_class, tmp_path_factory.mktemp("reproduce") / "project")


@pytest.fixture
def project(original: Any, tmp_path: Path, shop_class: type[Any]) -> Any:
    """A copy of the project at another place, with the store that it had."""
    return shop_class(Path(shutil.copytree(original.folder, tmp_path / "moved")))


def home_of(shop: Any) -> Home:
    return open_home(str(shop.folder))


def file_in(home: Home, name: str) -> Artifact:
    return Artifact.from_json(manifest(home, version(home.ledger, "churn", 1).bundle)["files"][name])


def reproduced(shop: Any, *words: str) -> tuple[int, dict[str, Any]]:
    ended = shop.call("reproduce", "churn@1", "--json", *words)
    return ended.code, json.loads(ended.out)


def test_same_bytes_from_stored_code_although_the_tree_has_moved_and_changed(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("helpers.py", HELPERS.replace("+ 1", "+ 2"))
    project.write("churn.py", DECLARED.replace("C=1.0", "C=9.0").replace("prepared", "other"))
    project.write("customers.csv", "gone\n")
    before = {path: path.read_bytes() for path in project.folder.glob("[a-z]*.*")}
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project.folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PENSTOCK_ENV", "dev")
    code, told = reproduced(project)
    assert (code, told["outcome"], told["step"], told["unknown"]) == (0, "identical bytes", "", []), told
    assert told["compared"] >= 7
    home = home_of(project)
    [entry] = home.ledger.stream("churn/reproduction")
    assert (entry.body["version"], entry.body["summary"]) == (1, "identical bytes")
    assert home.ledger.streams("churn/")["churn/version"] == 1
    assert {path: path.read_bytes() for path in project.folder.glob("[a-z]*.*")} == before
    told_by_show = project.call("show", "churn@1").out
    assert "reproduced: identical bytes" in told_by_show


def test_same_bytes_under_another_hash_seed_day_zone_number_of_jobs_and_order_of_the_rows(
    original: Any, tmp_path: Path, shop_class: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    header, *rows = shop_class.table().splitlines()
    random.Random(3).shuffle(rows)
    (tmp_path / "ahead").mkdir()
    ahead = "import time\nnow = time.time\ntime.time = lambda: now() + 400 * 86_400\n"
    (tmp_path / "ahead" / "sitecustomize.py").write_text(ahead)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "ahead"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    other = made(shop_class, tmp_path / "other", table="\n".join([header, *rows, ""]), jobs="2")
    contents = [version(home_of(shop).ledger, "churn", 1).body["content"] for shop in (original, other)]
    assert contents[0] == contents[1]


def test_unseeded_step_is_named_with_its_cause(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISE", "5")
    ended = project.call("reproduce", "churn@1")
    assert ended.code == 6, ended.out + ended.err
    assert "✗ churn@1: different; first at prepared" in ended.out
    assert (
        "cause    prepared is not reproducible: run twice here on the same inputs it differs from itself" in ended.out
    )
    assert "held-out rows" in ended.out


def test_answers_that_are_near_pass_within_what_was_asked_for(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFT", "1e-9")
    code, told = reproduced(project, "--within", "1e-7")
    assert (code, told["outcome"], told["step"], told["within"]) == (0, "equal within t", "prepared", 1e-7), told
    assert 0 < told["agreement"]["max_difference"] < 1e-7
    assert any("it reads something else" in text for text in told["causes"]), told


def test_damaged_code_is_refused(project: Any) -> None:
    home = home_of(project)
    path = Path(home.objects.fetch(file_in(home, "code").digest))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"default_rng", b"default_rnG"))
    ended = project.call("reproduce", "churn@1")
    assert ended.code == 1, ended.out
    assert "digest" in ended.err


def test_sources_are_read_again_where_their_tables_are_gone_and_said_to_be_gone_where_neither_is_there(
    project: Any,
) -> None:
    home = home_of(project)
    recipe = version(home.ledger, "churn", 1).body["recipes"]["customers"]
    [table] = [a for a in home.ledger.results([recipe])[recipe].outputs if a.format == "parquet"]
    home.objects.delete(table.digest)
    code, told = reproduced(project)
    assert (code, told["outcome"], told["reread"]) == (0, "identical bytes", ["customers"])
    project.write("customers.csv", project.table(seed=2))
    ended = project.call("reproduce", "churn@1")
    assert ended.code == 6
    assert "customers is gone" in ended.err


def test_version_of_others_runs_only_when_it_is_trusted(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("penstock.toml", '[env.prod]\nstore = "prod"\nledger = "prod/ledger.db"\n')
    assert project.call("push", "churn@1", "--to", "prod").code == 0
    monkeypatch.setenv("PENSTOCK_ENV", "prod")
    ended = project.call("reproduce", "churn@1")
    assert ended.code == 2
    assert "comes from another environment" in ended.err
    project.write("customers.csv", project.table())
    code, told = reproduced(project, "--trust")
    assert (code, told["outcome"]) == (0, "identical bytes"), told


def test_code_with_a_password_is_not_kept(project: Any) -> None:
    place = "postgresql://ana:s3cretly@db/x"
    declared = project.write("churn.py", DECLARED + f'\nPLACE = "{place}"\n').read_text()
    ran = project.call("run", "churn.py", "--until", "prepared", "--force", "prepared")
    assert ran.code == 0
    assert "note  its code is not kept, so it cannot be reproduced: churn.py holds a password" in ran.out
    stored = [path for path in project.folder.joinpath(".penstock").rglob("*") if path.is_file()]
    assert not [path for path in stored if path.suffix != ".pyc" and b"s3cretly" in path.read_bytes()]
    home = home_of(project)
    code = home.formats.load(Artifact.from_json(home.ledger.runs()[0].info["code"]["files"]), home.objects)
    line = declared.split("\n").index(f'PLACE = "{place}"') + 1
    assert code["withheld"] == f"churn.py holds a password or the value of a secret in line {line}"


def test_run_that_registered_nothing_is_done_again_as_far_as_it_got(project: Any) -> None:
    opened = "\nHERE = open(__file__.replace('churn.py', 'beside.txt')).read()\n"
    project.write("churn.py", DECLARED.replace("return table", "return table.loc[table['a'] > -99]") + opened)
    project.write("beside.txt", "x")
    assert project.call("run", "churn.py", "--until", "prepared").code == 0
    ended = project.call("reproduce", "last")
    assert ended.code == 6
    assert "cannot be imported here: FileNotFoundError" in ended.err
    project.write("churn.py", DECLARED.replace("return table", "return table.loc[table['a'] > -99]"))
    assert project.call("run", "churn.py", "--until", "prepared", "--force", "prepared").code == 0
    ended = project.call("reproduce", "last", "--json")
    told = json.loads(ended.out)
    home = home_of(project)
    newest, *_ = home.ledger.runs()
    assert (ended.code, told["outcome"], told["compared"]) == (0, "identical bytes", 2), ended.out + ended.err
    assert (told["version"], told["run"]) == (None, newest.id)
    assert not reproductions(home, version(home.ledger, "churn", 1))
    first = home.ledger.runs()[-1]
    assert original_of(home, first).name == "churn@1"  # it registered a version
    home.objects.delete(newest.kept["code"])
    ended = project.call("reproduce", f"run:{newest.id[:6]}")
    assert ended.code == 6
    assert "is not kept any more" in ended.err


def test_plan_says_that_another_processor_made_what_is_reused(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.lifecycle.run.machine", lambda: {"cpu": "x86-64-v9", "threads": 1})
    ended = project.call("plan", "churn.py", "--json")
    reasons = {one["step"]: one["reason"]["what"] for one in json.loads(ended.out)["steps"]}
    assert reasons["prepared"].endswith("this is x86-64-v9"), ended.out


def library(folder: Path, release: str, value: float) -> None:
    """A library of one number, as it would be installed."""
    shutil.rmtree(folder, ignore_errors=True)
    about = folder / f"scalelib-{release}.dist-info"
    about.mkdir(parents=True)
    (folder / "scalelib.py").write_text(f"FACTOR = {value}\n")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: scalelib\nVersion: {release}\n")
    (about / "RECORD").write_text(f"scalelib.py,sha256={release},16\nscalelib-{release}.dist-info/RECORD,,\n")


def test_library_that_has_changed_is_named(
    tmp_path: Path, shop_class: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = tmp_path / "libraries"
    library(libraries, "1.0", 1.0)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(libraries), os.environ.get("PYTHONPATH", "")]))
    declared = DECLARED.replace("import numpy as np", "import numpy as np\nimport scalelib").replace(
        "ratio(table) +", "scalelib.FACTOR * ratio(table) +"
    )
    shop = made(shop_class, tmp_path / "project", declared)
    library(libraries, "2.0", 1.5)
    code, told = reproduced(shop)
    assert (code, told["step"]) == (6, "prepared"), told
    assert told["causes"][0] == "scalelib 1.0 → 2.0" or "scalelib" in told["causes"][0], told
    assert "scalelib 2.0, was 1.0" in told["environment"]
