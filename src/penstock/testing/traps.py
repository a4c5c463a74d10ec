"""Tables with columns that give the target away, and tables without: what the search for betrayal is tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles

if TYPE_CHECKING:
    import pandas as pd

BINARY: dict[str, Any] = {"task": "binary", "classes": ["no", "yes"], "positive": "yes"}
NUMBER: dict[str, Any] = {"task": "regression"}
SEVERAL: dict[str, Any] = {"task": "multiclass", "classes": ["ant", "bee", "cat"]}
SCHEMAS = (BINARY, NUMBER, SEVERAL)
START = "2025-01-01"


@dataclass(frozen=True)
class Trap:
    """A column, or several, that should not be there.

    Attributes
    ----------
    mechanism : str
        Kind of the finding that it should lead to.
    grade : str
        Grade of that finding.
    columns : tuple of str
        Columns that should be named.
    schema : dict
    make : callable
        (table, generator) → table with them, its rows in another order perhaps.
    roles : Roles
    """

    mechanism: str
    grade: str
    columns: tuple[str, ...]
    schema: dict[str, Any]
    make: Callable[[Any, Any], Any]
    roles: Roles = field(default_factory=Roles)


def people(n: int, seed: int, schema: dict[str, Any]) -> pd.DataFrame:
    """An honest table: age, income, city, and a target `y` that they go with a little."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    age, income = rng.integers(18, 80, n), rng.lognormal(10, 0.5, n)
    city = rng.choice(["Rome", "Oslo", "Lima"], n, p=[0.6, 0.3, 0.1])
    lift = (age - 45) / 20 + (city == "Rome") + rng.normal(size=n)
    return pd.DataFrame({"age": age, "income": income, "city": city, "y": _answers(lift, schema)})


def _answers(lift: Any, schema: dict[str, Any], cuts: tuple[float, float] = (-0.3, 0.8)) -> Any:
    import numpy as np

    if schema["task"] == "regression":
        return 10 * lift + 100
    if schema["task"] == "multiclass":
        return np.array(schema["classes"])[np.digitize(lift, cuts)]
    return np.where(lift > cuts[1], "yes", "no")


