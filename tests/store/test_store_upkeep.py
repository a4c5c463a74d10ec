"""fsck finds every planted fault, gc removes only garbage, rebuild brings versions back."""

import json
import os
import shutil
import sqlite3
import time
import uuid
from dataclasses import replace

import fsspec
import pytest

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_bytes, digest_recipe
from penstock.core.run import Decided, Entry, Group, Result, Run
from penstock.errors import MissingObjectError, StoreError
from penstock.store.fsck import fsck
from penstock.store.gc import collect
from penstock.store.ledger import SqliteLedger
from penstock.store.objects import DirectoryObjects
from penstock.store.postgres_ledger import PostgresLedger
from penstock.store.rebuild import rebuild
from penstock.store.remote import RemoteObjects
from penstock.store.upkeep import reached
from penstock.testing import MemoryLedger, MemoryObjects
from penstock.testing.ledger_suite import CODE

DAY = 24 * 3600.0


class World:
    """A store with one registered version, one champion, a recent run and an old one."""

    def __init__(self, objects, ledger):
        self.objects, self.ledger = objects, ledger
        now = time.time()
        self.old = self.make("old", b"old table " * 20, run="a" * 16)
        self.young = self.make("young", b"young table", run="b" * 16)
        self.inline = self.make("inline", b"[1]", run="b" * 16, inline=True)
        ledger.commit(
            Group(
                runs=[Run("a" * 16, "churn", "run", "done", now - 90 * DAY), Run("b" * 16, "x", "run", "done", now)],
                results=[self.old, self.young, self.inline],
            )
        )
        self.file = self.put(b"model bytes")
        small = {"digest": digest_bytes(b'{"python":"3.11"}'), "size": 17, "text": '{"python":"3.11"}'}  # no object
        bundle = {"files": {"model.skops": {"digest": self.file, "size": 11}, "environment": small}}
        self.bundle = self.put(json.dumps(bundle).encode())
        self.body = {"artifacts": {"bundle": self.bundle, "metrics": self.inline.outputs[0].digest}}
        manifest = {
            "penstock": "version/1",
            "workflow": "churn",
            "number": 1,
            "body": self.body,
            "who": "me",
            "at": 9.0,
        }
        self.manifest = self.put(json.dumps(manifest).encode())
        self.body["artifacts"]["manifest"] = self.manifest
        ledger.append([Entry("churn/version", 1, self.body)])
        ledger.append([Entry("churn/alias/champion", 1, {"version": 1, "previous": None})])
        self.garbage = self.put(b"nobody needs this")

    def put(self, data):
        digest, _ = self.objects.stage(data)
        self.objects.publish([digest])
        return digest

    def make(self, name, data, *, run, inline=False):
        digest = digest_bytes(data) if inline else self.put(data)
        artifact = Artifact(digest, "json", len(data), data.decode() if inline else None)
        return Result(digest_recipe(CODE, [name], None), CODE, [name], None, (artifact,), {"run": run, "step": name})

    def digests(self):
        return {item.digest for item in self.objects.walk()}


@pytest.fixture(params=["real", "memory", "shared"])
def world(request, tmp_path):
    if request.param == "memory":
        yield World(MemoryObjects(), MemoryLedger())
    elif request.param == "shared":
        yield request.getfixturevalue("shared")
    else:
        ledger = SqliteLedger(str(tmp_path / "ledger.db"))
        yield World(DirectoryObjects(str(tmp_path / "store")), ledger)
        ledger.close()


@pytest.fixture
def shared(tmp_path, postgres):
    """A store behind a URL, as `penstock gc` and `fsck` read it, and a ledger in PostgreSQL."""
    url, ledger = f"memory://upkeep-{uuid.uuid4().hex}", PostgresLedger(postgres)
    yield World(RemoteObjects(url, str(tmp_path / "here"), refresh_s=0.0), ledger)  # every object is old at once
    ledger.close()
    fsspec.filesystem("memory").rm(url, recursive=True)


