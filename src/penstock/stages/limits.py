"""How much one source may hold, judged from what a file says of itself before its rows are read."""

from __future__ import annotations

import os
from dataclasses import dataclass

from penstock.core.source import Source
from penstock.errors import DataError

MEMORIES = 4
"""Default for `max_bytes`, in multiples of the machine's memory: what streams through, but never all there is."""
LEAST = 4 << 30
SUSPICIOUS = 256 << 20
"""Tables below this are read however much they grow while they are unpacked."""
DEFLATED = 250
"""Growth beyond which compressed text is taken for a bomb: tables of text grow by 3 to 30 times."""
ENCODED = 1000
"""The same for Parquet and Arrow, whose dictionaries and run lengths compress tables much further."""


def memory_bytes() -> int:
    """Memory of this machine in bytes, or of the container that it is."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                found = min(found, int(file.read()))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return found


@dataclass(frozen=True, slots=True)
class Limits:
    """Most rows and bytes of one source.

    Attributes
    ----------
    bytes : int
        Of the table once it is unpacked.
    rows : int or None
    stated : bool
        Whether the user stated the bytes: then growth alone refuses nothing.
    where : str
        The source, for errors.
    """

    bytes: int
    rows: int | None = None
    stated: bool = False
    where: str = ""

    @classmethod
    def of(cls, source: Source | None = None, limit: int | None = None, where: str = "") -> Limits:
        """Limits of a source: as declared, else by the machine's memory.

        Parameters
        ----------
        limit : int, optional
            Bytes, in place of the default.
        """
        stated = source.max_bytes if source is not None else None
        most = stated or limit or max(MEMORIES * memory_bytes(), LEAST)
        return cls(most, source.max_rows if source is not None else None, stated is not None, where)

    def check_bytes(self, size: int, what: str = "bytes of data") -> None:
        """Refuse more bytes than are taken.

        Raises
        ------
        DataError
        """
        if size > self.bytes:
            raise DataError(
                f"{size:,} {what} or more: past the limit of {self.bytes:,}",
                where=self.where,
                hint="if they are meant: ps.read(…, max_bytes=…) raises the limit; or read the file in parts",
            )

    def check_rows(self, rows: int) -> None:
        """Refuse more rows than were declared.

        Raises
        ------
        DataError
        """
        if self.rows is not None and rows > self.rows:
            raise DataError(
                f"{rows:,} rows or more: past the limit of {self.rows:,}",
                where=self.where,
                hint="if they are meant: ps.read(…, max_rows=…) raises the limit",
            )

    def check_growth(self, unpacked: int, packed: int, most: int) -> None:
        """Refuse what grows beyond measure while it is unpacked, unless the user stated `max_bytes`.

        Parameters
        ----------
        unpacked, packed : int
            Bytes, as estimated and as found.
        most : int
            Growth that is still believed.

        Raises
        ------
        DataError
        """
        self.check_bytes(unpacked, "bytes once unpacked")
        if not self.stated and unpacked > SUSPICIOUS and unpacked > most * packed:
            raise DataError(
                f"about {unpacked:,} bytes once unpacked, from a file of {packed:,}: "
                f"{unpacked // max(packed, 1):,} times as many, as no table grows",
                where=self.where,
                hint="if it is meant: ps.read(…, max_bytes=…) says how many bytes are taken",
            )
