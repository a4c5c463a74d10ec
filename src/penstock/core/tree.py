"""The argument tree: any Python value as tagged JSON, so that it can be hashed, stored and shown.

Plain `None`, `bool`, `int` and `str` stand for themselves; everything else is a list whose first item is a tag,
so a user's own list or dict can never look like a tag. What has no canonical form is refused by `NotCanonical`,
which names the place and the type: never guessed by `repr` or pickle. Heavy libraries are recognised by the
names of their types and never imported. Decision 0001 lists the forms.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import hashlib
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from penstock.core.digest import canonical
from penstock.core.secret import Secret

NOT_PARAMETERS = frozenset({"n_jobs", "verbose", "verbosity", "thread_count", "nthread", "memory"})
"""Parameters of estimators that change how long a fit takes and what it prints, never its result."""

BESIDE = ("_metadata_request", "_sklearn_output_config")
"""What `set_fit_request` and `set_output` leave on an estimator beside its parameters; `clone` keeps them."""

QUIET: Mapping[str, Any] = {"quiet": True}
"""Metadata of a dataclass's field that stands in no tree while it has its default: recipes that were made before there
was such a field stay what they are."""


class NotCanonical(Exception):  # noqa: N818  a signal between modules, turned into a reason; never shown raw
    """A value that has no canonical form.

    Attributes
    ----------
    path : str
        Where it stands among the arguments, as "model.steps[1]".
    kind : str
        Its type.
    """

    def __init__(self, path: str, value: object) -> None:
        self.path = path
        self.kind = f"{type(value).__module__}.{type(value).__qualname__}"
        super().__init__(f"parameter {path} of type {self.kind}")


def name_of(thing: Any) -> str:
    """Name of a class or function, as "module:qualname"."""
    return f"{thing.__module__}:{thing.__qualname__}"


def encode(value: Any, path: str = "", special: Callable[[Any], Any] | None = None) -> Any:
    """A value as a tagged tree.

    Parameters
    ----------
    value : Any
    path : str
        Where it stands, for the message.
    special : callable, optional
        Asked first for every value; what it returns is used unless it is `None` (references are made so).

    Raises
    ------
    NotCanonical

    Examples
    --------
    >>> encode({"b": (1, 0.5), "a": None})
    ['dict', [['a', None], ['b', ['tuple', [1, ['float', '0.5']]]]]]
    """
    if special is not None:
        found = special(value)
        if found is not None:
            return found
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    plain = _PLAIN.get(kind)
    if plain is not None:
        return plain(value)
    if kind in (list, tuple):
        items = [encode(item, f"{path}[{i}]", special) for i, item in enumerate(value)]
        return [kind.__name__, items]
    if kind is dict:
        pairs = [[encode(k, f"{path} key"), encode(v, f"{path}.{k}", special)] for k, v in value.items()]
        return ["dict", sorted(pairs, key=lambda pair: canonical(pair[0]))]
    if kind in (set, frozenset):
        return [kind.__name__, sorted((encode(item, path) for item in value), key=canonical)]
    return _encode_object(value, path, special)


_PLAIN: dict[type, Callable[[Any], Any]] = {
    float: lambda v: ["float", repr(v)],
    complex: lambda v: ["complex", repr(v)],
    bytes: lambda v: ["bytes", base64.b64encode(v).decode()],
    dt.datetime: lambda v: ["datetime", v.isoformat()],
    dt.date: lambda v: ["date", v.isoformat()],
    dt.time: lambda v: ["time", v.isoformat()],
    dt.timedelta: lambda v: ["timedelta", [v.days, v.seconds, v.microseconds]],
    decimal.Decimal: lambda v: ["decimal", str(v)],
    range: lambda v: ["range", [v.start, v.stop, v.step]],
    type(Ellipsis): lambda _: ["ellipsis"],
}


def _encode_object(value: Any, path: str, special: Callable[[Any], Any] | None) -> Any:
    """Everything that is not a plain value or container, by the look of its type."""
    kind = type(value)
    if isinstance(value, type):
        return ["class", _findable(value, path)]
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        return ["function", _findable(value, path)]
    if isinstance(value, enum.Enum):
        return ["enum", name_of(kind), value.name]
    if isinstance(value, Secret):
        return ["secret", value.name]
    if isinstance(value, os.PathLike):
        return ["path", os.fspath(value)]
    if isinstance(value, slice):
        return ["slice", [encode(part, path, special) for part in (value.start, value.stop, value.step)]]
    if isinstance(value, functools.partial):
        parts = [value.func, list(value.args), dict(value.keywords)]
        return ["partial", [encode(part, f"{path}.partial", special) for part in parts]]
    if is_estimator(value):
        pairs = sorted(value.get_params(deep=False).items())
        params = {k: encode(v, f"{path}.{k}", special) for k, v in pairs if k not in NOT_PARAMETERS}
        kept = {name: vars(value)[name] for name in BESIDE if name in getattr(value, "__dict__", {})}
        plain = {name: getattr(part, "_serialize", lambda part=part: part)() for name, part in kept.items()}
        beside = {name: encode(part, f"{path}.{name}", special) for name, part in plain.items()}
        return ["estimator", name_of(kind), params, *([beside] if beside else [])]
    if dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value) if not _is_quiet(f, value)]
        return ["data", name_of(kind), {f: encode(getattr(value, f), f"{path}.{f}", special) for f in fields}]
    return _encode_library(value, path, special)


def _is_quiet(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field is left out: it is quiet, and as it is by default."""
    return bool(field.metadata.get("quiet")) and getattr(value, field.name) is field.default