@pytest.fixture
def real(tmp_path):
    ledger = SqliteLedger(str(tmp_path / "ledger.db"))
    yield World(DirectoryObjects(str(tmp_path / "store")), ledger)
    ledger.close()


def kinds(findings):
    return sorted({finding.kind for finding in findings})


def path_of(world, digest):
    return world.objects._final(digest)


def change(path, data):
    os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o444)


# ── fsck ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_whole_store_has_no_findings(world):
    assert fsck(world.objects, world.ledger) == []


@pytest.mark.parametrize("data", [b"", b"model byteS", b"model byte", b"model bytes!"])
def test_a_changed_object_is_found_moved_aside_and_missed(real, data):
    change(path_of(real, real.file), data)
    assert kinds(fsck(real.objects, real.ledger)) == ["corrupt"]
    [finding, after] = fsck(real.objects, real.ledger, repair=True)
    assert (finding.kind, finding.repaired, finding.where) == ("corrupt", True, real.file)
    assert (after.kind, after.where) == ("missing", real.file)
    assert len(os.listdir(real.objects.root + "/quarantine")) >= 1
    real.put(b"model bytes")
    assert fsck(real.objects, real.ledger, repair=True) == []


def test_two_swapped_objects_are_both_found(real):
    left, right = path_of(real, real.file), path_of(real, real.garbage)
    os.rename(left, left + "x")
    os.rename(right, left)
    os.rename(left + "x", right)
    assert {item.where for item in fsck(real.objects, real.ledger)} == {real.file, real.garbage}


@pytest.mark.parametrize("name", ["young", "file", "bundle", "manifest"])
def test_a_missing_object_is_found_wherever_it_is_named(world, name):
    named = getattr(world, name)
    digest = named if isinstance(named, str) else named.outputs[0].digest
    world.objects.delete(digest)
    assert (("missing", digest)) in {(item.kind, item.where) for item in fsck(world.objects, world.ledger)}


def test_garbage_may_be_missing(world):
    world.objects.delete(world.garbage)
    assert fsck(world.objects, world.ledger) == []


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE result SET tree = '[\"changed\"]' WHERE tree = '[\"young\"]'", "recipe"),
        ("UPDATE result SET recipe = zeroblob(32) WHERE tree = '[\"young\"]'", "recipe"),
        ("UPDATE artifact SET text = '[2]' WHERE text IS NOT NULL", "inline"),
        ("DELETE FROM entry WHERE stream = 'churn/alias/champion' AND number = 1", "alias stream"),
        ("UPDATE entry SET number = 3 WHERE stream = 'churn/alias/champion' AND number = 2", "stream"),
        ("UPDATE entry SET body = replace(body, '1', '2') WHERE stream LIKE '%alias%'", "stream"),
        ("UPDATE entry SET at = at + 1", "stream"),
        ("UPDATE entry SET who = 'mallory'", "stream"),
        ("DELETE FROM entry WHERE stream = 'churn/version'", "alias"),
    ],
)
def test_a_changed_row_is_found(real, statement, kind):
    real.ledger.append([Entry("churn/alias/champion", 2, {"version": None, "previous": 1})])
    with sqlite3.connect(real.ledger.path) as db:
        assert db.execute(statement).rowcount > 0
    db.close()
    assert kinds(fsck(real.objects, real.ledger)) == kind.split()


@pytest.mark.parametrize(
    "body",
    [
        {"version": 1, "previous": 3},
        {"version": 2, "previous": 1},
        {"version": "1", "previous": 1},
        {"version": True, "previous": 1},
        {"version": 1},
        {"version": 0, "previous": 1},
        {"version": 1, "previous": None},
    ],
)
def test_an_illegal_move_of_an_alias_is_found(world, body):
    world.ledger.append([Entry("churn/alias/champion", 2, body)])
    assert kinds(fsck(world.objects, world.ledger)) == ["alias"]


