"""`penstock show`: one run or one version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Json, Quiet

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.core.run import Run
    from penstock.lifecycle.records import Standing

MOST_FIGURES = 10
"""Names of figures of one step in a line."""
MOST_OPENINGS = 5
"""So many openings of the final hold-out are told one by one."""
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        show_default=False,
        help="run:3f9c, last, last~1, churn@7 or churn; the newest run by default.",
    ),
]


def command(
    name: Name = None,
    code: Annotated[
        bool, typer.Option("--code", help="Of a run: what its code differed in from its commit, and nothing else.")
    ] = False,
    figures: Annotated[
        str | None,
        typer.Option(
            "--figures", metavar="DIR", show_default=False, help="Write the figures that its steps logged to a folder."
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Find it and show it."""
    from penstock.cli.output import document
    from penstock.cli.projects import here
    from penstock.core.run import Run
    from penstock.lifecycle.naming import run_or_version
    from penstock.lifecycle.records import standing

    home = here(make=False)
    found = run_or_version(home, name)
    if code:
        return _tell_code(home, found)
    if figures is not None:
        return _write_figures(home, found, figures, as_json=as_json)
    if isinstance(found, Run):
        document(_run_json(home, found)) if as_json else _tell_run(home, found, quiet=quiet)
        return 0
    one = standing(home, found)
    document(_version_json(home, one)) if as_json else _tell_version(home, one, quiet=quiet)
    return 0


# ── a run ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _run_json(home: Home, run: Run) -> dict[str, Any]:
    from penstock.lifecycle.alive import state_of
    from penstock.lifecycle.backtest import found_of
    from penstock.lifecycle.records import figures_of, steps_of
    from penstock.lifecycle.remote_tasks import sign_of

    steps, sign = steps_of(home, run), sign_of(home, run)
    return {
        "run": run.id,
        "flow": run.flow,
        "kind": run.kind,
        "state": state_of(run),
        "started": run.started,
        "ended": run.ended,
        "counts": dict(run.counts),
        "info": dict(run.info),
        **({"last_sign": sign} if sign is not None else {}),
        "steps": [seen.to_json() for seen in steps.values()],
        "figures": {name: one["shown"] for name, one in figures_of(home, run, steps).items()},
        **({"backtest": found_of(home, run)} if "backtest" in run.info else {}),
    }


def _tell_run(home: Home, run: Run, *, quiet: bool) -> None:
    from penstock.cli.output import clean, columns, duration, moment, paint, say
    from penstock.cli.progress import counts_text
    from penstock.cli.tracked import code_lines, cost_line, parameter_lines, schedule_lines, search_lines, sign_text
    from penstock.lifecycle.alive import state_of
    from penstock.lifecycle.figures import figure_text
    from penstock.lifecycle.final import openings
    from penstock.lifecycle.records import figures_of, steps_of

    took = f" · {duration(run.ended - run.started)}" if run.ended else ""
    head = f"{run.flow} · run {run.id[:4]} · {run.called} · {state_of(run)} · {counts_text(run.counts)}{took}"
    say(paint(head, "bold"))
    if quiet:
        return
    info = run.info
    say(f"  {clean(str(info.get('file', 'in memory')))} · {moment(run.started)} · {clean(str(info.get('who', '')))}")
    if info.get("note"):
        say(f"  note  {clean(info['note'])}")
    if "backend" in info:
        sign = sign_text(home, run)
        say(f"  on {clean(info['backend']['name'])} as {clean(info['backend']['run'])}{f' · {sign}' if sign else ''}")
    for text in (*schedule_lines(home, run.flow), *parameter_lines(info), *code_lines(run)):
        say(f"  {text}")
    if "backtest" in info:
        from penstock.cli.backtest import tell_again

        tell_again(home, run)
        return
    steps = steps_of(home, run)
    rows = [
        [_mark(seen.state, seen.action), seen.step, duration(seen.wall_s) if seen.action == "run" else seen.action,
         seen.error["what"] if seen.error else seen.reason]
        for seen in steps.values()
    ]  # fmt: skip
    if rows:
        for line in columns(["", "step", "time", "why"], rows, right=[2]):
            say(line)
    for text in _logged_lines(home, run, steps):
        say(text)
    for one in figures_of(home, run, steps).values():
        say(f"  {figure_text(one)}")
    for text in (*cost_line(info), *search_lines(home, run, steps)):
        say(f"  {text}")
    if "version" in info:
        say(f"  version {run.flow}@{info['version']}: penstock show {run.flow}@{info['version']}")
    for one in openings(home, run.flow):
        if one.body["run"] == run.id:
            say(f"  opened the final hold-out for {run.flow}@{one.body['version']}: {clean(one.body['summary'])}")
    if run.state == "failed":
        _tell_failure(steps)


