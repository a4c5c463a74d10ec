"""Why a step's recipe is another than last time, by comparing the parts of the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.core.digest import canonical
from penstock.core.flow import Node
from penstock.core.plan import Reason
from penstock.core.run import Decided
from penstock.core.tree import children

LIBRARY = "library:"


def why_changed(node: Node, now: Decided, before: Decided | None, codes: Mapping[str, Mapping[str, str]]) -> Reason:
    """The first of code, library, input, parameter that differs from the last decision on this step id.

    Parameters
    ----------
    node : Node
    now, before : Decided
    codes : dict
        Code digest → parts, for both.
    """
    if before is None:
        return Reason("new")
    if before.code != now.code:
        return _code_change(codes.get(before.code), codes.get(now.code))
    if before.source != now.source:
        files = file_changes(codes.get(before.source or ""), codes.get(now.source or ""))
        more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
        return Reason("input", files[0] + more if files else _base_name(node.path) if node.path else node.id)
    inputs: list[tuple[str, Any, Any]] = []
    parameters: list[tuple[str, Any, Any]] = []
    for path, old, new in differences(before.tree, now.tree):
        (inputs if _is_artifact(new) or _is_artifact(old) else parameters).append((path, old, new))
    if parameters:
        path, old, new = parameters[0]
        return Reason("parameter", f"{placed(path)} {shown(old)} → {shown(new)}")
    if inputs:
        return Reason("input", ", ".join(dict.fromkeys(step for step, _ in node.needs)) or node.id)
    return Reason("new")


def file_changes(before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> list[str]:
    """What happened to each file of a source that has several.

    Parameters
    ----------
    before, now : dict or None
        Name → digest of each file; None where it is not on record.

    Examples
    --------
    >>> file_changes({"a.csv": "1", "b.csv": "2"}, {"b.csv": "3", "c.csv": "4"})
    ['a.csv is gone', 'b.csv changed', 'c.csv is new']
    """
    if before is None or now is None:
        return []
    words = {(True, True): "changed", (True, False): "is gone", (False, True): "is new"}
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return [f"{name} {words[name in before, name in now]}" for name in names]


def _code_change(before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> Reason:
    """Definitions before libraries: a user looks for an edit first."""
    if before is None or now is None:
        return Reason("code", "the earlier code is not on record")
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    code = [name for name in names if not name.startswith(LIBRARY) and name != "python"]
    code.sort(key=lambda name: (not name.startswith("penstock.stages"), name))
    if code:
        more = f" and {len(code) - 1} more" if len(code) > 1 else ""
        if code[0].startswith("penstock"):
            stage = code[0].replace(":", ".").split(".")
            return Reason("library", f"penstock ({'.'.join(stage[1:3])}){more}")
        return Reason("code", _definition(code[0]) + more)
    if names:
        name = names[0].removeprefix(LIBRARY)
        return Reason("library", f"{name} {before.get(names[0], '–')} → {now.get(names[0], '–')}")
    return Reason("code")


def _definition(part: str) -> str:
    """A part's name as people say it: "prep:clean" is "clean in prep.py"."""
    module, separator, name = part.partition(":")
    if not separator:
        return part
    return f"{name} in {module.replace('.', '/')}.py"


def differences(before: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Places at which two argument trees differ, as (path, old, new)."""
    if before == now:
        return
    old, new = children(before), children(now)
    if old and new and _shape(before) == _shape(now) and [step for step, _ in old] == [step for step, _ in new]:
        for (step, was), (_, present) in zip(old, new, strict=True):
            inner = path if step.startswith("[") and children(present) else f"{path}{step}".lstrip(".")
            name = _named(was, present)
            yield from differences(was, present, f"{inner}.{name}" if name else inner)
    else:
        yield path or "arguments", before, now


def _shape(tree: list[Any]) -> list[Any]:
    """A tree's tag, and the name of its type where it has one."""
    return [part for part in tree[:2] if isinstance(part, str)]


def _named(before: Any, now: Any) -> str:
    """The name of a pair such as a pipeline's ("model", estimator), where both sides bear the same."""
    pairs = [tree[1] for tree in (before, now) if type(tree) is list and len(tree) == 2 and tree[0] == "tuple"]
    names = {pair[0] if len(pair) > 1 and isinstance(pair[0], str) else "" for pair in pairs}
    return names.pop() if len(pairs) == 2 and len(names) == 1 else ""


def _is_artifact(tree: Any) -> bool:
    return type(tree) is list and bool(tree) and tree[0] == "artifact"


def placed(path: str) -> str:
    """A place among the arguments, in words: one without a name is an argument by position, from 0.

    Examples
    --------
    >>> placed("[0].seats"), placed("model.depth")
    ('argument [0].seats', 'model.depth')
    """
    return f"argument {path}" if path.startswith("[") else path


def shown(tree: Any, limit: int = 60) -> str:
    """An argument tree as it was written, as nearly as fits.

    Examples
    --------
    >>> shown(["tuple", ["age", ["float", "0.5"]]])
    "('age', 0.5)"
    >>> shown(["data", "penstock.core.split:Split", {"test": ["float", "0.3"], "by": None}])
    'Split(test=0.3, by=None)'
    """
    text = _written(tree)
    return text if len(text) <= limit else text[: limit - 1] + "…"


_BRACKETS = {"list": "[]", "tuple": "()", "set": "{}", "frozenset": "{}"}


def _written(tree: Any) -> str:
    """The whole text of `shown`."""
    if type(tree) is not list:
        return repr(tree)
    tag = tree[0]
    if tag in _BRACKETS:
        inner = ", ".join(map(_written, tree[1])) + ("," if tag == "tuple" and len(tree[1]) == 1 else "")
        return inner.join(_BRACKETS[tag])
    if tag == "dict":
        return "{" + ", ".join(f"{_written(key)}: {_written(value)}" for key, value in tree[1]) + "}"
    if tag in ("estimator", "data", "object"):
        return f"{_last_name(tree[1])}({', '.join(f'{key}={_written(value)}' for key, value in tree[2].items())})"
    if tag in ("class", "function"):
        return _last_name(tree[1])
    if len(tree) == 2 and isinstance(tree[1], str):
        return tree[1]
    return canonical(tree)


def _last_name(name: str) -> str:
    return name.rpartition(":")[2]


def _base_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