def _encode_library(value: Any, path: str, special: Callable[[Any], Any] | None) -> Any:
    """Values of numpy, scipy and scikit-learn, known by their module's name."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library == "numpy":
        if kind.__name__ == "ndarray" and value.dtype.kind in "biufcSUmM":
            data = hashlib.sha256(value.tobytes(order="C")).hexdigest()
            return ["ndarray", value.dtype.str, list(value.shape), data]
        if kind.__name__ == "ndarray" and value.dtype.kind == "O":
            return ["ndarray", "O", list(value.shape), encode(value.ravel().tolist(), path, special)]
        if any(base.__name__ == "generic" for base in kind.__mro__) and value.dtype.kind != "V":
            return ["scalar", value.dtype.str, repr(value.item())]
        if kind.__name__.endswith("DType"):
            return ["dtype", value.str]
        if kind.__name__ in ("ufunc", "_ArrayFunctionDispatcher"):
            return ["function", _array_function(value, path)]
    if library == "scipy" and hasattr(value, "dist") and hasattr(value, "kwds"):
        law = f"{type(value.dist).__module__}:{type(value.dist).__qualname__}"
        return ["frozen", law, encode([list(value.args), dict(value.kwds)], path, special)]
    if library == "sklearn" and hasattr(value, "__dict__"):
        attrs = sorted(vars(value).items())
        return ["object", name_of(kind), {k: encode(v, f"{path}.{k}", special) for k, v in attrs}]
    raise NotCanonical(path or "value", value)


def _findable(thing: Any, path: str) -> str:
    """Name of a class or function that another process can find by it, as "module:qualname"."""
    qualname = getattr(thing, "__qualname__", "<unknown>")
    module = getattr(thing, "__module__", None)
    if "<" in qualname or not module:
        raise NotCanonical(path or "value", thing)
    return f"{module}:{qualname}"


def _array_function(value: Any, path: str) -> str:
    """Name of a function of arrays (`np.log1p`, `np.mean`, `scipy.special.expit`), which is no Python function."""
    for module in ("numpy", "scipy.special"):
        name = getattr(value, "__name__", "")
        if name and getattr(sys.modules.get(module), name, None) is value:
            return f"{module}:{name}"
    return _findable(value, path)


def is_estimator(value: Any) -> bool:
    """Whether a value looks like a scikit-learn object: an instance with `get_params`."""
    return not isinstance(value, type) and callable(getattr(type(value), "get_params", None))


def copy_value(value: Any) -> Any:
    """A copy of an unfitted estimator, or of a container of them, as `sklearn.base.clone` would make it.

    Parameters are copied by `get_params`, so scikit-learn itself is not imported; other values are deep-copied.
    """
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
        return value
    if is_estimator(value):
        params = {name: copy_value(part) for name, part in value.get_params(deep=False).items()}
        if any(base.__module__ == "catboost.core" for base in type(value).__mro__):
            # It copies the lists that it is given, so that scikit-learn's `clone` refuses them; tuples it keeps.
            kinds = ("cat_features", "text_features", "embedding_features")
            params |= {name: tuple(params[name]) for name in kinds if type(params.get(name)) is list}
        twin = type(value)(**params)
        for attribute in BESIDE:
            if attribute in getattr(value, "__dict__", {}):
                setattr(twin, attribute, copy_value(getattr(value, attribute)))
        return twin
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(copy_value(item) for item in value)
    if type(value) is dict:
        return {key: copy_value(item) for key, item in value.items()}
    import copy

    return copy.deepcopy(value)


def parts_of(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every estimator, function, class and object inside a value, with the place where it stands."""
    stack: list[tuple[str, Any]] = [(path, value)]
    while stack:
        here, item = stack.pop()
        yield here, item
        if is_estimator(item):
            params = item.get_params(deep=False)
            stack += [(f"{here}.{k}" if here else k, v) for k, v in params.items()]
        elif type(item) in (list, tuple):
            stack += [(f"{here}[{i}]", v) for i, v in enumerate(item)]
        elif type(item) is dict:
            stack += [(f"{here}[{k!r}]", v) for k, v in item.items()]
        elif isinstance(item, functools.partial):
            stack += [(here, item.func), (here, list(item.args)), (here, dict(item.keywords))]
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            stack += [(f"{here}.{f.name}", getattr(item, f.name)) for f in dataclasses.fields(item)]
        elif type(item).__module__.partition(".")[0] == "sklearn" and hasattr(item, "__dict__"):
            stack += [(f"{here}.{k}", v) for k, v in vars(item).items()]


