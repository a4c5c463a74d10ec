"""Bounds of a skops archive, checked before anything in it is read by skops or numpy.

Members must be stored, not compressed: an archive then cannot hold more than its own size, so there is nothing to
unpack that was not already there. Sizes that a header claims are held against the bytes that follow it.
"""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

from penstock.errors import FormatError, bounded
from penstock.formats import npy

MAX_MEMBERS = 200_000
"""Most members of one archive (a forest of 1,000 trees has about 3,000)."""

SCHEMA = "schema.json"

_MEMBER = re.compile(r"schema\.json|[0-9a-f-]{1,64}\.(npy|npz|bin)")
_NPZ_MEMBER = re.compile(r"[A-Za-z_]{1,32}\.npy")


def read_archive(data: bytes) -> dict[str, bytes]:
    r"""Members of a skops archive, name → bytes, within bounds.

    Raises
    ------
    FormatError
        Not a zip (a renamed pickle, for instance), compressed or overlapping members, odd names, a header of an
        array that claims another size than it has.

    Examples
    --------
    >>> read_archive(b"\x80\x04.")
    Traceback (most recent call last):
    ...
    penstock.errors.FormatError: These bytes are not a skops archive: they do not begin as a zip does.
    → Pickle and joblib files are programs and are never loaded, whatever they are called.
    """
    members = _read_zip(data, _MEMBER, MAX_MEMBERS)
    if SCHEMA not in members:
        raise FormatError(f"This archive is not skops: it has no {SCHEMA}.")
    for name, content in members.items():
        if name.endswith(".npy"):
            npy.check(content)
        elif name.endswith(".npz"):
            read_npz(content)
    return members


def read_npz(data: bytes) -> dict[str, bytes]:
    """Members of a numpy archive inside, as skops keeps sparse matrices; stored only, each one checked.

    Raises
    ------
    FormatError
    """
    members = _read_zip(data, _NPZ_MEMBER, 16)
    for content in members.values():
        npy.check(content)
    if "indptr.npy" in members:
        _check_compressed(members)
    return members


def _check_compressed(members: dict[str, bytes]) -> None:
    """Hold the indices of a CSR or CSC matrix within its shape: compiled code follows them without looking."""
    try:
        kind, shape, start, index, values = (
            npy.loads(members[f"{name}.npy"]) for name in ("format", "shape", "indptr", "indices", "data")
        )
        across = int(shape[1 if kind.item() == b"csr" else 0])
        sound = (
            kind.item() in (b"csr", b"csc")
            and len(shape) == 2
            and start[0] == 0
            and start[-1] == len(index) == len(values)
            and bool((start[1:] >= start[:-1]).all())
            and (len(index) == 0 or (index.min() >= 0 and index.max() < across))
        )
    except (KeyError, IndexError, TypeError, ValueError):
        sound = False
    if not sound:
        raise FormatError("A sparse matrix in this archive has indices that do not fit its shape.")


def write_zip(members: list[tuple[str, bytes]]) -> bytes:
    """A zip in the given order, stored, with fixed dates and modes.

    Examples
    --------
    >>> write_zip([("a", b"1")]) == write_zip([("a", b"1")])
    True
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def _read_zip(data: bytes, allowed: re.Pattern[str], most: int) -> dict[str, bytes]:
    if data[:4] != b"PK\x03\x04":
        raise FormatError(
            "These bytes are not a skops archive: they do not begin as a zip does.",
            hint="Pickle and joblib files are programs and are never loaded, whatever they are called.",
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, allowed, most, len(data))
            return {entry.filename: archive.read(entry) for entry in entries}
    except FormatError:
        raise
    except Exception as error:  # zipfile raises what its parser met
        raise FormatError(f"This archive is damaged: {type(error).__name__}: {bounded(str(error), 200)}.") from error


def _check_entries(entries: list[Any], allowed: re.Pattern[str], most: int, limit: int) -> None:
    if len(entries) > most:
        raise FormatError(f"This archive has {len(entries):,} members; at most {most:,} are read.")
    if len({entry.filename for entry in entries}) != len(entries):
        raise FormatError("This archive has two members of the same name.")
    for entry in entries:
        if not allowed.fullmatch(entry.filename):
            raise FormatError(f"This archive has a member that skops does not write: {bounded(entry.filename, 80)!r}.")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1:
            raise FormatError("This archive has compressed or encrypted members.", hint="Write it with ZIP_STORED.")
    if sum(entry.file_size for entry in entries) > limit:
        raise FormatError("This archive claims more bytes than it has: its members overlap.")
