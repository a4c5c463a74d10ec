"""The report: true to what is on record, whole or not at all, and deaf to hostile text.

The evidence is what the real stages say of small tables, put on a ledger as a run would.
"""

import base64
import html
import json
import os
import re
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment
from sklearn.linear_model import LinearRegression, LogisticRegression

from penstock.core.digest import digest_bytes
from penstock.core.gate import AtLeast, Beats, NoWorseOn
from penstock.core.ports import Config, Home
from penstock.core.run import Entry, Group, Result, Run, StepRun
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import CorruptObjectError, StoreError, UsageError
from penstock.formats.registry import FormatRegistry
from penstock.lifecycle import pictures, promote, redaction
from penstock.lifecycle import report as module
from penstock.lifecycle.card import plain
from penstock.lifecycle.charts import harmless
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
from penstock.stats.profile import numeric_profile
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

VOID = {"meta", "link", "br", "wbr", "img", "input", "hr"}
PICTURE = re.compile(r"data:image/(png|svg\+xml);base64,[A-Za-z0-9+/]+=*")
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
        picture = tag == "img" and PICTURE.fullmatch(dict(attrs).get("src", "")) and set(dict(attrs)) == {"src", "alt"}
        if tag in FORBIDDEN and not picture:
            self.faults.append(tag)
        for name, value in attrs:
            if (
                name.startswith("on")
                or (name == "src" and not picture)
                or (name == "href" and not re.match(r"#\w+$|data:,$", value))
            ):
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
    told = {"outcome": "not compared", "sentence": "the audit refused it: x re-codes y"}
    judged(home, version, binary, passed=False, audit_errors=2, **told)
    page = check_page(report(home, version))
    assert "the audit found 2 errors" in page.text
    assert (
        f"{version.name} was compared with nobody: the audit refused it, and held-out rows stayed closed" in page.text
    )
    assert "The audit refused it: x re-codes y" in page.text


def test_columns_are_told_with_role_range_and_whether_the_model_reads_them(world):
    page = check_page(report(*world))
    assert "id key, integer key integer no" in page.text, "on a narrow screen beside the name"
    assert "y target, text target text no no, yes" in page.text
    assert re.search(r"age feature, number feature number no −\d.* … .* −\d\.\d+ … \d", page.text)


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


# ── what steps logged ────────────────────────────────────────────────────────────────────────────────────────

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(7777)</script></svg>"
HTML = b"<!doctype html><script>alert(8888)</script>"


def logged(home, figures, step="customers"):
    """A run in which a step logged figures, as its worker tells of them."""
    kept = {}
    for name, (kind, data) in figures.items():
        digest, size = home.objects.stage(data)
        kept[name] = {"kind": kind, "digest": digest, "size": size}
    row = StepRun("3f9c" * 4, step, 1, None, "run", "done", {"code": "never"}, notes={"rows": 3, "figures": kept})
    home.ledger.commit(Group(step_runs=[row]))
    return kept


def test_figures_that_steps_logged_stand_on_the_page_as_images_and_no_script_does(binary, tmp_path):
    home = memory_home(tmp_path)
    version = registered(home, binary)
    logged(home, {f"costs{CANARY}": ("png", PNG), "tree": ("svg", SVG), "live": ("html", HTML)})
    text = report(home, version)
    page = check_page(text)
    images = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert [base64.b64decode(one.partition(",")[2]) for one in images] == [PNG, SVG]
    assert "alert(7777)" not in text
    assert "alert(8888)" not in text
    assert "live of customers (html, 1 kB)" in page.text
    assert "live of customers" in report(home, version, form="md")
    hidden = check_page(report(home, version, redact=["city"]))
    assert not [attrs for tag, attrs in hidden.tags if tag == "img"], "a figure may show what is redacted"
    assert "tree of customers" in hidden.text


def test_figures_are_bounded_and_one_that_is_gone_is_named(binary, tmp_path, monkeypatch):
    home = memory_home(tmp_path)
    version = registered(home, binary)
    kept = logged(home, {f"f{i}": ("svg", b"<svg>%d</svg>" % i) for i in range(pictures.MOST + 2)})
    page = check_page(report(home, version))
    assert sum(tag == "img" for tag, _ in page.tags) == pictures.MOST
    assert "f13 of customers (svg, 1 kB)" in page.text
    monkeypatch.setattr(pictures, "MOST_BYTES", 30)
    assert sum(tag == "img" for tag, _ in check_page(report(home, version)).tags) == 2
    home.objects.delete(kept["f0"]["digest"])
    assert "f0 of customers (svg, 1 kB) not kept any more" in check_page(report(home, version)).text


