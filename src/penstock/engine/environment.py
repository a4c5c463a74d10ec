"""What a process runs on: every installed distribution, Python, the processor's level, BLAS and its threads."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

from penstock.engine.beside import beside, may_write, write
from penstock.engine.libraries import installed
from penstock.engine.processes import THREAD_VARIABLES

DIGITS = 32
"""Hexadecimal digits of a distribution's digest that are kept."""


def environment(cache: str | None = None) -> dict[str, Any]:
    """What this process runs on, but for its processor.

    Parameters
    ----------
    cache : str, optional
        Path of a file that remembers the digest of each RECORD by its time and size.

    Returns
    -------
    dict
        "python", "implementation", "platform"; "blas": each library with version and kernel, where NumPy was
        imported; "threads": of native libraries; "distributions": name → [version, digest of its files' digests, ""
        for one without a RECORD].

    Examples
    --------
    >>> found = environment()
    >>> found["python"] == ".".join(map(str, sys.version_info[:3])), len(found["distributions"]["numpy"][1])
    (True, 32)
    """
    threads = {os.environ.get(name, "") for name in THREAD_VARIABLES}
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "implementation": sys.implementation.name,
        "platform": f"{sys.platform}-{os.uname().machine if hasattr(os, 'uname') else 'unknown'}",
        "blas": _blas(),
        "threads": ", ".join(sorted(threads - {""})),
        "distributions": distributions(cache),
    }


def records_of(root: str) -> str:
    """Where the digests of RECORDs are remembered: beside Penstock's byte code, else in a project.

    Parameters
    ----------
    root : str
        Of the project.
    """
    path = beside(__file__, "records")
    return path if may_write(path) else os.path.join(root, ".penstock", "environment.json")


def distributions(cache: str | None = None) -> dict[str, list[str]]:
    """Every distribution on the path: name → [version, digest]; of one that is there twice the one that is imported."""
    remembered, kept = _remembered(cache), dict[str, list[Any]]()
    found: dict[str, list[str]] = {}
    for name, version, record in installed():
        normal = name.lower().replace("_", "-").replace(".", "-")
        if normal in found:
            continue
        try:
            stat = os.stat(record)
        except OSError:
            found[normal] = [version, ""]
            continue
        known = remembered.get(record)
        if known is None or known[:2] != [stat.st_mtime_ns, stat.st_size]:
            known = [stat.st_mtime_ns, stat.st_size, record_digest(_text(record))]
        kept[record] = known
        found[normal] = [version, known[2]]
    if cache is not None and kept != remembered:
        write(cache, kept)
    return dict(sorted(found.items()))


def record_digest(text: str) -> str:
    r"""Digest of what a RECORD says of a distribution's own files.

    Left out is what the same distribution has elsewhere in another form: scripts with the path of their interpreter,
    byte code, and what the installer notes of itself.

    Parameters
    ----------
    text : str
        Lines "PATH,sha256=DIGEST,SIZE".

    Examples
    --------
    >>> a = record_digest("m.py,sha256=x,1\n../bin/m,sha256=y,1\nm-1.dist-info/INSTALLER,sha256=z,4\n")
    >>> a == record_digest("m.py,sha256=x,1\n"), a == record_digest("m.py,sha256=y,1\n")
    (True, False)
    """
    lines = [
        line
        for line in text.splitlines()
        if ",sha256=" in line and ".dist-info/" not in line and not line.startswith(("..", "/", '"..', '"/'))
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:DIGITS]


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _blas() -> list[str]:
    """The BLAS libraries of this process, as "openblas 0.3.30 SkylakeX"."""
    if "numpy" not in sys.modules:
        return []
    from threadpoolctl import threadpool_info

    told = [one for one in threadpool_info() if one["user_api"] == "blas"]
    names = (f"{one['internal_api']} {one['version'] or ''} {one.get('architecture') or ''}".strip() for one in told)
    return sorted(set(names))


def _remembered(cache: str | None) -> dict[str, list[Any]]:
    try:
        with open(cache or os.devnull, encoding="utf-8") as file:
            known = json.load(file)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
