"""Texts and flags are taken as they come: converting each as Typer does costs more than a run's plan."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from typing import Any

TEXTS = (str, str | None)
LISTS = (list[str], list[str] | None)


def plainly(command: Any, function: Callable[..., Any]) -> Any:
    """Let a command take the words of plain parameters without conversion.

    Typer builds a pydantic adapter for each parameter that a command line fills, which imports pydantic (0.07 s of
    CPU, as much as all else that a run's coordinator imports). Texts, flags and what was not given need none; every
    other value, and all help and every fault, stays Typer's own.

    Parameters
    ----------
    command : TyperCommand
        Changed in place.
    function : callable
        What it calls; its annotations tell the kinds.

    Returns
    -------
    TyperCommand
        The same.
    """
    kinds = typing.get_type_hints(function)
    listed = command.get_params

    def get_params(context: Any) -> list[Any]:
        params: list[Any] = listed(context)  # with the option --help, which Typer adds here
        for param in params:
            if not isinstance(param.process_value, functools.partial):
                kind = kinds.get(param.name, bool | None)
                param.process_value = functools.partial(_take, param, kind, param.process_value)
        return params

    command.get_params = get_params
    return command


def _take(param: Any, kind: Any, convert: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    if param.required or param.envvar or not is_plain(value, kind):
        return convert(context, value)
    taken = list(value) if kind in LISTS and value is not None else value
    return taken if param.callback is None else param.callback(context, param, taken)


def is_plain(value: Any, kind: Any) -> bool:
    """Whether a value is of its parameter's kind as it stands.

    Examples
    --------
    >>> is_plain("churn.py", str | None), is_plain("7", int | None), is_plain(None, int | None)
    (True, False, True)
    """
    if kind in TEXTS:
        return value is None or type(value) is str
    if kind in LISTS:
        return value is None or all(type(item) is str for item in value)
    if value is None:
        return type(None) in typing.get_args(kind)
    return type(value) in (kind, *typing.get_args(kind)) and type(value) in (bool, int, float)
