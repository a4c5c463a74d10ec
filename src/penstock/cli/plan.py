"""`penstock plan`: what a run would do, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Env, Force, Json, Params, Quiet, Refresh, Seed, Target

if TYPE_CHECKING:
    from penstock.core.facts import Facts
    from penstock.core.flow import Graph
    from penstock.core.plan import Decision, Plan

_COLOURS = {"run": "yellow", "wait": "dim", "reuse": "green", "skip": "dim"}


def command(
    file: Target = None,
    why: Annotated[bool, typer.Option("--why", help="For each step all that differs from last time.")] = False,
    param: Params = None,
    force: Force = None,
    refresh: Refresh = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="STEP", show_default=False, help="Plan up to this step.")
    ] = None,
    seed: Seed = None,
    env: Env = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Plan and tell; nothing runs but the import of the file."""
    from penstock.cli.output import clean, document, say
    from penstock.cli.projects import WORKER, parameters, target
    from penstock.lifecycle.requests import told
    from penstock.lifecycle.run import Request, make_plan
    from penstock.lifecycle.story import held_out

    flags = {"seed": seed}
    found = target(file, env, flags)
    request = Request(
        found.file,
        found.variable,
        params=parameters(param),
        force=tuple(force or ()),
        refresh=tuple(refresh or ()),
        until=until,
        flags=flags,
    )
    graph, plan, facts = make_plan(found.home, request, WORKER)
    if as_json:
        document(_document(plan) | {"requests": told(graph, facts, found.home.config)})
        return 0
    if not quiet:
        _tell(graph, plan, facts, why=why)
        for text in told(graph, facts, found.home.config):
            say(f" {clean(text)}")
        for text in held_out(graph, plan, lambda one: found.home.formats.load(one, found.home.objects)):
            say(f" {clean(text)}")
    say(f"{graph.name}: {counts(plan)}")
    return 0


def _document(plan: Plan) -> dict[str, Any]:
    data = plan.to_json()
    for step, decision in zip(data["steps"], plan.decisions, strict=True):
        step["because"] = decision.because
    actions = ("run", "wait", "reuse", "skip")
    return data | {"counts": {action: plan.count(action) for action in actions}}  # type: ignore[arg-type]  # literals


def _tell(graph: Graph, plan: Plan, facts: Facts, *, why: bool) -> None:
    from penstock.cli.output import clean, clip, paint, say, width

    label = max((len(decision.step) for decision in plan.decisions), default=0)
    for decision in plan.decisions:
        head = f" {paint(f'{decision.action:<5}', _COLOURS[decision.action])}  {clean(decision.step):<{label}}  "
        reason = clean(decision.because)
        say(head + (reason if why else clip(reason, width() - label - 10)))
        for text in _all(graph, decision, facts) if why else ():
            say(f" {'':<5}  {'':<{label}}  {clean(text)}")


def _all(graph: Graph, decision: Decision, facts: Facts) -> list[str]:
    """Everything in which a step's recipe differs from that of the last decision on it, but what the plan says."""
    from penstock.lifecycle.changes import changes

    before = facts.previous.get(decision.step)
    if before is None or decision.recipe is None or before.recipe == decision.recipe:
        return []
    node = graph.node(decision.step)
    codes = {**facts.codes, **graph.codes}
    source = facts.sources.get(node.id)
    found = changes(
        (codes.get(before.code, {}), before.tree, before.source),
        (codes.get(node.code, {}), decision.tree, source),
        node.path or node.id,
        (codes.get(before.source or ""), codes.get(source or "")),
    )
    return [str(reason) for reason in found if reason != decision.reason]


def counts(plan: Plan) -> str:
    """How many steps have which action, as text."""
    waiting = "waiting for them" if plan.count("run") else "waiting for what the ledger says"
    words = {"run": "to run", "wait": waiting, "reuse": "to reuse", "skip": "to skip"}
    parts = [f"{plan.count(a)} {word}" for a, word in words.items() if plan.count(a)]  # type: ignore[arg-type]  # literals
    return ", ".join(parts) or "no steps"
