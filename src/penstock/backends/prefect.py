"""Prefect 3: a flow of ours as one of Prefect's, to be called, served or deployed like any other."""

from __future__ import annotations

import keyword
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.backends.backend import Done, Ended, Finding, Options, Outcome
from penstock.backends.compiled import WORKER, Compiled, beside, compiled
from penstock.backends.prefect_run import Plan, carry_out
from penstock.backends.preflight import described
from penstock.backends.tasks import MOST_PARTS, compile_flow
from penstock.core.digest import digest_value
from penstock.core.flow import set_params
from penstock.core.urls import masked
from penstock.errors import BackendError, MissingExtraError, PenstockError, UsageError, bounded
from penstock.lifecycle.run import jobs_of

if TYPE_CHECKING:
    import prefect

NAME = "prefect"
RESERVED = ("return_state", "wait_for", "self", "cls", "model_config")
"""Names of parameters that Prefect, or Pydantic for it, keeps for itself."""
MOST_SHOWN = 50
"""Tasks that the description of a flow names at most."""
WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""Cron's words for common schedules."""
FIELDS = (
    (0, 59, ""),
    (0, 23, ""),
    (1, 31, ""),
    (1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    (0, 7, "sun mon tue wed thu fri sat"),
)
"""Of a cron expression: the least and the greatest number, and words for them."""
SETTINGS = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # progress is told by us; its lines go to its server alone
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 20 is too short on a crowded machine
}
"""Settings of Prefect for a run that somebody waits for, unless they are made already."""
FILE = '''\
"""{flow} on Prefect: `python FILE` serves it. Written by `penstock export prefect`."""

from penstock import to_prefect

flow = to_prefect({arguments})

if __name__ == "__main__":
    flow.serve({serve})
'''


class Prefect:
    """Runs flows on Prefect 3.

    Attributes
    ----------
    name : str
    away : bool
        The steps run on the machine of the flow run: the one that serves it, or a worker of a work pool.
    """

    name = NAME
    away = False

    def check(self, flow: Compiled, options: Options) -> list[Finding]:
        """What Prefect does not take of a flow.

        Parameters
        ----------
        flow : Compiled
        options : Options
        """
        found = list(_refused(flow))
        if options.image:
            what = "steps run in the process that runs the flow on Prefect, not in an image of their own"
            remedy = "leave --image out, and deploy the flow with image= to a work pool that starts containers"
            found.append(Finding("error", what, remedy))
        if options.schedule.startswith("asset:"):
            what = f"--schedule {options.schedule}: this export makes no triggers of Prefect's assets"
            remedy = "give a cron expression, or a trigger in Prefect's own terms: flow.serve(triggers=[…])"
            found.append(Finding("error", what, remedy))
        elif options.schedule and not is_cron(options.schedule):
            what = f"--schedule {options.schedule}: no cron expression of five fields, and none of {', '.join(WORDS)}"
            found.append(Finding("error", what, 'such as --schedule "0 6 * * 1", or edit the file that is written'))
        if unknown := sorted(options.more.keys() - {"on"}):  # "on" is where `run --on` leads: `run` refuses it
            found.append(Finding("error", f"--option {unknown[0]}: Prefect has none", "edit the file that is written"))
        if asking := [task.id for task in flow.tasks if {"cpu", "memory", "gpu"} & task.resources.keys()]:
            what = f"{', '.join(asking[:5])}: Prefect holds nothing back for what a task asks for"
            remedy = "limit the tag of a task, such as: prefect concurrency-limit create gpu 1"
            found.append(Finding("note", what, remedy))
        return found

    def export(self, flow: Compiled, options: Options) -> str:
        """A file whose `flow` is Prefect's, and which serves it when it is run.

        Parameters
        ----------
        flow : Compiled
        options : Options
        """
        place = flow.target if flow.file else _short(flow.target)
        extra = flow.request.extra
        usual = replace(flow, tasks=compile_flow(flow.graph, options.group))
        given: dict[str, Any] = {
            "group": options.group if options.group != "part" else None,
            "parts": None if _parts(flow) == _parts(usual) else max(_parts(flow).values(), default=0),
            "until": flow.request.until,
            "params": dict(flow.request.params),
            "set": dict(extra.get("set", {})),
            "env": flow.home.config.environment if flow.home.config.environment != "dev" else None,
            "python": flow.python if options.python else None,
            "environment": dict(options.environment),
            "full": bool(extra.get("full")),
            "secrets": options.secrets,
        }
        arguments = [
            repr(place),
            *(f"{name}={value!r}" for name, value in given.items() if value or (name == "parts" and value == 0)),
        ]
        serve = [f"name={flow.name!r}"]
        if options.schedule:
            serve.append(f"cron={WORDS.get(options.schedule, options.schedule)!r}")
        return FILE.format(flow=flow.name, arguments=", ".join(arguments), serve=", ".join(serve))

    def run(self, flow: Compiled, where: str, options: Options, done: Done) -> Ended:
        """Run the flow in this process, under Prefect's eyes, and wait for its end.

        Parameters
        ----------
        flow : Compiled
        where : str
            Must be "": PREFECT_API_URL names the server, and without it Prefect starts one for as long as it takes.
        options : Options
        done : callable

        Raises
        ------
        UsageError
            A place was named.
        MissingExtraError
        BackendError
            Prefect did not run it: its server does not answer, or refuses.
        """
        if where:
            what = f"prefect://{where}: the server of Prefect is not named here"
            raise UsageError(what, hint="set PREFECT_API_URL=http://HOST:4200/api and give --on prefect")
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        native = _native(flow, options.secrets, options.environment, done, __name__, "flow")
        from prefect.utilities.urls import url_for

        try:
            state: Any = native(return_state=True)
        except PenstockError:
            raise
        except Exception as error:  # what goes wrong within the flow comes as its state
            what = bounded(f"Prefect did not run {flow.name}: {type(error).__name__}: {error}", 1_000)
            raise BackendError(what, hint=f"is there a server of Prefect at PREFECT_API_URL={_server()}?") from error
        run = str(state.state_details.flow_run_id)
        outcome: Outcome = "cancelled" if state.is_cancelled() else "success" if state.is_completed() else "failed"
        reason = bounded(str(state.message or ""), 500)
        return Ended(run, str(state.name), str(url_for("flow-run", run) or ""), outcome, reason)


