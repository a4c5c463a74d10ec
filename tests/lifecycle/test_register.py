"""Registering: equal content is one version, numbers have no gap, and the store alone can tell them again."""

import subprocess

import pytest

from penstock.core.artifact import INLINE_LIMIT
from penstock.core.digest import digest_bytes
from penstock.core.flow import Graph, Node
from penstock.core.ports import Home
from penstock.core.tree import encode
from penstock.errors import ConflictError
from penstock.lifecycle import register as module
from penstock.lifecycle.register import bundle, content_of, declaration_of, git_state, json_artifact, register
from penstock.lifecycle.versions import manifest, versions
from penstock.store.fsck import fsck
from penstock.store.gc import collect
from penstock.store.rebuild import rebuild
from penstock.testing import MemoryLedger

CODE = {"churn:features": "1" * 64, "penstock.stages.train:train": "2" * 64, "library:numpy": "2.4", "python": "3.12"}


@pytest.fixture
def home(raced_home):
    return raced_home


def graph(code=CODE, **arguments):
    values = {"model": "logistic", "C": 1.0, **arguments}
    tree = encode([[], values])
    tree[1][0][1].append(["ref", "split", "train"])
    digest = digest_bytes(repr(sorted(code.items())).encode())
    train = Node("train", "penstock.stages.train:train", tree, digest, needs=(("split", "train"),))
    return Graph("churn", (train,), {digest: code})


def made(home, model=b"model", recipe="r1", code=CODE):
    files = {"estimator": model, "golden": {"rows": [1]}, "metrics": {"auc": 0.9}}
    artifacts = {name: home.formats.dump(value, home.objects.stage) for name, value in files.items()}
    return bundle(home, graph(code), artifacts, {"recipes": {"train": recipe}, "sources": {}})


def registered(home, model=b"model", run="aa", **how):
    return register(home, "churn", made(home, model, **how), {"run": run, "declaration": "d"}, "ada@lab")


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_version_is_one_and_the_next_two(home):
    (first, new), (second, also) = registered(home), registered(home, b"other")
    assert (first.number, new, second.number, also) == (1, True, 2, True)
    assert (first.entry.who, first.entry.why, first.body["declaration"]) == ("ada@lab", "run:aa", "d")
    assert first.body["artifacts"]["bundle"] == first.bundle.digest


def test_equal_content_keeps_its_number_however_it_came_about(home):
    first, _ = registered(home)
    again, new = registered(home, run="bb", recipe="r2", code={**CODE, "library:numpy": "2.5"})
    assert (again.number, new) == (1, False)
    assert again.bundle == first.bundle  # the first way stands
    registered(home, b"other")
    assert registered(home, run="cc")[0].number == 1
    assert [one.number for one in versions(home.ledger, "churn")] == [1, 2]


def test_content_is_all_but_environment_and_lineage(home):
    same = {content_of(made(home, recipe=r, code={**CODE, "python": r}), home.objects) for r in ("3.11", "3.12")}
    assert len(same) == 1
    assert content_of(made(home, b"other"), home.objects) not in same


def test_a_bundle_tells_its_environment_and_names_what_it_needs(home):
    one = made(home)
    files = manifest(home, one)["files"]
    assert files["environment"]["text"] == '{"numpy":"2.4","python":"3.12"}'
    assert one.refs == (files["estimator"]["digest"],)
    assert one == made(home)


def test_small_json_is_inline_and_large_is_staged(home):
    small, large = json_artifact(home.objects, {"a": 1}), json_artifact(home.objects, {"a": "x" * INLINE_LIMIT})
    assert (small.text, home.objects.missing([small.digest])) == ('{"a":1}', {small.digest})
    assert large.text is None
    assert home.formats.load(large, home.objects) == {"a": "x" * INLINE_LIMIT}


# ── two at once ──────────────────────────────────────────────────────────────────────────────────────────────


def test_of_two_registrations_at_once_both_get_a_number_without_a_gap(home):
    home.ledger.rivals = [lambda: registered(home, b"rival", run="bb")]
    mine, new = registered(home)
    assert (mine.number, new) == (2, True)
    assert [v.body["run"] for v in versions(home.ledger, "churn")] == ["bb", "aa"]
    assert fsck(home.objects, home.ledger) == []


def test_the_one_who_lost_takes_its_claim_back(home):
    """Else two manifests claim a number, and nobody could rebuild either from the store."""
    home.ledger.rivals = [lambda: registered(home, b"rival", run="bb")]
    registered(home)
    fresh = MemoryLedger()
    done = rebuild(home.objects, fresh)
    assert done.doubtful == []
    assert [e.body["run"] for e in fresh.stream("churn/version")] == ["bb", "aa"]


