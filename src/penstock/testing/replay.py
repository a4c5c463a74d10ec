"""Steps that run again in this process: a fake of what a worker puts in the place of a `core.replay.Replay`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.core.replay import Change, Key, Raised, Replayable
from penstock.core.split import Split
from penstock.core.target import Roles, Target


class Steps:
    """A chain or DAG of plain functions over pandas frames.

    Parameters
    ----------
    tables : dict
        Source → its table.
    functions : sequence of (str, callable, tuple of str)
        Step, its function, and the sources and steps whose tables it takes, in the order in which they run; an output
        of several as "step.output".
    across_rows, because : dict, optional
        Step → what the user said.
    seconds, tried : dict, optional
        Step → seconds on record, and digest of the code that was tried before.
    outputs : dict, optional
        Step → names of what it returns in a tuple.

    Attributes
    ----------
    calls : list of str
        Steps that were run again.
    """

    def __init__(
        self,
        tables: Mapping[str, Any],
        functions: Sequence[tuple[str, Callable[..., Any], tuple[str, ...]]],
        *,
        across_rows: Mapping[str, str] | None = None,
        because: Mapping[str, str] | None = None,
        seconds: Mapping[str, float] | None = None,
        tried: Mapping[str, str] | None = None,
        outputs: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.calls: list[str] = []
        self._functions = {name: function for name, function, _ in functions}
        self._outputs = dict(outputs or {})
        self._needs = {name: tuple(map(_key, needs)) for name, _, needs in functions}
        sources = [Replayable(name, True, ("",), ()) for name in tables]
        self.steps = (*sources, *(self._step(name, across_rows, because, seconds, tried) for name, _, _ in functions))
        self.data: Key = (functions[-1][0] if functions else next(iter(tables)), "")
        self._known: dict[Key, Any] = {(name, ""): table for name, table in tables.items()}
        for name, function, needs in functions:
            self._known |= self._named(name, function(*(_copy(self._known[_key(need)]) for need in needs)))

    def _step(self, name: str, across_rows: Any, because: Any, seconds: Any, tried: Any) -> Replayable:
        said = ((across_rows or {}).get(name, ""), (because or {}).get(name, ""))
        known = ((seconds or {}).get(name, 0.0), (tried or {}).get(name) == name)
        return Replayable(name, False, self._outputs.get(name, ("",)), self._needs[name], *said, name, *known)

    def _named(self, step: str, value: Any) -> dict[Key, Any]:
        names = self._outputs.get(step)
        if names is None:
            return {(step, ""): value}
        return {(step, name): part for name, part in zip(names, value, strict=True)}

    def table(self, key: Key) -> Any:
        """An output of the run; a copy."""
        return _copy(self._known[key])

    def frame(self, value: Any) -> Any:
        """Tables are pandas frames here."""
        return value

    def call(self, step: str, given: Mapping[Key, Any], change: Change) -> dict[Key, Any]:
        """Run a step.

        Raises
        ------
        Raised
        """
        self.calls.append(step)
        takes = [given[n] if n in given else change(n, self.table(n)) for n in self._needs[step]]
        try:
            return self._named(step, self._functions[step](*map(_copy, takes)))
        except Exception as error:
            raise Raised(step, f"{type(error).__name__}: {error}") from error

    def digest(self, value: Any) -> str:
        """Digest of a value's text."""
        table = hasattr(value, "to_json")
        text = value.to_json(date_format="iso") if table else json.dumps(value, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def recorded(self, key: Key) -> str:
        """Digest of an output of the run."""
        return self.digest(self._known[key])


def _key(need: str) -> Key:
    step, _, output = need.partition(".")
    return step, output


def tried(
    steps: Steps,
    task: str = "binary",
    *,
    split: Split | None = None,
    target: Target | None = None,
    full: bool = False,
    **roles: Any,
) -> dict[str, Any]:
    """What the proof tells of steps, after a split of the table that they give.

    Parameters
    ----------
    steps : Steps
    task : {"binary", "multiclass", "regression"}
    split : Split, optional
    target : Target, optional
        The column `y` by default.
    full : bool
    **roles
        As for `core.target.Roles`; the key is `id` by default.
    """
    from penstock.stages.partition import partition
    from penstock.stages.scramble import scramble

    known: dict[str, Any] = {
        "target": target or Target("y"),
        "roles": Roles(**(roles or {"key": ("id",)})),
        "split": split or Split(),
        "seed": 0,
    }
    train, test, _, *final = partition(steps.table(steps.data), schema={"task": task}, **known)
    also = {"final": final[0]} if final else {}
    return scramble(steps=steps, train=train, test=test, full=full, **known, **also)


def found(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Grade, kind and column of each finding.

    Examples
    --------
    >>> found({"findings": [{"grade": "error", "kind": "labels", "column": "rate", "rows": 3}]})
    [('error', 'labels', 'rate')]
    """
    return [(one["grade"], one["kind"], one["column"]) for one in report["findings"]]


def _copy(value: Any) -> Any:
    return value.copy() if hasattr(value, "copy") else value
