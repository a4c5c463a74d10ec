"""What a report tells in words: the verdict, what was compared, the data, the code, what to do next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from penstock.core.run import Entry
from penstock.lifecycle import report_profile
from penstock.lifecycle.environments import summary
from penstock.lifecycle.evidence import STAGES, Evidence
from penstock.lifecycle.final import often
from penstock.lifecycle.own import needs_of
from penstock.lifecycle.records import NOT_COMPARED, outcome_of
from penstock.lifecycle.report_figures import capital, interval, number
from penstock.lifecycle.versions import CHAMPION
from penstock.lifecycle.wiring import drawing

MAX_COLUMNS = 300
MAX_CODE = 100
MAX_LEVELS = 8
MARKS = {"pass": ("✓", "passed"), "fail": ("✗", "failed"), "unknown": ("?", "not enough evidence")}
GRADES = {"error": "bad", "warning": "warn", "note": "plain"}


def moment(at: float) -> str:
    """A Unix time in UTC, the same on every machine.

    Examples
    --------
    >>> moment(0.0)
    '1970-01-01 00:00 UTC'
    """
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def standing(seen: Evidence) -> dict[str, str]:
    """Where the version stands, in a word, a sentence and its reason; "tone" is good, warn, bad or plain."""
    name, verdict = seen.name, seen.verdict
    if seen.is_try:
        why = "Cross-validated on its training rows only: the hold-out was not opened, and no gate has judged it."
        return _stands("a try", "plain", capital(name), why)
    why = capital(str(verdict.body["sentence"])) if verdict is not None else ""
    passed = verdict is not None and bool(verdict.body["passed"])
    if seen.is_champion:
        if verdict is not None and not passed:
            return _stands("champion", "warn", f"{name} is the champion, past its gate", why)
        return _stands("champion", "good", f"{name} is the champion", why)
    if seen.reigned:
        now = f"; {seen.champion.name} is now" if seen.champion is not None else ""
        return _stands("former champion", "plain", f"{name} was the champion{now}", why)
    if verdict is None:
        return _stands("not judged", "plain", f"{name} has no verdict yet", "No gate has judged it.")
    if passed and seen.is_challenger:
        return _stands("challenger", "good", f"{name} is the challenger: it passed its gate and waits", why)
    if passed:
        return _stands("passed", "plain", f"{name} passed its gate and was not promoted", why)
    if verdict.body["outcome"] == "not enough evidence" and not verdict.body.get("audit_errors"):
        return _stands("undecided", "warn", f"{name}: there is not enough evidence to decide", why)
    return _stands("refused", "bad", f"{name} was refused", why)


def _stands(word: str, tone: str, sentence: str, why: str) -> dict[str, str]:
    return {"word": word, "tone": tone, "sentence": sentence, "why": why}


def rules(seen: Evidence) -> list[dict[str, Any]]:
    """The gate's rules, each with its mark, what was found, and as it was declared; first what the audit refused."""
    if seen.verdict is None:
        return []
    found = []
    if n := int(seen.verdict.body.get("audit_errors", 0)):
        mark, word = MARKS["fail"]
        text = f"the audit found {n} error{'s' if n > 1 else ''}; a version with one does not pass"
        found.append({"mark": mark, "word": word, "tone": "bad", "text": text, "rule": "audit"})
    for one in seen.verdict.body.get("rules", ()):
        mark, word = MARKS.get(one["outcome"], ("?", one["outcome"]))
        text = str(one["text"]).removesuffix(mark).rstrip()
        tone = {"pass": "good", "fail": "bad"}.get(one["outcome"], "warn") if one["decides"] else "plain"
        if not one["decides"]:
            mark, word = "–", "does not decide"
        found.append({"mark": mark, "word": word, "tone": tone, "text": text, "rule": one["rule"]})
    return found


def compared(seen: Evidence) -> list[str]:
    """What was compared with what, on which rows, and how far the verdict reaches."""
    if seen.verdict is None:
        return []
    c, against = seen.comparison, seen.verdict.body.get("against")
    if seen.verdict.body["outcome"] == NOT_COMPARED:
        return [f"{seen.name} was compared with nobody: the audit refused it, and held-out rows stayed closed."]
    rows = f"the same {c['n_rows']:,} held-out rows" if "n_rows" in c else "the same held-out rows"
    if against:
        found = [f"{seen.name} was compared with {against}, then the champion, and with a baseline, on {rows}."]
    else:
        found = [f"There was no champion yet: {seen.name} was compared with a baseline, on {rows}."]
    if c.get("scope"):
        found.append(f"The verdict is {c['scope']}.")
    if seen.look is not None:
        found.append(f"It was look {seen.look} of this workflow at held-out rows.")
    if not c:
        found.append("The comparison's figures are not kept any more.")
    return found