def test_two_at_once_with_the_same_content_are_one_version(home):
    home.ledger.rivals = [lambda: registered(home, run="bb")]
    mine, new = registered(home)
    assert (mine.number, new) == (1, False)
    assert len(versions(home.ledger, "churn")) == 1
    assert rebuild(home.objects, MemoryLedger()).doubtful == []


def test_whoever_always_loses_is_told_so(home, monkeypatch):
    monkeypatch.setattr(module, "TRIES", 3)
    rivals = [b"rival %d" % n for n in range(3)]
    home.ledger.rivals = [lambda model=model: registered(home, model) for model in rivals]
    with pytest.raises(ConflictError, match="taken by others"):
        registered(home, b"mine")
    assert [v.number for v in versions(home.ledger, "churn")] == [1, 2, 3]
    assert fsck(home.objects, home.ledger) == []


# ── rebuilt from the store ───────────────────────────────────────────────────────────────────────────────────


def test_bytes_and_record_are_durable_before_the_entry(home, monkeypatch):
    """Sabotage: nothing is published any more, and the check turns red."""
    seen = []

    def look():
        seen.append({item.digest for item in home.objects.walk() if not item.staged})

    home.ledger.rivals = [look]
    first, _ = registered(home)
    needed = {first.bundle.digest, *first.bundle.refs, first.body["artifacts"]["record"]}
    assert needed <= seen[0]
    monkeypatch.setattr(home.objects, "publish", lambda digests: None)
    home.ledger.rivals = [look]
    second, _ = registered(home, b"other")
    assert not {second.bundle.digest, second.body["artifacts"]["record"]} & seen[1]


def test_versions_can_be_rebuilt_from_the_store_alone(home):
    known = [registered(home)[0], registered(home, b"other", run="bb")[0]]
    fresh = MemoryLedger()
    assert rebuild(home.objects, fresh).doubtful == []
    assert [dict(e.body) for e in fresh.stream("churn/version")] == [dict(v.body) for v in known]
    again = Home(home.config, home.objects, fresh, home.formats)
    assert registered(again, run="cc")[0].number == 1  # content is known again, too


def test_a_collection_after_a_rebuild_keeps_what_the_next_rebuild_needs(home):
    registered(home)
    fresh = MemoryLedger()
    rebuild(home.objects, fresh)
    collect(home.objects, fresh, grace_s=-10.0, keep_s=0.0)
    assert [e.number for e in rebuild(home.objects, MemoryLedger()).entries] == [1]
    assert fsck(home.objects, fresh) == []


# ── what was declared ────────────────────────────────────────────────────────────────────────────────────────


def test_a_declaration_is_the_same_on_other_inputs_libraries_and_releases_of_ours():
    newer = {**CODE, "library:numpy": "3.0", "python": "3.14", "penstock.stages.train:train": "9" * 64}
    tree = graph().nodes[0].tree
    elsewhere = Graph("churn", (Node("train", "x:y", _renamed(tree), "c"),), {"c": CODE})
    assert declaration_of(graph()) == declaration_of(graph(newer)) == declaration_of(elsewhere)


def _renamed(tree):
    """The same tree with another reference."""
    if type(tree) is list and tree and tree[0] == "ref":
        return ["ref", "parted", "rows"]
    return [_renamed(one) for one in tree] if type(tree) is list else tree


@pytest.mark.parametrize(
    "other",
    [
        graph(C=2.0),
        graph(model="forest"),
        graph({**CODE, "churn:features": "3" * 64}),
        graph({**CODE, "penstock_extras:features": "3" * 64}),  # a module of the user's own
    ],
)
def test_another_parameter_or_other_code_is_another_declaration(other):
    assert declaration_of(other) != declaration_of(graph())


# ── Git ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def git(*arguments):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    git("init", "-q")
    git("config", "user.email", "ada@lab")
    git("config", "user.name", "Ada")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "churn.py").write_text("x = 1\n")
    return tmp_path, git


def test_outside_git_nothing_is_told(tmp_path):
    assert git_state(str(tmp_path)) == {}


def test_inside_git_the_commit_is_told_and_whether_the_tree_differs(repository, monkeypatch):
    root, git = repository
    folder = root / "models"
    assert git_state(str(folder)) == {}  # no commit yet
    git("add", ".")
    git("commit", "-q", "-m", "first")
    [branch] = (root / ".git" / "refs" / "heads").iterdir()
    head = branch.read_text().strip()
    assert git_state(str(folder)) == {"commit": head, "dirty": False}
    (folder / "churn.py").write_text("x = 2\n")
    assert git_state(str(folder)) == {"commit": head, "dirty": True}
    monkeypatch.chdir(folder)
    assert git_state(".")["commit"] == head


def test_git_that_does_not_answer_stops_no_registration(repository, monkeypatch):
    root, _ = repository
    monkeypatch.setenv("PATH", str(root / "nothing"))
    assert git_state(str(root)) == {}
