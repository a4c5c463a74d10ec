"""The first start of a store: directories first, the mark that says *whole* last."""

from __future__ import annotations

import json
import os

from penstock.errors import StoreError, StoreTooNewError
from penstock.store.files import explain, fsync_ancestors, make_directories, write_durably

FORMAT = 1
"""Version of the directory's layout, written into `format`."""

FOLDERS = ("objects", "staging", "tmp", "quarantine")

_serial = 0


def unique_name() -> str:
    """A file name that no other process or call uses: process id, serial number and eight random bytes.

    The process id lets people see whose file it is; only the random bytes make it unique.
    """
    global _serial  # noqa: PLW0603 - a counter beside the random bytes costs nothing and reads well in a listing
    _serial += 1
    return f"{os.getpid()}-{_serial}-{os.urandom(8).hex()}"


def initialise(root: str) -> None:
    """Make a store's directories unless its mark says that they are whole.

    A state machine: every step may be done already and is done again without harm, and the mark is written
    last. A kill at any point leaves something that the next start completes; processes that start at once do
    the same steps beside one another.

    Raises
    ------
    StoreTooNewError
        The mark was written by a newer layout.
    StoreError
        The directory cannot be made or written, or the mark is not one of ours.
    """
    mark = os.path.join(root, "format")
    if _marked(mark):
        return
    try:
        make_directories(root)
        for name in FOLDERS:
            make_directories(os.path.join(root, name))
        fsync_ancestors(root)  # an earlier start may have been killed between making a name and its fsync
        for folder in (root, os.path.dirname(os.path.abspath(root))):
            if os.path.basename(folder) == ".penstock":  # a store that is `.penstock`, or inside it
                keep_out_of_git(folder)
        temporary = os.path.join(root, "tmp", unique_name())
        write_durably(mark, mark_text(), temporary)
    except OSError as error:
        raise explain(error, "make the store", root) from error


def mark_text() -> bytes:
    """The mark of this layout."""
    return json.dumps({"penstock-store": FORMAT}).encode() + b"\n"


def _marked(mark: str) -> bool:
    try:
        with open(mark, "rb") as file:
            text = file.read(1_000)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise explain(error, "open the store", mark) from error
    check_mark(text, mark)
    return True


def check_mark(text: bytes, mark: str) -> None:
    """Refuse a store whose mark is not one that this Penstock knows.

    Parameters
    ----------
    text : bytes
        The mark.
    mark : str
        Where it stands.

    Raises
    ------
    StoreTooNewError
        A newer layout.
    StoreError
        Not one of ours.
    """
    try:
        number = json.loads(text)["penstock-store"]
        newer = number > FORMAT
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            "this file is not the mark of a Penstock store",
            where=mark,
            hint="Point `store` at another directory; or, if this was a store, remove the file: the next start "
            "writes it again, and `penstock fsck` checks every object.",
        ) from error
    if newer:
        raise StoreTooNewError(
            f"the store has format {number}, this Penstock knows formats up to {FORMAT}",
            where=mark,
            hint="Use the newer Penstock that wrote it, or another `store` directory.",
            found=number,
            known=FORMAT,
        )


def keep_out_of_git(folder: str) -> None:
    """Make a folder of ours, and tell Git to leave all of it alone.

    Raises
    ------
    StoreError
    """
    path = os.path.join(folder, ".gitignore")
    if os.path.exists(path):
        return
    try:
        make_directories(folder)
        write_durably(path, b"*\n", os.path.join(folder, f".{unique_name()}"))
    except OSError as error:
        raise explain(error, "make the project's folder", folder) from error
