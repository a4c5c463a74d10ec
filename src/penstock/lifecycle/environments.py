"""Two environments on record: what tells them apart, the likeliest cause of another result first."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from penstock.core.digest import digest_value

Machine = Mapping[str, Any]
MANY = 4
"""So many that are there in one of the two alone, and that nothing concerned reaches, are counted rather than named."""
MOST_TOLD = 8
"""Distributions of one kind of difference that are named."""


def differences(then: Machine, now: Machine, reached: Collection[str] = ()) -> list[str]:
    """What differs, in words; nothing where both are the same.

    Parameters
    ----------
    then, now : dict
        As `engine.environment.environment` gives them, with "cpu".
    reached : collection of str
        Distributions that the code concerned reaches: these come first.

    Examples
    --------
    >>> then = {"python": "3.12.1", "distributions": {"numpy": ["2.0", "a"]}, "cpu": "x86-64-v3"}
    >>> differences(then, then | {"distributions": {"numpy": ["2.1", "b"]}, "cpu": "x86-64-v4"})
    ['numpy 2.1, was 2.0', 'processor x86-64-v4, was x86-64-v3']
    """
    if not then or not now:
        return []
    old, new = then.get("distributions", {}), now.get("distributions", {})
    near = {name.lower().replace("_", "-").replace(".", "-") for name in reached}
    names = sorted({*old, *new}, key=lambda name: (name not in near, name))
    versions, files, gone, come = list[str](), list[str](), list[str](), list[str]()
    for name in names:
        was, got = old.get(name), new.get(name)
        if was is None or got is None:
            kind = versions if name in near else gone if got is None else come
            kind.append(_moved(name, was, got))
        elif was[0] != got[0]:
            versions.append(_moved(name, was, got))
        elif was[1] != got[1]:
            files.append(f"{name} {got[0]} with other files")
    found = [*_few(versions, "versions"), *_few(files, "distributions with other files")]
    found += gone if len(gone) < MANY else [f"{len(gone)} distributions of then are not installed"]
    found += come if len(come) < MANY else [f"{len(come)} distributions are installed that were not then"]
    words = (("python", "Python"), ("implementation", ""), ("platform", "platform"), ("cpu", "processor"))
    for key, word in (*words, ("threads", "threads")):
        if then.get(key) != now.get(key):
            told = [f"{now.get(key) or 'none'}, was {then.get(key) or 'none'}"]
            found.append(" ".join([word, *told] if word else told))
    if then.get("blas", []) != now.get("blas", []):
        found.append(f"BLAS {_listed(now.get('blas'))}, was {_listed(then.get('blas'))}")
    return found


def _moved(name: str, was: list[str] | None, got: list[str] | None) -> str:
    if got is None:
        return f"{name} is not installed, was {was[0] if was else ''}"
    return f"{name} {got[0]}, was {was[0] if was else 'not installed'}"


def _few(told: list[str], kind: str) -> list[str]:
    return told if len(told) <= MOST_TOLD else [*told[:MOST_TOLD], f"{len(told) - MOST_TOLD} more {kind}"]


def _listed(names: Any) -> str:
    return " and ".join(names) if names else "none"


def summary(machine: Machine) -> str:
    """An environment in one line, with a name that another one does not have.

    Examples
    --------
    >>> summary({"python": "3.12.1", "cpu": "x86-64-v3", "blas": ["openblas 0.3"], "threads": "1", "distributions": {}})
    'Python 3.12.1 · x86-64-v3 · openblas 0.3 · threads 1 · 0 distributions (208fe25c)'
    """
    parts = [f"Python {machine.get('python', '?')}", str(machine.get("cpu", "?")), *machine.get("blas", ())]
    parts += [f"threads {machine['threads']}"] if machine.get("threads") else []
    n = len(machine.get("distributions", {}))
    return " · ".join([*parts, f"{n} distributions ({digest_value('environment', dict(machine))[:8]})"])
