"""An MLflow server by its own client: few calls, batched, each of which may be repeated."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from penstock.core.digest import digest_bytes
from penstock.core.ports import Home
from penstock.errors import PenstockError
from penstock.integrations.tracking import Away, Refused, Sent
from penstock.lifecycle.versions import Version

MOST_METRICS, MOST_PARAMS, MOST_TAGS = 500, 100, 100
"""Of one request, within the protocol's own limits."""
FILES = "penstock.files"
"""Tag that says which files of a run were sent."""
LOADER = "penstock_model"


def connect(home: Home) -> MlflowServer:
    """The server that the configuration names.

    Raises
    ------
    Away
        The extra is not installed.
    """
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise Away(f"{error}: pip install 'penstock[mlflow]'") from error
    uri = home.config.mlflow["tracking_uri"]
    with _explained():
        return MlflowServer(MlflowClient(tracking_uri=uri, registry_uri=uri))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Tell a server that is away from one that says no."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]  # the library has no types here
        # Rights may be given and limits pass; what is wrong with a request stays wrong.
        if 400 <= status < 500 and status not in (401, 403, 408, 429):
            raise Refused(f"MLflow: {error}") from error
        raise Away(f"MLflow: {error}") from error
    except OSError as error:  # the errors of requests are errors of the system
        raise Away(f"MLflow: {type(error).__name__}: {error}") from error
    except ImportError as error:  # a server that keeps its files in a cloud asks for that cloud's library
        raise Away(f"MLflow: {error}") from error


class MlflowServer:
    """Puts runs, versions and aliases to an MLflow server.

    Parameters
    ----------
    client : mlflow.MlflowClient
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._experiments: dict[str, str] = {}

    def put_run(self, sent: Sent) -> str:
        """Have a run there, once, as it is by now; what is there already is not sent again.

        Raises
        ------
        Away, Refused
        """
        with _explained():
            experiment = self._experiment(sent.experiment)
            found = self.client.search_runs([experiment], f"tags.`penstock.run` = '{sent.run}'", max_results=1)
            if found:
                there = found[0]
            else:
                there = self.client.create_run(
                    experiment, start_time=sent.started, tags=dict(sent.tags), run_name=sent.name
                )
            run = str(there.info.run_id)
            self._put_values(run, sent, there.data)
            self._put_files(run, sent, there.data.tags.get(FILES, ""))
            if sent.status != there.info.status or (sent.ended and sent.ended != there.info.end_time):
                self.client.set_terminated(run, sent.status, sent.ended or None)
            return run

    def _put_values(self, run: str, sent: Sent, there: Any) -> None:
        """Parameters, figures and tags that are not there yet, or were others."""
        from mlflow.entities import Metric, Param, RunTag

        at = sent.ended or int(time.time() * 1000)
        metrics = [Metric(n, value, at, 0) for n, value in sent.metrics.items() if there.metrics.get(n) != value]
        params = [Param(n, value) for n, value in sent.params.items() if n not in there.params]
        tags = [RunTag(n, value) for n, value in sent.tags.items() if there.tags.get(n) != value]
        while metrics or params or tags:
            self.client.log_batch(run, metrics[:MOST_METRICS], params[:MOST_PARAMS], tags[:MOST_TAGS])
            metrics, params, tags = metrics[MOST_METRICS:], params[MOST_PARAMS:], tags[MOST_TAGS:]

    def _put_files(self, run: str, sent: Sent, there: str) -> None:
        """Files beside the run, where they are not those that were sent; their tag last, so that none is forgotten."""
        state = digest_bytes(repr(sorted(sent.files.items())).encode())[:16] if sent.files else ""
        if state == there:
            return
        with tempfile.TemporaryDirectory(prefix="penstock-mlflow-") as folder:
            for name in sent.files:
                with contextlib.suppress(PenstockError):  # not kept any more
                    data = sent.contents(name)
                    path = os.path.join(folder, name)
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    with open(path, "wb") as file:
                        file.write(data)
            self.client.log_artifacts(run, folder)
        self.client.set_tag(run, FILES, state)

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            made = found.experiment_id if found is not None else self.client.create_experiment(name)
            self._experiments[name] = str(made)
        return self._experiments[name]

    def versions(self, workflow: str) -> dict[int, str]:
        """Our number → number there.

        Raises
        ------
        Away, Refused
        """
        with _explained():
            found = self.client.search_model_versions(f"name='{workflow}'", max_results=1_000)
        ours = [(one.tags.get("penstock.version", ""), str(one.version)) for one in found]
        return {int(number): there for number, there in ours if number.isdecimal()}

    def put_version(self, found: Version, run: str, files: str) -> str:
        """Upload the model to its run, and give it the next version there.

        Raises
        ------
        Away, Refused
        """
        with _explained():
            run = run or self.client.create_run(self._experiment(found.workflow)).info.run_id
            with contextlib.suppress(Refused), _explained():
                self.client.create_registered_model(found.workflow)  # refused where it is there already
            with tempfile.TemporaryDirectory(prefix="penstock-mlflow-") as folder:
                model = write_model(files, os.path.join(folder, "model"))
                self.client.log_artifacts(run, model, "model")
            source = f"{self.client.get_run(run).info.artifact_uri}/model"
            tags = {"penstock.version": str(found.number), "penstock.bundle": found.bundle.digest}
            made = self.client.create_model_version(found.workflow, source, run_id=run, tags=tags)
            return str(made.version)

    def point(self, workflow: str, name: str, to: str | None) -> None:
        """Set an alias, or take it away.

        Raises
        ------
        Away, Refused
        """
        with _explained():
            if to is not None:
                self.client.set_registered_model_alias(workflow, name, to)
                return
            with contextlib.suppress(Refused), _explained():
                self.client.delete_registered_model_alias(workflow, name)


def write_model(files: str, folder: str) -> str:
    """A version's files as a model that MLflow loads by itself, without pickle and without Penstock.

    Parameters
    ----------
    files : str
        Folder that `penstock pull churn@7 DIR` writes.
    folder : str
        Where to; must not exist.
    """
    import mlflow.pyfunc

    with open(os.path.join(files, "requirements.txt"), encoding="utf-8") as file:
        needed = file.read().split()
    with tempfile.TemporaryDirectory(prefix="penstock-mlflow-") as code:
        template = os.path.join(os.path.dirname(__file__), "templates", f"{LOADER}.py.txt")
        script = shutil.copyfile(template, os.path.join(code, f"{LOADER}.py"))
        mlflow.pyfunc.save_model(
            folder, loader_module=LOADER, data_path=files, code_paths=[script], pip_requirements=needed
        )
    return folder
