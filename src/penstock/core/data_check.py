"""Checks of the user's own on a table: functions, and pandera schemas."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from typing import Any

from penstock.errors import DeclarationError

SEVERITIES = ("error", "warning")


@dataclass(frozen=True)
class Check:
    """One check of a table, made by `check` or of what stands in `checks=`.

    Its code counts by where it is defined (`entry`), so `held`, the function or schema itself, is no field.

    Attributes
    ----------
    name : str
    severity : {"error", "warning"}
    entry : str
        Where it is defined, as "module:name".
    held : object
        The function, or the pandera schema.
    """

    name: str
    severity: str
    entry: str

    @property
    def held(self) -> Any:
        """The function, or the pandera schema."""
        return self.__dict__["_held"]

    @property
    def is_schema(self) -> bool:
        """Whether it is a pandera schema."""
        return is_schema(self.held)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself, so that it can be tested as it is."""
        return self.held(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Check {self.name}>"


def check(function: Any = None, /, *, severity: str = "error", name: str | None = None) -> Any:
    """Mark a function, or a pandera schema, as a check of the table.

    A function is given the whole table and says what is wrong: False; a Series of bool, False where a row is bad; a
    text or several, each a failure, none if all is well. An unmarked function in `checks=` is a check too.

    Parameters
    ----------
    function : callable or pandera schema
    severity : {"error", "warning"}, default="error"
        A failed check stops the run; a warning is only told.
    name : str, optional
        The function's, or the variable's, by default.

    Returns
    -------
    Check

    Raises
    ------
    DeclarationError
        If it is neither, or cannot be found by name in another process.

    Examples
    --------
    >>> @check(severity="warning")
    ... def few_rows(table):
    ...     return "fewer than a thousand rows" if len(table) < 1_000 else ""
    >>> few_rows, few_rows([1])
    (<Check few_rows>, 'fewer than a thousand rows')
    """
    if function is None:
        return lambda marked: check(marked, severity=severity, name=name)
    if severity not in SEVERITIES:
        raise DeclarationError(f"check: severity={severity!r}: one of {', '.join(SEVERITIES)}")
    return check_of(function, severity, name)


def check_of(thing: Any, severity: str = "error", name: str | None = None) -> Check:
    """A function or schema as a check.

    Raises
    ------
    DeclarationError
        If it is neither, or cannot be found by name in another process.
    """
    if isinstance(thing, Check):
        return thing
    if isinstance(thing, types.FunctionType) or (isinstance(thing, type) and is_schema(thing)):
        if "<" in thing.__qualname__:
            raise DeclarationError(
                f"checks=: {thing.__qualname__} cannot be found by name in another process; define it at module level"
            )
        entry = f"{thing.__module__}:{thing.__qualname__}"
    elif is_schema(thing):
        entry = _variable_of(thing)
    else:
        raise DeclarationError(f"checks=: {repr(thing)[:60]}: a function of the table or a pandera schema is meant")
    made = Check(name or entry.rpartition(":")[2], severity, entry)
    made.__dict__["_held"] = thing
    return made


def is_schema(thing: Any) -> bool:
    """Whether a value is a pandera schema: an object, or a class with typed columns. pandera is not imported."""
    bases = (thing if isinstance(thing, type) else type(thing)).__mro__
    is_theirs = any(base.__module__.partition(".")[0] == "pandera" for base in bases)
    return is_theirs and callable(getattr(thing, "validate", None))


def _variable_of(schema: Any) -> str:
    """The module's variable that holds a schema, as "module:NAME"; it is looked for where the declaration stands.

    Raises
    ------
    DeclarationError
        If no variable at module level does.
    """
    frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001  the documented way to ask who called
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith("penstock."):
            for name, value in list(frame.f_globals.items()):
                if value is schema:
                    return f"{module}:{name}"
        frame = frame.f_back
    raise DeclarationError(
        "checks=: a pandera schema must stand in a variable at module level", hint="SCHEMA = pa.DataFrameSchema({…})"
    )
