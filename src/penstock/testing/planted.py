"""Steps that leak and steps that do not, for any table: what the proof is tried on.

Each takes a table whose rows are named by `id`, the name of its target, and names of its numbers and of its texts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

KEY = "id"
TIME = "at"
"""Column with the time of a row's event, in steps that know of time."""


@dataclass(frozen=True)
class Planted:
    """One step.

    Attributes
    ----------
    kind : str
        "features" or "labels" for what it takes from other rows, "rows" where it drops copies, "random" where it
        differs from itself, "" where it is honest.
    make : callable
        (table, target, numbers, texts) → table.
    """

    kind: str
    make: Callable[[Any, str, list[str], list[str]], Any]

    def on(self, target: str, numbers: list[str], texts: list[str]) -> Callable[[pd.DataFrame], pd.DataFrame]:
        """The step for a table."""
        return lambda table: self.make(table, target, numbers, texts)


def _numbers(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """A step that changes the block of numbers."""

    def step(t: Any, _y: str, numbers: list[str], _texts: list[str]) -> Any:
        return t.assign(**dict(change(t[numbers].astype("float64")).items()))

    return step


def _fitted(estimator: Callable[[], Any], *, labels: bool = False) -> Callable[..., Any]:
    """A step that fits something on all rows and keeps what it makes of the numbers."""

    def step(t: Any, y: str, numbers: list[str], _texts: list[str]) -> Any:
        import numpy as np

        X = t[numbers].astype("float64").fillna(0).to_numpy()
        made = estimator()
        with warnings.catch_warnings(action="ignore"):  # of bins that are narrow
            made = made.fit(X, _codes(t[y])) if labels else made.fit(X)
        out = made.transform(X) if hasattr(made, "transform") else made.predict(X)
        out = np.asarray(out, dtype=np.float64).reshape(len(t), -1)
        return t.assign(**{f"made{i}": out[:, i] for i in range(out.shape[1])})

    return step


def _codes(column: Any) -> Any:
    import pandas as pd

    return column.to_numpy() if column.dtype.kind in "iufb" else pd.factorize(column, sort=True)[0]


def _encoded(rate: Callable[[Any, Any], Any], *, labels: bool = True) -> Callable[..., Any]:
    """A step that replaces a text by a statistic of its group."""

    def step(t: Any, y: str, numbers: list[str], texts: list[str]) -> Any:
        import pandas as pd

        values = pd.Series(_codes(t[y]), index=t.index) if labels else t[numbers[0]].astype("float64")
        return t.assign(made=rate(values, t[texts[0]].astype(object).fillna("")))

    return step


def _selected(t: Any, y: str, numbers: list[str], _texts: list[str]) -> Any:
    import numpy as np
    from sklearn.feature_selection import SelectKBest, f_classif, f_regression

    X, codes = t[numbers].astype("float64").fillna(0).to_numpy(), _codes(t[y])
    score = f_regression if len(np.unique(codes)) > 20 else f_classif
    with np.errstate(all="ignore"):
        kept = SelectKBest(score, k=max(1, len(numbers) // 2)).fit(X, codes).get_support()
    return t.drop(columns=[name for name, keep in zip(numbers, kept, strict=True) if not keep])


def _uncorrelated(t: Any, _y: str, numbers: list[str], _texts: list[str]) -> Any:
    import numpy as np

    between = t[numbers].astype("float64").corr().abs().to_numpy(copy=True)
    np.fill_diagonal(between, 0)
    worst = np.unravel_index(np.nanargmax(np.nan_to_num(between)), between.shape)[0]
    return t.drop(columns=[numbers[int(worst)]])


def _less_of_the_common(t: Any, y: str, _numbers: list[str], _texts: list[str]) -> Any:
    import numpy as np

    codes = _codes(t[y])
    few = int(np.bincount(codes - codes.min()).min()) if codes.dtype.kind in "iub" else len(t) // 4
    keep = t.groupby(codes if codes.dtype.kind in "iub" else codes > np.median(codes)).head(max(few, 1))
    return keep.sort_index()


def _rare_to_other(t: Any, _y: str, _numbers: list[str], texts: list[str]) -> Any:
    column = t[texts[0]].astype(object)
    shares = column.map(column.value_counts(normalize=True))
    return t.assign(**{texts[0]: column.where(shares > 0.1, "other")})


def _commonest(t: Any, _y: str, _numbers: list[str], texts: list[str]) -> Any:
    column = t[texts[0]].astype(object)
    top = sorted(column.value_counts().sort_index().nlargest(3).index.astype(str))
    return t.assign(**{f"is{i}": (column == name).astype(int) for i, name in enumerate(top)})


def _neighbours(t: Any, y: str, numbers: list[str], _texts: list[str]) -> Any:
    import numpy as np

    order = np.argsort(t[numbers[0]].to_numpy(dtype="float64"), kind="stable")
    made = np.empty(len(t))
    made[order] = np.roll(_codes(t[y])[order].astype("float64"), 1)
    return t.assign(made=made)


def _quantile_rows(t: Any, _y: str, numbers: list[str], _texts: list[str]) -> Any:
    column = t[numbers[0]].astype("float64")
    return t[column.isna() | (column <= column.quantile(0.9))]


def _far_rows(t: Any, _y: str, numbers: list[str], _texts: list[str]) -> Any:
    column = t[numbers[0]].astype("float64")
    return t[((column - column.mean()).abs() <= column.std()) | column.isna()]


def _in_place(make: Callable[[Any], Any]) -> Callable[..., Any]:
    """A step that makes one column of the first number, row after row."""

    def step(t: Any, _y: str, numbers: list[str], _texts: list[str]) -> Any:
        return t.assign(made=make(t[numbers[0]].astype("float64")))

    return step


def _holes(column: Any) -> Any:
    """A column with every seventh cell missing."""
    import numpy as np

    return column.mask(np.arange(len(column)) % 7 == 3)


def _seeded_noise(t: Any) -> Any:
    import numpy as np

    return np.random.default_rng(0).normal(size=len(t))


def _unseeded_noise(t: Any) -> Any:
    import numpy as np

    return np.random.default_rng().normal(size=len(t))


def _blas(t: Any, _y: str, numbers: list[str], _texts: list[str]) -> Any:
    import numpy as np

    X = t[numbers].astype("float64").fillna(0).to_numpy()
    weights = np.random.default_rng(1).normal(size=(X.shape[1], 2))
    return t.assign(made0=(X @ weights)[:, 0], made1=(X @ weights)[:, 1])


def _looked_up(t: Any, _y: str, _numbers: list[str], texts: list[str]) -> Any:
    import pandas as pd

    known = pd.DataFrame({texts[0]: sorted(t[texts[0]].dropna().astype(str).unique())})
    known = known.assign(made=known[texts[0]].str.len())  # says the same of a text whatever else there is
    return t.merge(known, on=texts[0], how="left")


def _sk(path: str, **params: Any) -> Callable[[], Any]:
    """Makes a scikit-learn estimator when it is called."""

    def make() -> Any:
        import importlib

        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(f"sklearn.{module}"), name)(**params)

    return make


def _smoothed(y: Any, by: Any) -> Any:
    of = y.groupby(by)
    n = of.transform("size")
    return (of.transform("mean") * n + y.mean() * 10) / (n + 10)


LEAKING: dict[str, Planted] = {
    "scale": Planted("features", _numbers(lambda x: (x - x.mean()) / (x.std() + 1e-9))),
    "centre": Planted("features", _numbers(lambda x: x - x.mean())),
    "min and max": Planted("features", _numbers(lambda x: (x - x.min()) / (x.max() - x.min() + 1e-9))),
    "rank": Planted("features", _numbers(lambda x: x.rank(pct=True))),
    "clip at quantiles": Planted("features", _numbers(lambda x: x.clip(x.quantile(0.2), x.quantile(0.8), axis=1))),
    "robust scale": Planted("features", _numbers(lambda x: (x - x.median()) / (x.quantile(0.75) - x.median() + 1))),
    "bins of equal size": Planted("features", _in_place(lambda c: c.rank(pct=True) * 5 // 1.0001)),
    "bins of equal width": Planted("features", _in_place(lambda c: (c - c.min()) // ((c.max() - c.min()) / 5 + 1e-9))),
    "above the mean": Planted("features", _in_place(lambda c: (c > c.mean()).astype(float))),
    "quantile filter": Planted("features", _quantile_rows),
    "outlier filter": Planted("features", _far_rows),
    "median for gaps": Planted("features", _in_place(lambda c: _holes(c).fillna(c.median()))),
    "mean for gaps": Planted("features", _in_place(lambda c: _holes(c).fillna(c.mean()))),
    "neighbours for gaps": Planted("features", _in_place(lambda c: _holes(c).interpolate())),
    "next for gaps": Planted("features", _in_place(lambda c: _holes(c).bfill())),
    "last for gaps": Planted("features", _in_place(lambda c: _holes(c).ffill())),
    "centred window": Planted("features", _in_place(lambda c: c.rolling(5, center=True, min_periods=1).mean())),
    "next row": Planted("features", _in_place(lambda c: c.shift(-1))),
    "running sum": Planted("features", _in_place(lambda c: c.fillna(0).cumsum())),
    "principal components": Planted("features", _fitted(_sk("decomposition.PCA", n_components=1))),
    "clusters": Planted("features", _fitted(_sk("cluster.KMeans", n_clusters=3, n_init=1, random_state=0))),
    "power transform": Planted("features", _fitted(_sk("preprocessing.QuantileTransformer", n_quantiles=20))),
    "k bins": Planted(
        "features",
        _fitted(
            _sk("preprocessing.KBinsDiscretizer", n_bins=4, encode="ordinal", quantile_method="averaged_inverted_cdf")
        ),
    ),
    "correlation filter": Planted("features", _uncorrelated),
    "rare to other": Planted("features", _rare_to_other),
    "commonest three": Planted("features", _commonest),
    "count of category": Planted("features", _encoded(lambda v, by: v.groupby(by).transform("size"), labels=False)),
    "mean by category": Planted("features", _encoded(lambda v, by: v.groupby(by).transform("mean"), labels=False)),
    "gap to category": Planted("features", _encoded(lambda v, by: v - v.groupby(by).transform("median"), labels=False)),
    "target mean": Planted("labels", _encoded(lambda v, by: v.groupby(by).transform("mean"))),
    "smoothed target mean": Planted("labels", _encoded(_smoothed)),
    "target mean of others": Planted(
        "labels",
        _encoded(
            lambda v, by: (v.groupby(by).transform("sum") - v) / (v.groupby(by).transform("size") - 1).clip(lower=1)
        ),
    ),
    "prior": Planted("labels", _encoded(lambda v, _by: 0 * v + v.mean())),
    "fitted line": Planted("labels", _fitted(_sk("linear_model.LinearRegression"), labels=True)),
    "fitted tree": Planted(
        "labels", _fitted(_sk("tree.DecisionTreeRegressor", max_depth=3, random_state=0), labels=True)
    ),
    "label of a neighbour": Planted("labels", _neighbours),
    "feature selection": Planted("labels", _selected),
    "under-sampling": Planted("labels", _less_of_the_common),
    "copies dropped": Planted("rows", lambda t, y, n, _t: t.drop_duplicates([*n, y])),
}
"""What takes something from other rows, by name."""

HONEST: dict[str, Planted] = {
    "row sum": Planted("", lambda t, _y, n, _t: t.assign(made=t[n].sum(axis=1))),
    "row mean": Planted("", lambda t, _y, n, _t: t.assign(made=t[n].astype("float64").mean(axis=1))),
    "row median": Planted("", lambda t, _y, n, _t: t.assign(made=t[n].astype("float64").median(axis=1))),
    "ratio": Planted("", lambda t, _y, n, _t: t.assign(made=t[n[0]] / (t[n[-1]].abs() + 1))),
    "logarithm": Planted("", _in_place(lambda c: (c.abs() + 1).map(__import__("math").log))),
    "constant bounds": Planted("", _numbers(lambda x: x.clip(0, 50))),
    "constant for gaps": Planted("", _numbers(lambda x: x.fillna(0))),
    "constant bins": Planted("", _in_place(lambda c: c // 10)),
    "gap flag": Planted("", _in_place(lambda c: _holes(c).isna().astype(int))),
    "small letters": Planted(
        "", lambda t, _y, _n, x: t.assign(**{x[0]: t[x[0]].astype(object).astype(str).str.lower()})
    ),
    "length of text": Planted("", lambda t, _y, _n, x: t.assign(made=t[x[0]].astype(object).astype(str).str.len())),
    "look-up": Planted("", _looked_up),
    "column dropped": Planted("", lambda t, _y, n, _t: t.drop(columns=[n[-1]])),
    "filter row by row": Planted("", lambda t, _y, _n, _t: t[t[KEY] % 7 != 0]),
    "seeded shuffle": Planted("", lambda t, _y, _n, _t: t.sample(frac=1, random_state=0)),
    "seeded half": Planted("", lambda t, _y, _n, _t: t.sample(frac=0.5, random_state=0)),
    "seeded noise": Planted("", lambda t, _y, _n, _t: t.assign(made=_seeded_noise(t))),
    "sorted by target": Planted("", lambda t, y, _n, _t: t.sort_values(y, kind="stable")),
    "sorted by key": Planted("", lambda t, _y, _n, _t: t.sort_values(KEY)),
    "one row a key": Planted("", lambda t, _y, _n, _t: t.drop_duplicates(KEY)),
    "fixed projection": Planted("", _blas),
    "powers": Planted("", lambda t, _y, n, _t: t.assign(**{f"{name}_2": t[name].astype("float64") ** 2 for name in n})),
    "target in other units": Planted(
        "", lambda t, y, _n, _t: t if t[y].dtype.kind != "f" else t.assign(**{y: t[y] * 2})
    ),
    "as it is": Planted("", lambda t, _y, _n, _t: t),
}
"""What makes each row of itself alone, or only changes their order."""

RANDOM = Planted("random", lambda t, _y, _n, _t: t.assign(made=_unseeded_noise(t)))
"""What differs from itself."""


def _of(make: Callable[[Any, Any, Any, Any], Any]) -> Callable[..., Any]:
    """A step that makes one column of target, first number, first text and time."""

    def step(t: Any, y: str, numbers: list[str], texts: list[str]) -> Any:
        return t.assign(made=make(t[y], t[numbers[0]], t[texts[0]], t[TIME]))

    return step


def _rows_by_mean(t: Any, _y: str, numbers: list[str], _texts: list[str]) -> Any:
    column = t[numbers[0]]
    return t[(column > column.mean() - column.std()) | column.isna()]


PAST: dict[str, Planted] = {
    "lag 1": Planted("labels", _of(lambda y, _x, _by, _at: y.shift(1))),
    "lag 24": Planted("labels", _of(lambda y, _x, _by, _at: y.shift(24))),
    "mean of the last 24": Planted("labels", _of(lambda y, _x, _by, _at: y.shift(1).rolling(24, min_periods=1).mean())),
    "mean so far": Planted(
        "labels", _of(lambda y, _x, by, _at: y.groupby(by).transform(lambda v: v.shift(1).expanding().mean()))
    ),
    "last for gaps": Planted("features", _of(lambda _y, x, _by, _at: x.ffill())),
    "exponential mean": Planted("features", _of(lambda _y, x, _by, _at: x.ewm(5).mean())),
    "expanding mean": Planted("features", _of(lambda _y, x, _by, _at: x.expanding().mean())),
    "count so far": Planted("features", _of(lambda y, _x, by, _at: y.groupby(by).cumcount())),
}
"""What learns from earlier rows of a table in the order of its times; the kind is what scramble by key sees."""

FUTURE: dict[str, Planted] = {
    "centred window": Planted("features", _of(lambda _y, x, _by, _at: x.rolling(5, center=True, min_periods=1).mean())),
    "next row": Planted("features", _of(lambda _y, x, _by, _at: x.shift(-1))),
    "next label": Planted("labels", _of(lambda y, _x, _by, _at: y.shift(-1))),
    "mean of the day": Planted("features", _of(lambda _y, x, _by, at: x.groupby(at.dt.date).transform("mean"))),
    "global scale": Planted("features", _of(lambda _y, x, _by, _at: (x - x.mean()) / x.std())),
    "mean over all time": Planted("labels", _of(lambda y, _x, by, _at: y.groupby(by).transform("mean"))),
    "next for gaps": Planted("features", _of(lambda _y, x, _by, _at: x.bfill())),
    "interpolated": Planted("features", _of(lambda _y, x, _by, _at: x.interpolate())),
    "with its own label": Planted("labels", _of(lambda y, _x, _by, _at: y.rolling(24, min_periods=1).mean())),
    "rows by a later mean": Planted("features", _rows_by_mean),
}
"""What uses later rows, or a row's own label."""


def people(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Customers with an informative city, gaps in `hours`, and one row in twenty twice under another key.

    Parameters
    ----------
    n : int
        Rows before the copies.
    seed : int

    Returns
    -------
    DataFrame
        Its rows are named by `id`, its target is `y`, 0 or 1.
    """
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    age, city = rng.normal(45, 15, n).round(), rng.choice(["Rome", "Oslo", "Lima", "Bonn"], n, p=[0.5, 0.3, 0.15, 0.05])
    lift = (age - 45) / 20 + (city == "Rome") + rng.normal(size=n)
    table = pd.DataFrame(
        {
            "id": rng.permutation(n),
            "age": age,
            "income": rng.lognormal(3, 0.5, n).round(2),
            "hours": np.where(rng.random(n) < 0.05, np.nan, rng.normal(40, 8, n).round(1)),
            "kids": rng.poisson(1.2, n),
            "city": city,
            "y": (lift > 0.8).astype(int),
        }
    )
    return pd.concat([table, table.iloc[: n // 20].assign(id=range(n, n + n // 20))], ignore_index=True)
