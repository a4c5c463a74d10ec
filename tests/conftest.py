"""What all tests share: strict skips in CI, a clean environment, shared tables, system commands."""

from __future__ import annotations

import atexit
import glob
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from penstock.testing.proxy import FaultProxy
    from penstock.testing.warm import Warm

from penstock.testing.postgres import PostgresServer

LOCKS, TESTS = tempfile.mkdtemp(prefix="penstock-locks-"), itertools.count()
atexit.register(shutil.rmtree, LOCKS, ignore_errors=True)

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("PENSTOCK_CI") == "1"
NEVER_SKIPPED_IN_CI = ("needs system package", "not built yet")

# Shared machines are slow by fits; a slow example is no failed law. CI tries the same examples each time.
settings.register_profile("penstock", deadline=None, derandomize=CI)
settings.load_profile("penstock")


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Give the reason of a skip, without pytest's own prefix; "" for a report that is none."""
    if not report.skipped or hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return ""
    return report.longrepr[2].removeprefix("Skipped: ")


def fail_forbidden_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip that CI does not allow into a failure."""
    reason = skip_reason(report)
    if CI and reason.startswith(NEVER_SKIPPED_IN_CI):
        report.outcome = "failed"
        report.longrepr = f"skipped, but nothing may be missing here (PENSTOCK_CI=1): {reason}"


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    fail_forbidden_skip(report)
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    fail_forbidden_skip(report)
    return report


def system_packages() -> dict[str, str]:
    """Command → Debian package, from the one list of them."""
    found = {}
    for line in (ROOT / ".ci" / "packages").read_text().splitlines():
        words = line.partition("#")[0].split()
        found.update(dict.fromkeys(words[1:], words[0]) if words else {})
    return found


def find_command(command: str) -> str:
    """Path of a command that a Debian package brings, on PATH or by a pattern; skips when it is missing."""
    packages = system_packages()
    pattern = next((known for known in packages if known.endswith(f"/{command}")), command)
    package = packages[pattern]  # a KeyError here: add the package to .ci/packages
    path = max(glob.glob(pattern), default=None) if "/" in pattern else shutil.which(command)
    if path is None:
        pytest.skip(f"needs system package {package} (command {command})")
    return path


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test is steered by the configuration of whoever runs it."""
    for name in os.environ:
        if name.startswith("PENSTOCK_") and name != "PENSTOCK_CI":
            monkeypatch.delenv(name)
    # GPUs are made up in tests, and are no other test's.
    monkeypatch.setenv("PENSTOCK_GPU_LOCKS", os.path.join(LOCKS, str(next(TESTS))))


@pytest.fixture(scope="session")
def system_command() -> Callable[[str], str]:
    """Path of a command that a Debian package brings; skips when it is missing (fails in CI)."""
    return find_command


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Forks the processes that a run starts from one that has their libraries; that is started when it is needed."""
    from penstock.testing.warm import Warm

    made = Warm()
    yield made
    made.close()


@pytest.fixture(scope="module")
def warm_processes(warm: Warm) -> Iterator[None]:
    """For a module whose tests are not about how processes start."""
    with warm.used():
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real server with its data in memory, made when the first test asks for it; fails in CI where none is."""
    server = PostgresServer(bin_folder=str(Path(find_command("postgres")).parent))
    yield server
    server.close()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of an empty database that is this test's own."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def mlflow_command() -> Path:
    """The command of a real MLflow in an environment of its own; skips, loudly, where it was not made."""
    path = ROOT / ".venv-mlflow" / "bin" / "mlflow"
    if not path.exists():
        pytest.skip("not built yet: make mlflow")
    return path


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Path of a table in `../shared/data`; skips, loudly, where that folder is absent."""

    def find(name: str) -> Path:
        folder = ROOT.parent / "shared" / "data"
        if not folder.is_dir():
            pytest.skip("no shared data: ../shared/data is absent")
        path = folder / name
        assert path.exists(), f"{name} is not in the shared data"
        return path

    return find


@pytest.fixture(scope="session")
def s3_proxy() -> Iterator[FaultProxy]:
    """A server that speaks S3's protocol and keeps all in memory, behind a proxy that can delay, cut and lie."""
    import logging

    import fsspec
    from moto.server import ThreadedMotoServer

    from penstock.testing.proxy import FaultProxy

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    proxy = FaultProxy(*server.get_host_and_port())
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield proxy
    proxy.stop()
    server.stop()


@pytest.fixture
def s3(s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a folder in an empty bucket; the provider's own variables say where and as whom."""
    import urllib.request
    import uuid

    import fsspec

    fsspec.get_filesystem_class("s3").clear_instance_cache()  # one that was made under other variables
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_proxy.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAPENSTOCKTESTS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-of-the-tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    s3_proxy.faults.clear()
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_proxy.url}/{bucket}", method="PUT")).close()
    return f"s3://{bucket}/penstock"