def test_legal_moves_of_an_alias_pass(world):
    for number, (version, previous) in enumerate([(None, 1), (1, None), (1, 1)], 2):
        world.ledger.append([Entry("churn/alias/champion", number, {"version": version, "previous": previous})])
    assert fsck(world.objects, world.ledger) == []


def run_that_kept(world, age, state="done"):
    """A run whose row names files that nothing else does."""
    now = time.time()
    words = {"files": b"its code", "machine": b"its environment", "diff": b"a difference of code"}
    named = {word: {"digest": world.put(data)} for word, data in words.items()}
    info = {"code": {"commit": "c", "dirty": True, **named}, "predictions": world.put(b"predictions")}
    run = Run("d" * 16, "churn", "run", state, now - age, info=info)
    world.ledger.commit(Group(runs=[run]))
    return run


@pytest.mark.parametrize(
    ("word", "means"),
    [
        ("code", "it is the code of run dddddddd: it cannot be reproduced"),
        ("environment", "what differs between it and another run cannot be told"),
        ("difference", "what differed from its commit is not known"),
        ("predictions", "it is the predictions of run dddddddd"),
    ],
)
def test_a_missing_file_of_a_run_is_told_with_what_it_means(world, word, means):
    run = run_that_kept(world, 1 * DAY)
    assert fsck(world.objects, world.ledger) == []
    world.objects.delete(run.kept[word])
    [found] = fsck(world.objects, world.ledger)
    assert (found.kind, found.where, found.fault) == ("missing", run.kept[word], True)
    assert means in found.what


def test_a_changed_file_of_a_run_is_told_with_what_it_means_and_a_text_in_its_row_needs_no_object(real):
    run = run_that_kept(real, 1 * DAY)
    other = Run("e" * 16, "churn", "run", "done", time.time(), info={"code": {"files": {"digest": run.kept["code"]}}})
    inline = {"code": {"diff": {"digest": digest_bytes(b"{}"), "text": "{}"}}}
    real.ledger.commit(Group(runs=[other, Run("f" * 16, "churn", "run", "done", time.time(), info=inline)]))
    change(path_of(real, run.kept["code"]), b"its coda")
    [found] = fsck(real.objects, real.ledger)
    assert found.kind == "corrupt"
    assert "it is the code of run eeeeeeee and run dddddddd: it cannot be reproduced" in found.what


def test_what_gc_let_go_of_is_missed_by_nobody_and_a_run_at_work_keeps_its_own(world):
    run = run_that_kept(world, 40 * DAY)
    dry = collect(world.objects, world.ledger, dry_run=True, clock=later)
    assert (dry.runs, fsck(world.objects, world.ledger)) == (1, [])
    assert run.kept == world.ledger.runs(prefix=run.id)[0].kept
    done = collect(world.objects, world.ledger, clock=later)
    assert (done.runs, done.objects) == (dry.runs, dry.objects)
    assert not set(run.kept.values()) & world.digests()
    assert fsck(world.objects, world.ledger) == []
    assert collect(world.objects, world.ledger, clock=later).runs == 0
    [row] = world.ledger.runs(prefix=run.id)
    assert row.info["code"] == run.info["code"]  # the row still tells what there was
    at_work = run_that_kept(world, 0, state="running")
    assert collect(world.objects, world.ledger, keep_s=0.0).runs == 0
    assert world.ledger.runs(prefix=at_work.id)[0].kept == at_work.kept
    assert set(at_work.kept.values()) <= reached(world.objects, world.ledger)


def test_without_the_mark_gc_would_be_taken_for_a_loss(world):
    """Control: it is the mark in the row by which `fsck` knows."""
    run = run_that_kept(world, 40 * DAY)
    collect(world.objects, world.ledger, clock=later)
    world.ledger.commit(Group(runs=[run]))
    assert kinds(fsck(world.objects, world.ledger)) == ["missing"]


