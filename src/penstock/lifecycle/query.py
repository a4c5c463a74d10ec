"""The small language of `runs --where`: comparisons of columns, joined by `and`, `or`, `not`. Parsed, never evaluated.

    where      = both { "or" both }
    both       = one { "and" one }
    one        = "not" one | "(" where ")" | value operator value
    operator   = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"
    value      = column | number | "text" | true | false | none

`~` asks whether a text is contained, whatever its case. What has no value fulfils no comparison but `= none`.
Decision 0015 says why there is a language at all.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.names import did_you_mean
from penstock.errors import UsageError

Row = Mapping[str, Any]
Test = Callable[[Row], bool]

MOST_TEXT = 2_000
MOST_DEPTH = 50
MOST_NAMED = 15
TIMES = ("started", "ended")
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"
    r"|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<operator>==|!=|<=|>=|!~|[=<>~()])"
    r"|`(?P<quoted>[^`]+)`"
    r"|(?P<name>[A-Za-z_@][\w.@:\[\]-]*))"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the language and where it stands, from 1."""

    kind: str
    value: Any
    place: int


def tokens(text: str) -> list[Token]:
    """The words of a condition.

    Raises
    ------
    UsageError
        A character that no word begins with, told with its place.
    """
    if len(text) > MOST_TEXT:
        raise UsageError(f"--where: {len(text):,} characters; at most {MOST_TEXT:,}")
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            at = place + len(text[place:]) - len(text[place:].lstrip())
            raise _fault(text, at + 1, f"{text[at]!r} begins no word", "texts stand in quotes: note ~ 'woe'")
        kind = str(match.lastgroup)
        found.append(Token(kind, match[kind], match.start(kind) + 1))
        place = match.end()
    return found


def _fault(text: str, place: int, what: str, hint: str = "") -> UsageError:
    near = text[max(place - 1, 0) : place + 19]
    where = f"at character {place}, {near!r}" if near else "at its end"
    return UsageError(f"--where: {what}, {where}", hint=hint or "for instance: roc_auc > 0.8 and note ~ 'woe'")


def parse(text: str, known: Iterable[str]) -> Test:
    """A condition as a function of a row.

    Parameters
    ----------
    text : str
    known : iterable of str
        Columns that there are.

    Returns
    -------
    callable
        Row (column → value) → bool.

    Raises
    ------
    UsageError
        Says what is wrong and where, for a column the nearest one.

    Examples
    --------
    >>> test = parse("roc_auc > 0.8 and not note ~ 'WOE'", ["roc_auc", "note"])
    >>> test({"roc_auc": 0.9, "note": ""}), test({"roc_auc": 0.9, "note": "with woe"}), test({"note": ""})
    (True, False, False)
    """
    return _Parser(text, list(known)).whole()


