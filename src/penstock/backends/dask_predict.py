"""Predicting on a Dask cluster: a slice of the table is a task, of which only ids, numbers and digests travel."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from penstock.backends.dask_cluster import LOST, connected, error_of, refuse, seen_by, stop_all
from penstock.backends.dask_task import TaskFailedError, answer_slice
from penstock.core.ports import Home
from penstock.engine.processes import cores
from penstock.engine.wire import rebuilt
from penstock.errors import BackendError, CancelledError, StepError, bounded
from penstock.lifecycle.versions import Version

MODULE = "penstock.serve.slice"
"""Answers one slice."""
RETRIES = 2
"""Tries of a slice after the first, where another may end better."""
SLICES = 2
"""Slices for each task that the cluster runs at once: each costs the load of the model."""


def predict(home: Home, version: Version, table: tuple[str, int, int], gaps: Sequence[str], where: str) -> list[Any]:
    """As `dask.Dask.predict`.

    Parameters
    ----------
    home, version, table, gaps, where

    Raises
    ------
    DataError, UsageError, StepError, BackendError, CancelledError, MissingExtraError
    """
    digest, n_rows, group = table
    groups = -(-n_rows // group)
    with connected(where, min(home.config.jobs or cores(), groups)) as client:
        refuse(client, f"predict {version.name}", seen_by(client, home.config.root, home.config.root, home.config))
        run = uuid.uuid4().hex
        futures: list[Any] = []
        made: list[str] = []
        try:
            for first, last in cut(groups, SLICES * sum(client.nthreads().values())):
                rows = first * group, min(last * group, n_rows)
                job = job_of(home, version, digest, rows, gaps)
                key = f"{version.workflow}-{run}-{len(futures)}"
                futures.append(client.submit(answer_slice, job, key=key, retries=RETRIES, pure=False))
            return _gathered(client, futures, made)
        except BaseException:
            stop_all(client, futures, run)
            for one in made:  # which nobody asks for now
                home.objects.delete(one)
            raise


def cut(groups: int, n: int) -> list[tuple[int, int]]:
    """At most n slices of groups of rows that follow each other, in each as many, give or take one.

    Examples
    --------
    >>> cut(5, 2), cut(2, 8)
    ([(0, 2), (2, 5)], [(0, 1), (1, 2)])
    """
    n = min(groups, max(n, 1))
    return [(groups * k // n, groups * (k + 1) // n) for k in range(n)]


def job_of(home: Home, version: Version, table: str, rows: tuple[int, int], gaps: Sequence[str]) -> dict[str, Any]:
    """What goes to a Dask worker for one slice: text alone.

    Parameters
    ----------
    home : Home
    version : Version
    table : str
        Its digest.
    rows : (int, int)
        The first and one past the last.
    gaps : sequence of str
    """
    words = ["-P", "-m", MODULE, "--root", home.config.root, "--workflow", version.workflow]
    words += ["--version", str(version.number), "--table", table, "--rows", "{}:{}".format(*rows)]
    words += [f"--gap={name}" for name in gaps]
    words += ["--env", home.config.environment] if home.config.environment != "dev" else []
    return {"python": "", "arguments": words}


def _gathered(client: Any, futures: Sequence[Any], made: list[str]) -> list[Any]:
    """What the slices gave, in their order; the first that fails ends the others. `made` takes their digests."""
    from distributed import as_completed

    for future in as_completed(futures, loop=client.loop):
        if future.status == "finished":
            made.append(future.result()["digest"])
            continue
        error = error_of(future)
        if getattr(error, "reason", "") == LOST:
            raise BackendError("the connection to Dask's scheduler was lost", hint="run again when it is there")
        if future.status == "cancelled":
            raise CancelledError("a slice was cancelled on the cluster", hint="run again")
        if not isinstance(error, TaskFailedError):
            what = bounded(f"{type(error).__name__}: {error}", 500)
            hint = "the logs of Dask's workers tell why; the system ends one whose machine has no memory left"
            raise StepError(f"Dask gave a slice up: {what}", hint=hint)
        raise rebuilt(error.told["error"]) if error.told["error"] else StepError(error.told["reason"])
    return list(client.gather(list(futures)))
