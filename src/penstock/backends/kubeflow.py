"""Kubeflow Pipelines 2: a flow as IR YAML, run locally by the SDK, or sent to a cluster."""

from __future__ import annotations

import contextlib
import keyword
import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.backends.backend import Done, Ended, Finding, Options, Outcome
from penstock.backends.compiled import Compiled
from penstock.backends.kubeflow_build import NAME, SECRET, pipeline_of, sdk
from penstock.errors import CancelledError, InternalError, UsageError, bounded

KNOWN = frozenset({"secret", "accelerator", "local", "on", "namespace", "experiment", "scheme"})
"""What `--option` may name."""
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
"""A value of a label, as Kubernetes takes it."""
TOKEN = "PENSTOCK_KFP_TOKEN"  # noqa: S105  where it stands, not what it is
"""Variable of the environment with a token for the cluster's API."""
EVERY_S = 5
"""Seconds between two questions whether a run has ended there."""
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED", "ERROR")
"""States in which a run has ended there; the SDK's own waiting does not know that of a cancelled one."""


class Kubeflow:
    """Compiles a flow to a pipeline of container components, one a task."""

    name = NAME
    away = False
    """An image makes it so: without one, all runs on this machine."""

    def check(self, flow: Compiled, options: Options) -> list[Finding]:
        """What of this flow does not work there."""
        return [*_asked(options), *_named(flow), *_told(flow, options)]

    def export(self, flow: Compiled, options: Options) -> str:
        """The pipeline as YAML, checked for references that lead nowhere.

        Raises
        ------
        MissingExtraError
        """
        text = pipeline_of(flow, options)
        _check(text)
        return text

    def run(self, flow: Compiled, where: str, options: Options, done: Done) -> Ended:  # noqa: ARG002  told at its end
        """Run the pipeline on a cluster, or by the SDK's local runner, and wait for its end.

        Parameters
        ----------
        where : str
            Address of the cluster's API; "" for the local runner.

        Raises
        ------
        UsageError
            A cluster needs an image.
        MissingExtraError
        """
        if where:
            return _on_cluster(flow, where, options)
        return _here(flow, options)


def _asked(options: Options) -> Iterator[Finding]:
    """What was asked for."""
    here = bool(options.more.get("local")) or options.more.get("on") == ""
    if not options.image and not here:
        what = "every task runs in a container, and no image is named"
        yield Finding("error", what, "--image NAME; or --option local=yes, for the SDK's local runner")
    if options.image and "@sha256:" not in options.image:
        what = f"{options.image}: what a tag names may change between two tasks of one run"
        yield Finding("warning", what, "name the image by its digest: NAME@sha256:…")
    if options.schedule:
        what = "a pipeline's file holds no schedule"
        yield Finding("error", what, f'leave --schedule out, and make a recurring run with "{options.schedule}" there')
    for name in sorted(options.more.keys() - KNOWN):
        yield Finding("error", f"--option {name}: not known here", f"there are {', '.join(sorted(KNOWN - {'on'}))}")
    if options.secrets and options.image:
        secret = options.more.get("secret", SECRET)
        keys = ", ".join(options.secrets)
        yield Finding("note", f"the Secret {secret} must hold {keys}", f"kubectl create secret generic {secret} …")


def _named(flow: Compiled) -> Iterator[Finding]:
    """Names that it would not take."""
    for name in flow.graph.params:
        if not name.isidentifier() or keyword.iskeyword(name):
            yield Finding("error", f"parameter {name!r}: no name for an input of a pipeline", "call it otherwise")
    for task in flow.tasks:
        for name, value in task.resources.get("labels", {}).items():
            if not LABEL.fullmatch(value) or not LABEL.fullmatch(name.rpartition("/")[2]):
                what = f"task {task.id}: no node can have the label {name}={value}"
                yield Finding("error", what, "63 letters, digits, '-', '_' and '.' at most")