def test_what_qualifies_a_verdict_stands_beside_its_rules(binary, tmp_path):
    home = memory_home(tmp_path)
    version = registered(home, binary)
    judged(home, version, binary, notes=["the threshold 0.99 calls none of the 80 held-out rows yes"])
    for text in (check_page(report(home, version)).text, report(home, version, form="md")):
        assert "The threshold 0.99 calls none of the 80 held-out rows yes" in text


def test_the_page_says_on_which_rows_importance_rests(world, binary):
    home, version = world
    text = check_page(report(home, version)).text
    n = binary["files"]["metrics"]["n_rows"]
    assert f"among {n} rows of 3 folds, each answered for by the fit that had not seen it" in text
    older = binary["files"] | {"metrics": {k: v for k, v in binary["files"]["metrics"].items() if k != "explained"}}
    before = registered(home, binary | {"files": older}, "older")
    assert "among rows of the last fold, which its fit had not seen" in check_page(report(home, before)).text


def test_a_text_that_few_training_rows_share_is_not_among_what_is_allowed(binary, tmp_path):
    home = memory_home(tmp_path)
    names = [{"name": "who", "role": "feature", "type": "text", "categories": ["Ada", "Rome"]}]
    profile = {"kind": "categorical", "n": 90, "missing": 0, "counts": {"Rome": 89, "Ada": 1}}
    schema = binary["files"]["schema"]
    files = binary["files"] | {
        "schema": schema | {"columns": [*schema["columns"], *names]},
        "profile": {"n": 90, "columns": {"who": profile}},
    }
    text = check_page(report(home, registered(home, binary | {"files": files}))).text
    assert "Ada" not in text
    assert "Rome … 1 more" in text


# ── redaction ────────────────────────────────────────────────────────────────────────────────────────────────

SECRET = "Reykjavik"


@pytest.fixture(scope="module")
def sliced():
    """Evidence with a column of which no value is to be shown, in every place where one could stand."""
    what = told("binary")
    files = json.loads(json.dumps(what["files"], default=str).replace("Rome", SECRET))
    comparison = json.loads(json.dumps(what["comparison"], default=str).replace("Rome", SECRET))
    metrics = files["metrics"]
    city = next(one for one in files["schema"]["columns"] if one["name"] == "city")
    city |= {"categories": [], "min": SECRET}
    metrics["worst_rows"][0] |= {"values": {"city": SECRET, "age": 1.5}, "rare": []}
    line = {"name": "", "mean": [0.1, 0.2], "low": [0, 0], "high": [1, 1]}
    levels = {"at": [SECRET, "Oslo"], "rows": [30, 20], "of": "probability of yes", "n_rows": 9, "lines": [line]}
    metrics["dependence"].append({"column": "city", "kind": "categorical", **levels})
    files["profile"] = {"n": 90, "columns": {"city": {"kind": "categorical", "n": 90, "missing": 0,
                                                      "counts": {SECRET: 60, "Oslo": 30}}}}  # fmt: skip
    files["audit"]["findings"] = [
        {"grade": "note", "kind": "copy", "what": "city copies", "column": "city", "rows": 1, "example": SECRET}
    ]
    comparison["sentence"] = f"worse on city={SECRET}"
    comparison["rules"][0]["text"] = f"city={SECRET} 0.4"
    what["reports"]["validate"] |= {"notes": [f"city holds {SECRET}"]}
    return what | {"files": files, "comparison": comparison}


def told_of(home, version, **how):
    return [report(home, version, form=form, **how) for form in ("html", "md")]


def test_no_value_of_a_redacted_column_stands_anywhere(sliced, tmp_path):
    home = memory_home(tmp_path)
    version = registered(home, sliced)
    judged(home, version, sliced, sentence=sliced["comparison"]["sentence"])
    page, card = told_of(home, version, redact=["city"])
    assert SECRET not in page + card
    assert "Values of city are left out" in check_page(page).text
    assert "Values of city are redacted" in card
    assert "city (redacted) 0.4" in page
    open_page, open_card = told_of(home, version)
    assert open_page.count(SECRET) >= 8, "each of the places shows it where nothing is redacted"
    assert SECRET in open_card


def test_a_rule_about_slices_that_are_declared_nowhere_else_is_redacted_too(sliced, tmp_path):
    home = memory_home(tmp_path)
    what = sliced | {"comparison": sliced["comparison"] | {"slices": [], "sentence": "", "rules": []}}
    what["files"] = what["files"] | {"metrics": what["files"]["metrics"] | {"slices": []}}
    version = registered(home, what)
    rule = {"rule": "NoWorseOn('city')", "outcome": "fail", "decides": True, "kind": "slices", "against": "champion"}
    text = f"worse on 1 of 2 slices of city: accuracy by 0.1 on city={SECRET}"
    judged(home, version, what, rules=[rule | {"text": text, "figures": {"slices": [{"slice": f"city={SECRET}"}]}}])
    page, card = told_of(home, version, redact=["city"])
    assert SECRET not in page + card
    assert "on city (redacted)" in page