def test_leftovers_and_strangers_are_told_and_only_ours_swept(real):
    tmp, stray = real.objects.root + "/tmp/99-1-aa", real.objects.root + "/objects/ab/readme"
    os.makedirs(os.path.dirname(stray), exist_ok=True)
    for path in (tmp, stray):
        with open(path, "w") as file:
            file.write("x")
    assert kinds(fsck(real.objects, real.ledger)) == []  # young: a writer may be at work
    old = time.time() - 7200
    os.utime(tmp, (old, old))
    os.utime(stray, (old, old))
    found = fsck(real.objects, real.ledger, repair=True)
    assert [(item.kind, item.fault, item.repaired) for item in found] == [
        ("leftover", False, True),
        ("stray", False, False),
    ]
    assert not os.path.exists(tmp)
    assert kinds(fsck(real.objects, real.ledger, repair=True)) == ["stray"]


def test_a_damaged_database_is_one_finding(tmp_path):
    path = str(tmp_path / "ledger.db")
    ledger = SqliteLedger(path)
    world = World(DirectoryObjects(str(tmp_path / "store")), ledger)
    ledger.commit(Group(codes={digest_bytes(b"%d" % n): {"x": "y" * 500} for n in range(200)}))
    ledger.close()
    with open(path, "r+b") as file:
        size = os.path.getsize(path)
        for place in range(8192, size, 4096):
            file.seek(place)
            file.write(b"\xff" * 64)
    ledger = SqliteLedger(path)
    assert kinds(fsck(world.objects, ledger)) == ["ledger"]
    ledger.close()


# ── gc ───────────────────────────────────────────────────────────────────────────────────────────────────────


def later():
    return time.time() + 2 * DAY


def test_gc_removes_only_what_nothing_reaches(world):
    everything = world.digests()
    garbage = {world.garbage, world.old.outputs[0].digest}
    dry = collect(world.objects, world.ledger, dry_run=True, clock=later)
    assert (dry.results, dry.objects, world.digests()) == (1, 2, everything)
    done = collect(world.objects, world.ledger, clock=later)
    assert (done.results, done.objects, done.size, done.kept) == (dry.results, dry.objects, dry.size, dry.kept)
    assert world.digests() == everything - garbage
    assert fsck(world.objects, world.ledger) == []
    assert collect(world.objects, world.ledger, clock=later).objects == 0


def test_gc_spares_the_grace(world):
    everything = world.digests()
    assert collect(world.objects, world.ledger).objects == 0
    assert world.digests() == everything


def test_what_is_staged_again_is_spared(real):
    """A writer that finds an old object there only touches it; gc must see that, also between mark and sweep."""
    past = time.time() - 3 * DAY
    os.utime(path_of(real, real.garbage), (past, past))
    real.objects.stage(b"nobody needs this")
    assert collect(real.objects, real.ledger).objects == 0
    os.utime(path_of(real, real.garbage), (past, past))
    real.objects.publish([real.garbage])
    assert collect(real.objects, real.ledger).objects == 0
    os.utime(path_of(real, real.garbage), (past, past))
    assert not real.objects.delete_unless_touched(real.garbage, past)
    assert real.objects.read(real.garbage) == b"nobody needs this"
    assert collect(real.objects, real.ledger).objects == 1


def test_without_a_grace_the_object_of_a_writer_at_work_is_lost(real):
    """Control: it is the grace that protects it."""
    digest, _ = real.objects.stage(b"being registered")
    collect(real.objects, real.ledger, grace_s=-1.0)
    with pytest.raises(MissingObjectError):
        real.objects.publish([digest])


def test_what_a_recent_run_reused_is_kept(world):
    old = world.old
    world.ledger.commit(
        Group(
            runs=[Run("c" * 16, "churn", "run", "done", time.time())],
            decided=[("churn", Decided("old", old.recipe, old.code, old.tree))],
        )
    )
    assert collect(world.objects, world.ledger, clock=later).results == 0
    assert old.outputs[0].digest in world.digests()


