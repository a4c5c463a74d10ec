"""Secrets: a declaration has their names, a worker alone their values, and what is kept has no form of a value."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from penstock.core.place import declaring_folder
from penstock.errors import ConfigurationError, DeclarationError, RefUseError, hide_by

SHORTEST = 6
"""A value of fewer characters is looked for as it is only: its encodings would be found everywhere."""
MOST_LINES = 200


def _refuse(what: str) -> Callable[..., NoReturn]:
    def method(self: Secret, *_args: object) -> NoReturn:
        raise RefUseError(
            f"{self!r} {what}: a declaration has its name, not its value",
            hint="pass it on: ps.read(…, secret=…), or as an argument of a step, which receives the value",
        )

    return method


class Secret:
    """A value that a declaration names and never holds: a password, a token, a key.

    It is resolved by the worker that runs the step, when the step begins. Its name may stand in recipes, plans and
    errors; its value stands nowhere: what the step prints, notes or raises is kept without it, also where it is
    escaped, URL-encoded or in base64, and an output that holds it is refused.

    Parameters
    ----------
    name : str
        "env:NAME", a variable of the environment; or "file:PATH", the text of a file without its last line break,
        relative to the file that declares it.

    Raises
    ------
    DeclarationError
        Another name; the secret itself, most likely.
    RefUseError
        When it is used as if it were the value: formatted, compared to text, joined to it, pickled.

    Examples
    --------
    >>> Secret("env:CRM_PASSWORD")
    <Secret env:CRM_PASSWORD>
    """

    __slots__ = ("_name", "_path")
    _name: str
    _path: str

    def __init__(self, name: str) -> None:
        kind, colon, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
        pattern = {"env": r"[A-Za-z_]\w*", "file": r"[^\n\r\0]+"}.get(kind)
        good = pattern is not None and re.fullmatch(pattern, rest)
        if not (colon and good):  # what was given may be the secret: the error does not repeat it
            raise DeclarationError(
                'Secret: the name of a secret is meant, "env:NAME" or "file:PATH"',
                hint="put the value into a variable of the environment, and name the variable",
            )
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_path", "")
        if kind == "file":
            object.__setattr__(self, "_path", os.path.normpath(os.path.join(declaring_folder(), rest)))

    @property
    def name(self) -> str:
        """As it was declared: "env:NAME" or "file:PATH"."""
        return self._name

    def __repr__(self) -> str:
        return f"<Secret {self._name}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str | bytes):
            _refuse("cannot be compared to text")(self)
        return isinstance(other, Secret) and (self._name, self._path) == (other._name, other._path)

    def __hash__(self) -> int:
        return hash((Secret, self._name))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    __str__ = _refuse("cannot be formatted")
    __format__ = _refuse("cannot be formatted")
    __bytes__ = _refuse("cannot be encoded")
    __fspath__ = _refuse("is no path")
    __add__ = __radd__ = __mod__ = __rmod__ = _refuse("cannot be joined to text")
    __len__ = __iter__ = __getitem__ = __contains__ = _refuse("has no characters")
    __reduce_ex__ = __reduce__ = __getstate__ = _refuse("cannot be pickled")
    __setattr__ = __delattr__ = _refuse("cannot be changed")


# ── in the worker ────────────────────────────────────────────────────────────────────────────────────────────

_revealed: dict[str, str] = {}
"""Value → name, of all that this process has resolved."""
_watchers: list[Callable[[], None]] = []


def watch(told: Callable[[], None]) -> None:
    """Have a function called before this process learns a value, so that it can mind what is printed from then on."""
    _watchers[:] = [told]


def reveal(secret: Secret) -> str:
    """The value. For workers alone; from here on every error of this process is made without it.

    Raises
    ------
    ConfigurationError
        The variable or the file is not there, or empty.
    """
    for told in _watchers:
        told()
    kind, _, rest = secret.name.partition(":")
    if kind == "env":
        value = os.environ.get(rest, "")
        problem = "" if value else f"the variable {rest} is not set, or is empty"
    else:
        value, problem = _text_of(secret._path, rest)  # noqa: SLF001  the two belong together
    if problem:
        raise ConfigurationError(problem, where=repr(secret), hint="set it where the run is started")
    _revealed[value] = secret.name
    hide_by(hidden)
    return value


def _text_of(path: str, shown: str) -> tuple[str, str]:
    """Text of a file without its last line break, or what is wrong with it."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(1 << 20)
    except (OSError, UnicodeDecodeError) as error:
        return "", f"the file {shown} cannot be read: {getattr(error, 'strerror', None) or 'it is no UTF-8'}"
    value = text.removesuffix("\n").removesuffix("\r")
    return value, "" if value else f"the file {shown} is empty"


def revealed() -> bool:
    """Whether this process has resolved a secret."""
    return bool(_revealed)


