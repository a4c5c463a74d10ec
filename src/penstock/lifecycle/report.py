"""The report of a version: one self-contained HTML file, without a script, told from what is on record."""

from __future__ import annotations

import functools
import os
from typing import Any

from markupsafe import Markup

from penstock.core.ports import Home
from penstock.lifecycle import report_facts as facts
from penstock.lifecycle import report_figures as figures
from penstock.lifecycle.charts import harmless
from penstock.lifecycle.evidence import Evidence, evidence
from penstock.lifecycle.plots import plots
from penstock.lifecycle.versions import Version
from penstock.store.files import explain, make_directories, write_durably

MAX_TEXT = 600
"""No text from data is shown longer than this many characters."""


def report(home: Home, version: Version) -> str:
    """The report as HTML text; equal evidence gives equal text.

    Parameters
    ----------
    home : Home
    version : Version

    Returns
    -------
    str

    Raises
    ------
    MissingObjectError, CorruptObjectError
        A file of the version's bundle is not whole.
    """
    return render(page(evidence(home, version)))


def write_report(home: Home, version: Version, path: str | None = None) -> str:
    """Write the report; readers see the old file or the new one, never a part.

    Parameters
    ----------
    path : str, optional
        `.penstock/reports/WORKFLOW-NUMBER.html` below the project's root by default.

    Returns
    -------
    str
        The file's path.

    Raises
    ------
    StoreError
        Disk full, read-only, no such folder.
    MissingObjectError, CorruptObjectError
        As `report`.
    """
    text = report(home, version)
    if path is None:
        folder = os.path.join(home.config.root, ".penstock", "reports")
        path = os.path.join(folder, f"{version.workflow}-{version.number}.html")
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
    return {
        "name": seen.version.name,
        "workflow": seen.version.workflow,
        "registered": facts.moment(seen.version.entry.at),
        "standing": facts.standing(seen),
        "rules": facts.rules(seen),
        "compared": facts.compared(seen),
        "tiles": facts.tiles(seen),
        "held_out": figures.held_out(comparison, seen.version.name),
        "cross_validated": figures.cross_validated(metrics),
        "scope": figures.capital(str(metrics.get("scope", ""))),
        "plots": [
            {"title": one.title, "reading": one.reading, "svg": Markup(one.svg)}  # noqa: S704  our own drawing
            for one in plots(metrics, target)
        ],
        "confusion": figures.confusion(metrics),
        "slices": figures.slices(metrics, comparison) if metrics else None,
        "importance": figures.importance(metrics) if metrics else None,
        "worst": figures.worst_rows(metrics),
        "loss": "absolute error" if metrics.get("task") == "regression" else "loss",
        "audit": facts.audited(seen),
        "data": facts.data(seen),
        "environment": facts.environment(seen),
        "lineage": facts.lineage(seen),
        "history": facts.history(seen),
        "commands": facts.commands(seen),
    }


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
