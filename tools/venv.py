"""Make `.venv` from the lock: with uv when it is there, else with venv and pip. `venv.py NAME` makes `.venv-NAME`.

Runs on any Python 3, so that one that is too old is told so instead of failing on the syntax. Nothing but the
standard library is used. The lock names all that is needed, so nothing is resolved here; every package is checked
against its hash. Penstock itself is then installed in place where the lock holds its build backend: in `.venv` and
beside an engine of `requirements/backends/`, not beside a peer.
"""

import os
import shutil
import subprocess
import sys

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
LOCK = os.path.join("requirements", "dev.txt")
COMPILE = ["--compile-bytecode"]
SELF = ["--no-build-isolation", "--no-deps", "--editable", "."]

# uv does not read pip's variables; a machine that has set only those means them for every installer.
PIP_TO_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_CERT": "SSL_CERT_FILE",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
}


def run(command, env=None):
    """Run a command in the repository's root; give its exit status."""
    print("$ " + " ".join(command).replace(ROOT + os.sep, ""), flush=True)
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def uv_environment():
    """Environment for uv, in which the machine's settings for pip hold too."""
    env = dict(os.environ)
    for pip, uv in PIP_TO_UV.items():
        if env.get(pip) and not env.get(uv):
            env[uv] = env[pip]
    return env


def usable():
    """Whether `.venv` is there and its Python runs and is new enough."""
    check = "import sys; sys.exit(sys.version_info < {})".format(OLDEST)
    return os.path.exists(PYTHON) and subprocess.run([PYTHON, "-c", check], check=False).returncode == 0


def with_uv(uv):
    """Make the environment with uv; give True when all of it worked."""
    env = uv_environment()
    install = [uv, "pip", "install", "--quiet", "--python", PYTHON]
    if not usable() and run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV], env):
        return False
    if run([*install, *COMPILE, "--no-deps", "--require-hashes", "--requirement", LOCK], env):
        return False
    return not SELF or run(install + SELF, env) == 0


def with_pip():
    """Make the environment with venv and pip; give True when all of it worked."""
    pip = [PYTHON, "-m", "pip"]
    if not usable():
        shutil.rmtree(VENV, ignore_errors=True)
        if run([sys.executable, "-m", "venv", VENV]):
            # Debian keeps ensurepip in a package of its own, but its pip can install into another environment.
            shutil.rmtree(VENV, ignore_errors=True)
            if run([sys.executable, "-m", "venv", "--without-pip", VENV]):
                return False
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        pip = [sys.executable, "-m", "pip", "--python", PYTHON]
    if run([*pip, "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", LOCK]):
        return False
    return not SELF or run([*pip, "install", "--quiet", *SELF]) == 0


def choose(name):
    """Mean the environment of a peer or of an engine, with a lock of its own."""
    global VENV, PYTHON, LOCK, SELF, COMPILE  # noqa: PLW0603  a script: these are its settings
    VENV = os.path.join(ROOT, ".venv-" + name)
    PYTHON = os.path.join(VENV, "bin", "python")
    LOCK = os.path.join("requirements", name + ".txt")
    engine = os.path.join("requirements", "backends", name + ".txt")
    if os.path.exists(os.path.join(ROOT, engine)):
        # An engine brings far more than its tests import: each module is compiled when it is first imported.
        LOCK, COMPILE = engine, []
    with open(os.path.join(ROOT, LOCK)) as lock:
        SELF = SELF if "\nhatchling==" in lock.read() else []


def main():
    """Make or refresh the environment; give the exit status."""
    if sys.version_info < OLDEST:
        found = "{}.{}".format(*sys.version_info[:2])
        print("Penstock needs Python 3.11 or newer, and {} is {}.".format(sys.executable, found))
        print("-> name a newer one: make PYTHON=python3.12 venv")
        return 2
    uv = shutil.which("uv")
    if uv and with_uv(uv):
        return 0
    if uv:
        print("uv could not do it; trying venv and pip", flush=True)
    if with_pip():
        return 0
    print(
        "-> {} could not be made. pip's or uv's own message is above; needed are a package index that the".format(VENV)
    )
    print("   machine's pip or uv knows, and either uv or Python's venv and pip (Debian: python3-venv).")
    return 1


if __name__ == "__main__":
    if sys.argv[1:]:
        choose(sys.argv[1])
    sys.exit(main())
