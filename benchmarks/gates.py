"""Error rates of the gate's rules by simulation: the product's own functions, seeds fixed, laws stated.

    python -m benchmarks.gates [--reps 1000] [--only errors margin looks power coverage weeks] [--jobs 2]

Every decision is `stages.judge.judge` on a `stages.comparison.Comparison`, every level `stats.looks.next_level`,
every interval that of `stages.uncertainty`. Only models are made up: their answers are drawn from laws in which the
true figures are known. The tables of docs/explanation/gates.md are what this prints.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from penstock.core.gate import Beats, Improves, NotWorse
from penstock.stages.compare import outcome_of
from penstock.stages.comparison import Comparison
from penstock.stages.judge import judge
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem
from penstock.stages.uncertainty import difference, interval
from penstock.stats.looks import next_level

Floats = np.ndarray[Any, np.dtype[np.float64]]
MSE = "neg_mean_squared_error"
NUMBER, BINARY = Problem("regression"), Problem("binary", (0, 1))
SEED = 20_261_123
SIZES = (300, 1_000, 5_000)


# ── the product's parts ──────────────────────────────────────────────────────────────────────────────────────


def values(y: Floats, answers: Floats) -> Predicted:
    """Answers of a regressor."""
    return Predicted(NUMBER, y, answers[:, None])


def scores(y: Floats, p: Floats) -> Predicted:
    """Answers of a classifier of two classes that calls a row positive from one half on."""
    return Predicted(BINARY, y.astype(int), np.column_stack([p >= 0.5, 1 - p, p]), proba=slice(1, 3))


def comparison(
    challenger: Predicted,
    champion: Predicted,
    baseline: Predicted,
    metric: str,
    *,
    share: float | None = None,
    number: int = 1,
    **about: Any,
) -> Comparison:
    """The two side by side, as `stages.compare` puts them."""
    looks = {} if share is None else {"generation": "", "number": number, "share": share, "left": 0.5}
    frames: dict[str, Any] = {"test": None, "train": None}
    return Comparison(challenger, baseline, champion, "c@1", metric, **frames, looks=looks, **about)


def passes(rule: Any, c: Comparison) -> tuple[bool, dict[str, Any]]:
    """Whether the gate `[rule]` lets the challenger through, and the rule's figures."""
    judged = judge(rule, c)
    return outcome_of([judged]) == "better", judged.figures


# ── two models of a known difference ─────────────────────────────────────────────────────────────────────────


def pair(kind: str, n: int, rng: np.random.Generator, gain: float = 0.0) -> tuple[Predicted, Predicted, Predicted]:
    """Challenger, champion and baseline on n rows; `gain` makes the challenger's own noise smaller by that share.

    "normal", "lognormal", "t3": errors of a regressor, their larger part shared by both models. "30 %", "5 %": two
    readings of one truth with a logistic law, that share of rows being positive.
    """
    if kind in ("normal", "lognormal", "t3"):
        draw: dict[str, Callable[[Any], Floats]] = {
            "normal": lambda size: rng.normal(size=size),
            "lognormal": lambda size: (np.exp(rng.normal(size=size)) - math.exp(0.5)) / 2.0,
            "t3": lambda size: rng.standard_t(3, size) / math.sqrt(3),
        }
        y, common = 2 * rng.normal(size=n), draw[kind](n)
        own = 0.6 * draw[kind]((2, n)) * np.array([[1 - gain], [1.0]])
        return values(y, y + 0.8 * common + own[0]), values(y, y + 0.8 * common + own[1]), values(y, np.zeros(n))
    start = {"30 %": -1.15, "5 %": -3.9}[kind]
    truth, common = rng.normal(size=n), rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-(start + 1.5 * truth)))).astype(float)
    noise = 0.7 * common + math.sqrt(0.51) * rng.normal(size=(2, n))
    # What a row's reading says of the truth is shrunk as a fitted model would: probabilities stay calibrated enough.
    sizes = np.array([[1 - gain], [1.0]])
    read = (truth + sizes * noise) / (1 + sizes**2)
    p = 1 / (1 + np.exp(-(start + 1.35 * read)))
    return scores(y, p[0]), scores(y, p[1]), scores(y, np.full(n, y.mean()))


