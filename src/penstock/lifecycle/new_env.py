"""A new virtual environment with the versions on record, by uv where it is there and by pip else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock.errors import NotReproducibleError, bounded

TIMEOUT_S = 1_800
LOCKS = ("uv.lock", "pylock.toml", "requirements.lock", "requirements.txt")
"""Files of a project's root that may name hashes, in the order in which they are looked at."""
MOST_LOCK = 32 << 20
Locked = dict[str, tuple[str, tuple[str, ...]]]
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([\w.!+-]+)")
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_VERSION = re.compile(r"[\w.!+-]+")


def normal(name: str) -> str:
    """A distribution's name as indexes compare it.

    Examples
    --------
    >>> normal("Scikit_Learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def maker(
    root: str, tell: Callable[[str], None] | None = None
) -> Callable[[str, Mapping[str, Any], Mapping[str, str]], str]:
    """What makes an environment: of (folder, machine on record, library → version) it gives the interpreter's path.

    Parameters
    ----------
    root : str
        The project's, whose lock has the hashes.
    tell : callable, optional
        Told what is done.
    """

    def make(folder: str, machine: Mapping[str, Any], libraries: Mapping[str, str]) -> str:
        told = tell or (lambda _text: None)
        if not machine.get("distributions"):
            raise NotReproducibleError(
                "the environment of this version is not on record",
                hint="leave out --new-env to use the one that is here",
            )
        recorded = {name: version for name, (version, _) in machine["distributions"].items()}
        wanted = sorted({normal(name) for name in (*libraries, *own_requirements())} & set(recorded))
        lines, by = requirements(wanted, recorded, lock_of(root))
        told(f"makes an environment with Python {machine['python']} and {by}; this needs the network")
        return build(folder, str(machine["python"]), lines, recorded, hashed="hashes" in by)

    return make


def own_requirements() -> list[str]:
    """Names of the distributions that Penstock itself needs, without its extras."""
    from importlib import metadata

    try:
        every = metadata.requires("penstock") or []
    except metadata.PackageNotFoundError:
        return []
    return [match[0] for text in every if "extra ==" not in text and (match := _NAME.match(text))]


def requirements(
    wanted: Iterable[str], recorded: Mapping[str, str], locked: tuple[str, Locked] | None
) -> tuple[list[str], str]:
    """Lines of a requirements file, and where they come from in words.

    Parameters
    ----------
    wanted : iterable of str
        Distributions that must be there.
    recorded : dict
        Distribution → version.
    locked : (file, dict) or None
        Of a lock: distribution → version, hashes.

    Examples
    --------
    >>> requirements(["numpy"], {"numpy": "2.0"}, None)
    (['numpy==2.0'], 'the recorded versions')
    >>> requirements(["numpy"], {"numpy": "2.0"}, ("uv.lock", {"numpy": ("2.1", ("sha256:0",))}))
    (['numpy==2.0'], 'the recorded versions (uv.lock has numpy 2.1, 2.0 was recorded)')
    """
    wanted = list(wanted)
    plain = [f"{name}=={recorded[name]}" for name in wanted]
    if locked is None:
        return plain, "the recorded versions"
    file, pins = locked
    for name in wanted:
        version, hashes = pins.get(name, ("", ()))
        if version != recorded[name]:
            told = f"has {name} {version}, {recorded[name]} was recorded" if version else f"has no {name}"
            return plain, f"the recorded versions ({file} {told})"
        if not hashes:
            return plain, f"the recorded versions ({file} has no hash of {name})"
    same = {name: pin for name, pin in sorted(pins.items()) if recorded.get(name) == pin[0] and pin[1]}
    lines = [f"{name}=={version} {' '.join(f'--hash={one}' for one in hs)}" for name, (version, hs) in same.items()]
    return lines, f"the versions and hashes of {file}"


def lock_of(root: str) -> tuple[str, Locked] | None:
    """The project's lock; None where there is none that can be read."""
    for file in LOCKS:
        path = os.path.join(root, file)
        try:
            if os.path.getsize(path) > MOST_LOCK:
                continue
            with open(path, encoding="utf-8") as handle:
                text = handle.read()
            pins = _pins_of_toml(tomllib.loads(text)) if file.endswith((".toml", "uv.lock")) else pins_of_text(text)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
        if pins:
            return file, pins
    return None


def pins_of_text(text: str) -> Locked:
    r"""Pinned distributions of a requirements file.

    Examples
    --------
    >>> pins_of_text("# ours\nnumpy==2.0 --hash=sha256:" + "0" * 64)["numpy"][0]
    '2.0'
    """
    found: Locked = {}
    for line in text.replace("\\\n", " ").splitlines():
        if match := _PINNED.match(line.strip()):
            found[normal(match[1])] = match[2], tuple(_HASH.findall(line))
    return found


def _pins_of_toml(lock: Mapping[str, Any]) -> Locked:
    """Pins of `uv.lock` ([[package]], "hash") or `pylock.toml` ([[packages]], "hashes")."""
    found: Locked = {}
    for one in (*lock.get("package", ()), *lock.get("packages", ())):
        files = [*one.get("wheels", ()), *([one["sdist"]] if isinstance(one.get("sdist"), dict) else [])]
        hashes = [file.get("hash") or f"sha256:{file['hashes']['sha256']}" for file in files]
        if "version" in one:
            found[normal(one["name"])] = one["version"], tuple(h for h in hashes if h.startswith("sha256:"))
    return found


def build(folder: str, version: str, lines: list[str], recorded: Mapping[str, str], *, hashed: bool) -> str:
    """Make the environment and put Penstock, as it runs here, into it.

    Raises
    ------
    NotReproducibleError
        There is no such Python, or a distribution cannot be had.
    """
    python = os.path.join(folder, "bin", "python")
    uv = shutil.which("uv")
    if uv is not None:
        _call([uv, "venv", "--python", version, folder], "make an environment")
        install = [uv, "pip", "install", "--python", python]
    else:
        here = ".".join(map(str, sys.version_info[:3]))
        if version != here:
            raise NotReproducibleError(
                f"Python {version} is on record, this is {here}, and there is no uv to fetch it",
                hint="install uv, or run penstock under that Python",
            )
        _call([sys.executable, "-m", "venv", folder], "make an environment")
        install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    wanted, most = f"{folder}.txt", f"{folder}.constraints.txt"
    with open(wanted, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    with open(most, "w", encoding="utf-8") as file:
        sound = [f"{n}=={v}" for n, v in recorded.items() if _NAME.fullmatch(n) and _VERSION.fullmatch(v)]
        file.write("\n".join(one for one in sound if not one.startswith("penstock==")) + "\n")
    how = ["--require-hashes", "--no-deps"] if hashed else ["-c", most]
    _call([*install, *how, "-r", wanted], "install the recorded versions")
    where = _call([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], "look into it").strip()
    os.symlink(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.path.join(where, "penstock"))
    return python


def _call(command: list[str], what: str) -> str:
    """Output of a program that ends well.

    Raises
    ------
    NotReproducibleError
    """
    values = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    values.pop("VIRTUAL_ENV", None)
    program = os.path.basename(command[0])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False, env=values,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NotReproducibleError(
            f"could not {what}: {program} did not end within {TIMEOUT_S // 60} minutes", hint="is the network there?"
        ) from error
    except OSError as error:
        raise NotReproducibleError(f"could not {what}: {program}: {error.strerror}") from error
    if done.returncode:
        last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-3:]
        raise NotReproducibleError(
            f"could not {what}: {program} said: {bounded(' / '.join(last), 600)}",
            hint="it needs the network, and an index that still has these versions",
        )
    return done.stdout
