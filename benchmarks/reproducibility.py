"""Are the bytes of a fitted estimator the same in another process? Tried on every one that scikit-learn has.

    python -m benchmarks.reproducibility [--rows 150] [--only Ridge PCA] [--json]

Each classifier and regressor is trained as the stage `train` trains it, and each transformer before a logistic
regression, in several processes: one plain; the others with another PYTHONHASHSEED, another working directory and
time zone, a clock that is 400 days ahead, and other cores for `n_jobs=-1`. What is compared is the digest of the bytes
that the store would keep. With `--unseeded` the stage's seeds are taken away: the control, in which many must differ.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DAY_S = 86_400
VARIANTS: dict[str, dict[str, str]] = {
    "plain": {"PYTHONHASHSEED": "1", "LOKY_MAX_CPU_COUNT": "1"},
    "hash seed": {"PYTHONHASHSEED": "2", "LOKY_MAX_CPU_COUNT": "1"},
    "folder, zone and day": {
        "PYTHONHASHSEED": "1",
        "LOKY_MAX_CPU_COUNT": "1",
        "TZ": "Pacific/Kiritimati",
        "DAYS": "400",
        "ELSEWHERE": "1",
    },
    "cores": {"PYTHONHASHSEED": "1", "LOKY_MAX_CPU_COUNT": "2"},
}
SMALL: dict[str, dict[str, int]] = {
    "GaussianRandomProjection": {"n_components": 2},
    "SparseRandomProjection": {"n_components": 2},
    "CCA": {"n_components": 1},
    "PLSCanonical": {"n_components": 1},
}
"""What estimators need whose defaults do not fit a table of five columns."""
THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB", "NUMEXPR")
TIMEOUT_S = 3_000


def kinds(only: Sequence[str] = ()) -> dict[str, tuple[str, Any]]:
    """Name → (kind, class) of every classifier, regressor and transformer."""
    from sklearn.utils import all_estimators

    found: dict[str, tuple[str, Any]] = {}
    for kind in ("transformer", "regressor", "classifier"):
        found |= {name: (kind, one) for name, one in all_estimators(kind) if not only or name in only}
    return dict(sorted(found.items()))


def made(kind: str, estimator: Any) -> Any:
    """An instance with default parameters, the inner estimator given where one is needed; all cores that there are."""
    import inspect

    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    inner: Any = Ridge() if kind == "regressor" else LogisticRegression()
    needed = {
        name
        for name, parameter in inspect.signature(estimator).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }
    filled = {"estimator": inner, "estimators": [("a", inner), ("b", inner)]}
    if estimator.__name__ in ("GridSearchCV", "HalvingGridSearchCV"):
        filled |= {"param_grid": {"alpha" if kind == "regressor" else "C": [0.1, 1.0]}}
    if absent := needed - filled.keys():
        raise TypeError(f"needs {', '.join(sorted(absent))}=")
    one = estimator(**{name: filled[name] for name in needed}, **SMALL.get(estimator.__name__, {}))
    if estimator.__name__ == "SelfTrainingClassifier":
        one.set_params(estimator=inner)
    if "n_jobs" in one.get_params(deep=False):
        one.set_params(n_jobs=-1)
    return make_pipeline(one, LogisticRegression()) if kind == "transformer" else one


def table(rows: int, kind: str) -> Any:
    """Positive numbers in five columns, and a target that they decide with noise."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(5)
    X = rng.gamma(2.0, 1.0, size=(rows, 5))
    score = X[:, 0] - X[:, 1] + 0.3 * rng.normal(size=rows)
    y = np.exp(score / 4) if kind == "regressor" else (score > np.median(score)).astype(int)
    return pd.DataFrame({**{f"x{i}": X[:, i] for i in range(5)}, "y": y})


