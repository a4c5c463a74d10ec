"""The process entry: what it makes of a file, and that it is for Penstock alone."""

import importlib
import sys

import pytest

from penstock.errors import DeclarationError, UsageError
from penstock.lifecycle.stage_ids import STAGES
from penstock.worker import FRAMES, LIBRARIES, load, main

STEPS = """\
import penstock as ps

@ps.step
def clean(rows, keep=2):
    return rows[:keep]

@ps.step
def count(rows):
    return len(rows)

table = ps.read("a.csv")
"""
WORKFLOW = """\
import penstock as ps

class Scaler:
    def fit(self, X, y=None):
        return self
    def transform(self, X):
        return X
    def get_params(self, deep=True):
        return {}

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

"""
CHURN = 'churn = ps.Workflow(name="churn", data=ps.read("a.csv"), target="y", model=%s)\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Gives a function that writes a file and what a coordinator would ask of it; the import leaves no trace."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "a.csv").write_text("y\n1\n")

    def ask(text, *, name="declared_here", **request):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        importlib.invalidate_caches()
        return {"file": str(path), "variable": None, "root": str(tmp_path), "what": "run", **request}

    yield ask
    for one in set(sys.modules) - before:
        if one.partition(".")[0] in ("declared_here", "other_here"):
            del sys.modules[one]


def steps(live):
    return [node.id for node in live.graph.nodes]


# ── not for people ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments", [[], ["serve"], ["run", "3"], ["serve", "x"], ["serve", "-1"], ["serve", "²"], ["serve", "3", "4"]]
)
def test_wrong_arguments_end_with_2(capsys, arguments):
    assert main(arguments) == 2
    assert capsys.readouterr().err == "penstock.worker is started by penstock itself\n"


def test_the_process_s_own_arguments_are_the_default(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["worker", "serve"])
    assert main() == 2


def test_right_arguments_serve_on_that_descriptor(monkeypatch):
    seen = []
    monkeypatch.setattr("penstock.worker.serve", lambda *given: seen.append(given))
    assert main(["serve", "37"]) == 0
    assert seen == [(37, load)]


# ── what a file declares ─────────────────────────────────────────────────────────────────────────────────────


def test_a_flow_gives_its_name_and_its_steps(project):
    live, runtime = load(project(STEPS + "both = ps.Flow(count(clean(table)), name='tables')\n"))
    assert (live.graph.name, steps(live)) == ("tables", ["a", "clean", "count"])
    assert list(live.graph.about) == ["code", "machine"]  # what it takes to do it again, and nothing of a workflow
    assert runtime.seed == 0
    live, _ = load(project(STEPS + "n = count(clean(table))\n", what="audit", extra={"only": ["b"]}))
    assert live.graph.about["code"]["only"] == ["b"]  # every kind of run keeps what it takes
    assert "sklearn.model_selection" in LIBRARIES
    assert not {"pandas", "sklearn.model_selection", "skops.io"} & set(runtime.warm)


def test_a_promised_output_is_a_flow_called_after_its_file(project):
    live, _ = load(project(STEPS + "n = count(clean(table))\ndel table\n"))
    assert (live.graph.name, steps(live)) == ("declared_here", ["a", "clean", "count"])


def test_several_promised_outputs_are_one_flow(project):
    live, _ = load(project(STEPS + "n = count(clean(table))\nm = clean(table, name='second')\n"))
    assert sorted(steps(live)) == ["a", "clean", "count", "second"]


def test_a_workflow_is_lowered_to_the_steps_of_its_life(project):
    live, runtime = load(project(WORKFLOW + CHURN % "LogisticRegression()"))
    assert live.graph.name == "churn"
    assert set(steps(live)) == {"a", *STAGES} - {
        "decide",
        "refit",
        "scramble",
    }  # two are asked for, and no step is before
    assert live.graph.about["release"] is None
    assert set(LIBRARIES) <= set(runtime.warm)
    effects = {node.id for node in live.graph.nodes if node.kind == "effect"}
    assert effects == {"register", "champion", "gate", "deploy"}