def test_the_setting_redacts_too_and_a_name_that_is_no_column_is_passed_over_there_alone(sliced, tmp_path):
    home = memory_home(tmp_path)
    version = registered(home, sliced)
    kept = Home(Config(str(tmp_path), "", "", redact=("city", "elsewhere")), home.objects, home.ledger, home.formats)
    assert SECRET not in "".join(told_of(kept, version))
    with pytest.raises(UsageError, match=r"--redact citty: no such column: did you mean 'city'\?|citty"):
        report(home, version, redact=["citty"])
    with pytest.raises(UsageError, match="it is the target"):
        report(home, version, redact=["y"])


def test_without_one_of_its_parts_redaction_would_leak(sliced, tmp_path, monkeypatch):
    home = memory_home(tmp_path)
    version = registered(home, sliced)
    judged(home, version, sliced)
    for part in ("_replaced", "_row", "_bare", "_finding", "_report"):
        with monkeypatch.context() as broken:
            broken.setattr(redaction, part, lambda value, *_: value)
            assert SECRET in report(home, version, redact=["city"]), part


# ── a run without a version ──────────────────────────────────────────────────────────────────────────────────


def tried(home, what):
    """A try on record: its steps with what they gave."""
    given = {
        "validate": [what["files"]["schema"]] * 2,
        "split": [what["rows"]] * 3,
        "evaluate": [what["files"]["metrics"]],
    }
    recipes = {}
    for step, values in given.items():
        outputs = tuple(home.formats.dump(value, home.objects.stage) for value in values)
        recipes[step] = digest_bytes(step.encode())
        home.ledger.commit(Group(codes={"c" * 64: {}}, results=[Result(recipes[step], "c" * 64, [], None, outputs)]))
    info = {"file": "churn.py", "recipes": recipes, "note": "one more tree", "sources": {}}
    run = Run("4b1d" * 4, "churn", "try", "done", 1.0, info=info)
    home.ledger.commit(Group(runs=[run]))
    return run


def test_a_try_is_told_by_its_cross_validated_evidence_alone(binary, tmp_path):
    home = memory_home(tmp_path)
    run = tried(home, binary)
    page = check_page(report(home, run))
    assert "Run 4b1d of churn" in page.text
    assert "one more tree" in page.text
    assert "the hold-out was not opened" in page.text
    assert "held-out rows" not in page.text.replace("let the gate judge it on held-out rows", "")
    assert "penstock run churn.py" in page.text
    assert "Decisions" not in page.text
    assert report(home, run, form="md").startswith("# run 4b1d of churn: a try\n")
    assert write_report(home, run).endswith("run-4b1d4b1d.html")


def test_a_run_that_evaluated_nothing_has_no_report(tmp_path):
    home = memory_home(tmp_path)
    run = Run("5c" * 8, "churn", "run", "failed", 1.0)
    home.ledger.commit(Group(runs=[run]))
    with pytest.raises(UsageError, match="run 5c5c has no report: its evaluation was never made"):
        report(home, run)


# ── the card ─────────────────────────────────────────────────────────────────────────────────────────────────


def parsed(text):
    from markdown_it import MarkdownIt

    every = MarkdownIt("commonmark", {"linkify": False}).enable("table").parse(text)
    return every, [one for block in every for one in (block, *(block.children or ()))]


def test_the_card_tells_the_same_facts_and_names_nobody(world, binary):
    home, version = world
    verdict = judged(home, version, binary)
    promote.move(home, version, why="it was better", who="ada@lab", verdict=verdict.number)
    text = report(home, version, form="md")
    blocks, _ = parsed(text)
    assert text.startswith("# churn&#64;1: champion\n")
    assert sum(block.type == "table_open" for block in blocks) >= 4
    figure = binary["files"]["metrics"]["metrics"]["roc_auc"]["shown"]
    assert f"{figure['value']:.3f}" in text
    assert "ada" not in text
    assert "lab" not in text.replace("label", "").replace("available", "")
    assert len(text) < 20_000


def test_no_text_on_record_becomes_markup_in_the_card(hostile):
    home, named, version = hostile
    for one in (named, version):
        _, tokens = parsed(report(home, one, form="md"))
        assert not {"html_block", "html_inline", "link_open", "image", "hr"} & {token.type for token in tokens}
        rows = [token for token in tokens if token.type == "tr_open"]
        assert rows


