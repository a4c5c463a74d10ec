"""Faults of a declaration: collected while it is checked, then told at once."""

from __future__ import annotations

from penstock.core.split import duration_s
from penstock.errors import DeclarationError


class Faults:
    """Collects faults, then raises them in one error."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.found: list[str] = []

    def add(self, text: str) -> None:
        """One more fault, as "field=value: what is allowed"."""
        self.found.append(text)

    def raise_all(self) -> None:
        """Raise what was found.

        Raises
        ------
        DeclarationError
        """
        if self.found:
            raise DeclarationError(self.found, where=self.where)


def check_duration(text: object, what: str, faults: Faults) -> None:
    """A duration that can be read, or none.

    Examples
    --------
    >>> faults = Faults("")
    >>> check_duration("soon", "split=: gap", faults)
    >>> faults.found
    ["split=: gap: 'soon' is not a duration such as '90d', '12h', '30min', '45s' or '2w'"]
    """
    if text is None:
        return
    if not isinstance(text, str):
        faults.add(f"{what}={text!r}: a text such as '90d', '12h', '30min', '45s' or '2w' is meant")
        return
    try:
        duration_s(text)
    except ValueError as problem:
        faults.add(f"{what}: {problem}")
