"""The engines themselves: each is started when the first test asks for it, and ended when one asks for another."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.backends.engines.processes import BACKENDS

if TYPE_CHECKING:
    from tests.backends.engines.airflow import Airflow
    from tests.backends.engines.dagster import Dagster
    from tests.backends.engines.dask import Dask
    from tests.backends.engines.kubeflow import Kubeflow
    from tests.backends.engines.prefect import Prefect

PATIENCE = 600  # seconds: Airflow's start takes a minute on a machine that does much else


def backend_of(item: pytest.Item) -> str | None:
    """Whose engine a test needs: by a fixture of that name, or a marker."""
    used = {*getattr(item, "fixturenames", ()), *(mark.name for mark in item.iter_markers())}
    found = [name for name in BACKENDS if name in used]
    assert len(found) < 2, f"{item.nodeid} needs {found}: one engine lives at a time"
    return found[0] if found else None


def backend_in(nodeid: str) -> str | None:
    """Whose engine a test needs, by its name alone: all that is known where tests are sent to processes."""
    return next((name for name in BACKENDS if name in nodeid), None)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send all tests of one engine to the same process (`--dist loadgroup` of xdist 3.8 does not on pytest 9.2)."""
    from xdist.scheduler import LoadScopeScheduling

    class ByEngine(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return backend_in(nodeid) or super()._split_scope(nodeid)

    return ByEngine(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs an engine, and keep together what needs the same."""
    for item in items:
        if (name := backend_of(item)) is not None:
            assert backend_in(item.nodeid) == name, f"{item.nodeid} must have {name} in its name: it is sent by that"
            item.add_marker(name)
            item.add_marker("backends")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(PATIENCE))
    order = {None: 0} | {name: number for number, name in enumerate(BACKENDS, start=1)}
    items.sort(key=lambda item: order[backend_of(item)])


class Engines:
    """The one engine that lives now."""

    def __init__(self) -> None:
        self._name = ""
        self._engine: Any = None

    def get(self, name: str, **options: Any) -> Any:
        """This engine, started unless it runs; any other is ended first."""
        if name != self._name:
            self.close()
            module = importlib.import_module(f"tests.backends.engines.{name}")
            self._engine = getattr(module, name.capitalize())(**options)
            self._name = name
        return self._engine

    def close(self) -> None:
        """End it."""
        engine, self._engine, self._name = self._engine, None, ""
        if engine is not None:
            engine.close()


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    """All of them, one at a time."""
    held = Engines()
    yield held
    held.close()


@pytest.fixture
def airflow(engines: Engines, system_command: Callable[[str], str]) -> Airflow:
    """API server, scheduler with LocalExecutor and DAG processor, on a PostgreSQL of their own."""
    return engines.get("airflow", bin_folder=str(Path(system_command("postgres")).parent))


@pytest.fixture
def prefect(engines: Engines) -> Prefect:
    """A server; what is served stays served."""
    return engines.get("prefect")


@pytest.fixture
def dagster(engines: Engines) -> Dagster:
    """An instance with its webserver, without a daemon."""
    return engines.get("dagster")


@pytest.fixture
def kubeflow(engines: Engines) -> Kubeflow:
    """Compiler and local runner."""
    return engines.get("kubeflow")


@pytest.fixture
def dask(engines: Engines) -> Dask:
    """A scheduler and two workers; a test that ends one of them starts another."""
    return engines.get("dask")
