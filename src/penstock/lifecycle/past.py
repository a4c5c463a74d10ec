"""The life of a workflow at moments of its past, as ordinary steps: copies of it, each behind sources that are cut.

The life is lowered once; for each origin its calls are copied. So an origin is an ordinary flow: cached, resumed, and
trained beside the others; only the decisions come one after another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from penstock.core.flow import calls_of
from penstock.core.split import duration_s
from penstock.core.step import Call, Options, Param, Ref, call_of, output_of
from penstock.core.target import Target
from penstock.core.workflow import Workflow
from penstock.errors import DeclarationError
from penstock.lifecycle.lower import lower, stage
from penstock.stages.rules import rule_of

WHAT = "backtest"
"""Kind of such a run."""
CALENDAR = "calendar"
AS_OF = "as_of"
"""A parameter of this name is set to each origin."""
STATE = ("fitted", "about", "seen", "held", "first", "first_about", "looks")
"""What is handed from one origin to the next: the champion, the first one that there was, the looks so far."""
OF_ROWS = ("target", "roles", "schema", "waive")
"""What the audit of two tables is told; more would have the steps run again on other values, origin by origin."""
_NO_TIME = "declare time=, the column with the time of a row's event: a back-test asks what was known when"


def lower_backtest(
    workflow: Workflow, file: str, extra: Mapping[str, Any], *, seed: int | None = None
) -> tuple[tuple[Ref, ...], dict[str, Any]]:
    """The steps of a back-test; of its calendar alone while the origins are not known.

    Parameters
    ----------
    workflow : Workflow
    file : str
        The file that declares it.
    extra : dict
        "asked": "from", "until", "every", "window"; "cut": source → column. Then "calendar", from the first time.
    seed : int, optional
        Overrides the workflow's.

    Raises
    ------
    DeclarationError
        The workflow declares no time, or a source is named that it does not have.
    """
    if workflow.time is None:
        raise DeclarationError(f"{workflow.name} declares no time", where="backtest", hint=_NO_TIME)
    outputs, about = lower(workflow, file, seed=seed)
    life = {call.name: call for call in calls_of(outputs) if call.entry.startswith("penstock.")}
    if "official" in life["split"].kwargs:
        raise DeclarationError(
            f"{workflow.name} holds out an official test file: one that came later than an origin was not known at it",
            where="backtest",
            hint="declare a share or a span for the back-test: split=ps.Split(test='30d')",
        )
    _check_final(workflow)
    told = {"seed": about["seed"], "backtest": workflow.name}
    if "calendar" not in extra:
        return (Ref(_calendar(workflow, life, extra, about["seed"])),), told
    return _Past(workflow, life, extra["calendar"], extra["asked"], about["seed"]).outputs(), told


def _check_final(workflow: Workflow) -> None:
    """A final hold-out whose rows can be told, so that they are left alone.

    Raises
    ------
    DeclarationError
    """
    split, rule = workflow.split, rule_of(workflow.roles, workflow.split) if workflow.split.shares else ""
    if split.final is not None and rule != "time" and (rule == "random" or not split.stable):
        raise DeclarationError(
            f"{workflow.name} keeps a final hold-out by exact quotas, which are drawn anew of each table: a back-test "
            "cannot leave its rows alone",
            where="backtest",
            hint="declare final= without stable=False and by='random', or leave it out for the back-test",
        )


def _sources(workflow: Workflow) -> dict[str, Call]:
    return {call.name: call for call in calls_of((workflow.data,)) if call.kind == "source"}


def _calendar(w: Workflow, life: Mapping[str, Call], extra: Mapping[str, Any], seed: int) -> Call:
    sources = _sources(w)
    unknown = [name for name in extra["cut"] if name not in sources]
    if unknown:
        raise DeclarationError(
            f"--cut {unknown[0]}: no such source", where="backtest", hint=f"there are {', '.join(sources)}"
        )
    return stage(
        CALENDAR,
        Ref(life["validate"], "table"),
        sources={name: Ref(call, "table") for name, call in sources.items()},
        schema=Ref(life["validate"], "schema"),
        target=_final_labels(w),
        roles=w.roles,
        split=life["split"].kwargs["split"],
        seed=seed,
        asked=dict(extra["asked"]),
        cuts=dict(extra["cut"]),
        entry="penstock.stages.asknown:calendar",
    )


class _Past:
    """Copies of a workflow's life, each behind sources that are cut at a moment."""

    def __init__(
        self, workflow: Workflow, life: Mapping[str, Call], calendar: Mapping[str, Any], asked: Mapping[str, Any],
        seed: int,
    ) -> None:  # fmt: skip
        audit = dataclasses.replace(life["audit"], kwargs=_some(life["audit"].kwargs, OF_ROWS))
        self.w, self.life, self.calendar, self.asked = workflow, {**life, "audit": audit}, calendar, asked
        self.seed, self.labels = seed, _final_labels(workflow)
        self.known = {"target": workflow.hiding, "roles": workflow.roles}
        self.at_once = not self.labels.delay and not self.labels.time
        self._checked: dict[tuple[str, bool], Call] = {}

    def outputs(self) -> tuple[Ref, ...]:
        """What is wanted: the one document."""
        state: dict[str, Ref] = {}
        found: dict[str, list[Any]] = {"decisions": [], "splits": [], "measures": []}
        for origin in self.calendar["origins"]:
            if origin["skipped"]:
                continue
            copy, decided = self._origin(origin["at"], state)
            state = {name: Ref(decided, name) for name in STATE}
            found["decisions"].append(Ref(decided, "decision"))
            found["splits"].append(Ref(copy["split"], "report"))
            found["measures"].append(Ref(self._measured(origin, copy, state)))
        told = {
            "workflow": self.w.name,
            "every": self.asked["every"],
            "window": self.asked["window"] or self.asked["every"],
            "delay": self.labels.delay,
            "cuts": dict(self.calendar["cuts"]),
            "warnings": self._warnings(),
            "notes": self._notes(),
        }
        made = self._call("backtest:result", WHAT, (), origins=[dict(one) for one in self.calendar["origins"]],
                          told=told, **found)  # fmt: skip
        return (Ref(made),)

    def _table(self, at: str, *, labelled: bool) -> Ref:
        """The workflow's table as it stood at a moment; with `labelled` its labels are those that came later."""
        late = labelled and not self.at_once
        # Labels that a step makes of later events need these; where they stand beside the rows, nothing later is there.
        until = _later(at, self.labels.delay) if late and not self.calendar["labelled"] else at
        mark, blank = ("+" if late else ""), ({} if self.at_once or late else {"target": self.labels})
        given: dict[tuple[int, str], Ref] = {}
        for name, call in _sources(self.w).items():
            if column := self.calendar["cuts"].get(name):
                told = {"column": column, "at": until, **blank}
                cut = self._call("asknown:before", f"{name}@{until}{mark}", (Ref(call, "table"),), **told)
                given[id(call), "table"] = Ref(cut)
        data = copied((self.w.data,), given, f"@{at}{mark}", {AS_OF: at})[0]
        kept = self._call(
            "asknown:known",
            f"known@{at}{mark}",
            (data,),
            at=at,
            target=self.labels,
            roles=self.w.roles,
            **({"labels": False} if late else {}),
        )
        return Ref(kept)

    def checked(self, at: str, *, labelled: bool = False) -> Call:
        """The validation of the table as it stood at a moment; one where an origin and a window ask for the same."""
        key = (at, labelled and not self.at_once)
        if key not in self._checked:
            data = self.w.data
            given = {(id(call_of(data)), output_of(data)): self._table(at, labelled=labelled)}
            suffix = f"@{at}{'+' if key[1] else ''}"
            made = copied((Ref(self.life["validate"], "table"),), given, suffix, {AS_OF: at})[0]
            self._checked[key] = call_of(made)
        return self._checked[key]

    def _origin(self, at: str, state: Mapping[str, Ref]) -> tuple[dict[str, Call], Call]:
        """An origin's own steps by name, and what was decided at it."""
        validated = self.checked(at)
        given = {(id(self.life["validate"]), name): Ref(validated, name) for name in validated.options.outputs}
        wanted = ["split", "train", "package", "audit", *(name for name in ("decide",) if name in self.life)]
        suffix, params = f"@{at}", {AS_OF: at}
        served = self.life["package"].kwargs["fitted"]
        judged = self.life["compare"].kwargs["fitted"]
        refs = (served, judged, *(Ref(self.life[name], _first(self.life[name])) for name in wanted))
        served, judged, *others = copied(refs, given, suffix, params)
        copy = {name: call_of(ref) for name, ref in zip(wanted, others, strict=True)}
        given |= {(id(self.life[name]), out): Ref(call, out) for name, call in copy.items() for out in _outs(call)}
        asked = self.life["champion"].options.outputs
        reign = self._effect("incumbent", at, asked, judged=judged, **_past(state), **_decision(copy))
        given |= {(id(self.life["champion"]), name): Ref(reign, name) for name in asked}
        compared = copied((Ref(self.life["compare"]),), given, suffix, params)[0]
        decided = self._effect(
            "succession",
            at,
            (*STATE, "decision"),
            comparison=compared,
            audit=Ref(copy["audit"]),
            judged=judged,
            served=served,
            **{name: Ref(copy["package"], name) for name in ("input", "seen", "learned", "held")},
            **_past(state),
            **_decision(copy),
        )
        return copy | {"served": call_of(served)}, decided

    def _measured(self, origin: Mapping[str, Any], copy: Mapping[str, Call], state: Mapping[str, Ref]) -> Call:
        """The figures on the rows that came in the window after an origin."""
        compare = self.life["compare"]
        validated = self.checked(origin["stop"], labelled=True)
        served = Ref(copy["served"], output_of(self.life["package"].kwargs["fitted"]))
        return self._call(
            "backtest:measure",
            f"measure@{origin['at']}",
            (Ref(validated, "table"),),
            models={"gated": state["fitted"], "never": state["first"], "always": served},
            abouts={"gated": state["about"], "never": state["first_about"]},
            newest=Ref(copy["package"], "input"),
            start=origin["at"],
            stop=origin["stop"],
            schema=Ref(validated, "schema"),
            metrics=compare.kwargs["metrics"],
            seed=self.seed,
            **self.known,
            **self._final(),
            **({"own": compare.kwargs["own"]} if compare.kwargs.get("own") else {}),
            **_decision(copy),
        )

    def _call(self, entry: str, name: str, args: tuple[Any, ...], **kwargs: Any) -> Call:
        return Call(f"penstock.stages.{entry}", name, args, kwargs, Options(), part=name.partition("@")[0])

    def _effect(self, word: str, at: str, outputs: tuple[str, ...], **kwargs: Ref) -> Call:
        entry = f"penstock.lifecycle:{word}"
        return Call(entry, f"{word}@{at}", (), kwargs, Options(outputs=outputs), kind="effect", part=word)

    def _final(self) -> dict[str, Any]:
        """What tells the rows of the final hold-out, where a hash does: they are not measured either."""
        if self.w.split.final is None or rule_of(self.w.roles, self.w.split) == "time":
            return {}
        given = self.life["split"].kwargs
        return {"split": given["split"], "frozen_columns": given["frozen_columns"]}

    def _warnings(self) -> list[str]:
        """What is not as it was then."""
        found = [
            f"{name} is not cut: it has no column {self.w.time}; what steps take from it may have come later "
            f"(--cut {name}=COLUMN names its time)"
            for name, column in self.calendar["cuts"].items()
            if not column
        ]
        made = [c.name for c in calls_of((self.w.data,)) if c.kind != "source" and not calls_of((Ref(c),))[:-1]]
        found += self.calendar["zones"]
        return [*found, *(f"{name} takes no table: what it gives is not cut" for name in made)]

    def _notes(self) -> list[str]:
        """What of the past could not be brought back, and what was left alone."""
        notes = []
        if self.w.split.final is not None:
            notes.append("rows of the final hold-out were neither learned from nor measured: it stays closed")
        notes.append("cells that were written over since are as they stand today")
        if self.w.target.time and not self.w.target.delay:
            notes.append("labels come at their own time: figures are of all that have come since")
        notes.append("the audit looks at each origin's rows; steps are not run again on other values for it")
        return notes


