"""Dask: each task is a future that a Dask worker carries out by starting ours; futures wait for futures."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.backends.backend import Done, Ended, Finding, Options
from penstock.backends.compiled import Compiled
from penstock.backends.dask_cluster import INSTALL, LOST, PORT, connected, error_of, refuse, seen_by, stop_all
from penstock.backends.dask_task import TaskFailedError, carry_out
from penstock.backends.tasks import MOST_PARTS, Task
from penstock.core.ports import Home
from penstock.engine.checkpoints import searches
from penstock.engine.processes import Terminated, cores
from penstock.engine.wire import rebuilt
from penstock.errors import (
    BackendError,
    CancelledError,
    PenstockError,
    StepError,
    UsageError,
    bounded,
)
from penstock.lifecycle.remote_record import Part, give_up
from penstock.lifecycle.versions import Version

NAME = "dask"


class Dask:
    """Runs flows on a Dask cluster, or on one of its own on this machine; implements `Backend`."""

    name = NAME
    away = False  # whether its workers see the project is looked at on each of them, when it runs

    def check(self, flow: Compiled, options: Options) -> list[Finding]:
        """What of this flow does not work there.

        Parameters
        ----------
        flow : Compiled
        options : Options
        """
        from importlib.util import find_spec

        found = []
        if find_spec("distributed") is None:
            found.append(Finding("error", "dask's library distributed is not installed", INSTALL))
        for word, given in (("schedule", options.schedule), ("image", options.image), ("secret", options.secrets)):
            if given:
                what = f"--{word}: Dask has none"
                found.append(Finding("error", what, "leave it out; its workers have what they were started with"))
        unknown = sorted(options.more.keys() - {"on"})
        found += [Finding("error", f"?{w}=: Dask has none", f"--on dask://HOST:{PORT} is all") for w in unknown]
        for task in flow.tasks:
            for name, amount in resources_of(task, {}).items():
                what = f"{task.id} runs where a Dask worker was started with {name}, and on no cluster made for the run"
                found.append(Finding("note", what, f'dask worker HOST:{PORT} --resources "{name}={amount:g}"'))
        return found

    def export(self, flow: Compiled, options: Options) -> str:  # noqa: ARG002  the port's
        """There is none: Dask keeps no flows.

        Raises
        ------
        UsageError
        """
        hint = f"penstock run {os.path.basename(flow.request.file)} --on dask://HOST:{PORT}"
        raise UsageError("dask keeps no flows: there is no file to write", hint=hint)

    def run(self, flow: Compiled, where: str, options: Options, done: Done) -> Ended:
        """Run the flow on the cluster at a place, or on one of this machine's processes, and wait for its end.

        Parameters
        ----------
        flow : Compiled
        where : str
            "HOST", "HOST:8786" or "tls://HOST:8786" of a scheduler; "" for a cluster made for this run.
        options : Options
        done : callable

        Raises
        ------
        UsageError
            No scheduler answers there, it has no workers, or one of them does not see the project.
        StepError
            A task ended without a word of ours, such as one whose Dask workers died again and again.
        MissingExtraError
        """
        most = flow.home.config.jobs or cores()
        with connected(where, min(most, sum(1 + parts_of(flow, task, most) for task in flow.tasks))) as client:
            offered = _looked_at(client, flow, options)
            n_threads = sum(client.nthreads().values())
            return _Run(flow, client, options, offered, n_threads).carry_out(done)

    def predict(
        self, home: Home, version: Version, table: tuple[str, int, int], gaps: list[str], where: str
    ) -> list[Any]:
        """Answer a table that lies in the store by slices, as many at once as the cluster runs tasks.

        Parameters
        ----------
        home : Home
        version : Version
        table : (str, int, int)
            Digest of a Parquet file, how many rows it has, and how many in each of its groups.
        gaps : list of str
            Columns of which some row has no value.
        where : str
            As for `run`.

        Returns
        -------
        list of dict
            In the order of the rows, what `serve.slice.answer` tells of each slice.

        Raises
        ------
        DataError
            What is wrong with the table.
        UsageError, StepError, MissingExtraError
            As for `run`.
        """
        from penstock.backends.dask_predict import predict

        return predict(home, version, table, gaps, where)


def job_of(flow: Compiled, task: Task, run: str, options: Options, part: str = "") -> dict[str, Any]:
    """What goes to a Dask worker for one task: text and numbers alone.

    Parameters
    ----------
    flow : Compiled
    task : Task
    run : str
        Dask's id of the run, which is ours to choose.
    options : Options
        Without a `python` of its own each Dask worker starts ours with the Python that it runs on.
    part : str
        "1/2" for the first of two parts of it.
    """
    calls = []
    for steps in task.calls:
        nodes = [flow.graph.node(step) for step in steps]
        limits = [None if node.mapped else node.timeout_s for node in nodes]  # a mapped step's is that of an item
        limit = None if None in limits else sum(one for one in limits if one is not None)
        calls.append(
            {"steps": list(steps), "arguments": flow.command(steps, NAME, run, part=part)[1:], "limit_s": limit}
        )
    return {
        "task": task.id,
        "calls": calls,
        "python": options.python,
        "environment": dict(options.environment),
        "retries": task.retries,
        "backoff_s": task.backoff_s,
    }


def parts_of(flow: Compiled, task: Task, n_threads: int) -> int:
    """In how many parts a task is done, before the one that makes a whole of them; 0 where it is not divided.

    A mapped step is divided by its items, as the compiled flow says; a search by the fits of its candidates, among as
    many tasks as can be done at once, for each costs the start of a worker.

    Parameters
    ----------
    flow : Compiled
    task : Task
    n_threads : int
        Tasks that the cluster runs at once.
    """
    is_search = len(task.steps) == 1 and searches(flow.graph.node(task.steps[0]))
    if n_threads < 2:
        return 0
    return min(MOST_PARTS, n_threads) if is_search else task.parts


def key_of(flow: str, run: str, task: str, part: str = "") -> str:
    """Dask's name of a task.

    Tasks whose keys have the part before the first number in common count as of one kind: of one that took its time
    Dask learns that others are worth taking to a worker that is idle. Else all would stay where their inputs are.

    Examples
    --------
    >>> key_of("churn", "9b1f", "train"), key_of("churn", "9b1f", "train", "1/2")
    ('churn-9b1f-train', 'churn-9b1f-train-1of2')
    """
    return f"{flow}-{run}-{task}" + (f"-{part.replace('/', 'of')}" if part else "")


def resources_of(task: Task, offered: Mapping[str, str]) -> dict[str, float]:
    """What a task asks of a Dask worker, in Dask's terms.

    GPUs and labels are always asked for; processors and memory where some worker says how much it has, for others run
    one task a thread. A label `zone="eu"` is one of the resource "zone:eu".

    Parameters
    ----------
    task : Task
    offered : dict
        Names of what workers offer, by their small letters.

    Examples
    --------
    >>> resources_of(Task("fit", ("fit",), (("fit",),), resources={"gpu": 1, "cpu": 2}), {"gpu": "GPU"})
    {'GPU': 1.0}
    """
    found = {
        offered.get(kind, kind): float(task.resources[kind]) for kind in _needed_resources(task) if ":" not in kind
    }
    found |= {offered.get(name, name): 1.0 for name in _needed_resources(task) if ":" in name}
    for kind in ("cpu", "memory"):
        if kind in task.resources and kind in offered:
            found[offered[kind]] = float(task.resources[kind])
    return found


def _needed_resources(task: Task) -> list[str]:
    """Names without which a task cannot run; of a label its name and value."""
    labels = task.resources.get("labels", {})
    return [
        *(["gpu"] if task.resources.get("gpu") else []),
        *(f"{name}:{value}".lower() for name, value in labels.items()),
    ]


def _looked_at(client: Any, flow: Compiled, options: Options) -> dict[str, str]:
    """Names of what its workers offer, once each of them is seen to have what the run needs.

    Raises
    ------
    UsageError
        With all that is wrong.
    """
    faults = seen_by(client, flow.file or flow.request.file, flow.request.file, flow.home.config, options.python)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    offered = {name.lower(): name for worker in workers for name in worker.get("resources", {})}
    for task in flow.tasks:
        asked = resources_of(task, offered)
        if not any(all(w.get("resources", {}).get(name, 0) >= n for name, n in asked.items()) for w in workers):
            words = " ".join(f"{name}={amount:g}" for name, amount in asked.items())
            faults.append(f'{task.id} needs a worker started with --resources "{words}", and there is none')
    refuse(client, flow.name, faults)
    return offered


@dataclass(slots=True)
class _Run:
    """One run while it is carried out."""

    flow: Compiled
    client: Any
    options: Options
    offered: Mapping[str, str]
    n_threads: int = 1
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    _faults: list[BaseException] = field(default_factory=list)

    def carry_out(self, done: Done) -> Ended:
        """Submit all tasks, tell of each that ends, and leave nothing behind when interrupted."""
        from distributed import as_completed

        futures: dict[str, Any] = {}
        tasks: dict[str, Task] = {}
        failed = False
        try:
            for task in self.flow.tasks:
                needs = [futures[key_of(self.flow.name, self.run, need)] for need in task.needs]
                n = parts_of(self.flow, task, self.n_threads)
                parts = [self._submit(task, needs, f"{k}/{n}") for k in range(1, n + 1)]
                for future in (*parts, self._submit(task, [*needs, *parts])):
                    futures[future.key], tasks[future.key] = future, task
            for future in as_completed(list(futures.values()), loop=self.client.loop):
                failed = self._ended(future, tasks, done) or failed
        except BaseException as stop:
            stop_all(self.client, list(futures.values()), self.run)
            is_wish = isinstance(stop, (KeyboardInterrupt, Terminated, CancelledError))
            self._put_on_record("cancelled" if is_wish else "failed", stop)
            raise
        if self._faults:
            self._put_on_record("failed", self._faults[0])
            raise self._faults[0]
        return Ended(self.run, "error" if failed else "finished", self._link(), "failed" if failed else "success")

    def _link(self) -> str:
        """Of the cluster's dashboard, if it has one."""
        with contextlib.suppress(KeyError):
            return str(self.client.dashboard_link or "")
        return ""

    def _put_on_record(self, state: str, why: BaseException) -> None:
        """End our run, which no task of it will: what there was of them is gone."""
        part = Part(NAME, self.run, ())
        with contextlib.suppress(PenstockError):
            give_up(self.flow.home, self.flow.graph, part, state, getattr(why, "what", type(why).__name__))

    def _submit(self, task: Task, needs: list[Any], part: str = "") -> Any:
        return self.client.submit(
            carry_out,
            job_of(self.flow, task, self.run, self.options, part),
            *needs,
            key=key_of(self.flow.name, self.run, task.id, part),
            retries=task.retries,
            resources=resources_of(task, self.offered) or None,
            pure=False,
        )

    def _ended(self, future: Any, tasks: Mapping[str, Task], done: Done) -> bool:
        """Tell of one task; whether it failed."""
        task = tasks[future.key]
        if future.status == "finished":
            if future.key == key_of(self.flow.name, self.run, task.id):  # and no part of it
                done(self.run, task.steps)
            return False
        error = error_of(future)
        if getattr(error, "reason", "") == LOST:
            hint = "run again when it is there: what is done is reused"
            raise BackendError("the connection to Dask's scheduler was lost", where=f"task {task.id}", hint=hint)
        if future.status == "cancelled":
            raise CancelledError(f"{task.id} was cancelled on the cluster", hint="run again: what is done is reused")
        if isinstance(error, TaskFailedError):
            if error.told["task"] != task.id:  # it waited for one that failed
                return True
            if error.told["run"]:
                done(self.run, task.steps)
            self._keep(error.told)
        else:
            what = bounded(f"{type(error).__name__}: {error}", 500)
            hint = "the logs of Dask's workers tell why; the system ends one whose machine has no memory left"
            at = tasks.get(getattr(error, "task", ""), task)  # of which others may wait
            self._faults.append(StepError(f"Dask gave it up: {what}", where=f"task {at.id}", hint=hint))
        return True

    def _keep(self, told: Mapping[str, Any]) -> None:
        """The fault of a task that the ledger does not know of."""
        if told["run"]:
            return
        fault: PenstockError = StepError(told["reason"], where=f"task {told['task']}")
        self._faults.append(rebuilt(told["error"]) if told["error"] else fault)
