"""An MLflow server by its own client: few calls, batched, each of which may be repeated."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import Any

from penstock.core.ports import Home
from penstock.integrations.tracking import Away, Refused, Sent
from penstock.lifecycle.versions import Version

MOST_PARAMS = 100
"""Parameters of one request; the protocol's own limit."""
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
        """Have a run there, once; one that was begun and not finished is finished.

        Raises
        ------
        Away, Refused
        """
        from mlflow.entities import Metric, Param

        with _explained():
            experiment = self._experiment(sent.experiment)
            found = self.client.search_runs([experiment], f"tags.`penstock.run` = '{sent.run}'", max_results=1)
            if found and found[0].data.tags.get("penstock.mirrored") == sent.status:
                return str(found[0].info.run_id)
            tags = dict(sent.tags)
            if found:
                run = found[0].info.run_id
            else:
                made = self.client.create_run(experiment, start_time=sent.started, tags=tags, run_name=sent.name)
                run = made.info.run_id
            metrics = [Metric(name, value, sent.ended or sent.started, 0) for name, value in sent.metrics.items()]
            params = iter([Param(name, value) for name, value in sent.params.items()])
            while batch := list(islice(params, MOST_PARAMS)) or metrics:
                of_params = batch is not metrics
                self.client.log_batch(run, metrics=metrics, params=batch if of_params else [])
                metrics = []
            for name, text in sent.texts.items():
                self.client.log_text(run, text, name)
            self.client.set_tag(run, "penstock.mirrored", sent.status)  # last: without it the next time goes on here
            if sent.status != "RUNNING":
                self.client.set_terminated(run, sent.status, sent.ended or None)
            return str(run)

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
