"""A kill, or an error, at single system calls of start, put, register and promote: old state or new, never between."""

import os
import shutil

import pytest

from penstock.store.ledger import SqliteLedger
from penstock.testing.crash import Acknowledged, breaches, places, work
from penstock.testing.inject import available, calls, inject

VERBS = ["start", "put", "register", "promote"]
FAILING = {
    "EIO": {"fsync", "fdatasync", "write", "pwrite64", "rename", "link", "ftruncate", "unlink", "read", "pread64"},
    "ENOSPC": {"write", "pwrite64", "openat", "mkdir", "rename", "link", "fsync"},
}


@pytest.fixture
def template(tmp_path, capfd, system_command):
    """A store with a version and a champion, to be copied for each try; "start" begins with nothing."""
    system_command("strace")
    if not available():
        pytest.skip("this machine does not let strace trace: kills at system calls are not tested")
    root = str(tmp_path / "template")
    work(root, 7, ["put", "register", "promote"])
    capfd.readouterr()

    def make(verb):
        place = str(tmp_path / "try")
        shutil.rmtree(place, ignore_errors=True)
        if verb == "start":
            os.mkdir(place)
        else:
            shutil.copytree(root, place)
        return place

    return make


def heads(root):
    ledger = SqliteLedger(places(root)[1])
    found = ledger.streams()
    ledger.close()
    return found


def interfere(template, tmp_path, capfd, verb, chosen, what):
    """Interfere at each chosen call; give how often it took effect and what broke."""
    effect, found = 0, []
    for call in chosen:
        root = template(verb)
        outcome = inject(root, [verb], call, what)
        where = f"{verb} at {call.name} {call.nth} ({what})"
        effect += outcome.exit_code != 0 or bool(outcome.acknowledged.failed)
        if "Traceback" in outcome.errors:
            found.append(f"{where}: not a sentence: {outcome.errors[-400:]}")
        found += [f"{where}: {breach}" for breach in breaches(root, outcome.acknowledged)]
        found += [f"{where}: half a state: {state}" for state in [heads(root)] if not legal(verb, state)]
        work(root, 8, ["put", "register", "promote"])  # all goes on, with no repair
        said = Acknowledged().read(capfd.readouterr().out.encode())
        found += [f"{where}: does not go on: {text}" for text in said.failed]
        found += [f"{where}, then: {breach}" for breach in breaches(root, said)]
    return effect, found


def legal(verb, state):
    old = {} if verb == "start" else {"crash/alias/champion": 1, "crash/version": 1}
    new = {"register": {**old, "crash/version": 2}, "promote": {**old, "crash/alias/champion": 2}}.get(verb, old)
    return state in (old, new)


def every(template, tmp_path, verb):
    return calls(template(verb), [verb], str(tmp_path / "log"))


def failing(template, tmp_path, verb, error):
    """Calls that can fail so; not the last, which is the acknowledgement itself."""
    return [call for call in every(template, tmp_path, verb)[:-1] if call.name in FAILING[error]]


def spread(items, number):
    """A few of them, from the first to the last."""
    if len(items) <= number:
        return list(items)
    return [items[round(place * (len(items) - 1) / (number - 1))] for place in range(number)]


WRITING = {"write", "pwrite64", "rename", "link", "mkdir", "fsync", "fdatasync", "ftruncate", "unlink"}


@pytest.mark.parametrize("verb", VERBS)
def test_kills_at_some_calls(template, tmp_path, capfd, verb):
    some = spread([call for call in every(template, tmp_path, verb) if call.name in WRITING], 4)
    effect, found = interfere(template, tmp_path, capfd, verb, some, "signal=KILL")
    assert found == []
    assert effect >= len(some) - 1  # the last line of output may be out before the kill


@pytest.mark.parametrize("error", FAILING)
def test_errors_at_some_calls(template, tmp_path, capfd, error):
    some = spread(failing(template, tmp_path, "register", error), 5)
    effect, found = interfere(template, tmp_path, capfd, "register", some, f"error={error}")
    assert found == []
    assert effect >= 1


def test_control_a_write_in_place_is_caught(template, tmp_path):
    chosen = calls(template("put"), ["put"], str(tmp_path / "log"), fault="in-place")
    some = spread([call for call in chosen if call.name == "write"], 5)[1:-1]
    found = []
    for call in some:
        root = template("put")
        found += breaches(root, inject(root, ["put"], call, "signal=KILL", fault="in-place").acknowledged)
    assert any("corrupt" in breach for breach in found)


@pytest.mark.campaign
@pytest.mark.timeout(400)
@pytest.mark.parametrize("verb", VERBS)
def test_a_kill_at_every_call(template, tmp_path, capfd, report, verb):
    chosen = every(template, tmp_path, verb)
    effect, found = interfere(template, tmp_path, capfd, verb, chosen, "signal=KILL")
    report(f"{verb}: killed at {effect} of {len(chosen)} system calls, {len(found)} breaches")
    assert found == []
    assert effect >= len(chosen) * 0.9


@pytest.mark.campaign
@pytest.mark.timeout(400)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("error", FAILING)
def test_an_error_at_every_call(template, tmp_path, capfd, report, verb, error):
    chosen = failing(template, tmp_path, verb, error)
    effect, found = interfere(template, tmp_path, capfd, verb, chosen, f"error={error}")
    report(f"{verb}: {error} at {len(chosen)} calls, {effect} refused, {len(found)} breaches")
    assert found == []
