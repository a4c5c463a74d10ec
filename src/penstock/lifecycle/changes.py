"""All that two recipes of one step differ in: code, libraries, sources, parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from penstock.core.plan import Reason
from penstock.engine.reasons import LIBRARY, differences, file_changes, placed, shown

Parts = tuple[Mapping[str, str], Any, str | None]
"""Parts of the code, argument tree, digest of the source read."""
Files = tuple[Mapping[str, str] | None, Mapping[str, str] | None]


def changes(before: Parts, now: Parts, path: str = "", files: Files = (None, None)) -> list[Reason]:
    """Every difference, not only the first that a plan tells.

    Parameters
    ----------
    before, now : tuple
        (parts of the code, argument tree, digest of the source).
    path : str
        The step's file or id, for a changed source.
    files : tuple of dict
        Name → digest of each file that the step read then and now, where it reads several.

    Examples
    --------
    >>> [str(reason) for reason in changes(({"prep:clean": "a"}, 1, None), ({"prep:clean": "b"}, 2, None))]
    ['code changed: clean in prep.py', 'parameter changed: arguments 1 → 2']
    """
    found = [_part(name, before[0].get(name), now[0].get(name)) for name in sorted({*before[0], *now[0]})]
    reasons = list(dict.fromkeys(reason for reason in found if reason is not None))
    if before[2] != now[2]:
        changed = file_changes(*files)
        reasons += [Reason("input", text) for text in changed] or [Reason("input", os.path.basename(path))]
    inputs = False
    for place, old, new in differences(before[1], now[1]):
        if _is_artifact(old) or _is_artifact(new):
            inputs = True
        else:
            reasons.append(Reason("parameter", f"{placed(place)} {shown(old)} → {shown(new)}"))
    if inputs:
        reasons.append(Reason("input", "what the steps before it give"))
    return reasons


def _part(name: str, before: str | None, now: str | None) -> Reason | None:
    if before == now:
        return None
    if name.startswith(LIBRARY) or name == "python":
        return Reason("library", f"{name.removeprefix(LIBRARY)} {before or '–'} → {now or '–'}")
    module, colon, definition = name.partition(":")
    if name.startswith("penstock"):
        return Reason("library", f"penstock ({'.'.join(name.replace(':', '.').split('.')[1:3])})")
    return Reason("code", f"{definition} in {module.replace('.', '/')}.py" if colon else name)


def _is_artifact(tree: Any) -> bool:
    return isinstance(tree, list) and bool(tree) and tree[0] == "artifact"