EQUAL = (("normal", MSE), ("lognormal", MSE), ("t3", MSE), ("30 %", "roc_auc"), ("5 %", "roc_auc"),
         ("30 %", "neg_log_loss"), ("5 %", "neg_log_loss"), ("30 %", "accuracy"))  # fmt: skip


def beaten(kind: str, metric: str, n: int, reps: Sequence[int], gain: float = 0.0, share: float = 1.0) -> list[bool]:
    """Of each repetition, whether `Beats` promotes the challenger at this part of alpha."""
    found = []
    for rep in reps:
        made = pair(kind, n, np.random.default_rng([SEED, n, rep]), gain)
        found.append(passes(Beats(), comparison(*made, metric, share=share))[0])
    return found


# ── a margin that the data chooses ───────────────────────────────────────────────────────────────────────────

LEAD = 1.0
"""The champion's true lead over the baseline where the margin is tried: mean squared errors 2 and 1."""


def margin_kept(n: int, shared: float, deficit: float, reps: Sequence[int]) -> list[tuple[bool, bool]]:
    """Of each repetition, whether `NotWorse` passes, and whether it does though the printed margin is no larger.

    Parameters
    ----------
    n : int
    shared : float
        Correlation of the two models' errors.
    deficit : float
        By how much the challenger's mean squared error is larger than the champion's, which is 1.
    """
    found = []
    for rep in reps:
        rng = np.random.default_rng([SEED, n, round(1000 * shared), round(1000 * deficit), rep])
        y, common = math.sqrt(1 + LEAD) * rng.normal(size=n), rng.normal(size=n)
        own = math.sqrt(1 - shared) * rng.normal(size=(2, n))
        # One factor on the whole error: the mean squared error is larger by exactly the deficit.
        errors = math.sqrt(shared) * common + own
        made = values(y, y + math.sqrt(1 + deficit) * errors[0]), values(y, y + errors[1]), values(y, np.zeros(n))
        passed, figures = passes(NotWorse(), comparison(*made, MSE))
        found.append((passed, passed and -figures["required"] <= deficit))
    return found


# ── fifty-two decisions on one hold-out ──────────────────────────────────────────────────────────────────────

DECISIONS = 52
EVERY = 13
"""Of the scenario with better ones, which challenger is better."""
BETTER_BY = 0.12
"""By how much, in standard deviations of the paired difference of a row."""


def searched(
    growth: int, better: bool, corrected: bool, reps: Sequence[int], start: int = 1_000, decisions: int = DECISIONS
) -> list[tuple[int, int]]:
    """Of each repetition, how many equal challengers and how many better ones are promoted by `Beats()`.

    A challenger's squared error on a row is that of an equal model; a better one's is smaller in the mean. Whoever is
    promoted is the champion that the next one has to beat, on all rows that there are by then.
    """
    last, found = start + growth * (decisions - 1), []
    for rep in reps:
        rng = np.random.default_rng([SEED, growth, better, rep])
        y, common = np.zeros(last), rng.normal(size=last)
        champion, level, won = _errors(rng, common, 0), 0, list[bool]()
        counts = [0, 0]
        for t in range(decisions):
            n = start + growth * t
            real = better and t % EVERY == EVERY - 1
            answers = _errors(rng, common, level + real)
            share = next_level(won, 1.0) if corrected else 1.0
            parts = [values(y[:n], one[:n]) for one in (answers, champion, np.full(last, 9.0))]
            passed, _ = passes(Beats(), comparison(*parts, MSE, share=share, number=t + 1))
            won.append(passed)
            if passed:
                counts[real] += 1
                champion, level = answers, level + real
        found.append((counts[0], counts[1]))
    return found


def _errors(rng: np.random.Generator, common: Floats, level: int) -> Floats:
    """Errors of a model: half of the variance is shared by all; `level` better ones came before or with it."""
    # Differences of squared errors of two equal models have standard deviation sqrt(3); a share of the variance goes.
    gain = BETTER_BY * math.sqrt(3.0) * level
    errors = (common + rng.normal(size=len(common))) / math.sqrt(2)
    return math.sqrt(max(1.0 - gain, 0.05)) * errors


# ── intervals ────────────────────────────────────────────────────────────────────────────────────────────────

COVERED = (("normal", MSE), ("lognormal", MSE), ("t3", MSE), ("30 %", "roc_auc"), ("5 %", "roc_auc"),
           ("30 %", "neg_log_loss"), ("30 %", "accuracy"), ("30 %", "f1"))  # fmt: skip