def opened(seen: Evidence) -> list[str]:
    """How often the final hold-out was opened, and what it said of this version: no rule reads it."""
    if not seen.openings:
        return []
    last, workflow = seen.openings[-1], seen.version.workflow
    times, run = often(len(seen.openings)), str(last.body["run"])[:4]
    when = f"last on {moment(last.at)} by run {run} for {workflow}@{last.body['version']}"
    mine = [one for one in seen.openings if one.body["version"] == seen.version.number]
    said = [f"Of {seen.name} it said: {mine[-1].body['summary']}."] if mine else []
    return [f"The final hold-out of {workflow} was opened {times}, {when}.", *said]


def remarks(seen: Evidence) -> list[str]:
    """What qualifies the verdict and is no rule of the gate: rows that the champion has seen, labels of one kind."""
    if seen.verdict is None:
        return []
    return [capital(str(one)) for one in seen.verdict.body.get("notes") or seen.comparison.get("notes") or ()]


def tiles(seen: Evidence) -> list[dict[str, str]]:
    """The few figures that one reads first."""
    metrics, c = seen.files["metrics"], seen.comparison
    found = []
    primary = metrics.get("primary")
    held = (c.get("metrics") or {}).get(primary, {}).get("challenger")
    if held:
        shown = held["shown"]
        found.append(_tile(f"held out: {shown['name']}", shown["value"], _noted(shown)))
    crossed = (metrics.get("metrics") or {}).get(primary)
    if crossed:
        shown = crossed["shown"]
        found.append(_tile(f"cross-validated: {shown['name']}", shown["value"], _noted(shown)))
        found.append(
            _tile("cross-validated: baseline", crossed.get("baseline_shown"), "a model that looks at no column")
        )
    worst = next((one for one in metrics.get("slices") or () if not one["small"] and one["low"] is not None), None)
    if worst:
        found.append(_tile(f"worst slice: {worst['label']}", worst["shown"]["value"], _noted(worst["shown"])))
    rows = seen.version.body.get("rows", {})
    if "n_train" in rows and "n_test" in rows:
        held = f"and {rows['n_test']:,} held out"
        found.append({"label": "rows to learn from", "value": f"{rows['n_train']:,}", "note": held})
    return found


def _tile(label: str, value: float | None, note: str) -> dict[str, str]:
    return {"label": label, "value": number(value), "note": note}


def _noted(shown: Mapping[str, Any]) -> str:
    return " · ".join(part for part in (interval(shown), "lower is better" if shown["lower_is_better"] else "") if part)


def audited(seen: Evidence) -> dict[str, Any] | None:
    """What the audit found, tried and did not try."""
    proof = seen.files["audit"]
    if not proof:
        return None
    findings = [
        {**one, "grade": "waived" if one.get("kind") == "waived" else one["grade"]}
        | {"tone": GRADES.get(one["grade"], "plain")}
        for one in proof.get("findings", ())
    ]
    total = sum(proof.get("n_findings", {}).values())
    return {
        "summary": capital(str(proof.get("summary", ""))),
        "findings": findings,
        "more": max(total - len(findings), 0),
        "tried": [{"what": one["what"], "rows": f"{one['rows']:,}"} for one in proof.get("tried", ())],
        "not_tried": proof.get("not_tried", ()),
    }


def data(seen: Evidence) -> dict[str, Any]:
    """How the data was read, checked and divided, and the columns of the table."""
    told = [(stage, "", seen.reports.get(stage, {})) for stage in STAGES]
    sources = seen.version.body.get("sources", {})
    told = [*(("ingest", f"{_short(_file(seen, step))}: ", seen.reports.get(step, {})) for step in sources), *told]
    notes = [note for stage in ("validate", "split") for note in seen.reports.get(stage, {}).get("notes", ())]
    schema, reads = seen.files["schema"], _reads(seen)
    every = schema.get("columns") or [{"name": name, "role": "feature"} for name in reads]
    profiles = seen.files["profile"].get("columns", {})
    columns = [_column(one, reads.get(one["name"]), schema, profiles.get(one["name"])) for one in every[:MAX_COLUMNS]]
    before, older = seen.before
    return {
        "told": [
            {"stage": stage, "text": before + str(found["summary"])}
            for stage, before, found in told
            if "summary" in found
        ],
        "notes": notes,
        "columns": columns,
        "more": max(len(every) - MAX_COLUMNS, 0),
        "profiled": seen.files["profile"].get("n"),
        "moved": {"since": before, **report_profile.moved(profiles, older)} if before and profiles else None,
        "weight": seen.files["metrics"].get("weight"),
        "target": schema.get("target", ""),
    }