@pytest.mark.parametrize(("age", "stays"), [(1 * DAY, True), (40 * DAY, False)])
def test_what_a_try_s_own_row_names_stays_as_long_as_its_results(world, age, stays):
    diff, _ = world.objects.stage(b"a difference of code")
    info = {"code": {"commit": "c", "dirty": True, "diff": {"digest": diff}}, "predictions": None}
    tried = Run("d" * 16, "churn", "try", "done", time.time() - age, info=info)
    world.ledger.commit(Group(runs=[tried]))
    collect(world.objects, world.ledger, clock=later)
    assert (diff in world.digests()) is stays
    assert tried.id in [run.id for run in world.ledger.runs(flow="churn")]  # rows stay for ever


def test_forgetting_keeps_what_was_last_decided(world):
    old = world.old
    decided = Decided("old", old.recipe, old.code, old.tree)
    world.ledger.commit(Group(decided=[("churn", decided)]))
    assert world.ledger.forget([old.recipe, "unknown"]) == 1
    assert world.ledger.decided("churn") == {"old": decided}
    assert world.ledger.results([old.recipe]) == {}
    assert world.ledger.makers(old.outputs[0].digest) == []


def test_a_mapped_step_that_was_last_decided_keeps_the_results_of_its_items(world):
    """Whatever run made them: else one changed item would run all of them again."""
    items = [world.make(f"item{n}", b"item %d" % n, run="a" * 16) for n in range(3)]
    whole = world.make("whole", b"whole", run="a" * 16)
    whole = replace(whole, made={**whole.made, "items": [one.recipe for one in items[:2]]})
    decided = Decided("score", whole.recipe, whole.code, whole.tree)
    world.ledger.commit(Group(results=[*items, whole], decided=[("x", decided)]))
    collect(world.objects, world.ledger, clock=later)
    asked = [one.recipe for one in (*items, whole)]
    assert set(world.ledger.results(asked)) == {*asked[:2], whole.recipe}
    assert {one.outputs[0].digest for one in items[:2]} <= world.digests()


def test_gc_refuses_while_a_manifest_cannot_be_read(world):
    everything = world.digests()
    world.objects.delete(world.bundle)
    with pytest.raises(StoreError, match="nothing was removed"):
        collect(world.objects, world.ledger, clock=later)
    assert world.digests() == everything - {world.bundle}


def test_gc_sweeps_second_names_and_temporary_files(real):
    with open(real.objects.root + "/tmp/99-1-aa", "w") as file:
        file.write("x")
    for item in list(real.objects.leftovers()):
        os.utime(item.path, (1, 1))
    assert collect(real.objects, real.ledger).swept > 1
    assert list(real.objects.leftovers()) == []


# ── rebuild ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_versions_come_back_from_the_store(real, tmp_path):
    fresh = SqliteLedger(str(tmp_path / "fresh.db"))
    assert [entry.number for entry in rebuild(real.objects, fresh, dry_run=True).entries] == [1]
    assert fresh.streams() == {}
    done = rebuild(real.objects, fresh, who="keeper")
    assert done.doubtful == []
    [entry] = fresh.stream("churn/version")
    assert entry.body["artifacts"]["bundle"] == real.bundle
    assert (entry.at, entry.who) == (9.0, "me")
    assert "churn/alias/champion" not in fresh.streams()
    assert rebuild(real.objects, fresh).entries == []
    fresh.close()


def test_rebuild_stops_at_doubt(world):
    def manifest(workflow, number, note):
        data = {"penstock": "version/1", "workflow": workflow, "number": number, "body": {"note": note}}
        world.put(json.dumps(data).encode())

    for number, note in [(2, "a"), (3, "b"), (3, "c"), (4, "d")]:
        manifest("churn", number, note)
    manifest("gap", 2, "x")
    world.put(json.dumps({"penstock": "version/1", "workflow": 5, "number": 1}).encode())
    world.put(b"{not json")
    done = rebuild(world.objects, world.ledger)
    assert [(entry.stream, entry.number) for entry in done.entries] == [("churn/version", 2)]
    assert len(done.doubtful) == 2


