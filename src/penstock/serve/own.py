"""Whether this host runs a bundle's classes of a project: by its own configuration and its own source files.

What a bundle says of its types is a claim. The host reads the source below its own root, by a process that imports
none of it, and runs a type only where the code is here, is that of training, and is trusted by the configuration.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core.ports import Config
from penstock.errors import FormatError, PenstockError, UntrustedTypeError, bounded

WHERE = "trust in penstock.toml, or under [tool.penstock] in pyproject.toml"
READ_S = 120.0
"""Seconds in which the source files of the types must have been read."""

_READER = ("-P", "-m", "penstock.worker", "types")
_NAME = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FOLDER = re.compile(r"\.|[\w-][\w .-]*(/[\w-][\w .-]*)*")
_MOST = 1_000


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine's configuration lets a model do.

    Attributes
    ----------
    root : str
        Of the project, where the types' modules are looked for.
    trust : tuple of str
        "module:name@sha256:…" of each type that may run; other items are not meant here.
    own : bool
        Whether a type may run because its code here is that of training.
    own_always : bool
        Also where the version was registered on another ledger.
    memory : int
        Bytes that a model process may use.
    timeout_s : float
        Seconds that one call of it may take.
    secret : str
        Kept out of its environment.
    """

    root: str
    trust: tuple[str, ...] = ()
    own: bool = False
    own_always: bool = False
    memory: int = 4_096 << 20
    timeout_s: float = 10.0
    secret: str = field(default="", repr=False)

    @classmethod
    def of(cls, config: Config, secret: str = "") -> Host:
        """What a project's configuration allows."""
        always = "own" in config.trust
        memory, timeout = config.model_memory << 20, float(config.model_timeout)
        return cls(config.root, config.trust, config.trusts_own, always, memory, timeout, secret)


@dataclass(frozen=True, slots=True)
class Admitted:
    """Own types that may run here.

    Attributes
    ----------
    names : tuple of str
        "module.name", as the estimator's file has them.
    folders : tuple of str
        From where their modules are imported, absolute.
    files : dict
        Module → path of the file that was read.
    """

    names: tuple[str, ...]
    folders: tuple[str, ...]
    files: Mapping[str, str]


def admit(name: str, claimed: Any, host: Host) -> Admitted:
    """Hold a bundle's own types against this host.

    Parameters
    ----------
    name : str
        The version's.
    claimed : dict
        The bundle's "types".
    host : Host

    Raises
    ------
    FormatError
        It is no list of types.
    UntrustedTypeError
        Naming every type that may not run here, why, and the line of configuration that would change it.
    """
    types, folders = _read(name, claimed)
    here = read_types(host.root, sorted(types), folders)
    faults, lines, files = [], [], {}
    for word, told in sorted(types.items()):
        now = here.get(word, {"fault": f"this host's project has no module {word.partition(':')[0]}"})
        if fault := told.get("fault") or now.get("fault"):
            faults.append(f"{word}: {bounded(str(fault), 300)}")
        elif told["digest"] != now["digest"]:
            faults.append(_other_code(word, told, now))
        elif not host.own and f"{word}@{now['digest']}" not in host.trust:
            lines.append(f"{word}@{now['digest']}")
        else:
            files[word.partition(":")[0]] = os.path.join(os.path.realpath(host.root), now["file"])
    if faults or lines:
        raise _refused(name, faults, lines, host)
    return Admitted(
        tuple(word.replace(":", ".") for word in sorted(types)),
        tuple(os.path.normpath(os.path.join(host.root, folder)) for folder in folders),
        files,
    )


def read_types(root: str, names: Sequence[str], folders: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the source files below a root say of types; see `penstock.worker.types`.

    Raises
    ------
    PenstockError
        The process that reads them did not answer.
    """
    question = json.dumps({"root": root, "names": list(names), "folders": list(folders)})
    command = [sys.executable, *_READER]
    try:
        done = subprocess.run(command, input=question, capture_output=True, text=True, timeout=READ_S, check=False)
        answer: dict[str, dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise PenstockError(f"the source of own types could not be read: {type(error).__name__}", where=root) from error
    if done.returncode:
        said = bounded(done.stderr.strip().rpartition("\n")[2], 300)
        raise PenstockError(f"the source of own types could not be read: {said}", where=root)
    return answer


def _read(name: str, claimed: Any) -> tuple[dict[str, Any], list[str]]:
    """The claims, if they have the shape of claims."""
    types = claimed.get("types") if isinstance(claimed, dict) else None
    folders = claimed.get("folders") if isinstance(claimed, dict) else None
    sound = isinstance(types, dict) and 0 < len(types) <= _MOST and isinstance(folders, list) and len(folders) <= _MOST
    sound = sound and all(isinstance(folder, str) and _FOLDER.fullmatch(folder) for folder in folders or ())
    if not sound or not all(_is_claim(word, told) for word, told in (types or {}).items()):
        raise FormatError(f'the "types" of {name} is no list of types', hint="register the version again")
    return dict(types or {}), list(folders or ())


def _is_claim(word: str, told: Any) -> bool:
    if not _NAME.fullmatch(word) or not isinstance(told, dict):
        return False
    if isinstance(told.get("fault"), str):
        return True
    parts, digest = told.get("parts"), told.get("digest")
    return isinstance(parts, dict) and isinstance(digest, str) and bool(_DIGEST.fullmatch(digest))


def _other_code(word: str, told: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Both digests, and the definitions that differ."""
    mine, theirs = now["parts"], told["parts"]
    changed = sorted(part for part in {*mine, *theirs} if mine.get(part) != theirs.get(part))
    shown = ", ".join(bounded(part, 100) for part in changed[:5]) + (" …" if len(changed) > 5 else "")
    what = f"what differs: {shown}" if changed else "the bundle does not say what differs"
    return f"{word}: its code is {told['digest'][:19]}… in the bundle and {now['digest'][:19]}… here ({what})"


def _refused(name: str, faults: list[str], lines: list[str], host: Host) -> UntrustedTypeError:
    where = os.path.join(host.root, "penstock.toml")
    if faults:
        said = "; ".join(faults[:10]) + (f"; and {len(faults) - 10} more" if len(faults) > 10 else "")
        return UntrustedTypeError(
            f"{name} cannot be served here: {said}",
            where=where,
            hint="bring the project's code here as it was in training (its commit: `penstock show`), or train again",
        )
    listed = ", ".join(f'"{line}"' for line in (*host.trust, *lines))
    words = ", ".join(line.partition("@")[0] for line in lines)
    return UntrustedTypeError(
        f"{name} cannot be served here: the configuration does not trust {words}",
        where=where,
        hint=f"if the code is yours, set {WHERE}: trust = [{listed}]",
        lines=tuple(lines),
    )
