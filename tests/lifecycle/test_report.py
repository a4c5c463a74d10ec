"""The report: true to what is on record, whole or not at all, and deaf to hostile text.

The evidence is what the real stages say of small tables, put on a ledger as a run would.
"""

import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jinja2 import Environment
from sklearn.linear_model import LinearRegression, LogisticRegression

from penstock.core.digest import digest_bytes
from penstock.core.gate import AtLeast, Beats, NoWorseOn
from penstock.core.ports import Config, Home
from penstock.core.run import Entry, Group, Result, Run
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import CorruptObjectError, StoreError
from penstock.formats.registry import FormatRegistry
from penstock.lifecycle import promote
from penstock.lifecycle import report as module
from penstock.lifecycle.register import json_artifact, register
from penstock.lifecycle.report import report, write_report
from penstock.lifecycle.versions import Version
from penstock.project import open_home
from penstock.stages.audit import audit
from penstock.stages.compare import compare
from penstock.stages.evaluate import evaluate
from penstock.stages.package import package
from penstock.stages.split import split
from penstock.stages.train import train
from penstock.stages.validate import validate
from penstock.testing import MemoryLedger, MemoryObjects

CANARY = '"><img src=x onerror=alert(1)></script></style><script>alert(2)</script>{{7*7}}\u2028\u202e'
SHOWN = CANARY.replace("\u2028", " ").replace("\u202e", "\ufffd")
STRUCTURE = {"task", "primary", "outcome", "grade", "kind", "role", "unseen"}
"""JSON fields whose value is one of our own words."""

# ── a home with a version, as a run would leave it ───────────────────────────────────────────────────────────


