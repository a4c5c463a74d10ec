"""Dask: a scheduler and two workers as processes of their own, and a client in their environment."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from tests.backends.engines.processes import Processes

_CLIENT = """
import json, sys
from distributed import Client
words = json.loads(sys.argv[2])
with Client(scheduler_file=sys.argv[1], set_as_default=True) as client:
    client.wait_for_workers({workers}, timeout=180)
    answer = None
{body}
    print(json.dumps(answer))
"""
_TASKS = (
    "answer = client.run_on_scheduler(lambda dask_scheduler: {k: t.state for k, t in dask_scheduler.tasks.items()})"
)
_WORKERS = "answer = {w['name']: a for a, w in client.scheduler_info(n_workers=-1)['workers'].items()}"
_LOG = "answer = [m for lines in client.get_worker_logs().values() for _, m in lines]"


class Dask:
    """A running cluster; `close` ends it. `address` is what `--on dask://HOST:PORT` is given.

    What had to be found out:

    * The dashboard listens on every interface, port 8787, even with `--no-dashboard`: scheduler and workers each
      need `--dashboard-address 127.0.0.1:0`, beside `--host 127.0.0.1`.
    * Without `--no-nanny` a worker that is killed is started again by its nanny, under another address.
    * A task is forgotten by the scheduler when no client holds its future any more: states are read by the client
      that submitted, or of published data sets.
    * There is no API by HTTP that tells of tasks: one asks in Python, in the environment of the cluster.
    * What a task prints is in the worker's own output, so in `log()`; the client's `get_worker_logs` holds what went
      to the logger `distributed.worker`.
    * Functions of a script that the client runs travel by value (cloudpickle), those of modules by name.
    """

    def __init__(self, workers: int = 2, *, nanny: bool = False, resources: str = "") -> None:
        self.processes = Processes("dask")
        self._file = self.processes.folder / "scheduler.json"
        self._nanny = "--nanny" if nanny else "--no-nanny"
        self._resources = ("--resources", resources) if resources else ()
        self.pids: dict[str, int] = {}
        try:
            words = ("--port", 0, *self._loopback())
            self.processes.start("scheduler", *words, module="distributed.cli.dask_scheduler")
            for number in range(1, workers + 1):
                self.start_worker(f"worker-{number}")
            self.processes.wait("scheduler", self._file.exists)
            self.address = str(json.loads(self._file.read_text())["address"])
            self.client("", workers=workers)
        except BaseException:
            self.close()
            raise

    def _loopback(self) -> tuple[object, ...]:
        where = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        return (*where, "--scheduler-file", self._file)

    def start_worker(self, name: str, *words: object) -> None:
        """Start one more worker, of one thread."""
        words = ("--name", name, "--nthreads", 1, self._nanny, *self._resources, *self._loopback(), *words)
        module = "distributed.cli.dask_worker"
        self.pids[name] = self.processes.start(name, *words, module=module).pid

    def kill_worker(self, name: str) -> None:
        """End a worker at once, as a machine that is lost would."""
        os.kill(self.pids[name], signal.SIGKILL)
        self.processes.forget(name)

    def client(self, body: str, *words: Any, workers: int = 1, timeout: float = 300) -> Any:
        """Run statements in a client; what they put into `answer`.

        They see `client` and `words`; `answer` and `words` travel as JSON.
        """
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        text = _CLIENT.replace("{workers}", str(workers)).replace("{body}", lines)
        out = self.processes.run("-c", text, self._file, json.dumps(words), timeout=timeout)
        return json.loads(out.splitlines()[-1])

    def tasks(self) -> dict[str, str]:
        """The state of each task that the scheduler knows, by its key: `memory`, `erred`, `processing`, …"""
        return dict(self.client(_TASKS))

    def workers(self) -> dict[str, str]:
        """Name and address of each worker that the scheduler knows."""
        return dict(self.client(_WORKERS))

    def log(self) -> str:
        """What workers logged, by the client, and what tasks printed, from their processes' output."""
        printed = [path.read_text() for path in sorted(self.processes.folder.glob("worker-*.log"))]
        return "\n".join([*self.client(_LOG), *printed])

    def close(self) -> None:
        """End the scheduler and its workers."""
        self.processes.close()