def _tell_code(home: Home, found: Any) -> int:
    """The difference of a run's code from its commit, as `git apply` takes it."""
    from penstock.cli.output import harmless, say
    from penstock.cli.tracked import difference_of

    say(harmless(difference_of(home, found)), end="")
    return 0


def _write_figures(home: Home, found: Any, folder: str, *, as_json: bool) -> int:
    """Write logged figures as files."""
    from penstock.cli.output import clean, document, say
    from penstock.cli.tracked import write_figures

    paths = write_figures(home, found, folder)
    if as_json:
        document({"files": paths})
    else:
        for path in paths:
            say(clean(path))
    return 0


def _logged_lines(home: Home, run: Run, steps: Any) -> list[str]:
    """Figures that steps logged, and what else they told of themselves in a word or a number."""
    from penstock.cli.output import clean, size_text
    from penstock.lifecycle.records import notes_of
    from penstock.lifecycle.stage_ids import STAGES
    from penstock.lifecycle.story import logged

    lines, any_figures = [], False
    for step, notes in notes_of(home, steps).items():
        figures = notes.get("figures", {})
        told = logged(notes)
        drawn = [f"figure {name} ({one['kind']}, {size_text(one['size'])})" for name, one in figures.items()]
        told += [*drawn[:MOST_FIGURES], *([f"{len(drawn) - MOST_FIGURES} more"] if len(drawn) > MOST_FIGURES else [])]
        if told and (figures or step not in STAGES):
            lines.append(f"  {clean(step)} logged {clean(' · '.join(told))}")
        any_figures = any_figures or bool(figures)
    return [*lines, f"  its figures as files: penstock show run:{run.id[:4]} --figures DIR"] if any_figures else lines


def _mark(state: str, action: str) -> str:
    return {"failed": "✗", "cancelled": "✗", "skipped": "→"}.get(state, "=" if action == "reuse" else "✓")


def _tell_failure(steps: Any) -> None:
    """The traceback of the step that failed, as it was shown when it did."""
    from penstock.cli.output import harmless, say

    for seen in steps.values():
        if seen.error is not None and seen.error.get("traceback"):
            say(f"\n{seen.step} failed:\n{harmless(seen.error['traceback'])}", end="")


# ── a version ───────────────────────────────────────────────────────────────────────────────────────────────────


def _version_json(home: Home, one: Standing) -> dict[str, Any]:
    from penstock.lifecycle.final import opening_json, openings
    from penstock.lifecycle.own import types_of
    from penstock.lifecycle.records import parts_of

    files = {name: artifact.to_json() for name, artifact in parts_of(home, one.version).items()}
    for data in files.values():
        data.pop("text", None)
    needs = {name: told.get("digest") for name, told in types_of(home, parts_of(home, one.version)).items()}
    opened = [opening_json(one.version.workflow, entry) for entry in openings(home, one.version.workflow)]
    git = dict(one.version.body.get("git", {}))
    return one.to_json() | {"git": git, "needs": needs, "final": opened, "files": files}


