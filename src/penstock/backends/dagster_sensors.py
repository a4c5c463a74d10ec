"""What starts a run in Dagster: files that have changed, and other assets that were made."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from penstock.core.digest import digest_value

MOST_FILES = 10_000
"""Files that a look at the sources counts; a folder with more is known by its first ones and its number."""
EVERY_S = 60
"""Seconds between two looks, at least."""


def files_in(place: str) -> Iterator[str]:
    """The files that a source names: itself, those of a folder, or those of a pattern; in order."""
    if os.path.isdir(place):
        for folder, folders, names in os.walk(place):
            folders.sort()
            yield from (os.path.join(folder, name) for name in sorted(names))
    elif os.path.exists(place):
        yield place
    else:
        yield from sorted(glob.glob(place, recursive=True))


def state_of(places: Iterable[str]) -> str:
    """A digest of which files there are, how long they are and when they were written; "" where there are none.

    Whether their contents differ the worker finds out: what is equal is reused.
    """
    seen: list[list[Any]] = []
    n_files = 0
    for path in (path for place in places for path in files_in(place)):
        n_files += 1
        if n_files <= MOST_FILES:
            try:
                found = os.stat(path)
            except OSError:
                continue
            seen.append([path, found.st_size, found.st_mtime_ns])
    return digest_value("sources", [n_files, seen]) if seen else ""


def sources_sensor(name: str, job: Any, places: Sequence[str], *, running: bool) -> Any:
    """A sensor that starts a run when a source file has changed since its last look; its first look starts none.

    Returns
    -------
    dagster.SensorDefinition
    """
    import dagster as dg

    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    def look(context: Any) -> Any:
        """Start a run when a source file has another size or time than at the last look."""
        now, before = state_of(places), context.cursor or ""
        if not now:
            return dg.SkipReason(f"no file at {', '.join(places[:5])}")
        if now == before:
            return dg.SkipReason("no source file has changed")
        context.update_cursor(now)
        if not before:
            return dg.SkipReason("the first look: a run follows the next change")
        return dg.RunRequest()  # no run_key: files may come back to what they were, and Dagster runs a key once

    made = dg.sensor(name=name, job=job, minimum_interval_seconds=EVERY_S, default_status=status)
    return made(look)


def assets_sensor(name: str, job: Any, keys: Sequence[Any]) -> Any:
    """A sensor that starts a run when all of some assets were made anew since the last one that it started.

    Parameters
    ----------
    keys : sequence of dagster.AssetKey

    Returns
    -------
    dagster.SensorDefinition
    """
    import dagster as dg

    def look(context: Any) -> Any:
        """Start a run when each of the assets was made anew."""
        records = context.latest_materialization_records_by_key()
        if not all(records.get(key) is not None for key in keys):
            return dg.SkipReason("not all of the assets were made anew")
        context.advance_all_cursors()
        return dg.RunRequest()

    running = dg.DefaultSensorStatus.RUNNING
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is superseded, but where a job is to be started
        return dg.multi_asset_sensor(monitored_assets=keys, job=job, name=name, default_status=running)(look)