def table(task, n=320, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    city = rng.choice(["Rome", "Oslo"], n)
    noisy = x + rng.normal(size=n)
    y = {
        "binary": np.where(noisy > 0.3, "yes", "no"),
        "multiclass": np.digitize(noisy, [-0.5, 0.8]) + 1,
        "regression": 40 * noisy,
    }[task]
    return pd.DataFrame({"id": np.arange(n), "age": x, "noise": rng.normal(size=n), "city": city, "y": y})


def told(task):
    """The JSON of every stage, on one table."""
    target, roles, rule = Target("y"), Roles(key=("id",), features=("age", "noise")), Split(folds=3)
    frame, schema, checked = validate(table(task), target=target, roles=roles, schema=None, slices=("city",))
    learn, test, parted = split(frame, target=target, roles=roles, split=rule, seed=0, task=schema["task"])
    known = {"target": target, "roles": roles, "schema": schema}
    model = LinearRegression() if task == "regression" else LogisticRegression()
    fitted, trained = train(learn, model=model, split=rule, seed=0, **known)
    judged = {"metrics": (), "slices": ("city",), "seed": 0}
    metrics, _ = evaluate(learn, model=model, split=rule, **judged, **known)
    contract, golden, _ = package(learn, fitted=fitted, **known)
    rules = (
        (Beats("baseline"), NoWorseOn("city"))
        if task == "regression"
        else (AtLeast("accuracy", 0.99), Beats("baseline"))
    )
    about = {"champion": None, "same_declaration": False, "newer_data": False, "champion_input": None}
    comparison = compare(test, learn, fitted=fitted, champion=None, about=about, rules=rules, **judged, **known)
    return {
        "files": {"metrics": metrics, "audit": audit(learn, test, **known), "input": contract, "schema": schema,
                  "environment": {"python": "3.11.7", "scikit-learn": "1.9.0"}, "golden": golden},
        "comparison": comparison,
        "reports": {"customers": {"summary": '"," utf-8 · 320 × 5'}, "validate": checked, "split": parted,
                    "train": trained},
        "rows": {"n_train": len(learn), "n_test": len(test)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def binary():
    return told("binary")


@pytest.fixture(scope="module", params=["multiclass", "regression"])
def other(request):
    return told(request.param)


def memory_home(root):
    return Home(Config(str(root), "", ""), MemoryObjects(), MemoryLedger(clock=lambda: 1.0), FormatRegistry())


def recorded(home, step, value):
    """A step's JSON report, on record under a recipe."""
    artifact = home.formats.dump(value, home.objects.stage)
    recipe = digest_bytes(f"{step}{artifact.digest}".encode())
    codes = {"c" * 64: {f"churn:{CANARY}": "1" * 64, "library:numpy": "2.4", "penstock.core.split:Split": "2" * 64}}
    made = {"run": "3f9c" * 4, "cpu": "x86-64-v4", "threads": 1}
    home.ledger.commit(Group(codes=codes, results=[Result(recipe, "c" * 64, [step], None, (artifact,), made)]))
    return recipe


def registered(home, what, workflow="churn"):
    files = {name: home.formats.dump(value, home.objects.stage) for name, value in what["files"].items()}
    members = {name: artifact.to_json() for name, artifact in files.items()}
    made = json_artifact(home.objects, {"penstock": "bundle/1", "workflow": workflow, "files": members}, "bundle")
    run = Run(
        "3f9c" * 4, workflow, "run", "done", 1.0, info={"file": "churn.py", "sources": {"customers": "data/c.csv"}}
    )
    home.ledger.commit(Group(runs=[run]))
    body = {
        "run": run.id,
        "declaration": "d" * 64,
        "git": {"commit": what.get("commit", "a1" * 20), "dirty": True},
        "rows": what["rows"],
        "sources": {"customers": "5" * 64},
        "recipes": {step: recorded(home, step, one) for step, one in what["reports"].items()},
    }
    return register(home, workflow, made, body, "ada@lab")[0]


def judged(home, version, what, **changes):
    """A verdict and its look, as the gate records them."""
    artifact = home.formats.dump(what["comparison"], home.objects.stage)
    body = {
        "version": version.number, "against": what["comparison"]["against"], "outcome": "better", "passed": True,
        "sentence": what["comparison"]["sentence"], "rules": what["comparison"]["rules"], "audit_errors": 0,
        "comparison": artifact.to_json(),
    }  # fmt: skip
    number = home.ledger.streams().get(f"{version.workflow}/verdict", 0) + 1
    look = {"version": version.number, "verdict": number}
    entries = [
        Entry(f"{version.workflow}/verdict", number, body | changes, who="ada@lab"),
        Entry(f"{version.workflow}/look", number, look, who="ada@lab"),
    ]
    return home.ledger.append(entries)[0]


@pytest.fixture
def world(binary, tmp_path):
    home = memory_home(tmp_path)
    return home, registered(home, binary)


# ── reading the page back ────────────────────────────────────────────────────────────────────────────────────

VOID = {"meta", "link", "br", "img", "input", "hr"}
FORBIDDEN = {"script", "img", "iframe", "object", "embed", "form", "input", "button", "base", "audio", "video"}


class Page(HTMLParser):
    """What a browser would see; `faults` names what a report must not have."""

    def __init__(self, text):
        super().__init__()
        self.open, self.faults, self.ids, self.words, self.tags, self.style = [], [], [], [], [], ""
        self.feed(text)
        self.close()
        self.faults += [f"{tag} is not closed" for tag in self.open]
        self.faults += [f"id {one} twice" for one in set(self.ids) if self.ids.count(one) > 1]
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in FORBIDDEN:
            self.faults.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name == "src" or (name == "href" and not re.match(r"#\w+$|data:,$", value)):
                self.faults.append(f"{name}={value}")
            if name == "id":
                self.ids.append(value)
        if tag == "th" and "scope" not in dict(attrs):
            self.faults.append("th without scope")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"stray </{tag}>")

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.words.append(" ".join(data.split()))


def poisoned(value, field=""):
    """A JSON value with the canary behind every text of it."""
    if isinstance(value, dict):
        return {key: poisoned(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one, field) for one in value]
    return value + CANARY if isinstance(value, str) and field not in STRUCTURE else value


def check_page(text):
    page = Page(text)
    assert not page.faults
    return page


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_report_of_a_champion_tells_verdict_figures_data_and_lineage(world, binary):
    home, version = world
    verdict = judged(home, version, binary)
    promote.move(home, version, why="it was better", who="ada@lab", verdict=verdict.number)
    page = check_page(report(home, version))
    figure = binary["files"]["metrics"]["metrics"]["roc_auc"]["shown"]
    assert "churn@1 is the champion" in page.text
    assert f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]" in page.text
    assert "There was no champion yet: churn@1 was compared with a baseline" in page.text
    assert "look 1 of this workflow" in page.text
    assert "city=Rome" in page.text
    assert '"," utf-8 · 320 × 5' in page.text
    assert "data/c.csv" in page.text
    assert "5" * 64 in page.text
    assert "a1a1a1a1a1a1" in page.text
    assert "with changes that were not committed" in page.text
    assert "1 definition of the project's own" in page.text
    assert "x86-64-v4, 1 thread" in page.text
    assert "champion → churn@1" in page.text
    assert "penstock serve churn" in page.text
    for finding in binary["files"]["audit"]["not_tried"]:
        assert finding["what"] in page.text
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert {"chart"} < {attrs["class"] for attrs in drawings}
    assert all("aria-hidden" in attrs or attrs["role"] == "img" for attrs in drawings)


def test_every_task_has_its_plots_and_errors_are_positive(other, tmp_path):
    home = memory_home(tmp_path)
    version = registered(home, other)
    judged(home, version, other)
    page = check_page(report(home, version))
    titles = [attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "svg" and "role" in attrs]
    if other["files"]["metrics"]["task"] == "regression":
        assert titles[:2] == ["observed-title observed-desc", "residuals-title residuals-desc"]
        assert "root_mean_squared_error" in page.text
        assert "lower is better" in page.text
        assert "neg_" not in page.text
        assert "Confusion" not in page.text
    else:
        assert titles[0] == "calibration-title calibration-desc"
        counts = other["files"]["metrics"]["confusion"]["counts"]
        right = sum(counts[i][i] for i in range(len(counts)))
        assert f"{right:,} get the right class" in page.text


def test_many_classes_are_told_by_their_commonest_confusions(binary, tmp_path):
    names = [f"class {i}" for i in range(30)]
    counts = [[90 if i == j else (7 if (i, j) == (3, 4) else 0) for j in range(30)] for i in range(30)]
    many = {"task": "multiclass", "positive": None, "confusion": {"classes": names, "counts": counts}, "curves": {}}
    metrics = binary["files"]["metrics"] | many
    home = memory_home(tmp_path)
    page = check_page(report(home, registered(home, binary | {"files": binary["files"] | {"metrics": metrics}})))
    assert "among 30 classes" in page.text
    assert "class 3 class 4 7 7.2\xa0%".replace("\xa0", " ") in page.text


def stands(home, version):
    text = report(home, version)
    return html.unescape(re.search(r"<h1>(.*?)</h1>", text)[1]), re.search(r'<header class="(\w+)"', text)[1]


def test_the_sentence_on_top_is_where_the_version_stands(world, binary):
    home, version = world
    assert stands(home, version) == ("churn@1 has no verdict yet", "plain")
    judged(home, version, binary, passed=False, outcome="not enough evidence")
    assert stands(home, version) == ("churn@1: there is not enough evidence to decide", "warn")
    judged(home, version, binary, passed=False, outcome="not enough evidence", audit_errors=1)
    assert stands(home, version) == ("churn@1 was refused", "bad")
    promote.move(home, version, why="forced", who="ada@lab")
    assert stands(home, version) == ("churn@1 is the champion, past its gate", "warn")
    second = registered(home, binary | {"rows": {}, "files": binary["files"] | {"environment": {}, "golden": {}}})
    verdict = judged(home, second, binary)
    assert stands(home, second) == ("churn@2 passed its gate and was not promoted", "plain")
    promote.challenger(home, second, verdict.number, "ada@lab")
    assert stands(home, second) == ("churn@2 is the challenger: it passed its gate and waits", "good")
    promote.move(home, second, why="better", who="ada@lab")
    assert stands(home, second) == ("churn@2 is the champion", "good")
    assert stands(home, version) == ("churn@1 was the champion; churn@2 is now", "plain")


def test_a_rule_that_failed_passed_or_did_not_decide_is_marked_so_in_words_too(world, binary):
    home, version = world
    rules = [
        {"rule": "A()", "outcome": outcome, "text": f"text {mark}", "decides": decides, "kind": "none"}
        for outcome, mark, decides in [
            ("pass", "✓", True),
            ("fail", "✗", True),
            ("unknown", "?", True),
            ("pass", "✓", False),
        ]
    ]
    judged(home, version, binary, rules=rules)
    page = check_page(report(home, version))
    marks = [attrs["aria-label"] for tag, attrs in page.tags if attrs.get("class") == "mark"]
    assert marks == ["passed", "failed", "not enough evidence", "does not decide"]
    assert "text ✓" not in page.text


def test_errors_of_the_audit_stand_among_the_rules(world, binary):
    home, version = world
    judged(home, version, binary, passed=False, audit_errors=2, sentence="the audit refused it: x re-codes y")
    page = check_page(report(home, version))
    assert "the audit found 2 errors" in page.text
    assert "The audit refused it: x re-codes y" in page.text


def test_columns_are_told_with_role_range_and_whether_the_model_reads_them(world):
    page = check_page(report(*world))
    assert "id key integer no" in page.text
    assert "y target text no no, yes" in page.text
    assert re.search(r"age feature number no −\d.* … .* −\d\.\d+ … \d", page.text)


def test_a_comparison_that_was_collected_is_said_and_the_rest_told(world, binary):
    home, version = world
    comparison = binary["comparison"] | {"padding": "x" * 5000}
    entry = judged(home, version, binary | {"comparison": comparison})
    home.objects.delete(entry.body["comparison"]["digest"])
    page = check_page(report(home, version))
    assert "not kept any more" in page.text
    assert "On 0 held-out rows" not in page.text


def test_a_version_of_which_little_is_kept_still_has_a_report(tmp_path):
    home = memory_home(tmp_path)
    page = check_page(report(home, registered(home, {"files": {}, "rows": {}, "reports": {}})))
    assert "No verdict is on record" in page.text


def test_a_damaged_bundle_gives_an_error_and_no_file(binary, tmp_path):
    home = memory_home(tmp_path)
    version = registered(home, binary)
    digest = json.loads(home.objects.read(version.bundle.digest))["files"]["metrics"]["digest"]
    for place in (home.objects.published, home.objects.staged):
        if digest in place:
            place[digest] = b"{}"
    with pytest.raises(CorruptObjectError):
        write_report(home, version)
    assert not (tmp_path / ".penstock").exists()


# ── hostile text ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hostile(binary, tmp_path):
    """A version of which every text on record, names of columns and people included, is hostile."""
    what = {key: poisoned(value) for key, value in binary.items() if key != "rows"}
    what |= {"rows": binary["rows"], "commit": CANARY}
    home = memory_home(tmp_path)
    version = registered(home, what)
    judged(home, version, what, sentence=CANARY, against=CANARY)
    home.ledger.append([Entry("churn/alias/champion", 1, {"version": 1}, who=CANARY, why=CANARY)])
    return home, Version(CANARY, version.number, version.entry), version


def test_no_text_on_record_becomes_markup(hostile):
    home, _, version = hostile
    page = check_page(report(home, version))
    assert page.text.count(SHOWN) > 50
    assert not {"\u2028", "\u202e"} & set(page.text)


def test_nor_does_the_name_of_a_workflow(hostile):
    home, named, _ = hostile
    assert f"{SHOWN}@1" in check_page(report(home, named)).text


def test_without_escaping_the_check_turns_red(hostile, monkeypatch):
    home, _, version = hostile
    bare = Environment(loader=module._template().environment.loader, autoescape=False)
    monkeypatch.setattr(module, "_template", lambda: bare.get_template("report.html.j2"))
    assert {"script", "img"} <= set(Page(report(home, version)).faults)


def test_without_cleaning_marks_of_direction_would_stand_on_the_page(hostile, monkeypatch):
    home, _, version = hostile
    monkeypatch.setattr(module, "harmless", lambda text, _limit: text)
    assert "\u202e" in report(home, version)


def test_the_file_loads_nothing_and_its_policy_forbids_it(world):
    home, version = world
    text = report(home, version)
    page = check_page(text)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"url\(|@import", page.style)