class _Parser:
    def __init__(self, text: str, known: list[str]) -> None:
        self.text, self.known = text, known
        self.tokens: Iterator[Token] = iter([*tokens(text), Token("end", "", len(text) + 1)])
        self.next = next(self.tokens)

    def take(self) -> Token:
        """The present word; the one after it becomes the present one."""
        taken = self.next
        self.next = next(self.tokens, self.next)
        return taken

    def is_word(self, word: str) -> bool:
        """Whether the present word is "and", "or", "not"."""
        return self.next.kind == "name" and self.next.value.lower() == word

    def whole(self) -> Test:
        """The condition to its end."""
        found = self.either(0)
        if self.next.kind != "end":
            raise self.fault("and, or, or the end is meant")
        return found

    def either(self, depth: int) -> Test:
        """Conditions joined by "or"."""
        if depth > MOST_DEPTH:
            raise self.fault(f"more than {MOST_DEPTH} brackets")
        tests = [self.both(depth)]
        while self.is_word("or"):
            self.take()
            tests.append(self.both(depth))
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def both(self, depth: int) -> Test:
        """Conditions joined by "and"."""
        tests = [self.one(depth)]
        while self.is_word("and"):
            self.take()
            tests.append(self.one(depth))
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def one(self, depth: int) -> Test:
        """One comparison, a bracket, or what is not to hold."""
        if self.is_word("not"):
            self.take()
            if depth >= MOST_DEPTH:
                raise self.fault(f"more than {MOST_DEPTH} times not")
            inner = self.one(depth + 1)
            return lambda row: not inner(row)
        if self.next.kind == "operator" and self.next.value == "(":
            self.take()
            found = self.either(depth + 1)
            if self.next.value != ")" or self.next.kind != "operator":
                raise self.fault("a bracket is not closed")
            self.take()
            return found
        left = self.value()
        if self.next.kind != "operator" or self.next.value in "()":
            raise self.fault("an operator is meant: = != < <= > >= ~ !~")
        operator = self.take().value
        return _comparison(left, operator, self.value())

    def value(self) -> tuple[str, Any]:
        """("column", name) or ("constant", value)."""
        token = self.next
        if token.kind == "number":
            self.take()
            return "constant", float(token.value)
        if token.kind == "text":
            self.take()
            return "constant", token.value[1:-1]
        if token.kind == "name" and token.value.lower() in _WORDS:
            self.take()
            return "constant", _WORDS[token.value.lower()]
        if token.kind in ("name", "quoted"):
            try:
                name = column(token.value, self.known)
            except UsageError as error:
                raise _fault(self.text, token.place, error.what, error.hint) from None
            self.take()
            return "column", name
        raise self.fault("a column, a number or a 'text' is meant")

    def fault(self, what: str) -> UsageError:
        """What is wrong with the present word."""
        return _fault(self.text, self.next.place, what)


def column(name: str, known: Iterable[str]) -> str:
    """The column that a name means: its own, or the only one that ends in it (`params.C` for `params.model.model__C`).

    Raises
    ------
    UsageError

    Examples
    --------
    >>> column("params.C", ["note", "params.model.model__C"])
    'params.model.model__C'
    """
    known = list(known)
    if name in known:
        return name
    head, dot, tail = name.partition(".")
    if dot and head == "params":
        ends = [one for one in known if one.startswith("params.") and re.split(r"__|\.", one)[-1] == tail]
        ends = ends or [one for one in known if one.startswith("params.") and one.endswith((f".{tail}", f"__{tail}"))]
        if len(ends) == 1:
            return ends[0]
        if ends:
            raise UsageError(f"{name} may be {', '.join(ends[:5])}", hint="write one of them out")
    near = did_you_mean(
        name, [*known, *(f"params.{re.split(r'__|[.]', one)[-1]}" for one in known if "params." in one)]
    )
    some = [one for one in known if not one.startswith("params.")][:MOST_NAMED]
    raise UsageError(f"no column is called {name!r}{near}", hint=f"there are {', '.join(some)}; all: --columns help")


def _comparison(left: tuple[str, Any], operator: str, right: tuple[str, Any]) -> Test:
    timed = any(kind == "column" and value in TIMES for kind, value in (left, right))

    def of(row: Row, side: tuple[str, Any]) -> Any:
        kind, value = side
        if kind == "column":
            return row.get(value)
        return _instant(value) if timed and isinstance(value, str) else value

    return lambda row: holds(of(row, left), operator, of(row, right))


def _instant(text: str) -> Any:
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return text


def holds(left: Any, operator: str, right: Any) -> bool:
    """Whether a comparison holds; numbers are compared as numbers, all else as text.

    Examples
    --------
    >>> holds(0.9, ">", 0.8), holds("abc", "~", "B"), holds(None, "<", 1), holds(None, "=", None), holds("a", "<", 1)
    (True, True, False, True, False)
    """
    if operator in ("=", "=="):
        return _equal(left, right)
    if operator == "!=":
        return not _equal(left, right)
    if left is None or right is None:
        return False
    if operator in ("~", "!~"):
        return (str(right).lower() in str(left).lower()) == (operator == "~")
    if _is_number(left) != _is_number(right):
        return False
    if not _is_number(left):
        left, right = str(left), str(right)
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator])


def _equal(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return left is right
    if isinstance(left, bool) or isinstance(right, bool):
        return str(left).lower() == str(right).lower()
    if _is_number(left) and _is_number(right):
        return bool(left == right)
    return _plain(left) == _plain(right)


def _plain(value: Any) -> str:
    return f"{value:g}" if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