def copied(
    outputs: tuple[Ref, ...], given: Mapping[tuple[int, str], Ref], suffix: str, params: Mapping[str, Any]
) -> list[Ref]:
    """References to copies of the calls behind some outputs.

    Parameters
    ----------
    outputs : tuple of Ref
    given : dict
        (`id(call)`, output) → what takes its place; nothing behind it is copied.
    suffix : str
        Appended to the name of each copy. Sources are not copied: there is one for all.
    params : dict
        Parameter → value; others stay parameters.
    """
    made: dict[int, Call] = {}

    def swap(value: Any) -> Any:
        if isinstance(value, Ref):
            call, output = call_of(value), output_of(value)
            return given[id(call), output] if (id(call), output) in given else Ref(made.get(id(call), call), output)
        if isinstance(value, Param) and value.name in params:
            return params[value.name]
        if type(value) in (list, tuple):
            return type(value)(swap(item) for item in value)
        if type(value) is dict:
            return {key: swap(item) for key, item in value.items()}
        return value

    for call in calls_of(outputs):
        if call.kind != "source":
            made[id(call)] = dataclasses.replace(
                call, name=f"{call.name}{suffix}", args=swap(call.args), kwargs=swap(call.kwargs)
            )
    return [swap(ref) for ref in outputs]


def _final_labels(w: Workflow) -> Target:
    """The target with the time after which a label is final: its delay, or the horizon that it looks ahead."""
    spans = [span for span in (w.target.delay, w.split.horizon) if span]
    return dataclasses.replace(w.hiding, delay=max(spans, key=duration_s, default=None))


def _some(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _outs(call: Call) -> tuple[str, ...]:
    return call.options.outputs or ("",)


def _first(call: Call) -> str:
    return _outs(call)[0]


def _past(state: Mapping[str, Ref]) -> dict[str, Ref]:
    return {f"past_{name}": ref for name, ref in state.items()}


def _decision(copy: Mapping[str, Call]) -> dict[str, Ref]:
    return {"decision": Ref(copy["decide"], "decision")} if "decide" in copy else {}


def _later(at: str, delay: str | None) -> str:
    """A moment some time later, as text."""
    import datetime as dt

    moment = dt.datetime.fromisoformat(at) + dt.timedelta(seconds=duration_s(delay) if delay else 0.0)
    return moment.isoformat(sep=" ").removesuffix(" 00:00:00")
