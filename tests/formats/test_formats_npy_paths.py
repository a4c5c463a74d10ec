"""Arrays, bytes and paths."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes

from penstock.core.artifact import Artifact
from penstock.errors import FormatError
from penstock.formats import canonical_json, npy, paths

# ── arrays ───────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.one_of(
        shapes.arrays(shapes.scalar_dtypes(), shapes.array_shapes(min_dims=0, min_side=0)),
        shapes.arrays(shapes.unicode_string_dtypes(), shapes.array_shapes()),
    )
)
def test_an_array_comes_back_equal(array):
    data = npy.dumps(array)
    back = npy.loads(data)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert npy.dumps(back) == data


def test_the_registrys_form(objects):
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    back = npy.load(npy.dump(array, objects.stage), objects)
    assert back.flags.f_contiguous
    assert back.flags.writeable
    assert (back == array).all()


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, None]),
        np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]),
        np.ma.masked_array([1, 2], [True, False]),
        np.rec.array([(1, 2)], names="a,b"),
    ],
    ids=["objects", "objects inside", "masked", "record array"],
)
def test_what_would_not_come_back_equal_is_refused(array, objects):
    with pytest.raises(FormatError):
        npy.dump(array, objects.stage)
    assert not objects.kept


def test_pickled_arrays_are_refused_and_not_run(tmp_path):
    sentinel = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return (open, (str(sentinel), "w"))

    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object))
    archive = io.BytesIO()
    np.savez(archive, x=np.array([Bomb()], dtype=object))
    for data in (buffer.getvalue(), archive.getvalue(), pickle.dumps(Bomb()), b"", b"\x93NUMPY", b"\x93NUMPY\x07\x00"):
        with pytest.raises(FormatError):
            npy.loads(data)
    assert not sentinel.exists()
    archive.seek(0)
    with np.load(archive, allow_pickle=True) as opened:
        opened["x"][0].close()
    assert sentinel.exists()  # the control


def test_a_header_that_promises_more_than_there_is_is_refused():
    data = npy.dumps(np.zeros(1))
    for shape in (b"(1000000000000,),}", b"(0,), }          ", b"(-1,), }         "):
        with pytest.raises(FormatError):
            npy.loads(data.replace(b"(1,), }          "[: len(shape)], shape))
    with pytest.raises(FormatError):
        npy.loads(data + b"more")


# ── paths ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return str(folder)


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.png", ".png"), ("b.csv.gz", ".csv.gz"), ("c", ""), ("d.v1.json", ".json"), ("e.ü", "")]
)
def test_a_file_comes_back_with_its_suffix(objects, tmp_path, scratch, name, suffix):
    (tmp_path / name).write_bytes(b"content")
    artifact = paths.dump(tmp_path / name, objects.stage)
    back = paths.load(artifact, objects, scratch)
    assert back.read_bytes() == b"content"
    assert "".join(back.suffixes) == suffix
    assert (tmp_path / name).exists()  # the step's own file stays
    assert artifact.refs
    assert set(artifact.refs) < set(objects.kept)
    back.write_bytes(b"changed")
    assert paths.load(artifact, objects, scratch).read_bytes() == b"content"


def test_the_name_of_a_file_is_not_part_of_it(objects, tmp_path):
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text("same")
    assert paths.dump(tmp_path / "one.txt", objects.stage) == paths.dump(tmp_path / "two.txt", objects.stage)


def test_a_large_file_goes_by_a_copy_on_disk(objects, tmp_path, monkeypatch, scratch):
    monkeypatch.setattr(paths, "_IN_MEMORY", 3)
    (tmp_path / "large.bin").write_bytes(b"larger")
    artifact = paths.dump(tmp_path / "large.bin", objects.stage)
    assert (tmp_path / "large.bin").exists()
    assert paths.load(artifact, objects, scratch).read_bytes() == b"larger"


def test_a_folder_comes_back(objects, tmp_path, scratch):
    folder = tmp_path / "report"
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "b" / "deep" / "x.txt").write_text("x")
    (folder / "a.txt").write_text("a")
    artifact = paths.dump(folder, objects.stage)
    back = paths.load(artifact, objects, scratch)
    found = sorted(str(path.relative_to(back)) for path in back.rglob("*"))
    assert found == ["a.txt", "b", "b/deep", "b/deep/x.txt", "empty"]
    assert (back / "b/deep/x.txt").read_text() == "x"
    assert paths.dump(back, objects.stage) == artifact
    os.utime(folder / "a.txt", (0, 0))
    (folder / "a.txt").chmod(0o600)
    assert paths.dump(folder, objects.stage) == artifact


def test_links_and_what_is_not_there_are_refused(objects, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    for path, word in ((folder, "link"), (tmp_path / "absent", "no file"), (Path("/dev/null"), "no file")):
        with pytest.raises(FormatError, match=word):
            paths.dump(path, objects.stage)


@pytest.mark.parametrize(
    "manifest",
    [
        {"files": [["../out", "D", 1]], "folders": []},
        {"files": [["/out", "D", 1]], "folders": []},
        {"files": [["a//b", "D", 1]], "folders": []},
        {"files": [["a\0b", "D", 1]], "folders": []},
        {"files": [["a", "D", 1], ["a", "D", 1]], "folders": []},
        {"files": [], "folders": [".."]},
        {"file": ["D", 1], "suffix": "/../../out"},
        {"file": ["D", 1]},
        {"files": [["a"]]},
        {},
        [],
    ],
    ids=repr,
)
def test_a_manifest_from_elsewhere_cannot_write_outside(objects, tmp_path, scratch, manifest):
    digest, _ = objects.stage(b"x")
    text = canonical_json.dumps(manifest).decode().replace('"D"', f'"{digest}"')
    named, size = objects.stage(text.encode())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FormatError):
        paths.load(Artifact(named, "path", size), objects, scratch)
    new = set(tmp_path.rglob("*")) - set(before) - {tmp_path / "objects" / digest}
    assert all(Path(scratch) in path.parents for path in new)
