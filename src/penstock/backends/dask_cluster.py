"""A Dask cluster, joined or made for the time: what its workers see, and an end to what runs there."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock import __version__
from penstock.backends.call import GRACE_S
from penstock.backends.dask_task import look, place_of, running
from penstock.core.ports import Config
from penstock.core.urls import masked
from penstock.errors import MissingExtraError, UsageError, bounded

PORT = 8786
"""Where a Dask scheduler listens, unless it is told otherwise."""
CONNECT_S = 10.0
"""Seconds in which a scheduler answers, and in which a first worker comes."""
INSTALL = "pip install 'penstock[dask]'"
TICK_S = 0.2
LOST = "scheduler-connection-lost"
"""Dask's word for why it cancelled what it could no longer ask for."""
_ADDRESS = re.compile(
    r"(?:(?P<scheme>tcp|tls)://)?(?P<host>[^\s:/?#@\[\]]+|\[[0-9A-Fa-f:.%]+\])(?::(?P<port>\d{1,5}))?/?"
)


@contextlib.contextmanager
def connected(where: str, n_workers: int) -> Iterator[Any]:
    """A client of a cluster, which goes on when it was there before.

    Parameters
    ----------
    where : str
        "HOST", "HOST:8786" or "tls://HOST:8786" of a scheduler; "" for a cluster of this machine's processes.
    n_workers : int
        Processes of a cluster that is made here.

    Raises
    ------
    UsageError
        No scheduler answers there.
    MissingExtraError
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError(f"--on dask needs another library: {error}", hint=INSTALL) from error
    if not where:
        with (
            distributed.LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                silence_logs=logging.CRITICAL,  # what fails is told once, by us
                preload=[
                    "penstock.backends.dask_task"
                ],  # Ctrl-C is for the client, of which Dask's workers are children
                memory_limit=0,  # of the Dask worker, not of ours, which holds its steps' limits itself
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield client
        return
    address = address_of(where)
    _check_certificates(address)
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        what = f"no Dask scheduler answers at {address}: {bounded(str(error) or type(error).__name__, 200)}"
        raise UsageError(what, hint=f"dask scheduler --host HOST --port {PORT} starts one") from error
    with client:
        yield client


def _check_certificates(address: str) -> None:
    """Refuse an encrypted address without certificates, for which Dask's client has no end.

    Raises
    ------
    UsageError
    """
    if not address.startswith("tls://"):
        return
    from distributed.security import Security

    if Security().get_connection_args("client").get("ssl_context") is None:
        hint = "set distributed.comm.tls.ca-file and distributed.comm.tls.client.{cert,key} in Dask's configuration"
        raise UsageError(f"{address} is encrypted, and Dask's configuration names no certificates", hint=hint)


def address_of(where: str) -> str:
    """A scheduler's address as Dask has it.

    Raises
    ------
    UsageError
        It is none.

    Examples
    --------
    >>> address_of("host"), address_of("host:9000"), address_of("tls://host:9000")
    ('tcp://host:8786', 'tcp://host:9000', 'tls://host:9000')
    """
    found = _ADDRESS.fullmatch(where)
    if found is None:
        what = f"dask://{bounded(where, 200)} is no address of a scheduler"
        raise UsageError(masked(what), hint=f"dask://HOST, dask://HOST:{PORT} or dask://tls://HOST:{PORT}")
    return f"{found['scheme'] or 'tcp'}://{found['host']}:{found['port'] or PORT}"


def seen_by(client: Any, file: str, file_here: str, config: Config, python: str = "") -> list[str]:
    """What the workers of a cluster lack, each of which must see the project, its store and its ledger as we do.

    Parameters
    ----------
    client : distributed.Client
    file, file_here : str
        The declaring file, or a folder of the project, as the workers have it and as we have it.
    config : Config
    python : str
        The Python that runs the steps, where it is not the one that runs Dask.

    Raises
    ------
    UsageError
        There are no workers, or they cannot be asked.
    """
    hint = f"dask worker {client.scheduler.address} starts one, with --nthreads 1"
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
    except TimeoutError as error:
        raise UsageError(f"{client.scheduler.address} has no workers", hint=hint) from error
    who = "Dask's scheduler"
    try:
        client.run_on_scheduler(place_of, "")  # it takes tasks apart, so that it must import what they name
        who = "a Dask worker"
        told: dict[str, dict[str, str]] = client.run(look, file, config.environment)
    except Exception as error:  # of one that cannot import us, or ended meanwhile
        what = f"{who} cannot run Penstock: {type(error).__name__}: {bounded(str(error), 300)}"
        raise UsageError(what, hint=f"install penstock {__version__} where Dask's scheduler and workers run") from error
    here = look(file_here)["file"], place_of(config.store), place_of(config.ledger)
    return [f"{at}: {fault}" for at, one in told.items() for fault in _faults(one, file, here, python)]


def refuse(client: Any, what: str, faults: Sequence[str]) -> None:
    """Refuse a run for what was found wrong with the workers; nothing where that is nothing.

    Raises
    ------
    UsageError
    """
    if not faults:
        return
    more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
    said = f"{client.scheduler.address} cannot run {what}: {'; '.join(faults[:5])}{more}"
    raise UsageError(said, hint="its workers need the project, its store, its ledger and Penstock as here")


def _faults(told: Mapping[str, str], file: str, here: tuple[str, str, str], python: str) -> Iterator[str]:
    """What a worker lacks."""
    if told["version"] != __version__ and not python:
        yield f"has penstock {told['version']}, and this is {__version__}"
    if not told["file"]:
        yield f"sees no {file}"
    elif told["file"] != here[0]:
        yield f"sees another {file}"
    elif told["error"]:
        yield told["error"]
    else:
        for name, place in zip(("store", "ledger"), here[1:], strict=True):
            if told[name] != place:
                yield f"has another {name} (PENSTOCK_{name.upper()}, PENSTOCK_ENV)"


def error_of(future: Any) -> BaseException:
    """Why a future has no result; of one that was cancelled Dask's `exception` does not tell."""
    try:
        future.result()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # Dask's own of one that was cancelled is no `Exception`
        return error
    return RuntimeError("it has no result, and Dask does not say why")


def stop_all(client: Any, futures: list[Any], run: str) -> None:
    """Cancel what waits and runs, and wait until no worker of ours is left.

    Parameters
    ----------
    client : distributed.Client
    futures : list of distributed.Future
    run : str
        Part of the names of their tasks.
    """
    with contextlib.suppress(Exception):
        client.cancel(futures, force=True)
        end = time.monotonic() + 2 * GRACE_S
        while any(client.run(running, run).values()) and time.monotonic() < end:
            time.sleep(TICK_S)
