"""What is predicted, and which columns have a role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.names import listed


@dataclass(frozen=True, slots=True)
class Target:
    """The column to predict and what must be known about it.

    Parameters
    ----------
    column : str
        Its name.
    positive : scalar, optional
        The class that is scored in a two-class problem. Booleans, 0/1 and yes/no are plain; any other pair of
        labels needs it, because it is never guessed.
    time : str, optional
        Column with the time at which the label becomes known.
    delay : str, optional
        How long after the event the label is final, as "30d", "12h" or "90min".
    missing : {"error", "drop"}, default="error"
        What to do with rows whose target is missing.
    after : sequence of str
        Columns known only after the event: never shown to the model. Kept as a tuple.

    Examples
    --------
    >>> Target("churned", positive="Yes").positive
    'Yes'
    """

    column: str
    positive: Any = None
    time: str | None = None
    delay: str | None = None
    missing: str = "error"
    after: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", listed(self.after))


@dataclass(frozen=True, slots=True)
class Roles:
    """Columns with a role, declared once and read by every stage.

    Attributes
    ----------
    key, groups : tuple of str
        Columns that name a row, and the entity that it belongs to.
    time : str or None
        Column with the time of the event.
    weight : str or None
        Column with the weight of a row.
    features, drop : tuple of str
        What the model sees: `features` if given, else all but target, roles, `Target.after` and `drop`.
    """

    key: tuple[str, ...] = ()
    time: str | None = None
    groups: tuple[str, ...] = ()
    weight: str | None = None
    features: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()

    def hidden(self, target: Target) -> tuple[str, ...]:
        """Columns that the model does not see unless `features` names them, in declared order."""
        named = [target.column, *self.key, *self.groups, *target.after, *self.drop]
        named += [name for name in (self.time, self.weight, target.time) if name]
        return tuple(dict.fromkeys(named))

    def visible(self, columns: list[str], target: Target) -> list[str]:
        """Columns that the model sees, in the table's order.

        Parameters
        ----------
        columns : list of str
            The table's columns.
        target : Target

        Examples
        --------
        >>> Roles(key=("id",)).visible(["id", "age", "churned"], Target("churned"))
        ['age']
        """
        if self.features is not None:
            return [name for name in columns if name in self.features]
        hidden = set(self.hidden(target))
        return [name for name in columns if name not in hidden]