def to_prefect(
    declared: Any,
    *,
    group: str = "part",
    parts: int = MOST_PARTS,
    until: str | None = None,
    params: Mapping[str, Any] | None = None,
    set: Mapping[str, str] | None = None,  # noqa: A002  the option of the command line
    full: bool = False,
    env: str | None = None,
    python: str | None = None,
    secrets: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    variable: str = "flow",
) -> prefect.Flow[Any, Any]:
    """A workflow or flow as one of Prefect's: call it, or `.serve()` or `.deploy()` it.

    Parameters
    ----------
    declared : Workflow, Flow, Ref, or str
        As another file declares it, or that file's path, "churn.py" or "churn.py:variable". A relative path starts
        from the folder of the calling file where the file is there, else from the current folder.
    group : {"part", "step", "workflow"}, default="part"
        What makes one task: prepare, train and judge; each step; or all of it.
    parts : int, default=8
        Most tasks for the items of a mapped step, besides the one that gathers them, and no more than run at once
        (`jobs`); 0 leaves each step in one.
    until : str, optional
        Last step.
    params : dict, optional
        Other defaults of the flow's parameters.
    set : dict, optional
        Path → value of the declaration's own parameters, as `penstock run --set`.
    full : bool
        Whether samples are left out and all rows used.
    env : str, optional
        Environment whose settings hold.
    python : str, optional
        Path of the Python that runs the steps; this one by default.
    secrets : sequence of str
        Variables that the steps find in their environment, each from Prefect's Secret block of the same name in
        lower case with dashes: "DATABASE_URL" from the block "database-url". Its value is hidden in what Prefect shows.
    environment : dict, optional
        Variables that the steps find in their environment beside it.
    variable : str
        Name of the global variable that holds the flow, by which a deployment finds it again.

    Returns
    -------
    prefect.Flow
        Its parameters are those of the declaration, typed by their defaults.

    Raises
    ------
    UsageError
        No file declares it, or Prefect cannot take a parameter's name.
    MissingExtraError
        Prefect is not installed.
    PenstockError
        As for a plan.

    Examples
    --------
    The file ``churn_prefect.py`` beside ``churn.py``::

        from penstock import to_prefect

        flow = to_prefect("churn.py")

        if __name__ == "__main__":
            flow.serve(name="churn", cron="0 6 * * 1")
    """
    _prefect()
    caller = sys._getframe(1).f_globals  # noqa: SLF001  where a deployment looks for the flow
    declared = beside(declared, str(caller.get("__file__", "")))
    extra: dict[str, Any] = {"set": dict(set)} if set else {}
    flow = compiled(
        declared,
        group=group,
        parts=parts,
        until=until,
        params=params,
        extra=extra | ({"full": True} if full else {}),
        env=env,
        python=os.path.abspath(python) if python else None,
    )
    return _native(flow, tuple(secrets), environment or {}, None, str(caller.get("__name__", __name__)), variable)