def _tell_version(home: Home, one: Standing, *, quiet: bool) -> None:
    from penstock.cli.output import clean, moment, paint, say, size_text
    from penstock.cli.tracked import schedule_lines
    from penstock.lifecycle.figures import figure_text
    from penstock.lifecycle.own import needs_of, types_of
    from penstock.lifecycle.records import NOT_COMPARED, parts_of

    version, body = one.version, one.version.body
    say(paint(" · ".join([version.name, *one.aliases, one.outcome]), "bold"))
    if quiet:
        return
    run = f" · run:{body['run'][:4]}" if body.get("run") else ""
    git = body.get("git", {})
    commit = f" · commit {git['commit'][:10]}{' (with changes)' if git.get('dirty') else ''}" if git else ""
    say(f"  registered {moment(version.entry.at)} by {clean(version.entry.who)}{run}{commit}")
    if "set" in body:
        from penstock.cli.tracked import overrides_line

        say(f"  {overrides_line(body['set'])}")
    rows = body.get("rows", {})
    if rows:
        say(f"  rows  train {rows.get('n_train', 0):,} · held out {rows.get('n_test', 0):,}")
    say("  cross-validated")
    for name in sorted(one.figures, key=lambda name: name != one.primary):
        say(f"    {figure_text(one.figures[name])}")
    files = parts_of(home, version)
    if needs := needs_of(types_of(home, files)):
        tree = " (training had changes that no commit holds)" if git.get("dirty") else ""
        say(f"  needs: {clean(', '.join(needs))}, modules of the project, as they were in training{tree}")
    for text in _decision_lines(home, files):
        say(text)
    if one.verdict is not None:
        against = f", against {one.verdict.body.get('against') or 'the baseline'}"
        fought = one.verdict.body["outcome"] != NOT_COMPARED
        say(f"  gate{against if fought else ''}: {clean(one.verdict.body['sentence'])}")
        for rule in one.verdict.body["rules"]:
            say(f"    {clean(rule['text'])}")
        for note in one.verdict.body.get("notes", ()):
            say(f"    note: {clean(note)}")
    for text in (*_final_lines(home, version), *_audit_lines(home, files), *_origin_lines(home, version, files)):
        say(text)
    for text in schedule_lines(home, version.workflow):
        say(f"  {text}")
    say(
        f"  bundle {version.bundle.digest[:12]}… · {len(files)} files, {size_text(sum(a.size for a in files.values()))}"
    )


def _decision_lines(home: Home, files: Any) -> list[str]:
    """Candidates, threshold, and what is served, where the version has them."""
    from penstock.cli.output import clean
    from penstock.lifecycle.story import leaders

    def load(name: str) -> Any:
        return home.formats.load(files[name], home.objects) if name in files else {}

    board = leaders(load("metrics"), {}, most=20)
    found = ["  candidates", *(f"    {clean(text)}" for text in board)] if board else []
    if "threshold" in files:
        found.append(f"  {clean(load('threshold')['summary'])}")
    if "refit" in files:
        found.append(f"  {clean(load('refit')['summary'])}; the verdict is about the twin")
    if "learned" in files:
        learned = load("learned")
        names = "content" if learned["by"] == "content" else ", ".join(learned["columns"])
        found.append(f"  learned from {learned['n_rows']:,} rows, known again by {clean(names)}")
    return found


def _origin_lines(home: Home, version: Any, files: Any) -> list[str]:
    """The environment that it was made in, and how near it came when it was done again."""
    from penstock.cli.output import clean, moment
    from penstock.lifecycle.environments import summary
    from penstock.lifecycle.reproduce import reproductions

    lines = []
    if "machine" in files:
        lines.append(f"  made with {clean(summary(home.formats.load(files['machine'], home.objects)))}")
    if done := reproductions(home, version):
        last, times = done[-1], f" ({len(done)} times tried)" if len(done) > 1 else ""
        lines.append(f"  reproduced: {clean(last.body['summary'])} · {moment(last.at)} by {clean(last.who)}{times}")
    return lines


def _final_lines(home: Home, version: Any) -> list[str]:
    """How often the final hold-out of the workflow was opened, and by whom; what it said of this version."""
    from penstock.cli.output import clean, moment
    from penstock.lifecycle.final import often, openings

    opened = openings(home, version.workflow)
    if not opened:
        return []
    lines = [f"  final hold-out of {version.workflow}: opened {often(len(opened))}"]
    if (earlier := len(opened) - MOST_OPENINGS) > 0:
        lines[0] += f", the first {earlier:,} not shown"
    for one in opened[-MOST_OPENINGS:]:
        mine = one.body["version"] == version.number
        of = clean(str(one.body["summary"])) if mine else f"for {version.workflow}@{one.body['version']}"
        lines.append(f"    {one.number}: {of} · run:{str(one.body['run'])[:4]} · {moment(one.at)} by {clean(one.who)}")
    return lines


def _audit_lines(home: Home, files: Any) -> list[str]:
    from penstock.cli.output import clean

    proof = home.formats.load(files["audit"], home.objects)
    found = [f"    {one['grade']}: {clean(one['what'])}" for one in proof["findings"]]
    return [f"  audit: {clean(proof['summary'])}", *found]
