"""Candidates of a search as checkpoints: each fold of each candidate is fitted once, however often the step is killed.

scikit-learn offers no place to hang this on: its searches hand the fits of their candidates to one object that runs
them, here or in processes of its own, and for the time of a fit ours stands in its place. Where that is gone (another
version), a search runs as ever.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from penstock.core import checkpoints
from penstock.core.digest import canonical
from penstock.core.tree import NotCanonical, encode

NAME = "Parallel"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_state: dict[str, Any] = {}


@contextlib.contextmanager
def remembering() -> Iterator[None]:
    """Inside, searches of this process keep what they have finished and take up what was kept."""
    from sklearn.model_selection import _search

    real = getattr(_search, NAME, None)
    if real is None and checkpoints.part() is not None:  # it cannot be divided here: whoever does the whole fits all
        checkpoints.end_part()
    if real is None or hasattr(real, "remembers"):
        yield
        return
    if _state.get("step") != checkpoints.begun():
        _state.update(step=checkpoints.begun(), seen={})
    _state.update(scores={}, spent=0.0, fitted=0, inside=False)
    setattr(_search, NAME, _remembering(real))
    try:
        yield
    finally:
        setattr(_search, NAME, real)


@functools.cache
def _remembering(real: type) -> type:
    """A kind of scikit-learn's `Parallel` that runs what is not known, and gives all in its order."""

    class Remembering(real):  # type: ignore[misc]  # scikit-learn has no types
        remembers = True

        def __init__(self, *given: Any, **named: Any) -> None:
            try:
                super().__init__(*given, **named, return_as="generator")
            except ValueError:  # what runs the fits gives them all at once
                super().__init__(*given, **named)

        def __call__(self, iterable: Iterable[Any]) -> list[Any]:
            if _state["inside"]:  # a search in a candidate: what it fits is known by the candidate's own result
                return list(super().__call__(iterable))
            return _taken_up(list(iterable), super().__call__)

    return Remembering


def _taken_up(tasks: list[Any], run: Any) -> list[Any]:
    """Results of fits in their order, those that are known without a fit; each is kept as soon as it is there.

    Parameters
    ----------
    tasks : list of (function, arguments, named arguments)
        As `joblib.delayed` makes them, of scikit-learn's `_fit_and_score`.
    run : callable
        Tasks → iterable of their results, in order.
    """
    keys = [_key(named) for _, _, named in tasks]
    known = [checkpoints.recall(key) for key in keys]
    if (part := checkpoints.part()) is not None:
        _do_part(tasks, keys, known, part, run)
    fresh = _fits(run, [task for task, found in zip(tasks, known, strict=True) if found is None])
    results = []
    for (_, _, named), key, found in zip(tasks, keys, known, strict=True):
        if found is None:
            result = next(fresh)
            _tell(key, _plain(result), result, named)
        else:
            result = {**found, "parameters": named["parameters"]} if named.get("return_parameters") else dict(found)
            _tell(key, None, result, named)
        results.append(result)
    next(fresh, None)  # so that what ran them ends as it should
    return results


def _do_part(tasks: list[Any], keys: list[str], known: list[Any], part: tuple[int, int], run: Any) -> NoReturn:
    """Fit every N-th of what is not known, and keep it; what comes next needs the others, so that it ends here.

    Neighbours differ in their fold, or in a parameter by one step: taken in turns they cost each part about as much.

    Raises
    ------
    PartDoneError
    """
    k, n = part
    mine = [at for at in range(k - 1, len(tasks), n) if known[at] is None]
    fresh = _fits(run, [tasks[at] for at in mine])
    for at in mine:
        result = next(fresh)
        _tell(keys[at], _plain(result), result, tasks[at][2])
    next(fresh, None)
    checkpoints.end_part(done=len(mine), total=len(mine))


def _fits(run: Any, tasks: list[Any]) -> Iterator[Any]:
    """Results of fits, each when it is asked for; how long they took is noted."""
    results: Any = None
    for _ in tasks:
        began = time.perf_counter()
        _state["inside"] = True
        try:
            results = iter(run(tasks)) if results is None else results
            result = next(results)
        finally:
            _state["inside"] = False
        _state["spent"] += time.perf_counter() - began
        _state["fitted"] += 1
        yield result
    for _ in results or ():  # there is none: what ran them ends as it should
        pass


def _key(given: dict[str, Any]) -> str:
    """Which fit of its step this is: candidate, rows, and how many like it came before."""
    import numpy as np

    try:
        text = canonical(encode(given["parameters"]))
    except NotCanonical:
        text = _ADDRESS.sub("", repr(sorted((given["parameters"] or {}).items(), key=lambda pair: pair[0])))
    digest = hashlib.blake2b(text.encode() if isinstance(text, str) else text, digest_size=12)
    for rows in (given["train"], given["test"]):
        array = np.ascontiguousarray(rows)
        digest.update(f"{array.dtype}{len(array)}".encode() + array.tobytes())
    name = digest.hexdigest()
    _state["seen"][name] = count = _state["seen"].get(name, 0) + 1
    return f"{name}.{count}"


