"""The report of a version or a try: one self-contained HTML file without a script, or a card in Markdown."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any, Literal

from markupsafe import Markup

from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.lifecycle import report_facts as facts
from penstock.lifecycle import report_figures as figures
from penstock.lifecycle.card import card
from penstock.lifecycle.charts import harmless
from penstock.lifecycle.evidence import Evidence, evidence, evidence_of_run
from penstock.lifecycle.plots import Plot, dependence_plots, plots, threshold_plots
from penstock.lifecycle.redaction import check_columns, redacted
from penstock.lifecycle.versions import Version
from penstock.store.files import explain, make_directories, write_durably

Form = Literal["html", "md"]
MAX_TEXT = 600
"""No text from data is shown longer than this many characters."""


def report(home: Home, what: Version | Run, *, form: Form = "html", redact: Sequence[str] = ()) -> str:
    """The report as text; equal evidence gives equal text.

    Parameters
    ----------
    home : Home
    what : Version or Run
        A run that registered no version is told by its cross-validated evidence.
    form : {"html", "md"}
        One self-contained page, or a card in CommonMark with the same facts in short.
    redact : sequence of str
        Columns of which no value is shown, beside those that the project's setting `redact` names.

    Returns
    -------
    str

    Raises
    ------
    MissingObjectError, CorruptObjectError
        A file of the version's bundle is not whole.
    UsageError
        A redacted name is no column, or the target; the run evaluated nothing.
    """
    seen = evidence(home, what) if isinstance(what, Version) else evidence_of_run(home, what)
    check_columns(seen, redact)
    shown = page(redacted(seen, (*redact, *home.config.redact)))
    return render(shown) if form == "html" else card(shown)


def write_report(
    home: Home, what: Version | Run, path: str | None = None, *, form: Form = "html", redact: Sequence[str] = ()
) -> str:
    """Write the report; readers see the old file or the new one, never a part.

    Parameters
    ----------
    path : str, optional
        `.penstock/reports/WORKFLOW-NUMBER.html` (or `run-ID.html`) below the project's root by default.
    home, what, form, redact
        As for `report`.

    Returns
    -------
    str
        The file's path.

    Raises
    ------
    StoreError
        Disk full, read-only, no such folder.
    MissingObjectError, CorruptObjectError, UsageError
        As `report`.
    """
    text = report(home, what, form=form, redact=redact)
    if path is None:
        name = f"{what.workflow}-{what.number}" if isinstance(what, Version) else f"run-{what.id[:8]}"
        path = os.path.join(home.config.root, ".penstock", "reports", f"{name}.{form}")
        make = True
    else:
        path, make = os.path.abspath(path), False
    try:
        if make:
            make_directories(os.path.dirname(path))
        write_durably(path, text.encode("utf-8"), f"{path}.{os.getpid()}.part")
    except OSError as error:
        raise explain(error, "write the report", path) from error
    return path


def page(seen: Evidence) -> dict[str, Any]:
    """Everything that the template shows, as plain values."""
    metrics, comparison = seen.files["metrics"], seen.comparison
    target = str(seen.files["schema"].get("target", ""))
    threshold = seen.files["threshold"]
    dependence = metrics.get("dependence") or ()
    return {
        "name": seen.name,
        "workflow": seen.version.workflow,
        "is_try": seen.is_try,
        "registered": facts.moment(seen.version.entry.at),
        "note": str(seen.run.info.get("note", "")) if seen.run is not None else "",
        "redacted": list(seen.redacted),
        "standing": facts.standing(seen),
        "rules": facts.rules(seen),
        "compared": [*facts.compared(seen), *facts.opened(seen)],
        "remarks": facts.remarks(seen),
        "served": facts.served(seen),
        "tiles": facts.tiles(seen),
        "held_out": figures.held_out(comparison, seen.name),
        "cross_validated": figures.cross_validated(metrics),
        "scope": figures.capital(str(metrics.get("scope", ""))),
        "plots": _drawn(plots(metrics, target)),
        "confusion": figures.confusion(metrics, threshold),
        "threshold": facts.told_threshold(seen),
        "threshold_plots": _drawn(threshold_plots(threshold)),
        "slices": figures.slices(metrics, comparison) if metrics else None,
        "importance": figures.importance(metrics) if metrics else None,
        "dependence": _drawn(dependence_plots(dependence)),
        "explained": metrics.get("explained"),
        "depended": next((one["n_rows"] for one in dependence), 0),
        "levels": figures.levels(dependence),
        "worst": figures.worst_rows(metrics),
        "loss": "absolute error" if metrics.get("task") == "regression" else "loss",
        "logged": [one.shown() for one in seen.logged],
        "audit": facts.audited(seen),
        "data": facts.data(seen),
        "candidates": figures.candidates(metrics),
        "search": figures.search(seen.reports.get("train", {})),
        "environment": facts.environment(seen),
        "lineage": facts.lineage(seen),
        "history": facts.history(seen),
        "commands": facts.commands(seen),
    }


def _drawn(found: Sequence[Plot]) -> list[dict[str, Any]]:
    return [
        {"title": one.title, "reading": one.reading, "svg": Markup(one.svg), "head": one.head, "rows": one.rows}  # noqa: S704  our own drawing
        for one in found
    ]


def render(shown: dict[str, Any]) -> str:
    """The template with its values, each escaped and made harmless."""
    from penstock import __version__

    text: str = _template().render(page=shown, penstock=__version__)
    return text


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = os.path.join(os.path.dirname(__file__), "templates")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _finalize(value: Any) -> Any:
    """What stands for a value on the page: our own drawings as they are, all else as bounded, harmless text."""
    return value if isinstance(value, Markup) else harmless(str(value), MAX_TEXT)
