"""Seeds for every random part of an estimator: from the workflow's seed and the parameter's path, nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

SEED_LIMIT = 2**31
"""Seeds are below this, so that every library takes them."""


def derive(seed: int, path: str) -> int:
    """The seed of the random part at a path: BLAKE2b of seed and path, so that parts do not move one another.

    Parameters
    ----------
    seed : int
        The workflow's.
    path : str
        Such as "model__random_state".

    Examples
    --------
    >>> derive(0, "random_state"), derive(0, "model__random_state"), derive(1, "random_state")
    (998360519, 350128808, 985030614)
    """
    digest = hashlib.blake2b(f"{seed}\n{path}".encode(), digest_size=8, person=b"penstock-seed").digest()
    return int.from_bytes(digest, "big") % SEED_LIMIT


def seeded(model: Any, seed: int) -> Any:
    """A clone of an unfitted estimator in which no random part is left to chance.

    Each `random_state` that is None, at any depth (pipelines, searches and the candidates in their grids,
    splitters), gets the seed that `derive` gives for its path. A seed that the user gave stays.

    Parameters
    ----------
    model : estimator
        Not changed.
    seed : int

    Returns
    -------
    estimator

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> seeded(LogisticRegression(), 0).random_state == derive(0, "random_state")
    True
    >>> seeded(LogisticRegression(random_state=7), 0).random_state
    7
    """
    return _seeded(model, seed, {})


def seeds(model: Any, seed: int) -> dict[str, int]:
    """Path → seed of every part that `seeded` seeds, for the record.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> list(seeds(LogisticRegression(), 0))
    ['random_state']
    """
    given: dict[str, int] = {}
    _seeded(model, seed, given)
    return given


def _seeded(model: Any, seed: int, given: dict[str, int]) -> Any:
    from sklearn.base import clone

    # `clone` copies parameters deeply, so the walk may change in place without touching the declaration.
    copy = clone(model)
    _walk(copy, seed, (), given)
    return copy


def _walk(value: Any, seed: int, path: tuple[str, ...], given: dict[str, int]) -> None:
    """Seed one value and everything below it, in place."""
    if isinstance(value, type) or _is_frozen(value):
        return
    if callable(getattr(value, "get_params", None)):
        _walk_estimator(value, seed, path, given)
    elif isinstance(value, dict):
        for name in value:
            _walk(value[name], seed, (*path, str(name)), given)
    elif isinstance(value, list | tuple):
        _walk_sequence(value, seed, path, given)
    elif callable(getattr(value, "split", None)) and hasattr(value, "get_n_splits"):
        _seed_splitter(value, seed, path, given)


def _walk_estimator(estimator: Any, seed: int, path: tuple[str, ...], given: dict[str, int]) -> None:
    changes = {}
    for name, value in sorted(estimator.get_params(deep=False).items()):
        if name == "random_state" and value is None:
            where = "__".join((*path, name))
            changes[name] = given[where] = derive(seed, where)
        else:
            _walk(value, seed, (*path, name), given)
    if changes:
        estimator.set_params(**changes)


def _walk_sequence(values: Any, seed: int, path: tuple[str, ...], given: dict[str, int]) -> None:
    """A list of steps takes their names, so that a step that moves keeps its seed; any other takes positions."""
    for position, value in enumerate(values):
        if isinstance(value, tuple) and value and isinstance(value[0], str):
            # scikit-learn writes pipeline__step__random_state, without "steps".
            for part in value[1:]:
                _walk(part, seed, (*path[:-1], value[0]), given)
        else:
            _walk(value, seed, (*path, str(position)), given)


def _seed_splitter(splitter: Any, seed: int, path: tuple[str, ...], given: dict[str, int]) -> None:
    """A splitter that shuffles; one that does not shuffle takes no seed."""
    if hasattr(splitter, "random_state") and splitter.random_state is None and getattr(splitter, "shuffle", True):
        where = "__".join((*path, "random_state"))
        splitter.random_state = given[where] = derive(seed, where)


def _is_frozen(value: Any) -> bool:
    """`FrozenEstimator` is shared by clones, never copied: what is inside is already fitted."""
    return type(value).__name__ == "FrozenEstimator"
