"""Where a project begins, and which of several settings counts."""

import json
import os
import subprocess

import pytest

from penstock.errors import ConfigurationError, StoreTooNewError
from penstock.project import FOLDER, MARKS, configure, find_root, open_home, open_store

# ── the root ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mark", MARKS)
def test_the_nearest_folder_with_a_mark_is_the_root(tmp_path, mark):
    inner = tmp_path / "team" / "models"
    inner.mkdir(parents=True)
    (inner / "churn.py").write_text("")
    (tmp_path / "penstock.toml").write_text("")  # further away
    (tmp_path / "team" / mark).mkdir() if mark.startswith(".") else (tmp_path / "team" / mark).write_text("")
    for path in (inner / "churn.py", inner, inner / "not there.py"):
        assert find_root(str(path)) == str(tmp_path / "team")


def test_without_a_mark_the_file_s_own_folder_is_the_root(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.project.MARKS", ("no such mark",))
    (tmp_path / "churn.py").write_text("")
    assert find_root(str(tmp_path / "churn.py")) == str(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert find_root("churn.py") == find_root(".") == str(tmp_path)


# ── precedence ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def root(tmp_path):
    return tmp_path


def seed_of(root, **how):
    made = configure(str(root), **how)
    return made.seed, made.origin.get("seed")


def test_each_place_counts_more_than_the_one_before(root, monkeypatch):
    """Default, pyproject.toml, its environment, penstock.toml, its environment, PENSTOCK_*, flag."""
    assert seed_of(root) == (None, None)
    (root / "pyproject.toml").write_text("[tool.penstock]\nseed = 1\n")
    assert seed_of(root) == (1, "pyproject.toml [tool.penstock]")
    (root / "pyproject.toml").write_text("[tool.penstock]\nseed = 1\n[tool.penstock.env.dev]\nseed = 2\n")
    assert seed_of(root) == (2, "pyproject.toml [tool.penstock] env.dev")
    (root / "penstock.toml").write_text("seed = 3\n")
    assert seed_of(root) == (3, "penstock.toml")
    (root / "penstock.toml").write_text("seed = 3\n[env.dev]\nseed = 4\n[env.night]\nseed = 9\n")
    assert seed_of(root) == (4, "penstock.toml env.dev")
    monkeypatch.setenv("PENSTOCK_SEED", "5")
    assert seed_of(root) == (5, "PENSTOCK_SEED")
    assert seed_of(root, flags={"seed": 6, "jobs": None}) == (6, "--seed")


def test_every_value_tells_its_origin(root, monkeypatch):
    (root / "penstock.toml").write_text('jobs = 2\nrelease = "ci"\n')
    monkeypatch.setenv("PENSTOCK_TRUST", "mine.Scaler, mine.Other,")
    made = configure(str(root))
    assert (made.jobs, made.release, made.trust) == (2, "ci", ("mine.Scaler", "mine.Other"))
    assert made.origin == {
        "store": "default",
        "ledger": "default",
        "jobs": "penstock.toml",
        "release": "penstock.toml",
        "trust": "PENSTOCK_TRUST",
        "hosts": "default",
        "redact": "default",
    }
    assert made.environment == "dev"


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_the_environment_is_chosen_by_name(root, monkeypatch, how):
    (root / "penstock.toml").write_text("seed = 3\n[env.night]\nseed = 9\n")
    if how == "variable":
        monkeypatch.setenv("PENSTOCK_ENV", "night")
    made = configure(str(root), environment="night" if how == "argument" else None)
    assert (made.seed, made.environment) == (9, "night")


def test_dev_and_ci_need_no_table(root):
    assert [configure(str(root), environment=name).environment for name in ("dev", "ci")] == ["dev", "ci"]
    with pytest.raises(ConfigurationError, match="no environment 'night'") as caught:
        configure(str(root), environment="night")
    assert "[env.night]" in caught.value.hint


def test_paths_are_relative_to_the_root_and_know_the_user_s_home(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root / "ada"))
    made = configure(str(root))
    assert (made.store, made.ledger) == (str(root / FOLDER), str(root / FOLDER / "ledger.db"))
    (root / "penstock.toml").write_text('store = "../kept"\nledger = "~/ledger.db"\n')
    made = configure(str(root))
    assert (made.store, made.ledger) == (str(root.parent / "kept"), str(root / "ada" / "ledger.db"))


def test_a_pyproject_of_others_is_not_even_parsed(root):
    (root / "pyproject.toml").write_text("[project\nbroken = ")
    assert configure(str(root)).jobs == 0


# ── what cannot be used ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sede = 1", "penstock.toml: no setting is called 'sede'; did you mean \"seed\"?"),
        ("zzz = 1", "no setting is called 'zzz'"),
        ("[env.dev]\nsede = 1\n[env.night]\n", "penstock.toml env.dev: no setting is called 'sede'"),
        ('seed = "1"', "seed = '1': a whole number is meant"),
        ("seed = true", "seed = True: a whole number is meant"),
        ("seed = 1.5", "seed = 1.5: a whole number is meant"),
        ("seed = -1", "seed = -1: a whole number from 0"),
        ("jobs = -1", "jobs = -1: a whole number from 0"),
        ("store = 3", "store = 3: text is meant"),
        ('trust = "mine.Scaler"', "trust = 'mine.Scaler': a list is meant"),
        ("trust = [1]", "every item is a name"),
        ('release = "always"', "one of auto, ci, never"),
        ('store = "s3://ana:s3cret@bucket/x"', "'s3://ana:***@bucket/x': a password does not belong into a file"),
        ('store = "s3://ana@bucket/x"', "a URL without user, password or query is meant"),
        ('store = "s3://bucket/x?key=AKIA"', "'s3://bucket/x?key=***': a password does not belong into a file"),
        ('store = "s3://bucket/x?endpoint=e"', "a URL without user, password or query is meant"),
        ('ledger = "s3://bucket/x"', "ledger = 's3://bucket/x': a path or a postgresql:// URL is meant"),
        ('ledger = "postgresql://ana:s3cret@db/x"', "a password does not belong into a file"),
        ('ledger = "postgresql://db/x?password=s3cret"', "a password does not belong into a file"),
        ('ledger = "postgresql://ana:${NOT_SET}@db/x"', "ledger names ${NOT_SET}, which is not set"),
        ('trust = ["${NOT_SET}"]', "trust names ${NOT_SET}, which is not set"),
        ("${NOT_SET} = 1", "cannot be read"),
        ('grace = "soon"', "grace = 'soon': a time is meant"),
        ("seed = ", "cannot be read"),
        ('ledger = ["postgresql://ana:s3cret@db"]', "ledger = ['postgresql://ana:***@db']: text is meant"),
        ('mlflow = "http://ana:s3cret@host"', "'http://ana:***@host': a table is meant"),
        (f'seed = "{"9" * 9_000}"', "999 … 999"),
        ("env = 3", "penstock.toml env: 3: a table is meant"),
        ("env.dev = 3", "penstock.toml env.dev: 3: a table is meant"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_its_place(root, text, said):
    (root / "penstock.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        configure(str(root))
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_table_of_tool_that_is_none_is_refused(root):
    (root / "pyproject.toml").write_text("# [tool.penstock]\n[tool]\npenstock = 3\n")
    with pytest.raises(ConfigurationError, match="3: a table is meant"):
        configure(str(root))


def test_bytes_that_are_no_text_are_refused(root):
    (root / "penstock.toml").write_bytes(b'store = "\xff"')
    with pytest.raises(ConfigurationError, match="cannot be read"):
        configure(str(root))


@pytest.mark.parametrize(("text", "said"), [("many", "'many' is no whole number"), ("-2", "from 0")])
def test_a_variable_that_cannot_be_used_is_named(root, monkeypatch, text, said):
    monkeypatch.setenv("PENSTOCK_JOBS", text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        configure(str(root))
    assert caught.value.where == "PENSTOCK_JOBS"


def test_a_flag_that_cannot_be_used_is_named(root):
    with pytest.raises(ConfigurationError) as caught:
        configure(str(root), {"release": "always"})
    assert caught.value.where == "--release"


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_home_is_made_where_git_does_not_look(root):
    (root / "penstock.toml").write_text("")
    (root / "models").mkdir()
    home = open_home(str(root / "models"), {"seed": 7})
    assert (home.config.root, home.config.seed) == (str(root), 7)
    digest, _ = home.objects.stage(b"bytes")
    home.objects.publish([digest])
    assert home.formats.load(home.formats.dump({"a": 1}, home.objects.stage), home.objects) == {"a": 1}
    assert home.ledger.streams() == {}
    home.ledger.close()
    assert (root / FOLDER / ".gitignore").read_text().split()[-1] == "*"
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    subprocess.run(["git", "init", "-q", str(root)], check=True, env=environment)
    seen = subprocess.run(
        ["git", "-C", str(root), "status", "--porcelain", "-uall"], check=True, capture_output=True, env=environment
    )
    assert FOLDER.encode() not in seen.stdout


def test_a_second_opening_finds_what_the_first_kept(root):
    (root / "penstock.toml").write_text("")
    first = open_home(str(root))
    digest, _ = first.objects.stage(b"bytes")
    first.objects.publish([digest])
    first.ledger.close()
    again = open_home(str(root / "churn.py"))
    assert again.objects.read(digest) == b"bytes"
    again.ledger.close()
    assert open_store(again.config)[0].read(digest) == b"bytes"


def test_a_store_of_a_newer_penstock_is_left_alone(root):
    (root / "penstock.toml").write_text("")
    open_home(str(root)).ledger.close()
    mark = root / FOLDER / "format"
    mark.write_text(json.dumps({"penstock-store": 99}))
    with pytest.raises(StoreTooNewError):
        open_home(str(root))


# ── a team's settings ────────────────────────────────────────────────────────────────────────────────────────


def test_store_and_ledger_may_be_urls_of_an_environment(root, monkeypatch):
    monkeypatch.setenv("STORE_BUCKET", "ml")
    monkeypatch.setenv("LEDGER_PASSWORD", "s3cret")
    (root / "penstock.toml").write_text(
        '[env.prod]\nstore = "s3://${STORE_BUCKET}/churn"\n'
        'ledger = "postgresql://ana:${LEDGER_PASSWORD}@db/penstock"\nkeep = "90d"\n'
    )
    made = configure(str(root), environment="prod")
    assert (made.store, made.shared, made.keep) == ("s3://ml/churn", True, "90d")
    assert made.ledger == "postgresql://ana:s3cret@db/penstock"
    assert "s3cret" not in repr(made)
    assert not configure(str(root)).shared


def test_the_folder_of_a_file_url_is_a_path(root):
    for url, path in (("file:///srv/store", "/srv/store"), ("file://models", str(root / "models"))):
        (root / "penstock.toml").write_text(f'store = "{url}"\n')
        assert configure(str(root)).store == path


def test_a_reference_that_is_overridden_need_not_be_set(root):
    (root / "penstock.toml").write_text('store = "s3://${NOT_SET}/x"\n[env.dev]\nstore = "here"\n')
    assert configure(str(root)).store == str(root / "here")


def test_penstock_release_says_who_this_process_is_and_never_who_may_release(root, monkeypatch):
    (root / "penstock.toml").write_text('release = "never"\n')
    assert (configure(str(root)).is_ci, configure(str(root), environment="ci").is_ci) == (False, False)
    monkeypatch.setenv("PENSTOCK_RELEASE", "ci")
    assert (configure(str(root)).is_ci, configure(str(root)).release) == (True, "never")
    monkeypatch.setenv("PENSTOCK_RELEASE", "auto")
    with pytest.raises(ConfigurationError, match="the only value is ci") as caught:
        configure(str(root))
    assert "penstock.toml" in caught.value.hint
