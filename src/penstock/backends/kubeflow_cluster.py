"""A pipeline on a cluster, by the SDK's client: sent, waited for, and terminated when nobody waits any more."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from penstock.backends.backend import Ended, Options, Outcome
from penstock.backends.kubeflow_build import NAME
from penstock.errors import BackendError, bounded

TOKEN = "PENSTOCK_KFP_TOKEN"  # noqa: S105  where it stands, not what it is
"""Variable of the environment with a token for the cluster's API."""
EVERY_S = 5.0
"""Seconds between two questions whether a run has ended there."""
PATIENCE = 24
"""Questions in a row that may go unanswered: an API is away for a minute or two when it is renewed."""
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED", "ERROR")
"""States in which a run has ended there; the SDK's own waiting does not know that of a cancelled one."""
DENIED = (401, 403)
ANSWER_S = 30.0
"""Seconds that the API may take for its first answer."""
ASKED = f"{TOKEN} holds a token that it takes, or kubectl port-forward leads to it without one"


def run_there(text: str, flow: str, where: str, options: Options, look: Callable[[str], None]) -> Ended:
    """Send a compiled pipeline to a cluster and wait for the end of its run.

    Parameters
    ----------
    text : str
        As YAML.
    flow : str
        The flow's name, with which the run's begins.
    where : str
        Address of the API.
    look : callable
        Called with the run's id there between two questions.

    Raises
    ------
    BackendError
        The API is not there, does not take the run, or has not answered for minutes; then the run goes on.
    BaseException
        Whatever interrupts this process meanwhile; the run is terminated there first.
    """
    url = url_of(where, options.more.get("scheme", ""))
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the client is for servers from 2.0 on
        with _told(url, "took no run"):
            client, run = _sent(text, flow, url, options)
        page = f"{url}/#/runs/details/{run}"
        try:
            told = _ended(client, run, page, look)
        except BackendError:
            raise
        except BaseException:
            with contextlib.suppress(Exception):  # what interrupts us is to be told of
                client.terminate_run(run)
            raise
    state = str(told.state).upper()
    outcome: Outcome = "success" if state == "SUCCEEDED" else "cancelled" if state == "CANCELED" else "failed"
    return Ended(run, state, page, outcome, bounded(str(getattr(told.error, "message", None) or ""), 500))


def _sent(text: str, flow: str, url: str, options: Options) -> tuple[Any, str]:
    """The client, and the id of the run that it was given."""
    from kfp import Client

    _check_api(url)
    namespace = options.more.get("namespace")
    client = Client(host=url, namespace=namespace or "kubeflow", existing_token=os.environ.get(TOKEN))
    with tempfile.TemporaryDirectory(prefix="penstock-kfp-") as folder:
        path = os.path.join(folder, f"{NAME}.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        sent = client.create_run_from_pipeline_package(
            path,
            arguments={},
            run_name=f"{flow}-{secrets.token_hex(4)}",
            experiment_name=options.more.get("experiment"),
            namespace=namespace,
            enable_caching=False,
            service_account=options.more.get("service_account"),
        )
    return client, str(sent.run_id)


def _check_api(url: str) -> None:
    """Ask whether the API is there: the SDK's client asks for half a minute and does not tell what it was answered."""
    import kfp_server_api as api

    config = api.Configuration(host=url)
    if token := os.environ.get(TOKEN):
        config.api_key, config.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
    asked = api.HealthzServiceApi(api.ApiClient(config))
    answer = asked.healthz_service_get_healthz(_request_timeout=ANSWER_S, _preload_content=False)
    try:
        json.loads(answer.data)
    except ValueError:  # of which the SDK would make an answer without fields
        raise BackendError(f"{url} answers with a page, not as an API: it asks for a login", hint=ASKED) from None


def _ended(client: Any, run: str, page: str, look: Callable[[str], None]) -> Any:
    """The run as the API has it, once it has ended."""
    silent = 0
    while True:
        try:
            with _told(page, "does not tell of the run, which goes on there"):
                found = client.get_run(run)
            silent = 0
        except BackendError:
            silent += 1
            if silent >= PATIENCE:
                raise
        else:
            look(run)
            if str(found.state).upper() in ENDED:
                return found
        time.sleep(EVERY_S)


@contextlib.contextmanager
def _told(url: str, what: str) -> Iterator[None]:
    """Say in a sentence what the client's errors mean."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        hint = ASKED if error.status in DENIED else "its own words tell why"
        said = bounded(" ".join(str(error.body or error.reason or "").split()), 500)
        raise BackendError(f"{url} {what}: {error.status} {said}", hint=hint) from None
    except (HTTPError, TimeoutError, OSError) as error:
        hint = "the address is host:port of the Pipelines API, with &scheme=http where it speaks no TLS"
        raise BackendError(f"{url} {what}: {bounded(str(error), 500)}", hint=hint) from None


def url_of(where: str, scheme: str) -> str:
    """Address of the API: in the clear only where a port of this machine leads there.

    Examples
    --------
    >>> url_of("kfp.acme", ""), url_of("localhost:8080", "")
    ('https://kfp.acme', 'http://localhost:8080')
    """
    local = where.partition(":")[0] in ("localhost", "127.0.0.1")
    return f"{scheme or ('http' if local else 'https')}://{where.rstrip('/')}"
