"""What third parties test their own adapters with: conformance suites, in-memory fakes and a checker of the house.

`ObjectsSuite`, `LedgerSuite` and `BackendSuite` are pytest classes: subclass one, give it a fixture, and every promise
of the Protocol is a test. They and the state machine need `pytest` and `hypothesis`; the fakes need nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.testing.backend_suite import BackendSuite
    from penstock.testing.ledger_suite import LedgerSuite
    from penstock.testing.memory import MemoryLedger, MemoryObjects
    from penstock.testing.objects_suite import ObjectsSuite

__all__ = ["BackendSuite", "LedgerSuite", "MemoryLedger", "MemoryObjects", "ObjectsSuite"]

_HOMES = {
    "BackendSuite": "backend_suite",
    "LedgerSuite": "ledger_suite",
    "MemoryLedger": "memory",
    "MemoryObjects": "memory",
    "ObjectsSuite": "objects_suite",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
