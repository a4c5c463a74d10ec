"""The command line: one file a verb, loaded when it is called; what fails becomes an exit code and one message."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Parameters
    ----------
    argv : sequence of str, optional
        Words after `penstock`; the process's own by default.

    Returns
    -------
    int
        0 done, 1 unexpected, 2 usage or declaration, 3 data, 4 refused, 5 a step failed, 6 not reproducible,
        7 undecided, 8 alarm, 130 and 143 cancelled.

    Examples
    --------
    >>> main(["--version"])
    penstock 0.1.0
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a sign shows "?", the verb goes on
    if words == ["--version"]:
        from penstock import __version__

        print(f"penstock {__version__}")
        return 0
    from penstock.cli.failing import guarded
    from penstock.engine.garbage import few_collections

    before = os.environ.get("PENSTOCK_ENV")
    try:
        with few_collections():
            return guarded(_dispatch, words or ["--help"])
    finally:  # `--env` holds for one call, also where this process makes several
        if before is None:
            os.environ.pop("PENSTOCK_ENV", None)
        else:
            os.environ["PENSTOCK_ENV"] = before


def _dispatch(words: list[str]) -> int:
    from penstock.cli.verbs import app

    code: Any = app().main(args=words, prog_name="penstock", standalone_mode=False)
    return int(code or 0)