def _reads(seen: Evidence) -> dict[str, Mapping[str, Any]]:
    """Columns that the model reads, by name."""
    return {one["name"]: one for one in seen.files["input"].get("columns", ())}


def _column(
    one: Mapping[str, Any], reads: Mapping[str, Any] | None, schema: Mapping[str, Any], profile: Any
) -> dict[str, Any]:
    """A row of the table of columns: what the schema allows, and what training rows held."""
    levels = one.get("categories") or (reads or {}).get("categories")
    role = str(one.get("role", ""))
    known: Mapping[str, int] | None = (profile or {}).get("counts", {})
    if one["name"] == schema.get("target"):
        role, levels, known = "target", schema.get("classes") or levels, None
    hidden = bool(one.get("redacted"))
    held = report_profile.column(profile) if profile else {"missing": "", "said": "", "drawn": ""}
    between = "" if levels or reads is None else _between(reads)
    if hidden or not profile:
        held["said"] = "redacted" if hidden else between
    return {
        "held": held,
        "name": one["name"],
        "role": role,
        "said": "feature, not read" if role == "feature" and reads is None else role,
        "type": one.get("type") or (reads or {}).get("kind", ""),
        "missing": held["missing"] or ("allowed" if one.get("null") else "no"),
        "allowed": "redacted" if hidden else _levels(levels, known) if levels else _between(one),
        "unseen": {"refuse": "refused", "count": "counted"}.get((reads or {}).get("unseen", ""), "") if levels else "",
    }


def _levels(levels: list[Any], counts: Mapping[str, int] | None) -> str:
    """Classes, or levels that enough training rows share; a text that few share may name a person."""
    named = [str(level) for level in levels if counts is None or counts.get(str(level), 0) >= report_profile.RARE]
    shown, more = ", ".join(named[:MAX_LEVELS]), len(levels) - len(named[:MAX_LEVELS])
    return f"{shown} … {more:,} more" if shown and more else shown or f"{more:,} texts"


def _between(one: Mapping[str, Any]) -> str:
    low, high = one.get("min"), one.get("max")
    if low is None and high is None:
        return ""
    ends = [_bound(end) for end in (low, high)]
    return " … ".join(ends)


def _bound(value: Any) -> str:
    if value is None:
        return "any"
    return f"{value:,.6g}".replace("-", "−") if isinstance(value, int | float) else str(value)


def environment(seen: Evidence) -> dict[str, Any]:
    """Versions of Python and the libraries that the code reaches, and the machine that trained."""
    libraries = [{"name": name, "version": version} for name, version in seen.files["environment"].items()]
    made = seen.results["train"].made if "train" in seen.results else {}
    threads = made.get("threads")
    machine = [str(made["cpu"])] if made.get("cpu") else []
    machine += [f"{threads} thread{'s' if threads != 1 else ''}"] if threads else []
    if kept := seen.files.get("machine"):
        machine = [summary(kept)]
    return {"libraries": libraries, "machine": ", ".join(machine)}


def lineage(seen: Evidence) -> dict[str, Any]:
    """Where it comes from: sources, code, commit, run, and the digests that name them."""
    body = seen.version.body
    git = body.get("git") or {}
    names = list(seen.code)
    return {
        "sources": [
            {"step": step, "file": _file(seen, step), "digest": digest}
            for step, digest in body.get("sources", {}).items()
        ],
        "code": [{"name": name, "digest": seen.code[name]} for name in names[:MAX_CODE]],
        "code_said": _code_said(len(names)),
        "commit": git.get("commit", ""),
        "dirty": bool(git.get("dirty")),
        "run": body.get("run", ""),
        "file": seen.file,
        "recipes": [{"step": step, "digest": digest} for step, digest in body.get("recipes", {}).items()],
        "bundle": "" if seen.is_try else seen.version.bundle.digest,
        "drawn": Markup(drawing(seen.results, seen.name)),  # noqa: S704  our own drawing
        "declaration": body.get("declaration", ""),
    }


def _code_said(n: int) -> str:
    """How much code of the project's own decided the result.

    Examples
    --------
    >>> _code_said(0), _code_said(1)
    ('only the declaration itself', "1 definition of the project's own")
    """
    return f"{n:,} definition{'s' if n > 1 else ''} of the project's own" if n else "only the declaration itself"


