"""skops itself, without all of scikit-learn: its list of public estimators is made when somebody asks for it.

At its import skops names every public estimator, and to do so imports every module of scikit-learn, and pytest where
that is installed: 0.6 s of CPU in each process that reads or writes one model. Our loader says itself which of the
estimators in a file are public, and needs that list only to word a refusal.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

_OURS: ContextVar[bool] = ContextVar("reading for ourselves", default=False)


def library() -> Any:
    """The module `skops.io`."""
    if "skops.io" not in sys.modules:
        _import()
    return importlib.import_module("skops.io")


def _import() -> None:
    """Import it while scikit-learn names no estimators; then put a list in place that fills itself."""
    import sklearn.utils

    spec = importlib.util.find_spec("skops.io")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("No module named 'skops.io'", name="skops.io")
    package = sys.modules["skops.io"] = importlib.util.module_from_spec(spec)
    real = sklearn.utils.all_estimators
    try:
        utils: Any = importlib.import_module("skops.io._utils")  # the package has not run yet, so this can be prepared
        search = utils.whichmodule
        sklearn.utils.all_estimators, utils.whichmodule = list, _Index(search)
        spec.loader.exec_module(package)
        utils.whichmodule = search
    except BaseException:
        del sys.modules["skops.io"]
        raise
    finally:
        sklearn.utils.all_estimators = real
    sys.modules["skops"].io = package  # type: ignore[attr-defined]  # as the import system does
    _fill_later(sys.modules["skops.io._general"], sys.modules["skops.io._trusted_types"])


def _fill_later(*modules: Any) -> None:
    name, lazy = "SKLEARN_ESTIMATOR_TYPE_NAMES", _PublicEstimators()
    for module in modules:
        if getattr(module, name, None) == []:
            setattr(module, name, lazy)


class _Index:
    """Tells the first loaded module that has a ufunc, from one walk over all modules instead of one for each ufunc."""

    def __init__(self, search: Callable[[Any, str], str]) -> None:
        self._search = search
        self._found: dict[tuple[str, int], str] = {}
        self._seen: set[type] = set()

    def __call__(self, obj: Any, name: str) -> str:
        if getattr(obj, "__module__", None) is not None:
            return self._search(obj, name)
        if type(obj) not in self._seen:
            self._look(type(obj))
        return self._found.get((name, id(obj))) or self._search(obj, name)

    def _look(self, kind: type) -> None:
        self._seen.add(kind)
        for place, module in list(sys.modules.items()):
            if place not in ("__main__", "__mp_main__") and isinstance(module, ModuleType):
                for word, value in list(vars(module).items()):
                    if type(value) is kind:
                        self._found.setdefault((word, id(value)), place)


class _PublicEstimators(list[str]):
    """skops' own list, filled the first time that somebody else than our loader uses it."""

    def __add__(self, other: Any) -> Any:
        if not _OURS.get():
            self.fill()
        return list(self) + other

    def fill(self) -> None:
        """Import all of scikit-learn, as skops does."""
        if not self:
            from sklearn.utils import all_estimators

            classes = [kind for _, kind in all_estimators()]
            self.extend(f"{c.__module__}.{c.__name__}" for c in classes if c.__module__.startswith("sklearn."))


@contextmanager
def ours() -> Iterator[None]:
    """Inside, skops trusts what it is told to, without its own list of estimators."""
    token = _OURS.set(True)
    try:
        yield
    finally:
        _OURS.reset(token)


def is_public_estimator(name: str) -> bool:
    """Whether a full name is that of a public estimator of scikit-learn, which skops trusts by itself.

    Never true of a name that is not in skops' own list; imports the public module that the class would be in.

    Parameters
    ----------
    name : str
        Such as "sklearn.linear_model._logistic.LogisticRegression".

    Examples
    --------
    >>> is_public_estimator("sklearn.linear_model._logistic.LogisticRegression")
    True
    >>> is_public_estimator("sklearn.base.BaseEstimator"), is_public_estimator("os.system")
    (False, False)
    """
    module, _, word = name.rpartition(".")
    parts = module.split(".")
    if parts[0] != "sklearn" or len(parts) < 2 or word.startswith("_") or {"tests", "externals"} & set(parts):
        return False
    private = next((place for place, part in enumerate(parts) if part.startswith("_")), len(parts))
    if private < 2:
        return False
    try:
        found = getattr(importlib.import_module(".".join(parts[:private])), word, None)
    except ImportError:
        return False
    from sklearn.base import BaseEstimator

    return (
        inspect.isclass(found)
        and issubclass(found, BaseEstimator)
        and found is not BaseEstimator
        and not inspect.isabstract(found)
        and found.__module__ == module
    )
