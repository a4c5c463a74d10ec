"""Files and folders that a step has written: their bytes in the store, a manifest that names them.

The manifest is canonical JSON: `{"suffix", "file": [digest, size]}` for a file, `{"files": [[path, digest, size]],
"folders": [path]}` for a folder, in order of the paths. Names of single files and all modes, times and owners are
left out, so equal contents give equal bytes.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.artifact import Artifact
from penstock.errors import FormatError, bounded
from penstock.formats import canonical_json

if TYPE_CHECKING:
    from penstock.core.ports import Objects
    from penstock.formats.format import Stage

MAX_FILES = 100_000
"""Most files in one folder."""

_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]{1,16}){0,2}")
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".lz4"}
_IN_MEMORY = 16 << 20
"""Larger files are copied on disk; smaller ones go through memory."""


def dump(value: Any, stage: Stage) -> Artifact:
    """Copy a file or a folder into the store; the step's own stays where it is.

    Raises
    ------
    FormatError
        Nothing there, or something that is neither file nor folder (link, socket, device) inside.
    """
    path = os.fspath(value)
    if not isinstance(path, str):
        raise FormatError("A path given as bytes is not kept.", hint="Return a pathlib.Path.")
    where = bounded(path, 200)
    if os.path.isfile(path):
        digest, size = _stage_copy(path, stage)
        manifest: dict[str, Any] = {"suffix": _suffix(path), "file": [digest, size]}
        refs = [digest]
    elif os.path.isdir(path):
        manifest = _dump_folder(path, stage)
        refs = sorted({entry[1] for entry in manifest["files"]})
    else:
        raise FormatError(
            "There is no file or folder at the path that was returned.",
            where=where,
            hint="Write the file before returning its path; a relative path is taken from the working folder.",
        )
    digest, size = stage(canonical_json.dumps(manifest))
    return Artifact(digest, "path", size, None, tuple(refs))


def load(artifact: Artifact, objects: Objects, scratch: str) -> Path:
    """Lay the file or folder out under a fresh name in `scratch`.

    Parameters
    ----------
    scratch : str
        An existing folder that the caller removes.

    Returns
    -------
    pathlib.Path
        A copy that may be changed.

    Raises
    ------
    FormatError, CorruptObjectError, MissingObjectError
    """
    manifest = canonical_json.loads(objects.read(artifact.digest))
    place = tempfile.mkdtemp(prefix="path-", dir=scratch)
    try:
        if "file" in manifest:
            suffix = manifest["suffix"]
            if not _SUFFIX.fullmatch(suffix):
                raise _not_ours("suffix")
            target = os.path.join(place, f"file{suffix}")
            shutil.copyfile(objects.fetch(manifest["file"][0]), target)
            return Path(target)
        target = os.path.join(place, "folder")
        _load_folder(manifest, objects, target)
        return Path(target)
    except (KeyError, TypeError, IndexError) as error:
        raise _not_ours(str(error)) from error


def _stage_copy(path: str, stage: Stage) -> tuple[str, int]:
    """Stage a copy, since staging a path moves the file."""
    if os.path.getsize(path) <= _IN_MEMORY:
        with open(path, "rb") as file:
            return stage(file.read())
    handle, copy = tempfile.mkstemp(prefix="penstock-")
    os.close(handle)
    try:
        shutil.copyfile(path, copy)
        return stage(copy)
    finally:
        if os.path.exists(copy):
            os.remove(copy)


def _suffix(path: str) -> str:
    """The last suffix, with the one before it when the last says how the file is compressed.

    Examples
    --------
    >>> _suffix("a/model.v1.csv.gz"), _suffix("plot.png"), _suffix("Makefile")
    ('.csv.gz', '.png', '')
    """
    suffixes = Path(path).suffixes
    kept = "".join(suffixes[-2:] if suffixes and suffixes[-1] in _COMPRESSED else suffixes[-1:])
    return kept if _SUFFIX.fullmatch(kept) else ""


def _dump_folder(root: str, stage: Stage) -> dict[str, Any]:
    files: list[list[Any]] = []
    folders: list[str] = []
    for folder, names, leaves in os.walk(root):
        names.sort()
        relative = os.path.relpath(folder, root)
        if not names and not leaves and relative != ".":
            folders.append(relative.replace(os.sep, "/"))
        for name in names + leaves:
            path = os.path.join(folder, name)
            if os.path.islink(path) or not (os.path.isfile(path) or os.path.isdir(path)):
                raise FormatError(
                    "A folder may hold plain files and folders only; this is a link or a device.",
                    where=bounded(path, 200),
                    hint="Copy what it points to into the folder.",
                )
        for name in leaves:
            path = os.path.join(folder, name)
            digest, size = _stage_copy(path, stage)
            files.append([os.path.relpath(path, root).replace(os.sep, "/"), digest, size])
        if len(files) > MAX_FILES:
            raise FormatError(f"More than {MAX_FILES:,} files in one folder.", hint="Return an archive of them.")
    return {"files": sorted(files), "folders": sorted(folders)}


def _load_folder(manifest: dict[str, Any], objects: Objects, target: str) -> None:
    os.mkdir(target)
    if len(manifest["files"]) > MAX_FILES:
        raise _not_ours("number of files")
    for name in manifest["folders"]:
        os.makedirs(_inside(target, name), exist_ok=True)
    for name, digest, _ in manifest["files"]:
        path = _inside(target, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.exists(path):
            raise _not_ours(f"two files named {name!r}")
        shutil.copyfile(objects.fetch(digest), path)


def _inside(target: str, name: str) -> str:
    """Path of a member; a manifest from elsewhere may not point out of the folder."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part or os.sep in part for part in parts):
        raise _not_ours(f"member {name!r}")
    return os.path.join(target, *parts)


def _not_ours(what: str) -> FormatError:
    return FormatError(f"This manifest of a path is not as Penstock writes it: {bounded(what, 100)}.")