def test_long_texts_and_wide_tables_are_bounded(binary, tmp_path):
    schema = binary["files"]["schema"]
    wide = [{"name": f"c{i}" + "x" * 1_000, "role": "feature", "type": "text"} for i in range(2_000)]
    wide[0]["categories"] = ["y" * 5_000] * 100
    what = binary | {"files": binary["files"] | {"schema": schema | {"columns": wide}}}
    text = report(home := memory_home(tmp_path), registered(home, what))
    assert len(text) < 600_000
    assert "1700 more columns are not shown" in text


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────


def spoiled(home, version, path, monkeypatch, writer=None):
    """Write the report again on a disk that fails; what then stands in the file."""

    def full(*_args):
        raise OSError(28, "no space left")

    with monkeypatch.context() as broken:
        broken.setattr("penstock.store.files.os.fsync", full)
        if writer is not None:
            broken.setattr(module, "write_durably", writer)
        with pytest.raises(StoreError, match="cannot write the report: the disk is full"):
            write_report(home, version)
    return path.read_text(encoding="utf-8")


def test_the_file_is_whole_or_the_old_one(world, monkeypatch, tmp_path):
    home, version = world
    path = tmp_path / ".penstock" / "reports" / "churn-1.html"
    assert write_report(home, version) == str(path)
    before = path.read_text(encoding="utf-8")
    home.ledger.append([Entry("churn/alias/champion", 1, {"version": 1})])
    assert spoiled(home, version, path, monkeypatch) == before
    assert os.listdir(path.parent) == ["churn-1.html"]
    write_report(home, version)
    assert "is the champion" in path.read_text(encoding="utf-8")


