"""`ps.run` and `ps.plan`: what the command line does, for a declaration in hand."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.core.ports import Home
from penstock.errors import CancelledError, PenstockError
from penstock.lifecycle.found import Found, find
from penstock.lifecycle.run import Opener, Request
from penstock.python.result import Plan, Run

WORKER, SERVER = "penstock.worker", "penstock.serve"


def run(
    declared: Any,
    *,
    until: str | None = None,
    note: str = "",
    params: Mapping[str, Any] | None = None,
    force: Sequence[str] = (),
) -> Run:
    """Run a declaration, as `penstock run` does: equal recipes, equal hits, one ledger.

    What was imported from a file is run from that file, as it is now. What only this process holds (a notebook's cell,
    `churn.replace(…)`) runs in a fork of it; such a run is *exploratory*: it registers nothing and leaves the
    hold-out closed. In a notebook one block shows how far it is.

    Parameters
    ----------
    declared : Workflow, Flow, Ref, Step, or str
        In hand, or the path "churn.py" or "churn.py:variable".
    until : str, optional
        Last step to run.
    note : str
        A few words, kept with the run.
    params : dict, optional
        Parameters that this run sets.
    force : sequence of str
        Steps to run whatever is known.

    Returns
    -------
    Run
        Also where the gate refused: see `exit_code` and `verdict`.

    Raises
    ------
    PenstockError
        A step failed, with its own traceback (`error.run` has what was done); or the declaration has a fault.
    KeyboardInterrupt
        The run was interrupted. What had finished is kept.
    """
    from penstock.lifecycle import run as lifecycle
    from penstock.lifecycle.rehearse import rehearse_with
    from penstock.python.listening import Listener

    with _told():
        target = find(declared)
        with _opened(target) as home:
            _say(target.note)
            listener = Listener(home, [target.note] if target.note else [])
            asked = _request(target, until=until, note=note, params=params, force=force)
            try:
                report = lifecycle.run(
                    home,
                    asked,
                    _entry(target),
                    rehearse=rehearse_with(SERVER),
                    listen=listener,
                    began=listener.began,
                )
            except CancelledError as stop:
                listener.end("cancelled")
                if stop.exit_code == 130:
                    raise KeyboardInterrupt(stop.what) from None
                raise
            except BaseException:
                listener.end("failed")
                raise
            made = Run(home, report, listener, target)
        listener.end("", made)
        if report.error is not None:
            report.error.facts["run"] = made
            raise report.error
        return made


def plan(
    declared: Any,
    *,
    until: str | None = None,
    params: Mapping[str, Any] | None = None,
    force: Sequence[str] = (),
) -> Plan:
    """What `run` would do and why; nothing runs.

    Parameters
    ----------
    declared, until, params, force
        As `run`.

    Raises
    ------
    PenstockError
    """
    from penstock.lifecycle.requests import told
    from penstock.lifecycle.run import make_plan

    with _told():
        target = find(declared)
        with _opened(target) as home:
            asked = _request(target, until=until, note="", params=params, force=force)
            graph, made, facts = make_plan(home, asked, _entry(target))
            return Plan(made, target.note, tuple(told(graph, facts, home.config)))


def _request(target: Found, *, until: str | None, note: str, params: Any, force: Sequence[str]) -> Request:
    return Request(
        target.file,
        target.variable,
        params={name: str(value) for name, value in (params or {}).items()},
        force=tuple(force),
        until=until,
        note=note,
        exploratory=target.exploratory,
    )


def _entry(target: Found) -> str | Opener:
    if not target.exploratory:
        return WORKER
    from penstock.python.forked import forked

    return forked(target.declared, target.types)


@contextlib.contextmanager
def _opened(target: Found) -> Iterator[Home]:
    """The project of a declaration, closed again afterwards."""
    from penstock.project import open_home

    home = open_home(target.file if not target.exploratory else os.path.dirname(target.file))
    try:
        yield home
    finally:
        home.ledger.close()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Let an error of a run show the user's own traceback, in IPython without the frames of this package."""
    try:
        yield
    except PenstockError as error:
        trace = str(error.__dict__.get("traceback") or error.facts.get("traceback") or "").rstrip("\n")
        if trace:
            error.add_note(f"\nin the step:\nTraceback (most recent call last):\n{trace}")
        lines = ["Traceback (most recent call last):", *trace.split("\n"), ""] if trace else []
        shown = [*lines, f"{type(error).__name__}: {error}"]
        error.__dict__["_render_traceback_"] = lambda: shown
        raise


def _say(text: str) -> None:
    """One line for who runs a script; a notebook shows it in the run's block."""
    from penstock.python.listening import in_notebook

    if text and not in_notebook():
        print(text, file=sys.stderr)
