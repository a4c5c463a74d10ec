"""The promises of `penstock.core.ports.Objects` as tests."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from penstock.core.digest import digest_bytes
from penstock.errors import CorruptObjectError, MissingObjectError

if TYPE_CHECKING:
    from penstock.core.ports import Objects

ABSENT = digest_bytes(b"nobody ever wrote this")


class ObjectsSuite:
    """Subclass it and give the fixtures `objects` and `damage`.

    `objects` is an empty `Objects`. `damage` is a function of (digest, bytes) that replaces the stored bytes of
    an object behind the adapter's back, wherever it keeps them.

    Examples
    --------
    A test module of an adapter::

        class TestMine(ObjectsSuite):
            @pytest.fixture
            def objects(self, tmp_path):
                return Mine(tmp_path)
    """

    @pytest.fixture
    def objects(self) -> Any:
        """An empty `Objects`: the subclass gives it."""
        pytest.fail("the subclass must define the fixture `objects`")

    @pytest.fixture
    def damage(self, objects: Any) -> Callable[[str, bytes], None]:
        """Replaces stored bytes: the subclass gives it."""
        pytest.fail(f"the subclass must define the fixture `damage` for {objects!r}")

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5_000])
    def test_bytes_come_back_staged_and_published(self, objects: Objects, data: bytes) -> None:
        """What was staged is read at once, and again after it was published."""
        digest, size = objects.stage(data)
        assert (digest, size) == (digest_bytes(data), len(data))
        assert objects.read(digest) == data
        objects.publish([digest])
        assert objects.read(digest) == data
        with open(objects.fetch(digest), "rb") as file:
            assert file.read() == data

    def test_a_file_is_moved_in(self, objects: Objects, tmp_path: Any) -> None:
        """Staging a path takes the file away from there."""
        path = str(tmp_path / "table")
        with open(path, "wb") as file:
            file.write(b"rows")
        digest, size = objects.stage(path)
        assert (digest, size) == (digest_bytes(b"rows"), 4)
        assert objects.read(digest) == b"rows"
        assert not os.path.exists(path)

    def test_a_fetched_staged_path_outlives_its_publication(self, objects: Objects) -> None:
        """A reader that was given a path before another process published can still open it."""
        digest, _ = objects.stage(b"in use")
        path = objects.fetch(digest)
        objects.publish([digest])
        with open(path, "rb") as file:
            assert file.read() == b"in use"

    def test_fetched_files_are_read_only(self, objects: Objects) -> None:
        """The mode is a courtesy to users; verification does not lean on it."""
        path = objects.fetch(objects.stage(b"mode")[0])
        assert os.stat(path).st_mode & 0o222 == 0

    def test_staging_and_publishing_twice_is_free(self, objects: Objects) -> None:
        """One object, whatever is repeated."""
        for _ in range(3):
            digest, _ = objects.stage(b"again")
            objects.publish([digest, digest])
            objects.publish([digest])
        assert [(item.digest, item.staged) for item in objects.walk()] == [(digest, False)]

    def test_absent_objects_are_named(self, objects: Objects) -> None:
        """Every way to ask for what is not there raises `MissingObjectError` with the digest."""
        for ask in (objects.read, objects.fetch, lambda digest: objects.publish([digest])):
            with pytest.raises(MissingObjectError) as caught:
                ask(ABSENT)
            assert caught.value.facts["digest"] == ABSENT

    @pytest.mark.parametrize("name", ["", "../../etc/passwd", "ab", "AB" * 32, "ab" * 32 + "\n", "ab/" * 21 + "a"])
    def test_what_is_no_digest_is_missing(self, objects: Objects, name: str) -> None:
        """A text that cannot name an object never becomes a path."""
        assert objects.missing([name]) == {name}
        with pytest.raises(MissingObjectError):
            objects.read(name)

    def test_missing_looks_at_both_places(self, objects: Objects) -> None:
        """Staged and published objects are both there."""
        staged, published = objects.stage(b"1")[0], objects.stage(b"2")[0]
        objects.publish([published])
        assert objects.missing([staged, published, ABSENT]) == {ABSENT}
        assert objects.missing([]) == set()

    def test_publish_is_all_or_error(self, objects: Objects) -> None:
        """One missing digest fails the call; the others are still readable."""
        digest, _ = objects.stage(b"there")
        with pytest.raises(MissingObjectError):
            objects.publish([digest, ABSENT])
        assert objects.read(digest) == b"there"

    @pytest.mark.parametrize("published", [False, True])
    @pytest.mark.parametrize("bad", [b"", b"g00d", b"goo", b"good?"])
    def test_damage_is_seen_and_never_used(
        self, objects: Objects, damage: Callable[[str, bytes], None], bad: bytes, *, published: bool
    ) -> None:
        """Emptied, flipped, cut, grown: found on every read; moved aside; written again by the maker."""
        digest, _ = objects.stage(b"good")
        if published:
            objects.publish([digest])
        damage(digest, bad)
        for ask in (objects.read, objects.fetch):
            with pytest.raises(CorruptObjectError) as caught:
                ask(digest)
            assert caught.value.facts["digest"] == digest
        objects.quarantine(digest)
        assert objects.missing([digest]) == {digest}
        objects.publish([objects.stage(b"good")[0]])
        assert objects.read(digest) == b"good"

    def test_quarantine_spares_good_copies(self, objects: Objects) -> None:
        """Of two readers that saw one corrupt copy, the slower must not move the faster's good one."""
        digest, _ = objects.stage(b"good")
        objects.publish([digest])
        objects.quarantine(digest)
        assert objects.read(digest) == b"good"
        objects.quarantine(ABSENT)

    def test_delete(self, objects: Objects) -> None:
        """Gone from every look; a second time is no error."""
        staged, published = objects.stage(b"1")[0], objects.stage(b"2")[0]
        objects.publish([published])
        for digest in (staged, published, staged, ABSENT):
            objects.delete(digest)
        assert objects.missing([staged, published]) == {staged, published}
        assert list(objects.walk()) == []

    def test_walk_tells_size_time_and_place(self, objects: Objects) -> None:
        """Each object once."""
        before = time.time() - 5
        digests = {objects.stage(b"x" * size)[0]: size for size in range(1, 6)}
        chosen = sorted(digests)[:2]
        objects.publish(chosen)
        found = {item.digest: item for item in objects.walk()}
        assert {digest: item.size for digest, item in found.items()} == digests
        assert sorted(digest for digest, item in found.items() if not item.staged) == chosen
        assert all(before < item.mtime < time.time() + 5 for item in found.values())

    def test_many_putters_of_one_object(self, objects: Objects) -> None:
        """Sixteen at once: one object, no error, and every reader sees it whole."""
        data = os.urandom(100_000)
        faults: list[BaseException] = []
        gate = threading.Barrier(16)

        def put() -> None:
            try:
                gate.wait(10)
                digest, _ = objects.stage(data)
                objects.publish([digest])
                assert objects.read(digest) == data
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=put) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not faults, faults
        assert [(item.digest, item.staged) for item in objects.walk()] == [(digest_bytes(data), False)]

    def test_a_reader_follows_a_move(self, objects: Objects) -> None:
        """An object that is published between two looks is never reported missing."""
        faults: list[BaseException] = []
        digests = [objects.stage(b"%d" % number)[0] for number in range(200)]
        done = threading.Event()

        def look() -> None:
            try:
                while not done.is_set():
                    for digest in digests:
                        objects.read(digest)
                    assert objects.missing(digests) == set()
            except BaseException as error:
                faults.append(error)

        reader = threading.Thread(target=look)
        reader.start()
        for digest in digests:
            objects.publish([digest])
        done.set()
        reader.join(30)
        assert not faults, faults