def test_a_lost_ledger_leaves_a_store_that_works(real, tmp_path):
    """The whole way back: copy of the store, new ledger, versions again, fsck clean but for the lost decisions."""
    shutil.copytree(real.objects.root, tmp_path / "copy")
    objects, fresh = DirectoryObjects(str(tmp_path / "copy")), SqliteLedger(str(tmp_path / "fresh.db"))
    rebuild(objects, fresh)
    metrics = real.inline.outputs[0].digest  # was inline in the lost ledger: told, not hidden
    assert [(item.kind, item.where) for item in fsck(objects, fresh)] == [("missing", metrics)]
    fresh.close()


def test_gc_that_stops_anywhere_loses_only_garbage(real, monkeypatch):
    """At each rename and unlink of a collection; the next one finishes."""
    for number in range(6):
        real.put(b"garbage %d" % number)
    garbage = {real.garbage, real.old.outputs[0].digest, *(digest_bytes(b"garbage %d" % n) for n in range(6))}
    wanted = real.digests() - garbage
    for item in list(real.objects.leftovers()):
        os.utime(item.path, (1, 1))
    steps = []
    for name in ("rename", "unlink"):

        def stop(*args, step=getattr(os, name)):
            steps.append(args)
            if len(steps) == 3:
                raise KeyboardInterrupt
            return step(*args)

        monkeypatch.setattr(os, name, stop)
    rounds = 0
    while True:
        steps.clear()
        try:
            collect(real.objects, real.ledger, clock=later)
            break
        except KeyboardInterrupt:
            rounds += 1
            assert wanted <= real.digests()
            assert [finding for finding in fsck(real.objects, real.ledger) if finding.fault] == []
        if rounds > 50:
            steps.extend([()] * 10)
            break
    monkeypatch.undo()
    collect(real.objects, real.ledger, clock=later)
    assert rounds > 5
    assert real.digests() == wanted


def test_gc_of_a_bucket_that_stops_anywhere_loses_only_garbage(shared, monkeypatch):
    """At each request that changes the bucket, before and after it; the next collection finishes."""
    from penstock.store.bucket import Bucket

    wanted = shared.digests() - {shared.garbage, shared.old.outputs[0].digest}
    left = [0]

    def stop(*args, real, **options):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        done = real(*args, **options)
        if left[0] == -1:
            raise KeyboardInterrupt
        return done

    for name in ("put", "delete"):
        real = getattr(Bucket, name)
        monkeypatch.setattr(Bucket, name, lambda *a, real=real, **k: stop(*a, real=real, **k))
    stopped = 0
    for first in (1, 0, 1, 0, 2, 3):
        left[0] = first
        try:
            collect(shared.objects, shared.ledger, clock=later)
        except KeyboardInterrupt:
            stopped += 1
        assert wanted <= shared.digests()
        assert [finding for finding in fsck(shared.objects, shared.ledger) if finding.fault] == []
    monkeypatch.undo()
    monkeypatch.setattr(RemoteObjects, "_is_abandoned", lambda *_: True)  # an hour later
    collect(shared.objects, shared.ledger, clock=later)
    assert stopped >= 2
    assert shared.digests() == wanted


@pytest.mark.parametrize("name", ["fsync", "rename"])
def test_a_report_that_is_written_anew_is_the_old_one_or_the_new_one(tmp_path, monkeypatch, name):
    from penstock.store import files

    path = tmp_path / "report.html"
    path.write_text("old")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, name, stop)
        if name == "rename":
            patched.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            files.write_durably(str(path), b"new", f"{path}.part")
        assert path.read_text() == "old"
    files.write_durably(str(path), b"new", f"{path}.part")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["report.html"]
