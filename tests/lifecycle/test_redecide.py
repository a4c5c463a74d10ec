"""Another threshold for a version, through the command line: judged, rehearsed, promoted or refused, on record."""

import json
import random

import pytest

from command_line import call
from penstock.core.ports import Home
from penstock.lifecycle.versions import file_of, parts_of, resolve, versions
from penstock.project import open_home

DECLARED = """
import penstock as ps
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

churn = ps.Workflow(
    name="churn",
    data=ps.read("customers.csv"),
    target="churned",
    key="customer_id",
    model={"plain": LogisticRegression(), "dummy": DummyClassifier()},
    decide=ps.Threshold(recall=0.8),
    metrics=["roc_auc", "f1"],
    gate=[ps.Improves()],
)
"""


def table(n):
    rng = random.Random(1)
    lines = ["customer_id,a,b,churned"]
    for i in range(n):
        a = rng.gauss(0, 1)
        lines.append(f"c{i},{a:.4f},{rng.gauss(0, 1):.4f},{'yes' if a + rng.gauss(0, 1) > 0.3 else 'no'}")
    return "\n".join(lines) + "\n"


class Shop:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *words):
        return call(self.folder, *words)

    def home(self) -> Home:
        return open_home(str(self.folder))


@pytest.fixture(scope="module")
def shop(tmp_path_factory, warm_processes):
    folder = tmp_path_factory.mktemp("redecide")
    (folder / "penstock.toml").write_text("")
    (folder / "customers.csv").write_text(table(900))
    (folder / "churn.py").write_text(DECLARED)
    made = Shop(folder)
    code, out, err = made("run", "churn.py")
    assert (code, err) == (0, ""), out
    return made


def test_the_bundle_carries_decision_digests_and_leaderboard(shop):
    home = shop.home()
    found = resolve(home.ledger, "churn@1")
    files = parts_of(home, found.bundle)
    assert {"decision", "threshold", "seen", "learned"} <= set(files)
    decision = file_of(home, found.bundle, "decision")
    golden = file_of(home, found.bundle, "golden")
    for answer in golden["expected"]:
        assert answer["threshold"] == decision["threshold"]
        assert answer["label"] == ("yes" if answer["score"] >= decision["threshold"] else "no")
    assert [one["name"] for one in file_of(home, found.bundle, "metrics")["candidates"]] == ["plain", "dummy"]


def test_another_threshold_is_another_version_with_a_verdict_of_its_own(shop):
    code, out, _ = shop("promote", "churn@1", "--threshold", "0.35", "--because", "fewer people in May")
    assert (code, "→ champion: churn@2" in out, "the estimator is the same" in out) == (0, True, True)
    home = shop.home()
    before, after = versions(home.ledger, "churn")
    old, new = parts_of(home, before.bundle), parts_of(home, after.bundle)
    assert {name for name in new if new[name] != old[name]} == {"decision", "golden", "metrics", "threshold"}
    assert after.body["decided"] == {"from": 1, "threshold": 0.35, "because": "fewer people in May"}
    assert file_of(home, after.bundle, "decision")["threshold"] == 0.35
    figures = [file_of(home, one.bundle, "metrics")["metrics"] for one in (before, after)]
    assert figures[0]["roc_auc"] == figures[1]["roc_auc"]
    assert figures[0]["f1"]["value"] != figures[1]["f1"]["value"]
    [_, verdict] = home.ledger.stream("churn/verdict")
    assert (verdict.body["version"], verdict.body["against"], verdict.body["passed"]) == (2, "churn@1", True)
    assert len(home.ledger.stream("churn/look")) == 2
    assert home.ledger.stream("churn/alias/champion")[-1].why == "fewer people in May"
    code, out, _ = shop("run", "churn.py", "--json")  # running again does not undo what a person decided
    told = json.loads(out)
    assert (code, told["champion"]) == (0, False)
    assert resolve(home.ledger, "churn").number == 2


def test_answers_carry_the_threshold(shop):
    code, out, _ = shop("predict", "churn@2", "customers.csv")
    head, first = out.splitlines()[:2]
    assert (code, head) == (0, "customer_id,label,score,threshold")
    _, label, score, threshold = first.split(",")
    assert (threshold, label) == ("0.35", "yes" if float(score) >= 0.35 else "no")


def test_the_same_threshold_again_changes_nothing(shop):
    code, out, _ = shop("promote", "churn@2", "--threshold", "0.35", "--because", "again")
    assert (code, len(versions(shop.home().ledger, "churn"))) == (0, 2)
    assert "churn@2 is the champion" in out or "nothing to do" in out


def test_one_that_the_gate_does_not_pass_stays_outside_unless_forced(shop):
    (shop.folder / "churn.py").write_text(DECLARED.replace('["roc_auc", "f1"]', '["f1", "roc_auc"]'))
    code, out, _ = shop("promote", "churn@2", "--threshold", "0.97", "--because", "a slip")
    assert (code, "churn@3 refused: worse than churn@2" in out) == (4, True)
    home = shop.home()
    assert resolve(home.ledger, "churn").number == 2
    code, out, _ = shop("promote", "churn@2", "--threshold", "0.97", "--because", "a slip", "--force")
    assert (code, resolve(home.ledger, "churn").number) == (0, 3)
    assert home.ledger.stream("churn/alias/champion")[-1].why == "a slip (forced past the gate)"
    assert shop("rollback", "churn", "--because", "it was one").code == 0
    (shop.folder / "churn.py").write_text(DECLARED)


def test_a_reason_is_asked_for_and_a_name(shop):
    assert shop("promote", "churn@1", "--threshold", "0.4").code == 2
    assert shop("promote", "churn", "--threshold", "0.4", "--because", "x").code == 2


def test_what_was_set_by_hand_stays_on_record(shop):
    code, out, _ = shop("run", "churn.py", "--set", "model.plain.C=0.5", "--json")
    base = json.loads(out)["version"]
    assert (code in (0, 4, 7), shop("promote", base, "--threshold", "0.4", "--because", "less", "--force").code) == (
        True,
        0,
    )
    home = shop.home()
    bodies = [found.body for found in versions(home.ledger, "churn")]
    made = next(body for body in bodies if f"churn@{body.get('decided', {}).get('from')}" == base)
    assert made["set"] == resolve(home.ledger, base).body["set"]


def test_digests_still_protect_when_the_table_is_gone(shop):
    """The known way to lose the protection: `gc` drops the training table, then the split moves."""
    home = shop.home()
    recipe = versions(home.ledger, "churn")[0].body["recipes"]["split"]
    home.ledger.forget([recipe])
    moved = DECLARED.replace('key="customer_id",', 'key="customer_id", split=ps.Split(salt=1),')
    (shop.folder / "churn.py").write_text(moved)
    code, out, _ = shop("run", "churn.py", "--json")
    (shop.folder / "churn.py").write_text(DECLARED)
    told = json.loads(out)
    assert code in (0, 4, 7)
    assert told["verdict"]["n_fresh"] < told["verdict"]["n_rows"]


def test_what_is_not_kept_any_more_is_said(shop):
    home = shop.home()
    home.ledger.forget([versions(home.ledger, "churn")[0].body["recipes"]["split"]])
    code, _, err = shop("promote", "churn@1", "--threshold", "0.2", "--because", "x")
    assert (code, "what churn@1 was judged on is not kept any more" in err) == (2, True)
