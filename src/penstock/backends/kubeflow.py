"""Kubeflow Pipelines 2: a flow as IR YAML, run locally by the SDK, or sent to a cluster."""

from __future__ import annotations

import contextlib
import keyword
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.backends.backend import Done, Ended, Finding, Options
from penstock.backends.compiled import Compiled
from penstock.backends.kubeflow_build import NAME, SECRET, pipeline_of
from penstock.backends.kubeflow_cluster import run_there
from penstock.backends.kubeflow_local import run_pipeline
from penstock.errors import InternalError, StoreError, UsageError, bounded
from penstock.lifecycle.remote_record import Part

NAMES = ("secret", "pull_secret", "service_account", "namespace")
"""Options whose values are names of things in Kubernetes."""
KNOWN = frozenset({*NAMES, "accelerator", "local", "on", "experiment", "scheme"})
"""What `--option` may name."""
INPUT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""Name of an input of a pipeline, as the SDK takes it."""
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
"""An image, roughly: no space, no quote, nothing that a person mistook for a command."""
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
"""A value of a label, as Kubernetes takes it."""
SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""Name of a Secret, a service account or a namespace, as Kubernetes takes it."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
"""Name of a variable of a container, and of a key of a Secret."""


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

    def run(self, flow: Compiled, where: str, options: Options, done: Done) -> Ended:
        """Run the pipeline on a cluster, or by the SDK's local runner, and wait for its end.

        Parameters
        ----------
        where : str
            Address of the cluster's API; "" for the local runner.

        Raises
        ------
        UsageError
            A cluster needs an image.
        BackendError
            The cluster's API does not take the run, or stops to answer.
        MissingExtraError
        """
        watch = _Watch(flow, done)
        if not where:
            return _here(flow, options, watch)
        if not options.image:
            what = f"kfp://{where}: every task runs in a container, and no image is named"
            raise UsageError(what, hint=f"--on 'kfp://{where}?image=NAME'")
        return run_there(pipeline_of(flow, options), flow.name, where, options, watch.look)


def _asked(options: Options) -> Iterator[Finding]:
    """What was asked for."""
    more = options.more
    here = "local" in more or more.get("on") == ""
    if not options.image and not here:
        what = "every task runs in a container, and no image is named"
        yield Finding("error", what, "--image NAME; or --option local=yes, for the SDK's local runner")
    if options.image and here:
        what = "the SDK's local runner runs no images"
        yield Finding("error", what, "leave the image out, or name a cluster: --on 'kfp://HOST?image=NAME'")
    elif options.image and not IMAGE.fullmatch(options.image):
        yield Finding(
            "error", f"{bounded(options.image, 200)}: no name of an image", "REGISTRY/NAME:TAG, or NAME@sha256:…"
        )
    elif options.image and "@sha256:" not in options.image:
        what = f"{options.image}: what a tag names may change between two tasks of one run"
        yield Finding("warning", what, "name the image by its digest: NAME@sha256:…")
    if options.schedule:
        what = "a pipeline's file holds no schedule"
        yield Finding("error", what, f'leave --schedule out, and make a recurring run with "{options.schedule}" there')
    for name in sorted(more.keys() - KNOWN):
        yield Finding("error", f"--option {name}: not known here", f"there are {', '.join(sorted(KNOWN - {'on'}))}")
    yield from _values(more)
    yield from _secrets(options)


def _values(more: Mapping[str, str]) -> Iterator[Finding]:
    """Options whose values cannot be meant."""
    for name, kinds in (("local", ("yes",)), ("scheme", ("http", "https"))):
        if name in more and more[name] not in kinds:
            yield Finding("error", f"--option {name}={more[name]}: no such value", f"there is {' and '.join(kinds)}")
    for name in NAMES:
        if name in more and not SECRET_NAME.fullmatch(more[name]):
            what = f"--option {name}={bounded(more[name], 100)}: Kubernetes takes no such name"
            yield Finding("error", what, "lower-case letters, digits, '-' and '.' only")


def _secrets(options: Options) -> Iterator[Finding]:
    """Secrets that are asked for, and what the local runner does with them."""
    for name in (*options.secrets, *options.environment):
        if not VARIABLE.fullmatch(name):
            yield Finding("error", f"{name!r}: no name of a variable", "letters, digits, '_', '-' and '.' only")
    if options.secrets and options.image:
        secret, keys = options.more.get("secret", SECRET), ", ".join(options.secrets)
        made = " ".join(f"--from-literal={name}=…" for name in options.secrets)
        yield Finding("note", f"the Secret {secret} must hold {keys}", f"kubectl create secret generic {secret} {made}")
    elif options.secrets:
        what = f"the local runner knows no Secrets: {', '.join(options.secrets)} must be set where it is started"
        yield Finding("note", what)


def _named(flow: Compiled) -> Iterator[Finding]:
    """Names that it would not take."""
    for name in flow.graph.params:
        if not INPUT.fullmatch(name) or keyword.iskeyword(name):
            yield Finding(
                "error",
                f"parameter {name!r}: no name for an input of a pipeline",
                "letters, digits and '_', a letter first, and no word of Python's own",
            )
        if "{{$" in str(flow.graph.params[name]):
            yield Finding("error", f"parameter {name}: Kubeflow puts something else for {{{{$…}}}}", "another value")
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


@dataclass(slots=True)
class _Watch:
    """Tells of steps as they end, which the ledger knows first, whoever runs them."""

    flow: Compiled
    done: Done
    told: set[str] = field(default_factory=set)

    def look(self, run: str) -> None:
        """Tell of those that have ended well since; of the others the run's end tells, for they may be tried again."""
        ours = Part(NAME, run, ()).id_of(self.flow.name)
        with contextlib.suppress(StoreError):  # a ledger that is away for a moment ends no run
            ended = {row.step for row in self.flow.home.ledger.step_runs(ours) if row.state in ("done", "skipped")}
            fresh = tuple(node.id for node in self.flow.graph.nodes if node.id in ended - self.told)
            if fresh:
                self.done(run, fresh)
                self.told.update(fresh)


def _here(flow: Compiled, options: Options, watch: _Watch) -> Ended:
    """Run it by the SDK's local runner: a process a task, mostly one after another."""
    run = f"local-{secrets.token_hex(8)}"
    text = pipeline_of(flow, options, os.getpid()).replace("{{$.pipeline_job_uuid}}", run)
    why = run_pipeline(text, lambda: watch.look(run))
    return Ended(run, "FAILURE", outcome="failed", reason=why) if why else Ended(run, "SUCCESS", outcome="success")