def _file(seen: Evidence, step: str) -> str:
    """A source's file as the run read it; its step where that is not on record."""
    sources = seen.run.info.get("sources", {}) if seen.run is not None else {}
    return str(sources.get(step) or step)


def _short(file: str) -> str:
    """A file of the project by its path, one outside of it by its name; its path is told under lineage.

    Examples
    --------
    >>> _short("data/customers.csv"), _short("../../shared/customers.csv")
    ('data/customers.csv', 'customers.csv')
    """
    return file.rpartition("/")[2] if file.startswith("../") else file


def history(seen: Evidence) -> list[dict[str, str]]:
    """Every decision on this version, oldest first: who, when, why."""
    if seen.is_try:
        return []
    entry = seen.version.entry
    found = [(entry.at, 0, _row(entry, f"{seen.name} registered"))]
    if seen.verdict is not None:
        word = outcome_of(seen.verdict.body)
        found.append((seen.verdict.at, 1, _row(seen.verdict, f"verdict {seen.verdict.number}: {word}")))
    found += [
        (one.at, 2, _row(one, f"final hold-out opened, opening {one.number}: {one.body['summary']}"))
        for one in seen.openings
        if one.body["version"] == seen.version.number
    ]
    for move in seen.moves:
        name, to = move.stream.rpartition("/")[2], move.body["version"]
        now = f"{seen.version.workflow}@{to}" if to is not None else "nobody"
        found.append((move.at, 2 if name != CHAMPION else 3, _row(move, f"{name} → {now}")))
    return [row for _, _, row in sorted(found, key=lambda one: one[:2])]


def _row(entry: Entry, what: str) -> dict[str, str]:
    return {"at": moment(entry.at), "what": what, "who": entry.who.partition("@")[0], "why": entry.why}


def commands(seen: Evidence) -> list[dict[str, str]]:
    """What to do next, and how to make it again."""
    name, workflow = seen.name, seen.version.workflow
    variable = seen.run.info.get("variable") if seen.run is not None else None
    file = (seen.file or f"{workflow}.py") + (f":{variable}" if variable else "")
    found = []
    if seen.is_try:
        return [
            _command(
                f"penstock run {file}", "let the gate judge it on held-out rows: a version, or the reason why not"
            ),
            _command(f"penstock try {file}", "try a change; the hold-out stays closed"),
            _command(f"penstock runs {workflow}", "the tries beside it"),
        ]
    if seen.is_champion:
        found.append(_command(f"penstock serve {workflow}", "answer over HTTP with the champion"))
        found.append(_command(f"penstock rollback {workflow}", "go back to the champion before it"))
    elif seen.verdict is not None and seen.verdict.body["passed"]:
        found.append(_command(f'penstock promote {name} --because "…"', "make it the champion, on record"))
    else:
        found.append(_command(f"penstock try {file}", "try a change; the hold-out stays closed"))
    found.append(_command(f"penstock lineage {name}", "follow it back to data and code"))
    commit = (seen.version.body.get("git") or {}).get("commit")
    if commit:
        found.append(_command(f"git checkout {commit[:12]}", "the code as it was"))
    found.append(_command(f"penstock run {file} --force train", "fit it again: equal bytes are the same version"))
    if seen.files["decision"]:
        line = f'penstock promote {name} --threshold {seen.files["decision"]["threshold"]:.3g} --because "…"'
        found.append(_command(line, "the same model under another threshold, as a version with a verdict of its own"))
    return found


def told_threshold(seen: Evidence) -> dict[str, Any] | None:
    """The threshold in use and how it came about."""
    told, decision = seen.files["threshold"], seen.files["decision"]
    if not told and not decision:
        return None
    return {
        "threshold": number(told.get("threshold", decision.get("threshold"))),
        "rule": told.get("rule") or decision.get("rule", ""),
        "summary": capital(str(told.get("summary", ""))),
        "scope": capital(str(told.get("scope", ""))).replace("`", ""),
    }


def served(seen: Evidence) -> list[str]:
    """What is served, where it is not what was judged; and what rows it has learned from."""
    found = []
    if seen.files["refit"].get("summary"):
        found.append(f"{capital(str(seen.files['refit']['summary']))}; the verdict is about the twin that was judged.")
    if needs := needs_of((seen.files.get("types") or {}).get("types", {})):
        found.append(f"It needs {', '.join(needs)}, modules of the project, as they were in training.")
    learned = seen.files["learned"]
    if learned:
        names = "content" if learned["by"] == "content" else ", ".join(learned["columns"])
        found.append(f"It has learned from {learned['n_rows']:,} rows, known again by {names}.")
    return found


def _command(line: str, note: str) -> dict[str, str]:
    return {"line": line, "note": note}
