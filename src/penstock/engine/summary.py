"""What one source file says about its definitions, as plain data that can be remembered by the file's digest."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

ANALYSIS = 1
"""Version of the analysis. Raising it forgets what is remembered; recipes change only where parts do."""

LOAD, ITER, KEEP, ALIAS, ARG, CALL, DECORATE, DISCARD, STORE = range(9)
"""How a name is used: read · iterated · kept in an attribute or default · given another name or returned · passed to
a call · called (or a method of it) · as a decorator · called and the answer dropped · its content assigned."""

NOW, MADE, LATER = range(3)
"""When: as the module is imported · as an instance of the class is made · in the body of a function."""


class Use(NamedTuple):
    """One use of a name that is not local.

    `root` is a name of the module, or an import's target "=module" or "=module:name"; `attrs` the attributes that
    follow, dotted; `via` for ARG the function that receives it, as "root|attrs" ("?" when not known by name), for
    CALL and DISCARD the method called on it.
    """

    root: str
    attrs: str
    how: int
    via: str
    when: int


@dataclass
class Unit:
    """One top-level statement.

    Attributes
    ----------
    kind : {"def", "class", "assign", "import", "code"}
    binds : list of str
        The module's names that it may bind; for a function also those that it declares `global`.
    digest : str
        Of its normal form.
    uses : list of Use
    imports : dict
        Bound name → targets.
    typed : list of str
        Names imported only for type checkers.
    needs : list of str
        Targets of every import anywhere in it.
    star : list of str
        Targets of star imports.
    dynamic : bool
        Whether it reaches names that cannot be read off the text.
    hidden, hidden_now : bool
        Whether it may change something by such means; and whether already on import.
    anything : bool
        Whether it imports modules by a computed name.
    subclasses : bool
        Whether it asks a class for its subclasses.
    constant, literal, flat : bool
        An assigned value that cannot be changed; a list, dict or set written out; one that holds constants only.
    decorators, bases : list of str
        As "root|attrs"; the "decorator" of an assigned call is the function that is called.
    hook : bool
        A class that acts when it is subclassed.
    stateful : bool
        A class whose methods change the class, or a function that may remember something between calls.
    leaves : bool
        A function, or a class's constructors, whose text changes no value in place.
    """

    kind: str
    binds: list[str]
    digest: str
    uses: list[Use] = field(default_factory=list)
    imports: dict[str, list[str]] = field(default_factory=dict)
    typed: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    star: list[str] = field(default_factory=list)
    dynamic: bool = False
    hidden: bool = False
    hidden_now: bool = False
    anything: bool = False
    subclasses: bool = False
    constant: bool = False
    literal: bool = False
    flat: bool = False
    decorators: list[str] = field(default_factory=list)
    bases: list[str] = field(default_factory=list)
    hook: bool = False
    stateful: bool = False
    leaves: bool = False


_FIELDS = [f.name for f in fields(Unit)]
_USES = _FIELDS.index("uses")


@dataclass
class Summary:
    """One file: its units in the order of the file.

    `opaque` says that names cannot be told apart in it: no Python source, or a syntax error.
    """

    units: list[Unit]
    opaque: bool = False

    def to_json(self) -> list[Any]:
        """As plain data."""
        return [self.opaque, [[getattr(unit, name) for name in _FIELDS] for unit in self.units]]

    @classmethod
    def from_json(cls, data: list[Any]) -> Summary:
        """Back from plain data.

        Raises
        ------
        TypeError, ValueError, IndexError
            If the data is not what `to_json` gives.
        """
        units = []
        for row in data[1]:
            if len(row) != len(_FIELDS):
                raise ValueError("a summary of another shape")
            row[_USES] = [Use(*use) for use in row[_USES]]
            units.append(Unit(*row))
        return cls(units, bool(data[0]))