NOMINAL = 0.9
"""Both one-sided bounds at 0.95 together."""


def covered(kind: str, metric: str, n: int, reps: Sequence[int]) -> list[bool]:
    """Of each repetition, whether the interval of the paired difference of two equal models holds zero."""
    found = []
    for rep in reps:
        a, b, _ = pair(kind, n, np.random.default_rng([SEED, n, 1, rep]))
        d = difference(metric, a, b, seed=rep)
        found.append(d.low <= 0.0 <= d.high)
    return found


def covered_alone(kind: str, n: int, reps: Sequence[int]) -> list[bool]:
    """The same of one model's mean squared error, whose truth is known."""
    truth = {"normal": 1.0, "lognormal": (math.exp(2) - math.exp(1)) / 4, "t3": 1.0}[kind]
    found = []
    for rep in reps:
        made, _, _ = pair(kind, n, np.random.default_rng([SEED, n, 2, rep]))
        one = interval(MSE, made, confidence=NOMINAL)
        found.append(one.low <= -truth <= one.high)
    return found


# ── a year of weekly retrains ────────────────────────────────────────────────────────────────────────────────

WEEKS, BEFORE, TRAIN, HELD, WIDTH = 52, 13, 240, 60, 8
LAWS = ("none", "slow", "shift", "spoiled")
GATES: dict[str, Any] = {"Beats": Beats(), "NotWorse": NotWorse(), "Improves": Improves()}
SMALL = 0.02
"""Share of the lead that the last column carries: the other declaration, tried every 13th week, leaves it out."""
SHUFFLED = 0.3
"""Share of training labels that are shuffled where a retrain is spoiled (one in eight): it loses 9 % of the lead."""
HARMFUL = 0.01


