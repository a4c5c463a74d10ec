"""A copy of an estimator without what has nothing to do with its answers: times, addresses, thread counts, paths.

Two fits of the same code on the same data then hold the same values. The caller's object is never changed.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Iterator
from typing import Any

from penstock.errors import FormatError, bounded

RESET = ("n_jobs", "verbose", "memory")
"""Parameters set to their defaults: they say how to fit, not what is fitted, and a path is nobody else's."""

_EPOCH = "1970-01-01T00:00:00Z"
_GUID = "0-0-0-0"


def neutral_copy(estimator: Any) -> Any:
    """A deep copy with everything that differs between equal fits set to a fixed value.

    * `_stop_words_id` of text vectorizers (a memory address) is deleted;
    * `refit_time_` and `cv_results_[*_time]` of searches are 0 (the times belong to the run, not to the model);
    * the distributions of a search forget the state of numpy's global generator;
    * CatBoost's guid and finishing time are fixed;
    * `n_jobs`, `verbose` and `memory` are at their defaults.

    Raises
    ------
    FormatError
        Something inside was defined in a function, as a lambda or in `__main__`: no other process could find it.
        Names the place.
    """
    for where, value in walk(estimator):
        _check_home(value, where)
    try:
        twin = copy.deepcopy(estimator)
    except Exception as error:  # whatever a class's own copying raises
        raise FormatError(
            f"This estimator cannot be copied: {type(error).__name__}: {bounded(str(error), 300)}.",
            hint="It may hold an open file, a lock or a connection; make those in `fit` or `predict` and drop them.",
        ) from error
    for _, value in walk(twin):
        if hasattr(value, "get_params") and hasattr(value, "__dict__"):
            _neutralise(value)
        elif type(value).__module__.startswith("scipy.stats.") and hasattr(value, "rvs"):
            _neutralise_distribution(value)
    return twin


def walk(root: Any) -> Iterator[tuple[str, Any]]:
    """Everything inside an estimator, each object once, with its path.

    Examples
    --------
    >>> [where for where, _ in walk({"steps": [("scale", 1)]})][2:]
    ["estimator['steps'][0]", "estimator['steps'][0][0]", "estimator['steps'][0][1]"]
    """
    seen: dict[int, Any] = {}
    queue: list[tuple[str, Any]] = [("estimator", root)]
    while queue:
        where, value = queue.pop()
        if id(value) in seen and not isinstance(value, (bool, int, str, float, type(None))):
            continue
        seen[id(value)] = value
        yield where, value
        queue.extend(reversed(list(_inside(where, value))))


def _inside(where: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"{where}[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"{where}[{place}]", item) for place, item in enumerate(value))
    elif isinstance(value, functools.partial):
        yield f"{where}.func", value.func
        yield from _inside(f"{where}.args", value.args)
        yield from _inside(f"{where}.keywords", value.keywords)
    elif isinstance(value, types.MethodType):
        yield f"{where}.__self__", value.__self__
    elif type(value).__module__ == "numpy":
        if getattr(getattr(value, "dtype", None), "kind", "") == "O" and hasattr(value, "flat"):
            yield from ((f"{where}[{place}]", item) for place, item in enumerate(value.flat))
    elif isinstance(value, (type, types.FunctionType, types.ModuleType)):
        return
    elif hasattr(value, "__dict__"):
        yield from ((f"{where}.{name}", item) for name, item in _state(value).items())


def _state(value: Any) -> dict[str, Any]:
    """Attributes that will be written: a class's own `__getstate__` may leave some out."""
    own: Any = type(value).__getstate__
    if own is not object.__getstate__:
        try:
            state = own(value)
        except Exception:  # skops will meet it again and say so
            state = None
        if isinstance(state, dict):
            return state
    return dict(vars(value))


def _check_home(value: Any, where: str) -> None:
    """Refuse what another process could not import by name."""
    thing = value if isinstance(value, (type, types.FunctionType)) else type(value)
    name, module = getattr(thing, "__qualname__", ""), getattr(thing, "__module__", "")
    if "<lambda>" in name:
        what, hint = "A lambda", "Write it as a function (def …) in a module of the project and name it here."
    elif "<locals>" in name:
        what = f"{bounded(name, 100)}, which was defined inside a function,"
        hint = "Move its definition to the top of a module of the project."
    elif module in ("__main__", "__mp_main__"):
        what = f"{bounded(name, 100)}, which was defined in the script that was started (`__main__`),"
        hint = "Move it into a module of the project and import it from there."
    elif "." in name and module.partition(".")[0] != "sklearn" and isinstance(thing, type):
        what = f"{bounded(name, 100)}, which was defined inside a class,"
        hint = "Move its definition to the top of its module."
    else:
        return
    raise FormatError(
        f"{what} cannot be stored with an estimator: no other process could find it.",
        where=bounded(where, 300),
        hint=hint,
    )


def _neutralise(value: Any) -> None:
    state = vars(value)
    state.pop("_stop_words_id", None)
    if isinstance(state.get("cv_results_"), dict):
        _zero_times(state)
    _reset_parameters(value, state)
    if type(value).__module__.partition(".")[0] == "catboost" and hasattr(value, "get_metadata"):
        _fix_catboost(value)


def _zero_times(state: dict[str, Any]) -> None:
    if "refit_time_" in state:
        state["refit_time_"] = 0.0
    for name, times in state["cv_results_"].items():
        if name.endswith("_time") and hasattr(times, "shape"):
            state["cv_results_"][name] = times * 0.0


def _neutralise_distribution(value: Any) -> None:
    """What a search draws from, always with the search's own generator: drop the state of numpy's global one.

    `vecentropy` refers back to its owner, which skops cannot follow; scipy makes it anew on loading.
    """
    from numpy.random import RandomState

    state = vars(value)
    state.pop("vecentropy", None)
    if "_random_state" in state:
        state["_random_state"] = RandomState(0)


def _reset_parameters(value: Any, state: dict[str, Any]) -> None:
    present = [name for name in RESET if name in state]
    if not present:
        return
    signature = inspect.signature(type(value).__init__)
    for name in present:
        parameter = signature.parameters.get(name)
        if parameter is not None and parameter.default is not inspect.Parameter.empty:
            state[name] = parameter.default


def _fix_catboost(value: Any) -> None:
    """CatBoost keeps a random guid and the time of the fit in its model's metadata."""
    if not value.is_fitted():
        return
    metadata = value.get_metadata()
    for name, fixed in (("model_guid", _GUID), ("train_finish_time", _EPOCH)):
        if name in metadata:
            metadata[name] = fixed