def forms_of(value: str) -> set[str]:
    r"""The texts in which a value may turn up: as it is, escaped, quoted, URL-encoded, in base64, in hexadecimals.

    Examples
    --------
    >>> {"pass/w\u00f6rd", "pass%2Fw%C3%B6rd", "cGFzcy93w7ZyZA"} <= forms_of("pass/w\u00f6rd")
    True
    """
    found = {value}
    if len(value) < SHORTEST:
        return found
    lines = [line.strip() for line in value.splitlines()[:MOST_LINES]]
    for text in {value, *(line for line in lines if len(line) >= 2 * SHORTEST), *_password_in(value)}:
        found |= _forms_of_line(text)
    return {form for form in found if len(form) >= SHORTEST - 1}


def _password_in(value: str) -> list[str]:
    """The password of a value that is a URL, also as a driver gets it."""
    import urllib.parse

    try:
        word = urllib.parse.urlsplit(value).password if "://" in value else None
    except ValueError:
        return []
    return [text for text in (word, urllib.parse.unquote(word)) if len(text) >= SHORTEST] if word else []


def _forms_of_line(text: str) -> set[str]:
    import base64
    import html
    import shlex
    import urllib.parse

    data = text.encode("utf-8", "surrogatepass")
    escaped = repr(text)[1:-1]
    quoted = {urllib.parse.quote(data, safe="/"), urllib.parse.quote(data, safe=""), urllib.parse.quote_plus(data)}
    found = {text, escaped, repr(escaped)[1:-1], repr(data)[2:-1], json.dumps(text)[1:-1], html.escape(text)}
    found |= {json.dumps(text, ensure_ascii=False)[1:-1], text.replace("'", "''"), shlex.quote(text).strip("'")}
    found |= quoted | {re.sub(r"%[0-9A-F]{2}", lambda m: m[0].lower(), one) for one in quoted}
    found |= {data.hex(), data.hex().upper()}
    for before in range(3):  # base64 of a longer text holds that of its parts, at one of three places
        shifted = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        inner = shifted[(0, 2, 3)[before] :]
        if (before + len(data)) % 3:
            found.add(inner) if before == 0 else None
            inner = inner[:-1]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return found


def hidden(text: str) -> str:
    """A text without the values that this process has resolved, each replaced by its name.

    Examples
    --------
    >>> hidden("nothing was resolved here")
    'nothing was resolved here'
    """
    pattern, names = _pattern()
    return pattern.sub(lambda match: f"<{names[match[0]]}>", text) if pattern is not None else text


def hidden_bytes(data: bytes) -> bytes:
    """The same for what was printed, whatever its encoding."""
    return hidden(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def hidden_tree(tree: Any) -> Any:
    """The same for every text in plain data, the names of its fields too."""
    if isinstance(tree, str):
        return hidden(tree)
    if isinstance(tree, list | tuple):
        return [hidden_tree(item) for item in tree]
    return {hidden_tree(key): hidden_tree(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def found_in(chunks: Iterable[bytes]) -> str:
    """Name of a secret whose value stands in bytes that come in pieces, or ""; short values are not looked for."""
    names = {form.encode("utf-8", "surrogatepass"): name for form, name in _forms() if len(form) >= SHORTEST}
    for kind in ("utf-16-le", "utf-32-le"):  # as NumPy holds texts, and some files
        names |= {
            value.encode(kind, "surrogatepass"): name for value, name in _revealed.items() if len(value) >= SHORTEST
        }
    if not names:
        return ""
    pattern = re.compile(b"|".join(map(re.escape, sorted(names, key=len, reverse=True))))
    longest, rest = max(map(len, names)), b""
    for chunk in chunks:
        match = pattern.search(rest + chunk)
        if match:
            return names[match[0]]
        rest = (rest + chunk)[-longest + 1 :]
    return ""


def _forms() -> Iterator[tuple[str, str]]:
    for value, name in _revealed.items():
        for form in forms_of(value):
            yield form, name


_made: dict[tuple[str, ...], tuple[re.Pattern[str], dict[str, str]]] = {}


def _pattern() -> tuple[re.Pattern[str] | None, dict[str, str]]:
    """What finds every form of every value, the longest first; made once for a set of values."""
    if not _revealed:
        return None, {}
    key = tuple(_revealed)
    if key not in _made:
        names = dict(_forms())
        _made.clear()
        _made[key] = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True)))), names
    return _made[key]


def secrets_in(value: Any) -> list[Secret]:
    """Secrets in nested lists, tuples and dicts."""
    if isinstance(value, Secret):
        return [value]
    if type(value) in (list, tuple):
        return [one for item in value for one in secrets_in(item)]
    return [one for item in value.values() for one in secrets_in(item)] if type(value) is dict else []
