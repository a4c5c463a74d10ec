"""A version's model as one immutable object: verified, replayed, and swapped as a whole.

Transform, estimator, input contract and golden rows live and go together, so no answer can mix two versions.
No web library is needed here: `penstock predict` scores files with the same object.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.answer import answers, with_decision
from penstock.core.artifact import Artifact
from penstock.core.digest import digest_bytes
from penstock.core.ports import Formats, Objects
from penstock.errors import (
    CorruptObjectError,
    DataError,
    FormatError,
    NotReproducibleError,
    PenstockError,
    StoreTooNewError,
    UntrustedTypeError,
    bounded,
)
from penstock.serve.contract import Contract
from penstock.serve.own import Host, admit
from penstock.serve.process import ModelProcess

TOLERANCE = 1e-9
"""How far a replayed golden answer may lie from the expected one, absolute and relative."""

CHUNK_ROWS = 50_000
"""Rows of a file that are scored at once."""

CHUNK_S = 600.0
"""Seconds that a process of its own may take for them."""

_SCHEME = "bundle/1"


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Model:
    """One version, ready to answer.

    Attributes
    ----------
    workflow : str
    version : int
    bundle : str
        Digest of the manifest: everything below is named by it.
    estimator : fitted estimator or None
        The whole pipeline, preprocessing included; None where it is in a process of its own.
    contract : Contract
        What may come in.
    golden_rows, golden_answers : tuple of dict
        Training records, and the answers that the version gave when it was registered.
    process : ModelProcess or None
        Where a model with classes of the project runs. It ends with this object.
    """

    workflow: str
    version: int
    bundle: str
    estimator: Any
    contract: Contract
    golden_rows: tuple[Mapping[str, Any], ...]
    golden_answers: tuple[Mapping[str, Any], ...]
    process: ModelProcess | None = None

    @property
    def name(self) -> str:
        """As people write it: "churn@7"."""
        return f"{self.workflow}@{self.version}"

    @classmethod
    def load(
        cls,
        workflow: str,
        version: int,
        bundle: Artifact,
        objects: Objects,
        formats: Formats,
        host: Host | None = None,
    ) -> Model:
        """Load a version and prove that it answers here as it did when it was registered.

        Parameters
        ----------
        bundle : Artifact
            The manifest, as the ledger's `W/version` or `W/deployment` entry names it.
        host : Host or None
            What classes of a project may do here; None runs none of them.

        Raises
        ------
        CorruptObjectError, MissingObjectError, StoreError
            A file of the bundle is not there or not what its digest says.
        UntrustedTypeError
            The estimator holds types that this machine's configuration does not trust.
        FormatError, StoreTooNewError
            Not a bundle, or one of another scheme.
        NotReproducibleError
            A golden row gets another answer here.
        """
        name = f"{workflow}@{version}"
        with _whole(name):
            files = _manifest(name, bundle, objects)
            for part, artifact in files.items():
                _verified(name, part, artifact, objects)
            decision = formats.load(files["decision"], objects) if "decision" in files else None
            contract = Contract.from_json(with_decision(formats.load(files["input"], objects), decision))
            golden = formats.load(files["golden"], objects)
            rows, expected = tuple(golden["rows"]), tuple(golden["expected"])
            claimed = formats.load(files["types"], objects) if "types" in files else None
        parts = (contract, rows, expected)
        if claimed is not None and host is not None:
            process = _own_process(name, files["estimator"], claimed, contract, objects, host)
            model = cls(workflow, version, bundle.digest, None, *parts, process)
            weakref.finalize(model, process.close)
        else:
            estimator = _in_process(name, files["estimator"], objects, formats)
            model = cls(workflow, version, bundle.digest, estimator, *parts)
        try:
            model.replay()
        except BaseException:
            model.close()
            raise
        return model

    def close(self) -> None:
        """End the model's process where it has one of its own; asked again it has no answer."""
        if self.process is not None:
            self.process.close()

    def frame(self, records: Sequence[Mapping[str, Any]]) -> Any:
        """The frame of checked records, as in training; see `Contract.frame`."""
        return self.contract.frame(records)

    def answer(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers for checked records, in order; each number in them is finite.

        Raises
        ------
        DataError
            The estimator refuses these values, or its answer is not a finite number; `row` is the first one.
        """
        process = self.process
        given = self._asked(lambda: self._ask(self.frame(records)) if process is None else process.records(records))
        for row, answer in enumerate(given):
            if not _finite(answer):
                raise DataError("the model's answer is not a finite number", where=f"record {row}", row=row)
        return given

    def _ask(self, frame: Any) -> list[dict[str, Any]]:
        """Answers for a frame with the contract's columns and dtypes."""
        import numpy as np

        if self.process is not None:
            return self.process.frame(frame, CHUNK_S)
        with np.errstate(all="ignore"):
            return answers(self.estimator, frame, self.contract.raw)

    def _asked(self, ask: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        try:
            return ask()
        except PenstockError:
            raise
        except (ValueError, TypeError, ArithmeticError) as error:
            raise DataError(
                f"the model cannot answer for these values: {bounded(str(error), 500)}", where=self.name
            ) from error

    def replay(self) -> None:
        """Answer the golden rows and hold the answers against the expected ones.

        Raises
        ------
        NotReproducibleError
            There are no golden rows, or one gets another answer; says which, and both answers.
        """
        where = f"golden rows of {self.name}"
        if not self.golden_rows or len(self.golden_rows) != len(self.golden_answers):
            raise NotReproducibleError(
                f"{len(self.golden_rows)} rows and {len(self.golden_answers)} expected answers: nothing proves "
                "that this machine answers as training did",
                where=where,
                hint="register the version again",
            )
        try:
            given = self.answer(self.golden_rows)
        except (PenstockError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            what = error.what if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
            raise NotReproducibleError(what, where=where, hint="register the version again") from error
        for row, (expected, got) in enumerate(zip(self.golden_answers, given, strict=True)):
            if not same_answer(expected, got):
                raise NotReproducibleError(
                    f"row {row}: expected {_short(expected)}, got {_short(got)}",
                    where=where,
                    hint="serve with the library versions that the bundle's environment names, or retrain",
                    row=row,
                )

    def score_frame(self, frame: Any, gaps: Collection[str] = ()) -> Any:
        """Answers for the rows of a table, checked by name, in chunks.

        Parameters
        ----------
        frame : pandas.DataFrame of shape (n_rows, any)
            Needs the contract's columns; others are passed over, and the order does not matter.
        gaps : collection of str
            Where the frame is a part of a table: columns that lack a value somewhere in the whole of it.

        Returns
        -------
        pandas.DataFrame of shape (n_rows, n_answer_columns)
            The index of `frame`; columns "label", "score" and, where one was decided on, "threshold" (binary),
            "label" and one "score_CLASS" a class (multiclass), or "value" (regression). `attrs["unseen"]` counts, by
            column, the rows with a level that training never saw.

        Raises
        ------
        DataError
            Missing columns, values of another type, missing values or unseen levels where the model has no
            answer for them: all at once, with counts.
        """
        import pandas as pd

        from penstock.serve.table import as_trained

        checked = as_trained(frame, self.contract, gaps)
        parts = [
            pd.DataFrame(
                self._flat(self._asked(functools.partial(self._ask, checked.frame.iloc[at : at + CHUNK_ROWS])))
            )
            for at in range(0, len(frame), CHUNK_ROWS)
        ]
        scored = pd.concat(parts, ignore_index=True)
        scored.index = frame.index
        scored.attrs["unseen"] = checked.unseen
        return scored

    @staticmethod
    def _flat(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        flat = []
        for answer in given:
            row = {name: value for name, value in answer.items() if name != "scores"}
            row |= {f"score_{name}": value for name, value in answer.get("scores", {}).items()}
            flat.append(row)
        return flat


def _in_process(name: str, artifact: Artifact, objects: Objects, formats: Formats) -> Any:
    """An estimator of library types, in this process."""
    try:
        return formats.load(artifact, objects)
    except UntrustedTypeError as error:
        raise UntrustedTypeError(
            f"{name} cannot be served: {error.what}",
            where=error.where,
            hint="a library's type is trusted by its exact name under [tool.penstock] trust; a class of the project's "
            "own runs where its bundle names it and a project's configuration trusts its code: train it again",
        ) from error


def _own_process(
    name: str, artifact: Artifact, claimed: Any, contract: Contract, objects: Objects, host: Host
) -> ModelProcess:
    """A process for an estimator with types of the project, started where this host allows them."""
    from penstock.formats.skops import types_in

    data = objects.read(artifact.digest)
    types_in(data)  # what is no archive of ours needs no process to be refused

    def begin() -> tuple[dict[str, Any], bytes]:
        admitted = admit(name, claimed, host)
        about = {
            "root": host.root,
            "folders": admitted.folders,
            "files": dict(admitted.files),
            "names": admitted.names,
            "trust": [word for word in host.trust if ":" not in word],
            "contract": contract.raw,
            "memory": host.memory,
        }
        return about, data

    process = ModelProcess(name, begin, host)
    process.start()
    return process


def same_answer(expected: Mapping[str, Any], got: Mapping[str, Any], tolerance: float = TOLERANCE) -> bool:
    """Whether two answers agree: labels equal, numbers within the tolerance.

    Examples
    --------
    >>> same_answer({"label": 1, "score": 0.5}, {"label": 1, "score": 0.5 + 1e-12})
    True
    >>> same_answer({"label": 1, "score": 0.5}, {"label": 0, "score": 0.5})
    False
    """
    if expected.keys() != got.keys():
        return False
    return all(_same(value, got[name], tolerance) for name, value in expected.items())


def _same(expected: Any, got: Any, tolerance: float) -> bool:
    if isinstance(expected, dict):
        return isinstance(got, dict) and same_answer(expected, got, tolerance)
    if isinstance(expected, float) and isinstance(got, (int, float)):
        return math.isclose(expected, got, rel_tol=tolerance, abs_tol=tolerance)
    return bool(expected == got) and isinstance(expected, bool) == isinstance(got, bool)


def _finite(answer: Mapping[str, Any]) -> bool:
    return all(
        _finite(value) if isinstance(value, dict) else not isinstance(value, float) or math.isfinite(value)
        for value in answer.values()
    )


@contextlib.contextmanager
def _whole(name: str) -> Iterator[None]:
    """What a bundle lacks, or holds of another type, said as an error of ours."""
    try:
        yield
    except PenstockError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(
            f"the bundle of {name} is not whole: {type(error).__name__}: {bounded(str(error), 200)}",
            hint="register the version again",
        ) from error


def _manifest(name: str, bundle: Artifact, objects: Objects) -> dict[str, Artifact]:
    """The bundle's files by name."""
    data = _parse(name, _verified(name, "the manifest", bundle, objects))
    scheme = data.get("penstock")
    if scheme != _SCHEME:
        newer = isinstance(scheme, str) and scheme.startswith("bundle/")
        kind = StoreTooNewError if newer else FormatError
        raise kind(
            f'{name} is not a bundle that this version reads: scheme {_short(scheme)}, not "{_SCHEME}"',
            hint="serve it with the version of Penstock that made it",
        )
    workflow = name.rpartition("@")[0]
    if data.get("workflow") != workflow:
        raise FormatError(f"{name} names a bundle of another workflow, {_short(data.get('workflow'))}")
    files = {part: Artifact.from_json(artifact) for part, artifact in data["files"].items()}
    absent = [part for part in ("estimator", "input", "golden") if part not in files]
    if absent:
        raise FormatError(f"the bundle of {name} has no {', no '.join(absent)}")
    return files


def _verified(name: str, part: str, artifact: Artifact, objects: Objects) -> bytes:
    """The bytes, held against their digest here, whatever the store promised."""
    data = objects.read(artifact.digest) if artifact.text is None else artifact.text.encode("utf-8", "surrogatepass")
    if digest_bytes(data) != artifact.digest:
        raise CorruptObjectError(
            f"{part} of {name} does not have the bytes that its digest {artifact.digest[:12]} names",
            hint="run `penstock fsck`; the version that is being served stays",
            digest=artifact.digest,
        )
    return data


def _parse(name: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise FormatError(f"the manifest of {name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"the manifest of {name} is not a JSON object")
    return value


def _short(value: Any) -> str:
    return bounded(json.dumps(value, default=str), 200)