def test_written_in_place_it_would_be_torn(world, monkeypatch, tmp_path):
    def in_place(path, data, _temporary):
        Path(path).write_bytes(data[:100])
        os.fsync(0)

    home, version = world
    write_report(home, version)
    path = tmp_path / ".penstock" / "reports" / "churn-1.html"
    assert len(spoiled(home, version, path, monkeypatch, in_place)) <= 100


READ = """
import sys
from penstock.project import open_home
from penstock.lifecycle.versions import resolve
from penstock.lifecycle.report import report
home = open_home(sys.argv[1])
text = report(home, resolve(home.ledger, "churn@1"))
print([name for name in ("pandas", "numpy", "sklearn", "scipy", "pyarrow") if name in sys.modules])
sys.stdout.write(text)
"""


def test_equal_evidence_gives_equal_text_in_every_process_without_a_heavy_library(binary, tmp_path):
    (tmp_path / "penstock.toml").touch()
    home = open_home(str(tmp_path))
    version = registered(home, binary)
    judged(home, version, binary)
    mine = report(home, version)
    home.ledger.close()
    given = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "1", "TZ": "Asia/Tokyo"}
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", READ, str(tmp_path)],
            env=given | {"PYTHONHASHSEED": seed},
            cwd="/",
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        heavy, _, text = done.stdout.partition("\n")
        assert heavy == "[]"
        assert text == mine
