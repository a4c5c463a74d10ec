"""The command line, called in this process as a person would call it in a folder."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def __iter__(self) -> Iterator[int | str]:
        return iter((self.code, self.out, self.err))


def call(folder: Path, *words: str, together: bool = False, **variables: str) -> Ended:
    """One call; `variables` are set in its environment, and what it sets there ends with it.

    `together`: all that it says is in `out`, as on a screen.
    """
    from penstock.cli import main

    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, variables),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out if together else err),
    ):
        code = main(list(words))
    return Ended(code, out.getvalue(), err.getvalue())