def truth_at(law: str, week: int, u: Floats, v: Floats) -> Floats:
    """The law's coefficients in a week, counted from the first decision."""
    angle = {"slow": math.pi / 3 * max(week, 0) / WEEKS, "shift": math.pi / 3 * (week >= WEEKS // 2)}.get(law, 0.0)
    return math.cos(angle) * u + math.sin(angle) * v


def year(law: str, rep: int) -> tuple[Floats, Floats, dict[str, Any]]:
    """One year: coefficients of each week's candidate, the law's of each week, and the held-out rows.

    Squared error, least squares on the training rows of the last 13 weeks; 300 rows a week, of which 60 are held out.
    """
    rng = np.random.default_rng([SEED, LAWS.index(law), rep])
    u, v = np.zeros(WIDTH), np.zeros(WIDTH)
    u[:-1] = rng.normal(size=WIDTH - 1)
    u *= math.sqrt((1 - SMALL) / (u @ u))
    v[:-1] = rng.normal(size=WIDTH - 1)
    v -= (v @ u) / (u @ u) * u
    v *= math.sqrt((1 - SMALL) / (v @ v))
    u[-1] = v[-1] = math.sqrt(SMALL)
    beta = np.stack([truth_at(law, w - BEFORE, u, v) for w in range(BEFORE + WEEKS)])
    X = rng.normal(size=(BEFORE + WEEKS, TRAIN + HELD, WIDTH))
    y = np.einsum("wrk,wk->wr", X, beta) + rng.normal(size=X.shape[:2])
    gram = np.einsum("wrk,wrl->wkl", X[:, HELD:], X[:, HELD:])
    moment = np.einsum("wrk,wr->wk", X[:, HELD:], y[:, HELD:])
    models = np.zeros((WEEKS + 1, WIDTH))
    for t in range(WEEKS + 1):
        weeks = slice(t, t + BEFORE)
        b = moment[weeks].sum(axis=0)
        if law == "spoiled" and t and t % 8 == 4:
            rows, labels = X[weeks, HELD:].reshape(-1, WIDTH), y[weeks, HELD:].ravel().copy()
            bad = rng.random(len(labels)) < SHUFFLED
            labels[bad] = rng.permutation(labels[bad])
            b = rows.T @ labels
        keep = slice(None, -1) if _other(t) else slice(None)
        models[t, keep] = np.linalg.solve(gram[weeks].sum(axis=0)[keep, keep], b[keep])
    held = {"X": X[:, :HELD].reshape(-1, WIDTH), "y": y[:, :HELD].ravel()}
    return models, beta, held


def _other(t: int) -> bool:
    """Whether the candidate of decision t comes of another declaration."""
    return t > 0 and t % EVERY == 0


def weekly(law: str, reps: Sequence[int]) -> list[dict[str, tuple[float, float, float]]]:
    """Of each repetition and rule: share promoted, share of decisions that promote a harmful one, regret.

    Regret is the mean excess loss of who reigns, above that of the truth, in percent of the lead over the baseline;
    harmful is a candidate worse than the champion, in truth, by more than 1 % of that lead.
    """
    found = []
    for rep in reps:
        models, beta, held = year(law, rep)
        answers = models @ held["X"].T
        found.append({name: _reign(rule, models, beta, held["y"], answers) for name, rule in GATES.items()})
        # What no gate and a closed one would do, by the same count.
        found[-1] |= {
            "always": _reign(True, models, beta, held["y"], answers),
            "never": _reign(False, models, beta, held["y"], answers),
        }
    return found


def _reign(rule: Any | None, models: Floats, beta: Floats, y: Floats, answers: Floats) -> tuple[float, float, float]:
    champion, won = 0, list[bool]()
    promoted = harmful = 0
    regret = 0.0
    zeros = np.zeros(len(y))
    for t in range(1, WEEKS + 1):
        now = beta[BEFORE + t - 1]
        lead = float(now @ now)
        n = (BEFORE + t) * HELD
        if isinstance(rule, bool):
            passed = rule
        else:
            parts = [values(y[:n], one[:n]) for one in (answers[t], answers[champion], zeros)]
            same = _other(t) == _other(champion)
            c = comparison(
                *parts, MSE, share=next_level(won, 1.0), number=t, same_declaration=same, newer_data=True,
                newer=np.arange((BEFORE + champion) * HELD, n),
            )  # fmt: skip
            passed, figures = passes(rule, c)
            if "level" in figures:  # it was a search
                won.append(passed)
        if passed:
            worse = _excess(models[t], now) - _excess(models[champion], now)
            promoted, harmful, champion = promoted + 1, harmful + (worse > HARMFUL * lead), t
        regret += 100 * _excess(models[champion], now) / lead
    return promoted / WEEKS, harmful / WEEKS, regret / WEEKS


def _excess(model: Floats, beta: Floats) -> float:
    """Mean squared error above the truth's: features are independent with variance 1."""
    apart = model - beta
    return float(apart @ apart)


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────


def spread(work: Callable[[Sequence[int]], list[Any]], reps: int, pool: Any) -> list[Any]:
    """All repetitions, in pieces over the processes; which piece a repetition is in changes nothing."""
    pieces = [range(i, reps, 40) for i in range(min(40, reps))]
    return [one for part in pool.map(work, pieces) for one in part]


def rate(found: Sequence[bool]) -> str:
    """A share with its Monte-Carlo standard error.

    Examples
    --------
    >>> rate([True, False, False, False])
    '.250 ±.217'
    """
    p = sum(found) / len(found)
    return f"{p:.3f} ±{math.sqrt(p * (1 - p) / len(found)):.3f}".replace("0.", ".")


def errors(reps: int, pool: Any) -> Iterator[str]:
    """`Beats()` of two equal models at all of alpha."""
    yield "| two equal models, metric | " + " | ".join(f"n = {n:,}" for n in SIZES) + " |\n|---|" + "---|" * len(SIZES)
    for kind, metric in EQUAL:
        cells = [rate(spread(partial(beaten, kind, metric, n), reps, pool)) for n in SIZES]
        yield f"| {kind}, {metric.removeprefix('neg_')} | " + " | ".join(cells) + " |"


def margin(reps: int, pool: Any) -> Iterator[str]:
    """`NotWorse()` of a challenger that is equal, or worse by 1 to 5 % of the lead."""
    deficits = (0.0, 0.01, 0.02, 0.03, 0.05)
    yield (
        "| correlation, n | " + " | ".join(f"worse by {d:.0%}" for d in deficits) + " |\n|---|" + "---|" * len(deficits)
    )
    for shared in (0.7, 0.99):
        for n in SIZES:
            cells = []
            for deficit in deficits:
                found = spread(partial(margin_kept, n, shared, deficit), reps, pool)
                kept = rate([one for _, one in found])
                cells.append(f"{rate([one for one, _ in found])}" + (f" ({kept})" if deficit else ""))
            yield f"| {shared}, {n:,} | " + " | ".join(cells) + " |"


def looks(reps: int, pool: Any) -> Iterator[str]:
    """52 decisions on one hold-out."""
    yield "| hold-out | challengers | levels | P(any false) | false a year | better ones promoted |"
    yield "|---|---|---|---|---|---|"
    for growth, size in ((75, "1,000 and 75 a week"), (0, "1,000, fixed")):
        for better in (False, True):
            for corrected in (True, False):
                found = spread(partial(searched, growth, better, corrected), reps, pool)
                false = [one for one, _ in found]
                power = f"{np.mean([one for _, one in found]) / (DECISIONS // EVERY):.2f}" if better else "–"
                who = f"every {EVERY}th better" if better else "all equal"
                how = "LORD++" if corrected else "α each time"
                any_false = rate([one > 0 for one in false])
                yield f"| {size} | {who} | {how} | {any_false} | {np.mean(false):.3f} | {power} |"


def power(reps: int, pool: Any) -> Iterator[str]:
    """`Beats()` of a better model, by how often it was looked before."""
    shares = {"all of α": 1.0, "first look": next_level([], 1.0), "look 5": next_level([False] * 4, 1.0)}
    shares["look 20"] = next_level([False] * 19, 1.0)
    yield (
        "| better model | "
        + " | ".join(f"{name}, n = {n:,}" for name in shares for n in SIZES[1:])
        + " |\n|---|"
        + "---|" * 8
    )
    for kind, metric, gain in (("normal", MSE, 0.1), ("30 %", "roc_auc", 0.1), ("30 %", "neg_log_loss", 0.1)):
        rng = np.random.default_rng(SEED)
        a, b, _ = pair(kind, 400_000, rng, gain)
        worth = abs(difference(metric, a, b).value)
        cells = [
            rate(spread(partial(beaten, kind, metric, n, gain=gain, share=share), reps, pool)).partition(" ")[0]
            for share in shares.values()
            for n in SIZES[1:]
        ]
        yield f"| {kind}, {metric.removeprefix('neg_')} by {worth:.3f} | " + " | ".join(cells) + " |"


def coverage(reps: int, pool: Any) -> Iterator[str]:
    """Intervals of paired differences, and of one model's squared error."""
    sizes = (500, 2_000)
    yield f"| nominal {NOMINAL} | " + " | ".join(f"n = {n:,}" for n in sizes) + " |\n|---|" + "---|" * len(sizes)
    for kind, metric in COVERED:
        cells = [rate(spread(partial(covered, kind, metric, n), reps, pool)) for n in sizes]
        yield f"| difference: {kind}, {metric.removeprefix('neg_')} | " + " | ".join(cells) + " |"
    for kind in ("normal", "lognormal", "t3"):
        cells = [rate(spread(partial(covered_alone, kind, n), reps, pool)) for n in sizes]
        yield f"| one model: {kind}, mean_squared_error | " + " | ".join(cells) + " |"


def weeks(reps: int, pool: Any) -> Iterator[str]:
    """52 weekly retrains under four laws."""
    yield "| law | rule | promoted | harmful promotions | regret, % of the lead |\n|---|---|---|---|---|"
    for law in LAWS:
        found = spread(partial(weekly, law), reps, pool)
        for name in (*GATES, "always", "never"):
            table = np.array([one[name] for one in found])
            mean, se = table.mean(axis=0), table.std(axis=0, ddof=1) / math.sqrt(len(table))
            cells = [f"{m:.3f} ±{s:.3f}".replace("0.", ".") for m, s in zip(mean[:2], se[:2], strict=True)]
            yield f"| {law} | {name} | {cells[0]} | {cells[1]} | {mean[2]:.2f} ±{se[2]:.2f} |"


PARTS: dict[str, Callable[[int, Any], Iterator[str]]] = {
    "errors": errors, "margin": margin, "looks": looks, "power": power, "coverage": coverage, "weeks": weeks,
}  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=1_000)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        for name in given.only:
            began = time.perf_counter()
            print(f"\n### {name}: {given.reps:,} repetitions, seed {SEED}\n")
            for line in PARTS[name](given.reps, pool):
                print(line, flush=True)
            print(f"\n({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
