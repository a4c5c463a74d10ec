"""Versions of the libraries that code uses, read from the names of their metadata folders."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
    "PIL": "Pillow",
    "cv2": "opencv-python",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
}
"""Modules whose distribution has another name."""
BROUGHT = {"scikit-learn": ("numpy", "scipy")}
"""Libraries whose results depend on others that the code need not name."""
ABSENT = "absent"


class Libraries:
    """Looks versions up, each once."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str]] = {}
        self._installed: dict[str, tuple[str, str, str]] | None = None

    def versions(self, module: str) -> dict[str, str]:
        """Versions of what a top-level module belongs to.

        Parameters
        ----------
        module : str

        Returns
        -------
        dict
            Distribution → version; several for a namespace package, `ABSENT` when nothing is installed.

        Examples
        --------
        >>> sorted(Libraries().versions("sklearn"))
        ['numpy', 'scikit-learn', 'scipy']
        """
        if module not in self._known:
            found = self._find(module)
            for name in list(found):
                for other in BROUGHT.get(name, ()):
                    found |= self.versions(other)
            self._known[module] = found
        return self._known[module]

    def is_installed(self, module: str) -> bool:
        """Whether a distribution of a module's own name is installed."""
        return _normal(DISTRIBUTIONS.get(module, module)) in self._folders()

    def is_editable(self, module: str) -> bool:
        """Whether that distribution is installed so that its files are edited where they lie (PEP 660, PEP 610)."""
        known = self._folders().get(_normal(DISTRIBUTIONS.get(module, module)))
        if known is None:
            return False
        try:
            with open(os.path.join(os.path.dirname(known[2]), "direct_url.json"), encoding="utf-8") as file:
                told = json.load(file)
        except (OSError, ValueError):
            return False
        return isinstance(told, dict) and bool((told.get("dir_info") or {}).get("editable"))

    def _find(self, module: str) -> dict[str, str]:
        name = DISTRIBUTIONS.get(module, module)
        known = self._folders().get(_normal(name))
        if known is not None:
            return {name: known[1]}
        from importlib import metadata

        try:
            return {name: metadata.version(name)}
        except metadata.PackageNotFoundError:
            several = sorted(set(metadata.packages_distributions().get(module, ())))
        return {other: metadata.version(other) for other in several} or {name: ABSENT}

    def _folders(self) -> dict[str, tuple[str, str, str]]:
        """Normalised distribution → (its name, version, path of its RECORD), for every metadata folder on the path.

        The same answer as `importlib.metadata`'s, without its import and without parsing mail headers.
        """
        if self._installed is None:
            self._installed = {}
            for name, version, record in installed():
                self._installed.setdefault(_normal(name), (name, version, record))
        return self._installed


def installed() -> Iterator[tuple[str, str, str]]:
    """(name, version, path of its RECORD) for every metadata folder on the path, in the path's order."""
    for folder in sys.path:
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue
        for entry in names:
            name, dash, version = entry.removesuffix(".dist-info").partition("-")
            if dash and entry.endswith(".dist-info"):
                yield name, version, os.path.join(folder, entry, "RECORD")


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