def _one(make: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda t, rng: t.assign(leak=make(t, rng))


def _holes(share_yes: float, share_no: float) -> Callable[[Any, Any], Any]:
    """A date of leaving, say: there for so many of each class."""

    def make(t: Any, rng: Any) -> Any:
        import numpy as np

        there = rng.random(len(t)) < np.where(t.y == "yes", share_yes, share_no)
        return t.assign(leak=np.where(there, rng.normal(size=len(t)), np.nan))

    return make


def _summed(t: Any, rng: Any) -> Any:
    import numpy as np

    whole, part = np.round(t.y).astype(int), rng.integers(0, 90, len(t))
    return t.assign(y=whole, part=part, rest=whole - part)


def _masked(t: Any, rng: Any) -> Any:
    """A strong column, and a weaker one whose share of the skill is seen only once the first is gone."""
    strong = t.y + rng.normal(scale=0.5, size=len(t))
    return t.assign(leak=strong, behind=t.y + rng.normal(scale=6.0, size=len(t)), age=rng.integers(18, 80, len(t)))


def _in_order(t: Any, rng: Any) -> Any:
    import numpy as np

    order = ((t.y == "yes") + 0.6 * rng.normal(size=len(t))).argsort()
    return t.iloc[np.asarray(order)].reset_index(drop=True)


def _dated(t: Any, rng: Any) -> Any:
    import pandas as pd

    when = pd.Timestamp(START) + pd.to_timedelta(range(len(t)), unit="h")
    return t.assign(when=when, leak=when + pd.to_timedelta(rng.integers(1, 900, len(t)), unit="h"))


def _near(t: Any, rng: Any) -> Any:
    del rng
    return t.y + (t.age % 7).astype(str)


def _yes(t: Any) -> Any:
    return (t.y == "yes") * 1.0


TRAPS: dict[str, Trap] = {
    name: Trap(mechanism, grade, columns, schema, make, *rest)
    for name, mechanism, grade, columns, schema, make, *rest in (
        ("text copy", "re-coding", "error", ("leak",), BINARY, _one(lambda t, _: t.y.str.upper())),
        ("boolean, turned", "re-coding", "error", ("leak",), BINARY, _one(lambda t, _: t.y == "no")),
        ("several values a class", "re-coding", "error", ("leak",), BINARY, _one(_near)),
        ("score", "re-coding", "error", ("leak",), BINARY, _one(lambda t, r: _yes(t) + r.uniform(0, 0.9, len(t)))),
        (
            *("bands of a number", "re-coding", "error", ("leak",), BINARY),
            _one(lambda t, r: r.integers(0, 9, len(t)) * 4 + 2 * _yes(t) + r.uniform(0, 1, len(t))),
        ),
        (
            *("known of one row in ten", "re-coding", "error", ("leak",), BINARY),
            lambda t, r: t.assign(leak=t.y.str.upper().where(r.random(len(t)) < 0.1)),
        ),
        (
            *("class number", "re-coding", "error", ("leak",), SEVERAL),
            _one(lambda t, _: t.y.map({"ant": 7, "bee": 3, "cat": 5})),
        ),
        (
            *("number of several classes", "re-coding", "error", ("leak",), SEVERAL),
            _one(lambda t, r: t.y.map({"ant": 7, "bee": 3, "cat": 5}) + r.uniform(0, 1, len(t))),
        ),
        ("copy", "copy", "error", ("leak",), NUMBER, _one(lambda t, _: t.y)),
        ("other unit", "re-coding", "error", ("leak",), NUMBER, _one(lambda t, _: t.y * 1.8 + 32)),
        (
            "square",
            "re-coding",
            "error",
            ("leak",),
            NUMBER,
            _one(lambda t, _: (t.y - 100) ** 2 * (1 - 2 * (t.y < 100))),
        ),
        ("sum", "sum", "error", ("part", "rest"), NUMBER, _summed),
        ("there for one class", "absence", "error", ("leak",), BINARY, _holes(0.5, 0.0)),
        ("missing for one class", "absence", "error", ("leak",), BINARY, _holes(1.0, 0.5)),
        ("nearly for one class", "absence", "warning", ("leak",), BINARY, _holes(0.9, 0.01)),
        (
            *("counter", "identifier", "warning", ("leak",), BINARY),
            lambda t, r: _in_order(t, r).assign(leak=range(len(t))),
        ),
        (
            *("code of a row", "identifier", "warning", ("leak",), BINARY),
            lambda t, r: _in_order(t, r).assign(leak=[f"K{i:06d}" for i in range(len(t))]),
        ),
        (
            *("row number", "identifier", "note", ("leak",), BINARY),
            lambda t, r: t.assign(leak=r.permutation(10 * len(t))[: len(t)]),
        ),
        ("too good", "skill", "note", ("leak",), NUMBER, _one(lambda t, r: t.y + r.normal(scale=1.5, size=len(t)))),
        ("masked", "skill", "note", ("leak", "behind"), NUMBER, _masked),
        (
            *("named late", "name", "note", ("call_duration",), BINARY),
            lambda t, r: t.assign(call_duration=_yes(t) + r.normal(scale=0.6, size=len(t))),
        ),
        ("dated late", "timing", "note", ("leak",), BINARY, _dated, Roles(time="when")),
    )
}


def clean_table(seed: int) -> tuple[pd.DataFrame, dict[str, Any], Roles]:
    """A table without a trap: 200 to 5,000 rows of features that go with the target, or do not, as in life.

    Numbers of several laws, amounts in whole units, counts, texts of few and many levels, truth values; cells missing
    at random and for a reason; rare classes and long tails; entities with several rows, copied rows, times.

    Parameters
    ----------
    seed : int

    Returns
    -------
    table : DataFrame
    schema : dict
    roles : Roles
    """
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    schema = SCHEMAS[seed % 3]
    n = int(rng.choice([200, 500, 1500, 5000]))
    entity = np.sort(rng.integers(0, n // 5, n)) if rng.random() < 0.2 else np.arange(n)
    columns, lift = {}, np.zeros(n)
    for at in range(int(rng.integers(3, 13))):
        values, effect = _feature(rng, n)
        if entity[-1] < n - 1 and rng.random() < 0.5:  # of the entity, the same in all its rows
            values, effect = values[entity], effect[entity]
        columns[f"f{at}"] = values
        lift += rng.normal() * (rng.random() < 0.7) * effect
    if len(columns) > 3:
        lift += rng.normal() * np.tanh(rng.normal(size=n)) * np.sign(lift)
    lift = lift / (lift.std() or 1.0)
    noise = rng.normal(size=n)[entity] if rng.random() < 0.5 else rng.normal(size=n)
    lift = lift + noise * float(np.exp(rng.uniform(-1.6, 1.6)))
    y = _labels(rng, lift, schema)
    table = pd.DataFrame(columns)
    for name in table.columns:
        if rng.random() < 0.25:
            reason = rng.normal() * 0.5 * (lift - lift.mean()) / lift.std()
            missing = rng.random(n) < 1 / (1 + np.exp(-(rng.uniform(-3, 0) + reason)))
            whole = table[name].dtype.kind in "iub"
            table[name] = (table[name].astype(float) if whole else table[name]).where(~missing)
    table["y"] = y
    roles: dict[str, Any] = {}
    if entity[-1] < n - 1:
        table["who"], roles["groups"] = entity, ("who",)
    elif rng.random() < 0.3:
        when = pd.Timestamp(START) + pd.to_timedelta(np.sort(rng.uniform(0, 9_000, n)), unit="h")
        table["day"], roles["time"] = when.floor("min"), "day"
        table["since"] = when.floor("D") - pd.to_timedelta(rng.integers(1, 4_000, n), unit="D")
    elif rng.random() < 0.3:
        table = pd.concat([table, table.sample(frac=0.15, random_state=seed)], ignore_index=True)
    elif rng.random() < 0.3:
        table["nr"], roles["key"] = rng.permutation(n) + 10_000, ("nr",)
    return table, schema, Roles(**roles)


def _feature(rng: Any, n: int) -> tuple[Any, Any]:
    """Values of a column, and what each row's value adds to the target."""
    import numpy as np

    kind = rng.choice(["normal", "long tail", "amount", "count", "level", "many levels", "truth", "grade", "spread"])
    if kind == "normal":
        values = rng.normal(size=n)
        return values, values if rng.random() < 0.7 else values**2 - 1
    if kind == "long tail":
        values = rng.lognormal(0, 1, n)
        return values, np.log(values)
    if kind == "amount":
        values = np.round(rng.lognormal(10, 0.7, n)).astype(int)
        return values, (np.log(values) - 10) / 0.7
    if kind == "count":
        values = rng.poisson(3, n)
        return values, (values - 3) / 1.7
    if kind in {"level", "many levels"}:
        size = int(rng.integers(2, 8)) if kind == "level" else int(rng.integers(30, 200))
        codes = np.minimum(rng.geometric(2 / size, n), size) - 1
        return np.array([f"level {i}" for i in range(size)], dtype=object)[codes], rng.normal(size=size)[codes]
    if kind == "truth":
        values = rng.random(n) < rng.uniform(0.01, 0.5)
        return values, values * 1.0
    if kind == "grade":
        values = rng.integers(1, 6, n)
        return values, (values - 3) / 1.4
    values = rng.uniform(0, 100, n)
    return values, (values - 50) / 29


def _labels(rng: Any, lift: Any, schema: dict[str, Any]) -> Any:
    import numpy as np

    if schema["task"] == "regression":
        y = lift if rng.random() < 0.7 else np.exp(lift)
        return np.round(y, 2) if rng.random() < 0.3 else y
    if schema["task"] == "multiclass":
        low, high = np.quantile(lift, np.sort(rng.uniform(0.1, 0.9, 2)))
        return np.array(schema["classes"])[np.digitize(lift, (low, max(high, low + 1e-9)))]
    rare = rng.random() < 0.25
    return np.where(
        lift > np.quantile(lift, 1 - (rng.uniform(0.02, 0.06) if rare else rng.uniform(0.1, 0.5))), "yes", "no"
    )