def _native(
    flow: Compiled,
    secrets: tuple[str, ...],
    environment: Mapping[str, str],
    done: Done | None,
    module: str,
    variable: str,
) -> Any:
    """A flow of Prefect's that carries out ours."""
    native = _prefect()
    wrong = next(iter(_refused(flow)), None)
    if wrong is not None:
        raise UsageError(wrong.what, hint=wrong.remedy)
    commands = {
        task.id: tuple((flow.python, "-P", "-m", WORKER, *flow.arguments(steps, NAME)) for steps in task.calls)
        for task in flow.tasks
    }
    defaults = {name: value for name, value in flow.graph.params.items() if name not in flow.request.params}
    jobs = jobs_of(flow.home)
    plan = Plan(flow.name, flow.home.config.root, flow.tasks, commands, secrets, dict(environment), defaults, jobs)

    def carry(**params: Any) -> Any:
        return carry_out(plan, params, done)

    carry.__signature__ = signature(flow)  # type: ignore[attr-defined]  # what `inspect` reads
    carry.__module__, carry.__name__, carry.__qualname__ = module, variable, variable
    from prefect.task_runners import ThreadPoolTaskRunner

    return native.Flow(
        carry,
        name=flow.name,
        version=digest_value("flow", [[node.id, node.code] for node in flow.graph.nodes])[:16],
        description=_description(flow),
        task_runner=ThreadPoolTaskRunner(max_workers=jobs),
        persist_result=False,
        log_prints=False,
    )


def signature(flow: Compiled) -> Any:
    """The parameters of a flow as those of a function: by name, with default and type."""
    from inspect import Parameter, Signature

    values = set_params(flow.graph.params, flow.request.params)
    kinds = {name: str | None if value is None else type(value) for name, value in flow.graph.params.items()}
    named = Parameter.KEYWORD_ONLY
    return Signature([Parameter(n, named, default=value, annotation=kinds[n]) for n, value in values.items()])


def _parts(flow: Compiled) -> dict[str, int]:
    return {task.id: task.parts for task in flow.tasks if task.parts}


def _description(flow: Compiled) -> str:
    """The tasks as a list in Markdown, for the page of the flow and of its deployments."""
    lines = [f"* {line}" for line in described(flow, Prefect(), Options())[:-1]]
    more = [f"* and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
    return "\n".join(lines[:MOST_SHOWN] + more)


def _server() -> str:
    """Where Prefect's server is said to be, for people."""
    from prefect.settings import PREFECT_API_URL

    return masked(str(PREFECT_API_URL.value() or "")) or "(not set: one is started for the run)"


def _refused(flow: Compiled) -> list[Finding]:
    """Parameters that are none of a Python function's, or that Prefect keeps for itself."""
    found = []
    for name in flow.graph.params:
        wrong = not name.isidentifier() or keyword.iskeyword(name) or name.startswith(("_", "v__"))
        if wrong or name in RESERVED:
            what = f"Param({name!r}): a parameter of a Prefect flow cannot be called so"
            found.append(Finding("error", what, "give it another name, of letters, digits and _, a letter first"))
    return found


def _prefect() -> Any:
    try:
        import prefect
    except ImportError:
        raise MissingExtraError("this needs Prefect", hint="pip install 'penstock[prefect]'") from None
    return prefect


def is_cron(text: str) -> bool:
    """Whether a schedule is one of cron's words, or five fields each of which can be.

    Examples
    --------
    >>> is_cron("@daily"), is_cron("*/5 6-18 * * mon-fri"), is_cron("61 6 * * 1"), is_cron("0 6 * *")
    (True, True, False, False)
    """
    fields = text.lower().split()
    return text in WORDS or (len(fields) == len(FIELDS) and all(map(_is_field, fields, FIELDS)))


def _is_field(text: str, bounds: tuple[int, int, str]) -> bool:
    """Whether one field is a list of numbers, words and ranges, each perhaps with a step."""
    low, high, words = bounds
    known = {str(number) for number in range(low, high + 1)} | set(words.split())
    for one in text.split(","):
        span, slash, step = one.partition("/")
        ends = [end.lstrip("0") or end[-1:] for end in span.split("-")]
        if (slash and not step.strip("0").isdecimal()) or len(ends) > 2:
            return False
        if span != "*" and not known.issuperset(ends):
            return False
    return True


def _short(target: str) -> str:
    """A path below the current folder, as seen from it; any other as it is."""
    relative = os.path.relpath(target)
    return target if relative.startswith(os.pardir) else relative
