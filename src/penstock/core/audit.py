"""What a person answers to a finding of the audit: take the column out, or say why it may stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.names import listed
from penstock.errors import DeclarationError


@dataclass(frozen=True)
class Audit:
    """Two answers to the audit's findings.

    Parameters
    ----------
    waive : dict of str to str, optional
        Column, or step before the split → why it is known in time. Its findings become notes, on record and shown with
        the reason; a waiver that waives nothing is said.
    known_late : list of str, optional
        Columns known only after the event: hidden from the model, as `Target.after` hides them.

    Raises
    ------
    DeclarationError
        A waiver without a reason, or a column in both.

    Examples
    --------
    >>> Audit(waive={"tenure": "known when the contract is signed"}, known_late=["duration"]).known_late
    ('duration',)
    """

    waive: Any = field(default_factory=dict)
    known_late: Any = ()

    def __post_init__(self) -> None:
        late = listed(self.known_late)
        waive = self.waive if isinstance(self.waive, Mapping) else {}
        faults = []
        if not isinstance(self.waive, Mapping):
            faults.append(f"Audit: waive={self.waive!r}: a dict of column to reason")
        else:
            faults += [
                f"Audit: waive={{{column!r}: {why!r}}}: say why the column is known in time"
                for column, why in waive.items()
                if not isinstance(why, str) or not why.strip()
            ]
        if not all(isinstance(name, str) for name in late):
            faults.append(f"Audit: known_late={self.known_late!r}: names of columns")
        elif both := sorted(set(late) & set(waive)):
            faults.append(f"Audit: {', '.join(map(repr, both))} cannot be waived and known late at once")
        if faults:
            raise DeclarationError(faults)
        object.__setattr__(self, "known_late", late)
        object.__setattr__(self, "waive", dict(waive))