def digest_of(kind: str, estimator: Any, rows: int, *, seeded: bool) -> str:
    """Digest of the bytes that would be kept of one, trained as the stage trains it."""
    from sklearn.base import clone

    from penstock.core.split import Split
    from penstock.core.target import Roles, Target
    from penstock.formats.registry import FormatRegistry
    from penstock.stages.schema import infer
    from penstock.stages.train import train

    data, target, roles = table(rows, kind), Target("y"), Roles()
    model = made(kind, estimator)
    if seeded:
        task = "regression" if kind == "regressor" else "binary"
        schema = infer(data, target=target, roles=roles, task=task, positive=None if task == "regression" else 1)
        fitted, _ = train(data, model=model, target=target, roles=roles, schema=schema, split=Split(), seed=0)
    else:
        fitted = clone(model).fit(data.drop(columns="y"), data["y"])

    def stage(content: bytes | str) -> tuple[str, int]:
        assert isinstance(content, bytes)
        return hashlib.sha256(content).hexdigest(), len(content)

    return FormatRegistry().dump(fitted, stage).digest


def here(rows: int, only: Sequence[str], *, seeded: bool) -> dict[str, str]:
    """Name → digest, or "! reason" of what cannot be trained or kept, in this process."""
    if days := int(os.environ.get("DAYS", "0")):
        now, now_ns = time.time, time.time_ns
        time.time = lambda: now() + days * DAY_S
        time.time_ns = lambda: now_ns() + days * DAY_S * 10**9
    warnings.simplefilter("ignore")
    found = {}
    for name, (kind, estimator) in kinds(only).items():
        with contextlib.redirect_stdout(sys.stderr):
            try:
                found[name] = digest_of(kind, estimator, rows, seeded=seeded)
            except Exception as error:
                told = getattr(error, "what", str(error)).strip().splitlines() or [""]
                found[name] = f"! {type(error).__name__}: {told[0][:160]}"
    return found


def elsewhere(variant: Mapping[str, str], rows: int, only: Sequence[str], *, seeded: bool) -> dict[str, str]:
    """The same in a process of its own."""
    values = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "PENSTOCK"))}
    values |= {f"{name}_NUM_THREADS": "1" for name in THREADS}
    values |= {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), **variant}
    command = [sys.executable, "-m", "benchmarks.reproducibility", "--here", "--rows", str(rows)]
    command += ["--only", *only] if only else []
    command += [] if seeded else ["--unseeded"]
    with tempfile.TemporaryDirectory() as folder:
        place = folder if "ELSEWHERE" in variant else str(ROOT)
        done = subprocess.run(
            command, cwd=place, env=values, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=True
        )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def compare(rows: int, only: Sequence[str] = (), *, seeded: bool = True) -> dict[str, Any]:
    """What came of it.

    Returns
    -------
    dict
        "same": names; "differ": name → variants that differ from the plain process; "left_out": name → reason.
    """
    found = {name: elsewhere(one, rows, only, seeded=seeded) for name, one in VARIANTS.items()}
    plain = found["plain"]
    left_out = {name: digest[2:] for name, digest in plain.items() if digest.startswith("!")}
    differ = {
        name: others
        for name, digest in plain.items()
        if name not in left_out
        and (others := [variant for variant, answers in found.items() if answers.get(name) != digest])
    }
    same = [name for name in plain if name not in differ and name not in left_out]
    return {"same": same, "differ": differ, "left_out": left_out}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--only", nargs="+", default=())
    parser.add_argument("--unseeded", action="store_true")
    parser.add_argument("--here", action="store_true", help="in this process, and print the digests")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if given.here:
        print(json.dumps(here(given.rows, given.only, seeded=not given.unseeded)))
        return 0
    found = compare(given.rows, given.only, seeded=not given.unseeded)
    if given.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"the same bytes in {len(VARIANTS)} processes: {len(found['same'])}")
    print(f"other bytes: {len(found['differ'])}")
    for name, variants in found["differ"].items():
        print(f"  {name}: {', '.join(variants)}")
    print(f"left out: {len(found['left_out'])}")
    for name, why in found["left_out"].items():
        print(f"  {name}: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
