"""A version with classes of the project as files: with the code of training, or not at all."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.engine.own_code import own_code

PROJECT = Path(__file__).parents[1] / "serve" / "fraud_project"


def penstock(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "penstock", *words], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )


def write_payments(folder):
    rng = random.Random(1)
    rows = ["id,amount,age,fraud"]
    for i in range(300):
        bad = rng.random() < 0.4
        rows.append(f"{i},{rng.lognormvariate(3 + bad, 0.5):.3f},{rng.uniform(18, 80):.2f},{int(bad)}")
    (folder / "payments.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fraud") / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    write_payments(folder)
    ran = penstock(folder, "run", "fraud_model.py", "-q", "--until", "register")
    assert ran.returncode in (0, 7), ran.stderr  # registered, and not judged
    pulled = penstock(folder, "pull", "fraud@1", "taken")
    assert pulled.returncode == 0, pulled.stderr
    return folder


def score(folder, *more, code=""):
    """Run the script of the files, or some code beside it, in isolation from the project and from Penstock."""
    bare = "import sys; sys.modules['penstock'] = None; sys.path.insert(0, '.'); "
    body = (
        code or "sys.argv = ['score.py', *sys.argv[1:]]; import runpy; runpy.run_path('score.py', run_name='__main__')"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", bare + body, *more], cwd=folder, env=env, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip


def test_the_files_score_the_golden_rows_without_penstock_and_project(project, tmp_path):
    taken = shutil.copytree(project / "taken", tmp_path / "taken")
    assert sorted(str(path.relative_to(taken)) for path in (taken / "code").rglob("*.py")) == [
        "code/fraud/__init__.py",
        "code/fraud/features.py",
        "code/fraud/helpers.py",
    ]
    made = score(taken, "golden.csv")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == (taken / "golden_answers.csv").read_text().splitlines()


def test_a_module_of_the_same_name_from_elsewhere_is_not_taken_for_it(project, tmp_path):
    taken = shutil.copytree(project / "taken", tmp_path / "taken")
    shutil.copytree(taken / "code" / "fraud", taken / "fraud")
    made = score(taken, code="import fraud.features, score; score.estimator()")
    assert made.returncode == 1
    assert "ImportError: fraud" in made.stderr
    assert "not from" in made.stderr


def test_other_code_than_that_of_training_is_not_written(project, tmp_path):
    folder = shutil.copytree(project, tmp_path / "project")
    features = folder / "fraud" / "features.py"
    features.write_text(features.read_text().replace("np.log1p", "np.log2"))
    refused = penstock(folder, "pull", "fraud@1", "again")
    assert refused.returncode == 2
    assert "another fraud.features:log_all than is here" in refused.stderr
    assert not (folder / "again").exists()


def test_code_that_needs_penstock_is_not_written(project, tmp_path):
    folder = shutil.copytree(project, tmp_path / "project")
    (folder / "fraud" / "__init__.py").write_text("import penstock\n")
    refused = penstock(folder, "pull", "fraud@1", "again")
    assert refused.returncode == 2
    assert "fraud, which imports penstock" in refused.stderr


def test_all_that_a_module_imports_of_the_project_is_found_and_nothing_else(tmp_path):
    files = {
        "lib/a/__init__.py": "",
        "lib/a/b.py": "from . import c\nfrom .d import one\nimport numpy.linalg, os\n",
        "lib/a/c.py": "import e\ntry:\n    from a.b import f\nexcept ImportError:\n    pass\n",
        "lib/a/d.py": "one = 1\n",
        "lib/a/other.py": "",
        "lib/e.py": "from sklearn import base\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = own_code(str(tmp_path), ["a.b"], ["lib"])
    assert set(found.files) == {"a/__init__.py", "a/b.py", "a/c.py", "a/d.py", "e.py"}
    assert (found.libraries, found.with_penstock) == ({"numpy", "sklearn"}, [])
    assert own_code(str(tmp_path), ["nowhere"], ["lib"]).files == {}