def test_of_several_workflows_one_must_be_named(project):
    text = WORKFLOW + CHURN % "LogisticRegression()" + (CHURN % "LogisticRegression()").replace("churn", "fraud")
    with pytest.raises(DeclarationError, match=r"declared_here\.py holds 2: churn, fraud") as caught:
        load(project(text))
    assert "declared_here.py:churn" in caught.value.hint
    live, _ = load(project(text, name="other_here", variable="fraud"))
    assert live.graph.name == "fraud"


def test_a_name_that_is_no_declaration_is_refused(project):
    with pytest.raises(DeclarationError, match="is called 'clean'"):
        load(project(STEPS + "n = count(clean(table))\n", variable="clean"))


def test_a_file_that_declares_nothing_is_refused(project):
    with pytest.raises(DeclarationError, match="no workflow in it"):
        load(project("x = 1\n"))


def test_a_file_that_is_not_there_is_refused(project, tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        load(project("x = 1\n") | {"file": str(tmp_path / "gone.py")})


# ── what a request asks for ──────────────────────────────────────────────────────────────────────────────────


def test_parameters_and_the_last_step_are_taken_from_the_request(project):
    text = STEPS + "n = count(clean(table, keep=ps.Param('keep', 2)))\n"
    live, _ = load(project(text, params={"keep": "1"}, until="clean"))
    assert (steps(live), live.graph.params) == (["a", "clean"], {"keep": 1})


@pytest.mark.parametrize(("said", "kept"), [("4000", {"cap": "4000.0"}), ("4000.0", {"cap": "4000.0"}), ("5e3", {})])
def test_a_number_is_kept_in_one_spelling_and_a_default_not_at_all(project, said, kept):
    text = STEPS + 'counted = count(clean(table, keep=ps.Param("cap", 5000.0)))\n'
    live, _ = load(project(text, params={"cap": said}, what="run"))
    assert live.graph.about["code"]["params"] == kept


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"params": {"keap": "1"}}, 'did you mean "keep"'), ({"until": "claen"}, 'did you mean "clean"')],
)
def test_what_is_not_there_gets_the_nearest_right_word(project, asked, said):
    text = STEPS + "n = count(clean(table, keep=ps.Param('keep', 2)))\n"
    with pytest.raises(DeclarationError, match=said):
        load(project(text, **asked))


@pytest.mark.parametrize(("declared", "flag", "seed"), [(0, None, 0), (3, None, 3), (3, 5, 5), (3, 0, 0)])
def test_a_flag_s_seed_counts_more_than_the_workflow_s(project, declared, flag, seed):
    text = WORKFLOW + (CHURN % "LogisticRegression()").replace('target="y"', f'target="y", seed={declared}')
    live, runtime = load(project(text, flags={"seed": flag}, until="split"))
    assert (live.graph.about["seed"], runtime.seed) == (seed, seed)


def test_classes_of_the_project_s_own_are_known_to_the_formats(project, monkeypatch):
    seen = []
    monkeypatch.setattr("penstock.worker.open_store", lambda config, types: seen.append(types) or (None, None))
    load(project(WORKFLOW + CHURN % "make_pipeline(Scaler(), LogisticRegression())", until="train"))
    assert seen == [("declared_here.Scaler",)]


def test_what_workers_exchange_is_imported_ahead_where_pandas_is(project, monkeypatch):
    text = STEPS + "n = count(clean(table))\n"
    monkeypatch.setitem(sys.modules, "pandas", sys)
    assert set(FRAMES) <= set(load(project(text))[1].warm)
    monkeypatch.delitem(sys.modules, "pandas")
    assert not set(FRAMES) & set(load(project(text, name="other_here"))[1].warm)