def _plain(result: dict[str, Any]) -> dict[str, Any] | None:
    """A result as JSON that reads back equal; None for one that failed or holds more than numbers."""
    if result.get("fit_error") is not None:
        return None
    kept: dict[str, Any] = {}
    for name, value in result.items():
        if name == "parameters":
            continue
        plain = _numbers(value)
        if plain is _NOT:
            return None
        kept[name] = plain
    return kept


_NOT = object()


def _numbers(value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, dict):
        parts = {name: _numbers(part) for name, part in value.items()}
        return _NOT if any(part is _NOT for part in parts.values()) else parts
    if value is None or isinstance(value, bool | int | str):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else _NOT


def _tell(key: str, kept: dict[str, Any] | None, result: dict[str, Any], given: dict[str, Any]) -> None:
    """Keep it, and say how far the search is: "34/64, best 0.871, about 12 min left"."""
    candidate, n_candidates = given.get("candidate_progress") or (0, 1)
    split, n_splits = given.get("split_progress") or (0, 1)
    score = result.get("test_scores")
    score = next(iter(score.values()), None) if isinstance(score, dict) else score
    if score is not None:
        _state["scores"].setdefault((n_candidates, candidate), []).append(float(score))
    whole = [sum(values) / n_splits for values in _state["scores"].values() if len(values) >= n_splits]
    done = candidate * n_splits + split + 1
    left = (n_candidates * n_splits - done) * _state["spent"] / _state["fitted"] if _state["fitted"] else 0.0
    told: dict[str, Any] = {"done": candidate + 1, "total": n_candidates, "left_s": round(left, 1)}
    if whole and math.isfinite(max(whole)):
        told["best"] = max(whole)
    checkpoints.keep(key, kept, **told)


def searched(fitted: Any, by: Mapping[str, str], most: int) -> dict[str, Any] | None:
    """What a search tried and chose; None where there is none at the top or at a pipeline's end.

    Parameters
    ----------
    fitted : fitted estimator
    by : dict
        Path of a search ("model", "model.STEP") → scorer name that it was given to choose by.
    most : int
        Candidates listed at most.

    Returns
    -------
    dict or None
        "best_params": parameters as text, which may be any object; "best_score"; "candidates" as `candidates_of`;
        "n_candidates", listed or not; "path": what stands before a parameter's name for it to be one of the whole;
        "scorer": the name it chose by, "" where it has none. Scores are in scikit-learn's sign.
    """
    path: tuple[str, ...] = ()
    while not hasattr(fitted, "best_params_"):
        steps = getattr(fitted, "steps", None)
        if not isinstance(steps, list) or not steps:
            return None
        name, fitted = steps[-1]
        path = (*path, name)
    score = getattr(fitted, "best_score_", None)
    scoring, refit = getattr(fitted, "scoring", None), getattr(fitted, "refit", None)
    own = scoring if isinstance(scoring, str) else refit if isinstance(refit, str) else ""
    return {
        "best_params": {str(name): _text(value) for name, value in fitted.best_params_.items()},
        "best_score": None if score is None else float(score),
        "candidates": candidates_of(fitted, most),
        "n_candidates": len((getattr(fitted, "cv_results_", None) or {}).get("params", ())),
        "path": "".join(f"{name}__" for name in (*path, "estimator")),
        "scorer": by.get(".".join(("model", *path)), own),
    }


def _text(value: Any) -> str:
    """A parameter as text; an address in memory differs from process to process."""
    return _ADDRESS.sub("", repr(value))[:200]


def candidates_of(search: Any, most: int) -> list[dict[str, Any]]:
    """A search's candidates, the best first: parameters as text, score, its deviation over folds, rank.

    Parameters
    ----------
    search : fitted search
    most : int
        Rows given at most.

    Returns
    -------
    list of dict
        {"params", "score", "std", "rank"}; scores that are no number are None. Empty where it kept none.
    """
    results = getattr(search, "cv_results_", None)
    if not isinstance(results, dict) or "params" not in results:
        return []
    scored = [name.removeprefix("mean_test_") for name in results if name.startswith("mean_test_")]
    refit = getattr(search, "refit", None)
    name = "score" if "score" in scored else refit if refit in scored else next(iter(scored), None)
    if name is None:
        return []
    ranks = results[f"rank_test_{name}"]
    order = sorted(range(len(ranks)), key=lambda at: (int(ranks[at]), at))
    found = []
    for at in order[:most]:
        params = {str(path): _text(value) for path, value in results["params"][at].items()}
        mean, std = float(results[f"mean_test_{name}"][at]), float(results[f"std_test_{name}"][at])
        row: dict[str, Any] = {"params": params, "score": mean if math.isfinite(mean) else None}
        row |= {"std": std if math.isfinite(std) else None, "rank": int(ranks[at])}
        if "iter" in results:
            row["iteration"] = int(results["iter"][at])
        found.append(row)
    return found
