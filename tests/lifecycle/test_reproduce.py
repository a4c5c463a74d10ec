"""Parts of doing a version again: stored code as files, the processes' surroundings, environments told apart."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from penstock.cli.tracked import difference_of
from penstock.core.artifact import Artifact
from penstock.core.flow import Graph, Node, calls_of
from penstock.core.ports import Config, Home
from penstock.core.run import Entry, Group, Result, Run, StepRun
from penstock.core.source import read
from penstock.core.target import Roles, Target
from penstock.core.workflow import Workflow
from penstock.engine.closure import Closure
from penstock.engine.source_files import source_files
from penstock.errors import NotReproducibleError, UnknownNameError, UntrustedTypeError, UsageError
from penstock.lifecycle import again, new_env
from penstock.lifecycle.agreement import lower_reproduction
from penstock.lifecycle.environments import differences
from penstock.lifecycle.kept_code import files_of, made_with
from penstock.lifecycle.original import Original, check_trust, original_of, stored
from penstock.lifecycle.register import json_artifact, manifest_of
from penstock.lifecycle.reproduce import Reproduction
from penstock.lifecycle.stage_ids import CANDIDATE
from penstock.lifecycle.versions import Version
from penstock.stages.agree import agree, apart

CODE: dict[str, Any] = {"file": "churn.py", "folders": ["."], "params": {}, "set": {}, "seed": 0, "variable": None}


def version_with(**body: Any) -> Version:
    return Version("churn", 1, Entry("churn/version", 1, body))


def original_with(**facts: Any) -> Original:
    return Original("churn@1", "churn", 1, "r" * 16, 0.0, "ana@host", **facts)


# ── stored code ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name", ["../x.py", "/etc/x", "a/../../x", "a//x", "", "a\\x", "C:x", "a\0x", ".penstock/ledger.db", ".git/config"]
)
def test_stored_path_that_leaves_the_folder_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    code = CODE | {"files": {"churn.py": "x", name: "x"}}
    with pytest.raises(ValueError, match="project"):
        files_of(code)
    home = Home(Config(str(tmp_path / "near"), "", ""), None, None, None)  # type: ignore[arg-type]  # not touched
    with pytest.raises(NotReproducibleError, match="not the code of a project"):
        again.make_site(home, code, str(tmp_path / "clean"), lambda *_: home, entry="x", python="")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("change", [{"file": "../churn.py"}, {"folders": ["../x"]}, {"files": 3}, {"files": {"a": 3}}])
def test_stored_code_of_another_form_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    home = Home(Config(str(tmp_path / "near"), "", ""), None, None, None)  # type: ignore[arg-type]  # not touched
    with pytest.raises(NotReproducibleError, match="not the code of a project"):
        again.make_site(home, CODE | {"files": {}} | change, str(tmp_path / "c"), lambda *_: home, entry="x", python="")


def test_source_files_are_those_that_importing_executes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src" / "kitchen").mkdir(parents=True)
    (tmp_path / "src" / "kitchen" / "__init__.py").write_text("")
    (tmp_path / "src" / "kitchen" / "knives.py").write_text("def cut(x):\n    return x\n")
    (tmp_path / "src" / "kitchen" / "unused.py").write_text("")
    (tmp_path / "declared_here.py").write_text("def go(x):\n    from kitchen.knives import cut\n    return cut(x)\n")
    (tmp_path / "declared_here.schema.toml").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    monkeypatch.syspath_prepend(str(tmp_path))
    beside = [str(tmp_path / name) for name in ("declared_here.schema.toml", "absent.toml")]
    found = source_files(Closure(str(tmp_path)), str(tmp_path / "declared_here.py"), str(tmp_path), beside)
    assert found["file"] == "declared_here.py"
    names = ["declared_here.py", "declared_here.schema.toml", "src/kitchen/__init__.py", "src/kitchen/knives.py"]
    assert list(found["files"]) == names
    assert (found["folders"], found["outside"]) == ([".", "src"], [])


def test_code_that_was_edited_meanwhile_is_withheld_and_odd_bytes_come_back(raced_home: Home) -> None:
    import hashlib

    root = Path(raced_home.config.root)
    odd = "# coding: latin-1\nNAME = 'Zoë'\n".encode("latin-1")
    (root / "churn.py").write_bytes(odd)
    told = CODE | {"files": {"churn.py": hashlib.sha256(odd).hexdigest()}, "outside": []}
    graph = Graph("churn", (Node("a", "m:f", ["list", []], ""),), about={"code": told, "machine": {}})
    code = json.loads(raced_home.objects.read(made_with(raced_home, graph)["code"].digest))
    assert files_of(code) == {"churn.py": odd}
    (root / "churn.py").write_text("other")
    code = json.loads(raced_home.objects.read(made_with(raced_home, graph)["code"].digest))
    assert code == {"penstock": "code/1", "withheld": "churn.py was edited while the run began"}
    outside = replace(graph, about={"code": told | {"outside": ["/else/x.py"]}, "machine": {}})
    code = json.loads(raced_home.objects.read(made_with(raced_home, outside)["code"].digest))
    assert code["withheld"] == "/else/x.py lies outside of the project"


def test_file_that_is_a_link_is_kept_by_the_name_under_which_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (root / "common", elsewhere):
        folder.mkdir(parents=True)
    (root / "common" / "release_7.py").write_text("def ratio(x):\n    return x\n")
    (elsewhere / "shared_knife.py").write_text("def cut(x):\n    return x\n")
    (root / "linked_ratio.py").symlink_to("common/release_7.py")
    (root / "linked_knife.py").symlink_to(elsewhere / "shared_knife.py")
    declared = root / "linked_declares.py"
    declared.write_text("from linked_knife import cut\nfrom linked_ratio import ratio\n")
    monkeypatch.syspath_prepend(str(root))
    (tmp_path / "by_another_name").symlink_to(root)
    for place in (root, tmp_path / "by_another_name"):
        found = source_files(Closure(str(place)), str(place / declared.name), str(place))
        assert list(found["files"]) == ["linked_declares.py", "linked_knife.py", "linked_ratio.py"]
        assert (found["file"], found["folders"], found["outside"]) == ("linked_declares.py", ["."], [])


def kept_of(home: Home, files: dict[str, bytes], tree: Any = None, **told: Any) -> dict[str, Any]:
    """What is kept of a flow with these files and arguments."""
    import hashlib

    for name, data in files.items():
        (Path(home.config.root) / name).write_bytes(data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    about = {"code": CODE | {"files": digests, "outside": []} | told, "machine": {}}
    graph = Graph("churn", (Node("a", "m:f", tree or ["list", []], ""),), about=about)
    code: dict[str, Any] = json.loads(home.objects.read(made_with(home, graph)["code"].digest))
    assert "s3cr3tly" not in json.dumps(code)
    return code


@pytest.mark.parametrize(
    "data", [b"# coding: latin-1\nNAME = 'Zo\xeb'\nKEY = 's3cr3tly'\n", b"\xff\xfe\nNAME = 1\nKEY = 's3cr3tly'\n"]
)
def test_secret_in_a_file_of_another_encoding_is_not_kept(
    raced_home: Home, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3tly")
    code = kept_of(raced_home, {"churn.py": data}, ["secret", "env:TOKEN"])
    assert code["withheld"] == "churn.py holds a password or the value of a secret in line 3"


def test_secret_that_stands_in_a_file_or_was_given_by_hand_is_not_kept(
    raced_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(raced_home.config.root)
    (root / "token.txt").write_text("s3cr3tly\n")
    code = kept_of(raced_home, {"churn.py": b"KEY = 's3cr3tly'\n"}, ["secret", "file:token.txt"])
    assert code["withheld"] == "churn.py holds a password or the value of a secret in line 1"
    monkeypatch.setenv("TOKEN", "s3cr3tly")
    for told in ({"params": {"key": "s3cr3tly"}}, {"set": {"model.C": "s3cr3tly"}}):
        code = kept_of(raced_home, {"churn.py": b""}, ["secret", "env:TOKEN"], **told)
        assert "given by hand" in code["withheld"]
    code = kept_of(raced_home, {"churn.py": b""}, params={"url": "postgresql://ana:s3cr3tly@db/x"})
    assert "given by hand" in code["withheld"]
    assert kept_of(raced_home, {"churn.py": b""}, ["secret", "file:absent.txt"])["files"] == {"churn.py": ""}


def test_name_that_is_no_utf8_is_told_rather_than_kept(raced_home: Home) -> None:
    about = {"code": CODE | {"files": {"caf\udce9/churn.py": "0" * 64}, "outside": []}, "machine": {}}
    graph = Graph("churn", (Node("a", "m:f", ["list", []], ""),), about=about)
    code = json.loads(raced_home.objects.read(made_with(raced_home, graph)["code"].digest))
    assert code["withheld"] == "caf\\xe9/churn.py has a name that is no UTF-8"


def test_only_the_candidates_that_were_tried_are_tried_again(tmp_path: Path) -> None:
    models = {"one": LogisticRegression(), "two": LogisticRegression(C=2.0)}
    declared = Workflow(name="churn", data=read(str(tmp_path / "a.csv")), target="y", model=models)
    names = []
    for only in ((), ("one",)):
        outputs, _ = lower_reproduction(declared, str(tmp_path / "churn.py"), only=only)
        names.append({call.name for call in calls_of(outputs)})
    assert names[0] - names[1] == {f"{CANDIDATE}two"}
    assert names[1] < names[0]


def test_nothing_of_the_work_tree_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "tree" / "src", tmp_path / "libraries"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (inside, outside, tmp_path / "tree"))))
    monkeypatch.setenv("PENSTOCK_LEDGER", "elsewhere")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    found = again.surroundings(str(tmp_path / "tree"), ["/clean"], 1, keep=True)
    assert found["PYTHONPATH"].split(os.pathsep) == ["/clean", str(outside)]
    assert not {"PENSTOCK_LEDGER", "PYTHONHASHSEED"} & found.keys()
    assert again.surroundings(str(tmp_path / "tree"), ["/clean"], 1, keep=False)["PYTHONPATH"] == "/clean"


# ── who may ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_code_of_others_is_not_run_unasked(raced_home: Home) -> None:
    ours, theirs = original_with(), original_with(foreign=True)
    check_trust(raced_home, ours, trust=False)
    shared = replace(raced_home, config=Config("/p", "/s", "postgresql://db/x"))
    for home, version in ((raced_home, theirs), (shared, ours)):
        with pytest.raises(UntrustedTypeError, match="to reproduce churn@1 is to run the code"):
            check_trust(home, version, trust=False)
        check_trust(home, version, trust=True)


def test_version_of_a_given_threshold_names_the_one_it_was_made_of(raced_home: Home) -> None:
    with pytest.raises(UsageError, match="threshold that a person gave") as caught:
        original_of(raced_home, version_with(decided={"from": 4}))
    assert caught.value.hint == "penstock reproduce churn@4"


def test_run_is_held_to_what_it_gave_itself_and_one_that_reused_everything_to_its_maker(raced_home: Home) -> None:
    ledger, kept = raced_home.ledger, {"digest": "c" * 64, "format": "json", "size": 1}
    gave, gave_later = (Artifact(letter * 64, "parquet", 1) for letter in "ab")
    result = Result("e" * 64, "d" * 64, ["dict", []], None, (gave_later,), {"run": "1" * 16, "step": "prepared"})
    made = Run("1" * 16, "churn", "run", "done", 1.0, info={"code": {"files": kept}, "who": "ana@host"})
    idle = Run("2" * 16, "churn", "run", "done", 2.0, info={"recipes": {"prepared": result.recipe}})
    seen = Run("3" * 16, "churn", "monitor", "done", 3.0)
    empty = Run("4" * 16, "churn", "run", "failed", 4.0)
    rows = [
        StepRun(made.id, "prepared", 1, result.recipe, "run", "done", {"why": "new"}, (gave,)),
        StepRun(made.id, "train", 1, None, "run", "failed", {"why": "new"}),
    ]
    ledger.commit(Group(runs=[made, idle, seen, empty], results=[result], step_runs=rows))
    for run in (made, idle):
        found = original_of(raced_home, run)
        assert (found.name, found.number, found.who, found.done, found.rest) == (
            "run:11111111", None, "ana@host", ("prepared",), ("train",)
        )  # fmt: skip
        assert found.results["prepared"].outputs == (gave,)  # not what the same recipe gave since
        assert list(found.files) == ["code"]
    with pytest.raises(UsageError, match="run:33333333 is no run of a declaration but a monitor"):
        original_of(raced_home, seen)
    with pytest.raises(NotReproducibleError, match="run:44444444 kept no code: no step of it began"):
        original_of(raced_home, empty)


def test_difference_that_gc_let_go_of_is_said_to_be_kept_no_longer(raced_home: Home) -> None:
    info = {"code": {"diff": {"digest": "d" * 64, "format": "json", "size": 9}}, "let_go": True}
    raced_home.ledger.commit(Group(runs=[Run("5" * 16, "churn", "run", "done", 1.0, info=info)]))
    with pytest.raises(UnknownNameError, match="run 5555: the difference of its code is kept no longer"):
        difference_of(raced_home, raced_home.ledger.runs()[0])


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "an older Penstock made it"),
        ({"code": {"penstock": "code/1", "withheld": "a.py holds a password"}}, "a.py holds a password"),
        ({"code": {"penstock": "code/9", "files": {}}}, "a form that this Penstock does not know"),
    ],
)
def test_version_without_its_code_says_why(raced_home: Home, files: dict[str, Any], told: str) -> None:
    members = {name: json_artifact(raced_home.objects, value) for name, value in files.items()}
    bundle = manifest_of(raced_home, "churn", members)
    with pytest.raises(NotReproducibleError, match=f"the code of churn@1 is not stored: .*{told}"):
        stored(raced_home, original_of(raced_home, version_with(bundle=bundle.to_json())))


# ── grades ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("outcome", "asked", "code"),
    [
        ("identical bytes", False, 0),
        ("identical predictions", False, 0),
        ("equal within t", False, 6),
        ("equal within t", True, 0),
        ("different", True, 6),
    ],
)
def test_only_what_was_asked_for_passes(outcome: str, asked: bool, code: int) -> None:
    assert Reproduction(original_with(), outcome=outcome, asked=asked).exit_code == code


def test_apart_is_relative_above_one_and_knows_no_answer() -> None:
    a = np.array([[0.5, 2_000.0], [np.nan, np.inf]])
    assert apart(a, a.copy()) == 0.0
    assert apart(a, a + np.array([[0.001, 0.0], [0.0, 0.0]])) == pytest.approx(0.001)
    assert apart(a, a + np.array([[0.0, 1.0], [0.0, 0.0]])) == pytest.approx(1 / 2_001)
    assert apart(a, np.where(np.isnan(a), 0.0, a)) is None
    assert apart(a[:0], a[:0]) == 0.0


def test_small_amounts_that_differ_by_half_are_not_called_equal() -> None:
    small = np.array([[2e-9], [4e-9], [0.0]])
    assert apart(small, small / 2, least=0.0) == pytest.approx(0.5)
    assert apart(small * 0.0, small * 0.0, least=0.0) == 0.0
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "y": [2e-9, 4e-9, 5e-9]})
    ours, theirs = (LinearRegression().fit(frame[["a"]], frame["y"] * times) for times in (1.0, 1.5))
    known: dict[str, Any] = {"target": Target("y"), "roles": Roles(), "schema": {"task": "regression"}}
    assert agree(frame, fitted=ours, recorded=theirs, **known)["max_difference"] == pytest.approx(1 / 3)


def test_each_estimator_is_asked_with_the_threshold_beside_it() -> None:
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "y": [0, 0, 1, 1]})
    model = LogisticRegression().fit(frame[["a"]], frame["y"])
    schema = {"task": "binary", "classes": [0, 1], "positive": 1}
    known: dict[str, Any] = {"target": Target("y"), "roles": Roles(), "schema": schema}
    same = agree(frame, fitted=model, recorded=model, **known, **decisions(0.5, 0.5))
    assert (same["identical"], same["labels"]) == (True, 0)
    other = agree(frame, fitted=model, recorded=model, **known, **decisions(0.01, 0.99))
    assert (other["identical"], other["max_difference"], other["labels"]) == (False, 0.0, 4)


def decisions(ours: float, theirs: float) -> dict[str, Any]:
    return {"decision": {"threshold": ours}, "recorded_decision": {"threshold": theirs}}


# ── environments ────────────────────────────────────────────────────────────────────────────────────────────────

MACHINE = {
    "python": "3.12.1",
    "implementation": "cpython",
    "platform": "linux-x86_64",
    "cpu": "x86-64-v3",
    "threads": "1",
    "blas": ["openblas 0.3 Haswell"],
    "distributions": {"a": ["1", "x"], "numpy": ["2.0", "x"], "z": ["1", "x"]},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"python": "3.13.0"}, "Python 3.13.0, was 3.12.1"),
        ({"implementation": "pypy"}, "pypy, was cpython"),
        ({"platform": "darwin-arm64"}, "platform darwin-arm64, was linux-x86_64"),
        ({"cpu": "x86-64-v4"}, "processor x86-64-v4, was x86-64-v3"),
        ({"threads": "4"}, "threads 4, was 1"),
        ({"blas": ["mkl 2025"]}, "BLAS mkl 2025, was openblas 0.3 Haswell"),
        ({"distributions": {"a": ["1", "x"], "numpy": ["2.0", "y"], "z": ["1", "x"]}}, "numpy 2.0 with other files"),
        ({"distributions": {"numpy": ["2.0", "x"], "z": ["1", "x"]}}, "a is not installed, was 1"),
    ],
)
def test_each_difference_is_told(change: dict[str, Any], told: str) -> None:
    assert differences(MACHINE, MACHINE | change) == [told]
    assert differences(MACHINE, MACHINE) == []


def test_libraries_that_the_step_reaches_come_first() -> None:
    now = {name: ["9", "y"] for name in MACHINE["distributions"]}
    assert differences(MACHINE, MACHINE | {"distributions": now}, ["Z"])[0] == "z 9, was 1"


def test_what_is_there_in_one_of_them_alone_is_counted_unless_it_is_reached() -> None:
    many = {f"tool{i}": ["1", "x"] for i in range(6)}
    more = MACHINE | {"distributions": {**MACHINE["distributions"], **many}}
    assert differences(more, MACHINE) == ["6 distributions of then are not installed"]
    told = ["tool3 is not installed, was 1", "5 distributions of then are not installed"]
    assert differences(more, MACHINE, ["tool3"]) == told
    assert differences(MACHINE, more) == ["6 distributions are installed that were not then"]


# ── the clean folder ────────────────────────────────────────────────────────────────────────────────────────────────


def test_folder_of_a_killed_process_goes_with_the_next_and_that_of_one_at_work_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = tmp_path / f"{again.PREFIX}killed"
    (killed / "project").mkdir(parents=True)
    (killed / again.LOCK).write_text("")
    begun = tmp_path / f"{again.PREFIX}begun"  # its owner has not got to its lock
    begun.mkdir()
    with again.clean_folder() as first:
        assert not killed.exists()
        with again.clean_folder() as second:
            assert os.path.isdir(first)
            assert os.path.isdir(second)
    assert os.listdir(tmp_path) == [begun.name]
    with pytest.raises(KeyboardInterrupt), again.clean_folder() as folder:
        (Path(folder) / "part").write_text("x")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == [begun.name]


# ── a new environment ───────────────────────────────────────────────────────────────────────────────────────────


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_environment_that_cannot_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin" / "uv", "import sys\nprint('no solution: numpy==0.0', file=sys.stderr)\nsys.exit(1)\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    make = new_env.maker(str(tmp_path))
    machine = {"python": "3.12.1", "distributions": {"numpy": ["0.0", ""]}}
    with pytest.raises(NotReproducibleError, match=r"uv said: no solution: numpy==0\.0"):
        make(str(tmp_path / "env"), machine, {"numpy": "0.0"})
    with pytest.raises(NotReproducibleError, match="not on record"):
        make(str(tmp_path / "env"), {}, {})
    (tmp_path / "bin" / "uv").unlink()
    with pytest.raises(NotReproducibleError, match=r"Python 2\.7\.0 is on record"):
        make(str(tmp_path / "env"), machine | {"python": "2.7.0"}, {})


def test_environment_is_asked_for_by_recorded_versions_and_gets_penstock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import json, os, sys, venv\n"
        f"log = open({str(tmp_path / 'log')!r}, 'a')\n"
        "print(json.dumps(sys.argv[1:]), file=log)\n"
        "if sys.argv[1] == 'venv':\n"
        "    venv.create(sys.argv[-1])\n"
        "elif '-r' in sys.argv:\n"
        "    print(json.dumps(open(sys.argv[-1]).read()), file=log)\n"
    )
    program(tmp_path / "bin" / "uv", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    said: list[str] = []
    machine = {"python": "3.12.1", "distributions": {"numpy": ["2.0", ""], "extra-lib": ["3", ""]}}
    folder = tmp_path / "env"
    python = new_env.maker(str(tmp_path), said.append)(str(folder), machine, {"numpy": "2.0", "python": "3.12.1"})
    made, installed, wanted = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert made == ["venv", "--python", "3.12.1", str(folder)]
    assert installed[:4] == ["pip", "install", "--python", python]
    assert wanted == "numpy==2.0\n"
    assert "extra-lib==3" in Path(installed[installed.index("-c") + 1]).read_text()
    assert said == ["makes an environment with Python 3.12.1 and the recorded versions; this needs the network"]
    [link] = folder.glob("lib/python*/site-packages/penstock")
    assert (link / "errors.py").is_file()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("requirements.txt", "numpy==2.0 \\\n    --hash=sha256:{h} \\\n    --hash=sha256:{h}\n"),
        ("uv.lock", '[[package]]\nname = "numpy"\nversion = "2.0"\nwheels = [{{url = "x", hash = "sha256:{h}"}}]\n'),
        ("pylock.toml", '[[packages]]\nname = "numpy"\nversion = "2.0"\nwheels = [{{hashes = {{sha256 = "{h}"}}}}]\n'),
    ],
)
def test_hashes_come_from_the_lock_where_it_names_the_recorded_versions(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text.format(h="0" * 64))
    locked = new_env.lock_of(str(tmp_path))
    assert locked is not None
    lines, told = new_env.requirements(["numpy"], {"numpy": "2.0"}, locked)
    assert lines[0].startswith(f"numpy==2.0 --hash=sha256:{'0' * 64}")
    assert told == f"the versions and hashes of {file}"
    assert new_env.requirements(["numpy"], {"numpy": "1.0"}, locked)[0] == ["numpy==1.0"]
    assert new_env.lock_of(str(tmp_path / "none")) is None
