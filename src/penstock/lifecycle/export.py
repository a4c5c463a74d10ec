"""One version as files that are readable without Penstock, with a script that scores."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from typing import Any

from penstock.core.answer import with_decision
from penstock.core.artifact import Artifact
from penstock.core.ports import Formats, Home
from penstock.errors import UntrustedTypeError, UsageError
from penstock.lifecycle.own import FILE, needs_of, types_of, unlike
from penstock.lifecycle.records import source_options
from penstock.lifecycle.release import code_of
from penstock.lifecycle.versions import Version, manifest
from penstock.store.files import explain

NEEDED = ("pandas", "scikit-learn", "skops")
"""What `score.py` imports, or what it loads does."""

BLANK = ("",)
README = """# {name}

A trained model with its evidence, as files. Nothing here needs Penstock.

    pip install -r requirements.txt          # Python {python}
    python score.py rows.csv > answers.csv   # reads a CSV with a header, as training read it
    python score.py golden.csv               # must give golden_answers.csv

* `estimator.skops`: the whole fitted pipeline; `skops.io.load("estimator.skops", trusted=[…])` reads it, with the
  types in `trusted.json`
* `input.json`: the columns that it reads, their types and levels, classes, positive class, threshold
* `metrics.json`, `audit.json`, `schema.json`, `profile.json`: how good it is, what was proved, what its data was like
* `lineage.json`, `version.json`: from which data, code and commit, and how it was judged
* `report.html`: all of it as one page
"""
README_CODE = """* `code`: the project's modules that the estimator needs, as in training; `score.py` imports them
"""


def export(
    home: Home,
    found: Version,
    folder: str,
    *,
    formats: Formats,
    write_report: Callable[[Home, Version, str], str],
    missing: tuple[str, ...] = (),
) -> list[str]:
    """Write a version as a folder of files, whole or not at all.

    Parameters
    ----------
    folder : str
        Must not exist yet, or be empty.
    formats : Formats
        Reads the estimator: what this machine does not trust is not handed on.
    write_report : callable
        Writes the report of (home, version) to a path.
    missing : tuple of str
        Texts that stand for a missing cell where the column is not text.

    Returns
    -------
    list of str
        Names of the files.

    Raises
    ------
    UsageError
        The folder is there and holds something; or the project's code here is not that of training.
    MissingObjectError, CorruptObjectError, UntrustedTypeError, StoreError
        The version is not whole, or not trusted here, or the disk refuses. No folder is left then.
    """
    folder = os.path.abspath(folder)
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise UsageError(f"{folder} is there already", hint="name a folder that does not exist yet")
    draft = f"{folder}.{os.getpid()}.part"
    try:
        os.makedirs(draft)
        _write(home, found, draft, formats, missing)
        write_report(home, found, os.path.join(draft, "report.html"))
        names = sorted(os.listdir(draft))
        os.rename(draft, folder)
    except OSError as error:
        if hasattr(error, "what"):  # one of ours, which says more
            raise
        raise explain(error, "export a version", folder) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return names


def _write(home: Home, found: Version, folder: str, formats: Formats, missing: tuple[str, ...]) -> None:
    files = {name: Artifact.from_json(one) for name, one in manifest(home, found.bundle)["files"].items()}
    types = types_of(home, files)
    libraries = _write_code(home, found, files, folder) if types else set()
    values = {
        name: formats.load(one, home.objects) for name, one in files.items() if not (types and one.format == "skops")
    }
    for one in files.values():
        if types and one.format == "skops":
            _check_trusted(home, found, one, types)
    for name, one in files.items():
        if one.format == "json":
            _dump(folder, f"{name}.json", values[name])
        else:
            shutil.copyfile(home.objects.fetch(one.digest), os.path.join(folder, f"{name}.{one.format}"))
    options = source_options(home, found)
    blank = [*BLANK, *(options.get("na") or ())]
    contract = with_decision(values["input"], values.get("decision"))
    _dump(folder, "input.json", contract | {"missing": {"text": blank, "other": [*blank, *missing]}})
    _dump(folder, "trusted.json", _untrusted(os.path.join(folder, "estimator.skops")))
    _dump(folder, "version.json", _about(home, found))
    _table(folder, "golden.csv", values["golden"]["rows"])
    _table(folder, "golden_answers.csv", [_flat(one) for one in values["golden"]["expected"]])
    environment = values["environment"]
    _text(folder, "requirements.txt", _requirements(environment, libraries))
    readme = README.format(name=found.name, python=environment.get("python", "3.11 or newer"))
    _text(folder, "README.md", readme + (README_CODE if types else ""))
    with open(os.path.join(os.path.dirname(__file__), "templates", "score.py.txt"), encoding="utf-8") as script:
        _text(folder, "score.py", script.read().replace("@NAME@", found.name))


def _write_code(home: Home, found: Version, files: Mapping[str, Artifact], folder: str) -> set[str]:
    """Copy the modules of the project that a version needs, where they are those of training; give their libraries."""
    from penstock.engine.own_code import own_code

    told = home.formats.load(files[FILE], home.objects)
    what = f"{found.name} cannot be written as files of its own"
    if why := unlike(home, files):
        raise UsageError(f"{what}: {why}", hint="bring the project's code here as it was in training, or train again")
    code = own_code(home.config.root, needs_of(told["types"]), told["folders"])
    if code.with_penstock:
        raise UsageError(
            f"{what}: it needs {code.with_penstock[0]}, which imports penstock",
            hint="move its classes and functions to a module of their own",
        )
    for name, path in code.files.items():
        copy = os.path.join(folder, "code", *name.split("/"))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copyfile(path, copy)
    return code.libraries


def _check_trusted(home: Home, found: Version, estimator: Artifact, types: Mapping[str, Any]) -> None:
    """See that an estimator holds nothing but what is trusted here and the types that are named; import nothing."""
    from penstock.formats.skops import untrusted_in

    trusted = [*(name.replace(":", ".") for name in types), *home.config.trust]
    if others := untrusted_in(home.objects.read(estimator.digest), trusted):
        raise UntrustedTypeError(f"{found.name} holds types that are not trusted here: {', '.join(others)}")


def _untrusted(path: str) -> list[str]:
    """Types that skops asks about before it loads a file, and that were just found to be trusted."""
    from skops.io import get_untrusted_types

    return list(get_untrusted_types(file=path))


def _about(home: Home, found: Version) -> dict[str, Any]:
    from penstock.lifecycle.records import standing

    seen = standing(home, found)
    verdict = seen.verdict
    return {
        "version": found.name,
        "bundle": found.bundle.digest,
        "registered": found.entry.at,
        "code": dict(code_of(home, found)),
        "rows": dict(found.body.get("rows", {})),
        "sources": dict(found.body.get("sources", {})),
        "verdict": None if verdict is None else {n: verdict.body.get(n) for n in ("passed", "sentence", "against")},
    }


def _requirements(environment: Mapping[str, str], libraries: Collection[str] = ()) -> str:
    """The libraries that fitted the model, at their versions; of what only reads it, the versions here."""
    pinned = {name: version for name, version in environment.items() if name not in ("python", "penstock")}
    known = metadata.packages_distributions() if libraries else {}
    for name in (*NEEDED, *(known[one][0] for one in sorted(libraries) if one in known)):
        pinned.setdefault(name, metadata.version(name))
    return "".join(f"{name}=={version}\n" for name, version in sorted(pinned.items()))


def _flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in answer.items() if name != "scores"}
    return flat | {f"score_{name}": value for name, value in answer.get("scores", {}).items()}


def _table(folder: str, name: str, records: list[Mapping[str, Any]]) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]) if records else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def _dump(folder: str, name: str, value: Any) -> None:
    _text(folder, name, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _text(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)