_ITEMS = frozenset({"list", "tuple", "set", "frozenset", "slice", "partial"})
"""Tags whose second part holds further trees, in order."""
_ONE = frozenset({"source", "map"})
"""Tags whose second part is a tree."""
_NAMED = frozenset({"estimator", "data", "object"})
"""Tags whose third part maps names to further trees."""


def children(tree: Any) -> list[tuple[str, Any]]:
    """The trees right below one, each with the step of a path that leads there ("[0]", ".C").

    Only where a tag says so is a list looked into: a user's own list may begin with any word, "ref" too.

    Examples
    --------
    >>> children(encode(["ref", 0.5]))
    [('[0]', 'ref'), ('[1]', ['float', '0.5'])]
    """
    if type(tree) is not list or not tree:
        return []
    tag = tree[0]
    if tag in _ONE:
        return [("", tree[1])]
    if tag in _ITEMS:
        return [(f"[{i}]", item) for i, item in enumerate(tree[1])]
    if tag == "dict":
        return [(f".{key if isinstance(key, str) else canonical(key)}", value) for key, value in tree[1]]
    if tag in _NAMED:
        return [(f".{name}", value) for part in tree[2:] for name, value in part.items()]
    if tag == "frozen":
        return [("", tree[2])]
    return [("", tree[3])] if tag == "ndarray" and tree[1] == "O" else []


def rebuilt(tree: Any, change: Callable[[Any], Any]) -> Any:
    """A tree with each of the trees right below it changed."""
    if type(tree) is not list or not tree:
        return tree
    tag = tree[0]
    if tag in _ONE:
        return [tag, change(tree[1])]
    if tag in _ITEMS:
        return [tag, [change(item) for item in tree[1]]]
    if tag == "dict":
        return [tag, [[key, change(value)] for key, value in tree[1]]]
    if tag in _NAMED:
        return [tag, tree[1], {name: change(value) for name, value in tree[2].items()}, *tree[3:]]
    if tag == "frozen":
        return [tag, tree[1], change(tree[2])]
    if tag == "ndarray" and tree[1] == "O":
        return [*tree[:3], change(tree[3])]
    return tree


def resolve(tree: Any, inputs: dict[tuple[str, str], list[str]]) -> Any:
    """A tree in which each ["ref", step, output] is replaced by what the reference stands for.

    Parameters
    ----------
    tree : Any
        From `encode`.
    inputs : dict
        (step, output) → [format, digest]; gives ["artifact", format, digest].
    """
    if type(tree) is list and tree and tree[0] == "ref":
        return ["artifact", *inputs[tree[1], tree[2]]]
    return rebuilt(tree, lambda part: resolve(part, inputs))


def refs_in(tree: Any) -> list[tuple[str, str]]:
    """Each (step, output) that a tree refers to, in order, once."""
    found: dict[tuple[str, str], None] = {}
    stack = [tree]
    while stack:
        item = stack.pop()
        if type(item) is list and item and item[0] == "ref":
            found[item[1], item[2]] = None
        else:
            stack.extend(part for _, part in reversed(children(item)))
    return list(found)