def _told(flow: Compiled, options: Options) -> Iterator[Finding]:
    """What is otherwise than elsewhere."""
    if any(task.retries for task in flow.tasks):
        what = (
            "Kubeflow tries again whatever failed; a failure that cannot get better is answered at once from the record"
        )
        yield Finding("note", what)
    if not options.image and any(task.resources for task in flow.tasks):
        yield Finding("note", "the local runner grants no resources and runs one task after another")


def _check(text: str) -> None:
    """Hold the file against the format's own message, and every reference against what it names."""
    import yaml
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    from penstock.backends.kubeflow_references import faults

    found: list[Mapping[str, Any]] = [one for one in yaml.safe_load_all(text) if one]
    messages: tuple[Any, ...] = (pipeline_spec_pb2.PipelineSpec(), pipeline_spec_pb2.PlatformSpec())
    for document, message in zip(found, messages, strict=False):
        json_format.ParseDict(document, message)
    wrong = faults(*found)
    if wrong:
        raise InternalError(f"the compiled pipeline has {'; '.join(wrong[:5])}")


def _here(flow: Compiled, options: Options) -> Ended:
    """Run it by the SDK's local runner: a process a task, one after another."""
    sdk()
    from kfp import components, local

    run = f"local-{secrets.token_hex(8)}"
    plain = Options(group=options.group, python=options.python)
    text = pipeline_of(flow, plain).replace("{{$.pipeline_job_uuid}}", run)
    with tempfile.TemporaryDirectory(prefix="penstock-kfp-") as folder, contextlib.redirect_stdout(sys.stderr):
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=folder)
        try:
            components.load_component_from_text(text)()
        except RuntimeError as error:  # only its text tells a failed task from a fault of the runner
            if "finished with status" not in str(error):
                raise
            return Ended(run, "FAILURE", outcome="failed", reason=bounded(str(error), 500))
    return Ended(run, "SUCCESS", outcome="success")


def _on_cluster(flow: Compiled, where: str, options: Options) -> Ended:
    """Send it to a cluster and wait."""
    if not options.image:
        what = f"kfp://{where}: every task runs in a container, and no image is named"
        raise UsageError(what, hint=f"--on 'kfp://{where}?image=NAME'")
    sdk()
    from kfp import Client

    url = _url(where, options.more.get("scheme", ""))
    namespace = options.more.get("namespace")
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory(prefix="penstock-kfp-") as folder:
        path = os.path.join(folder, f"{NAME}.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(pipeline_of(flow, options))
        client = Client(host=url, namespace=namespace or "kubeflow", existing_token=os.environ.get(TOKEN))
        sent = client.create_run_from_pipeline_package(
            path,
            arguments={},
            run_name=f"{flow.name}-{secrets.token_hex(4)}",
            experiment_name=options.more.get("experiment"),
            namespace=namespace,
            enable_caching=False,
        )
        run = str(sent.run_id)
        try:
            state = _ended(client, run)
        except (KeyboardInterrupt, CancelledError):
            client.terminate_run(run)
            raise
    outcome: Outcome = "success" if state == "SUCCEEDED" else "cancelled" if state == "CANCELED" else "failed"
    return Ended(run, state, f"{url}/#/runs/details/{run}", outcome)


def _ended(client: Any, run: str) -> str:
    """How a run ended, once it has."""
    while (state := str(client.get_run(run).state).upper()) not in ENDED:
        time.sleep(EVERY_S)
    return state


def _url(where: str, scheme: str) -> str:
    """Address of the API: in the clear only where a port of this machine leads there.

    Examples
    --------
    >>> _url("kfp.acme", ""), _url("localhost:8080", "")
    ('https://kfp.acme', 'http://localhost:8080')
    """
    local = where.partition(":")[0] in ("localhost", "127.0.0.1")
    return f"{scheme or ('http' if local else 'https')}://{where.rstrip('/')}"
