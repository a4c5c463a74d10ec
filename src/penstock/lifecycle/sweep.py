"""A sweep: every combination of the values that were given for some parameters, each a try of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from penstock.core.ports import Home
from penstock.engine.handle import Server
from penstock.errors import UsageError
from penstock.lifecycle.run import Opener, Request, open_server

MOST = 50
"""Combinations of one sweep, if nobody asks for more."""

_OPEN, _CLOSE, _QUOTES = "([{", ")]}", "\"'"


def given_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """Path → values, of "PATH=VALUE[,VALUE…]" each.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> given_of(["model.C=0.1,1", "split.test=0.3"])
    {'model.C': ['0.1', '1'], 'split.test': ['0.3']}
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        if not equals or not path.strip() or not values.strip():
            raise UsageError(f"--set {text}: PATH=VALUE is meant", hint="for instance --set model.model__C=0.1,1,10")
        if path.strip() in found:
            raise UsageError(f"--set {path.strip()} is given twice", hint="give its values together: PATH=0.1,1,10")
        found[path.strip()] = values_in(values)
    return found


def values_in(text: str) -> list[str]:
    """The values of a list with commas; those inside brackets and quotes do not part.

    Examples
    --------
    >>> values_in("0.1, 1"), values_in("[1,2],[3]"), values_in("'a,b',c")
    (['0.1', '1'], ['[1,2]', '[3]'], ["'a,b'", 'c'])
    """
    found, depth, quote, start = [], 0, "", 0
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in _QUOTES:
            quote = char
        elif char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        elif char == "," and depth == 0:
            found.append(text[start:place])
            start = place + 1
    return [part.strip() for part in (*found, text[start:]) if part.strip()]


def combinations(given: Mapping[str, Sequence[str]], most: int = MOST) -> list[dict[str, str]]:
    """Every combination, the last path's values running fastest.

    Raises
    ------
    UsageError
        There are more than `most`.

    Examples
    --------
    >>> combinations({"a": ["1", "2"], "b": ["x"]})
    [{'a': '1', 'b': 'x'}, {'a': '2', 'b': 'x'}]
    """
    number = math.prod(len(values) for values in given.values())
    if number > most:
        told = " × ".join(f"{len(values)}" for values in given.values())
        raise UsageError(f"--set: {told} = {number:,} combinations, more than {most:,}", hint=f"--max {number} allows")
    return [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())]


def single(given: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """One value for each path.

    Raises
    ------
    UsageError
    """
    for path, values in given.items():
        if len(values) != 1:
            raise UsageError(f"--set {path}: one value is meant here", hint="`penstock try` goes through several")
    return {path: values[0] for path, values in given.items()}


def requests_of(request: Request, sets: Sequence[Mapping[str, str]]) -> list[Request]:
    """The request of each combination."""
    return [replace(request, extra={**request.extra, "set": dict(one)}) for one in sets]


class Importer:
    """One process that has imported the file; each combination's server is forked from it, where that is safe.

    So a sweep pays for importing the file and its libraries once.

    Parameters
    ----------
    home : Home
    request : Request
        Of the first combination.
    entry : str
        Module of the worker's process entry.
    """

    def __init__(self, home: Home, request: Request, entry: str) -> None:
        self.server = open_server(home, request, entry)
        try:
            self.server.opened()
        except BaseException:
            self.server.close()
            raise

    def open(self, _home: Home) -> Server:
        """A server of its own for one combination."""
        return self.server.split()

    def close(self) -> None:
        """End the process."""
        self.server.close()


def each(home: Home, requests: Sequence[Request], entry: str) -> Iterator[tuple[Request, str | Opener]]:
    """Each request with the entry to run it by."""
    if len(requests) == 1:
        yield requests[0], entry
        return
    importer = Importer(home, requests[0], entry)
    try:
        for request in requests:
            yield request, importer.open
    finally:
        importer.close()
