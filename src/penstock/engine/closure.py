"""The code that a step's result depends on: first form, by whole modules of the project."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from penstock.core.digest import digest_bytes, digest_code


@dataclass(frozen=True)
class CodePart:
    """What a step's code is made of.

    Attributes
    ----------
    parts : dict
        Qualified definition → digest of its normalised AST; library → version.
    digest : str
        Of the parts.
    uncacheable : str
        Why the code cannot be named, or "".
    """

    parts: dict[str, str]
    digest: str
    uncacheable: str


class Closure:
    """Digests code in the process that has imported the user's file.

    Parameters
    ----------
    root : str
        The project's root folder.
    cache : str, optional
        File that remembers analyses.
    """

    def __init__(self, root: str, *, cache: str | None = None) -> None:
        self._root = os.path.join(os.path.realpath(root), "")
        self._cache = cache
        self._memo: dict[str, CodePart] = {}

    def of(self, entry: str, also: Iterable[object] = ()) -> CodePart:
        """The code part of an entry "module:qualname"; `also` holds live objects among its arguments."""
        del also
        if entry not in self._memo:
            parts = {"python": ".".join(map(str, sys.version_info[:3]))}
            ours = entry.startswith("penstock.")
            for name, module in sorted(sys.modules.items()):
                file = getattr(module, "__file__", None) or ""
                followed = name.startswith("penstock.stages") if ours else os.path.realpath(file).startswith(self._root)
                if followed and file.endswith(".py") and "site-packages" not in file:
                    with open(file, "rb") as source:
                        parts[f"{name}:<top>"] = digest_bytes(ast.dump(ast.parse(source.read())).encode())
            self._memo[entry] = CodePart(parts, digest_code(parts), "")
        return self._memo[entry]

    def save(self) -> None:
        """Write the cache if anything was analysed anew."""