@given(st.text(max_size=40))
def test_any_text_is_one_cell_of_a_table_and_reads_as_it_is(text):
    blocks, tokens = parsed(f"| a | b |\n|---|---|\n| {plain(text)} | end |\n")
    cells = [one.content for one in blocks if one.type == "inline"]
    assert len(cells) == 4
    assert cells[3] == "end"
    assert {one.type for one in tokens} <= TABLE
    shown = "".join(one.content for one in tokens if one.type in ("text", "text_special"))
    assert shown.startswith("ab") or not text
    assert shown == "ab" + " ".join(harmless(text).split()) + "end"


TABLE = {f"{part}_{side}" for part in ("table", "thead", "tbody", "tr", "th", "td") for side in ("open", "close")}
TABLE |= {"inline", "text", "text_special"}


# ── size ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wide_table_with_many_slices_stays_below_a_megabyte_and_a_half(binary, tmp_path):
    rng = np.random.default_rng(0)
    names = [f"a column with a name of forty letters {i:03}" for i in range(500)]
    one = numeric_profile(rng.normal(size=300)).to_json()
    profile = dict.fromkeys(names, one)
    metrics = dict(binary["files"]["metrics"])
    one = metrics["slices"][0]
    metrics["slices"] = [one | {"label": f"{one['label']} {i}"} for i in range(50)]
    metrics["importance"] = [{"column": name, "drop": 0.01, "low": 0.001, "high": 0.02} for name in names]
    columns = [{"name": name, "role": "feature", "type": "number", "min": -9.0, "max": 9.0} for name in names]
    schema = binary["files"]["schema"] | {"columns": columns}
    files = binary["files"] | {"metrics": metrics, "schema": schema, "profile": {"n": 3_000, "columns": profile}}
    home = memory_home(tmp_path)
    version = registered(home, binary | {"files": files})
    text = report(home, version)
    assert len(text.encode()) < 1_500_000
    page = check_page(text)
    assert "200 more columns are not shown" in page.text
    assert "485 more columns matter less" in page.text
    assert len(report(home, version, form="md")) < 30_000


# ── a real browser ───────────────────────────────────────────────────────────────────────────────────────────

RUN = "document.title='ran'"
RUNS = f'"><img src=x onerror="{RUN}"><script>{RUN}</script><svg onload="{RUN}">'
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@pytest.fixture
def browse(system_command, tmp_path):
    """What a page is after a real browser has run whatever it runs."""
    chromium = system_command("chromium")

    def opened(text, *flags):
        profile = tempfile.mkdtemp(dir=tmp_path)  # of its own: a browser that is about to end would take the page over
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   f"--user-data-dir={profile}", "--dump-dom"]  # fmt: skip
        done = subprocess.run([*command, *flags, path.as_uri()], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    return opened


def ran(dom):
    return "<title>ran</title>" in dom


def test_in_a_browser_no_canary_runs_and_escaping_and_policy_each_hold_alone(binary, tmp_path, browse, monkeypatch):
    home = memory_home(tmp_path)
    what = json.loads(json.dumps(binary, default=str).replace("Rome", json.dumps(RUNS)[1:-1]))
    version = registered(home, what)
    escaped = report(home, version)
    assert "&lt;img src=x" in escaped
    assert not ran(browse(POLICY.sub("", escaped))), "escaping alone holds"
    bare = Environment(loader=module._template().environment.loader, autoescape=False)
    monkeypatch.setattr(module, "_template", lambda: bare.get_template("report.html.j2"))
    broken = report(home, version).replace("alert(", "Number(")  # a dialog would wait for a person
    assert not ran(browse(broken)), "the policy alone holds"
    assert ran(browse(POLICY.sub("", broken))), "the canary would run"


@pytest.mark.parametrize(("medium", "wide"), [("screen", 390), ("print", 690)])
def test_nothing_is_wider_than_a_telephone_or_a_sheet_of_paper(world, browse, medium, wide):
    home, version = world
    logged(home, {"wide": ("svg", b"<svg xmlns='http://www.w3.org/2000/svg' width='3000' height='20'/>")})
    text = POLICY.sub("", report(home, version))
    if medium == "print":
        assert "@media print" in text
        text = text.replace("@media print", "@media all")
    measure = "<script>onload=()=>parent.postMessage(document.documentElement.scrollWidth,'*')</script></body>"
    framed = html.escape(text.replace("</body>", measure))
    frame = (
        f'<body><script>onmessage=e=>document.title=e.data</script><iframe width={wide} height=900 srcdoc="{framed}">'
    )
    width = int(re.search(r"<title>(\d+)</title>", browse(frame, "--virtual-time-budget=1500"))[1])
    assert wide - 40 <= width <= wide + 4
