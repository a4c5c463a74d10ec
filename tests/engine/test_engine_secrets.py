"""A canary in a step's argument: printed, noted, raised, logged, returned, in a crash each way; then everything that
was kept is searched for it."""

import base64
import json
import os
import urllib.parse

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from penstock.core import secret
from penstock.engine import discretion
from penstock.errors import PenstockError
from penstock.formats.registry import FormatRegistry
from penstock.store.objects import DirectoryObjects

VALUE = "canary'7f\\3a/91+Zé=q"
STEPS = """
    import base64, json, logging, os, signal, sys, urllib.parse
    import pandas as pd

    TOKEN = ps.Secret("env:CANARY")
    KEPT = []

    @ps.step
    def length(token: str) -> int:
        KEPT.append(token)
        return len(token)

    @ps.step
    def printed(token: str) -> int:
        print(token, repr(token), json.dumps(token), urllib.parse.quote(token, safe=""))
        print("Authorization: Basic", base64.b64encode(b"me:" + token.encode()).decode())
        logging.getLogger("driver").warning("connecting with %s", token)
        sys.stderr.write(token[:7]); sys.stderr.flush()
        os.write(2, token[7:].encode() + b" end\\n")
        os.system("printf '%s' \\"$CANARY\\"")
        return 1

    @ps.step
    def later(n: int) -> int:
        print("a later step of this worker says", KEPT, n)
        return n

    @ps.step
    def noted(token: str) -> int:
        ps.log(token=token, inside={"a": [token]})
        return 1

    @ps.step
    def raised(token: str) -> int:
        secret_local = token
        raise ValueError("x" * 300 + f"cannot log in with {token!r} " + urllib.parse.quote(token) + "y" * 900)

    @ps.step
    def chained(token: str) -> int:
        try:
            raise KeyError(token)
        except KeyError as error:
            error.add_note("the note says " + token)
            raise RuntimeError(token) from error

    @ps.step
    def refused(token: str) -> int:
        raise ps.PenstockError("x" * 3990 + token, where=token, hint=token, fact=[token])

    @ps.step
    def left(token: str) -> int:
        print("leaving with", token)
        sys.exit(token)

    @ps.step
    def ended(token: str) -> int:
        print("ending with", token, flush=True)
        os._exit(3)

    @ps.step
    def killed(token: str) -> int:
        os.write(1, token.encode())
        os.kill(os.getpid(), signal.SIGSEGV)

    @ps.step
    def returned(token: str) -> dict:
        return {"url": "https://me:" + urllib.parse.quote(token, safe="") + "@host"}

    @ps.step
    def table(token: str) -> pd.DataFrame:
        return pd.DataFrame({"a": ["x"] * 5 + ["Bearer " + token]})

    @ps.step
    def large(token: str) -> bytes:
        return b"0" * 3_000_000 + token.encode() + b"1"
"""


@pytest.fixture
def declared(project, monkeypatch):
    """Write steps of the file above as a flow, run it, give the report; the canary is in the environment."""
    monkeypatch.setenv("CANARY", VALUE)

    def declare(*calls):
        flow = f"\nflow = ps.Flow({', '.join(calls)}, name='canary')\n"
        project.write(STEPS)
        with open(project.root / "flows.py", "a") as file:
            file.write(flow)
        return project.run(jobs=1)

    return declare


def forms():
    return [
        part
        for form in (
            VALUE,
            repr(VALUE)[1:-1],
            json.dumps(VALUE)[1:-1],
            json.dumps(VALUE, ensure_ascii=False)[1:-1],
            urllib.parse.quote(VALUE, safe=""),
            urllib.parse.quote(VALUE),
            base64.b64encode(VALUE.encode()).decode()[:-4],
            base64.b64encode(b"me:" + VALUE.encode()).decode()[4:-4],
        )
        for part in (form, form[:10])  # half a value is a hit too
    ]


def kept_with_the_canary(root, *texts):
    """Files below a folder, and texts, in which a form of the canary stands; the declaration itself has none."""
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            found += [(os.path.relpath(os.path.join(folder, name), root), f) for f in forms() if f.encode() in data]
    return found + [(text, form) for text in texts for form in forms() if form in text]


def everything(project, report):
    told = [repr(event) for event in project.events]
    error = report.error
    told += [str(error), json.dumps(error.to_json()), repr(vars(error))] if error is not None else []
    return [json.dumps(report.outcome.notes, default=str), *told]


def log_of(project, step):
    [path] = list(project.root.glob(f".penstock/logs/*/{step}.log"))
    return path.read_text()


def test_the_step_receives_the_value_and_the_flow_has_the_name(project, declared):
    report = declared("length(TOKEN)")
    assert report.error is None
    assert project.value(report, "length") == len(VALUE)
    tree = report.graph.node("length").tree
    assert ["secret", "env:CANARY"] in tree[1][0][1]
    assert kept_with_the_canary(project.root, *everything(project, report)) == []


def test_what_a_step_prints_is_kept_without_the_value_in_any_form(project, declared):
    report = declared("later(length(TOKEN))", "printed(TOKEN)")
    assert report.error is None
    log = log_of(project, "printed")
    assert log.count("<env:CANARY>") == 8
    assert "Authorization: Basic" in log
    assert "<env:CANARY> end" in log  # the value that was split over two writes
    assert "a later step of this worker says" in log_of(project, "later")
    assert kept_with_the_canary(project.root, *everything(project, report)) == []


def test_what_a_step_notes_is_recorded_without_the_value(project, declared):
    report = declared("noted(TOKEN)")
    assert report.outcome.notes["noted"] == {"token": "<env:CANARY>", "inside": {"a": ["<env:CANARY>"]}}
    assert kept_with_the_canary(project.root, *everything(project, report)) == []


@pytest.mark.parametrize("step", ["raised", "chained", "refused", "left", "ended", "killed"])
def test_however_a_step_ends_nothing_has_the_value(project, declared, step):
    report = declared(f"{step}(TOKEN)")
    assert isinstance(report.error, PenstockError)
    assert kept_with_the_canary(project.root, *everything(project, report)) == []


@pytest.mark.parametrize("step", ["returned", "table", "large"])
def test_an_output_with_the_value_is_refused_and_not_stored(project, declared, step):
    report = declared(f"{step}(TOKEN)")
    assert "the output holds the value of the secret env:CANARY" in str(report.error)
    assert kept_with_the_canary(project.root, *everything(project, report)) == []


def tables(text):
    """Tables, and an array, that hold a text where a look at plain cells does not find it."""
    many = [f"{text[:9]}-{n}" for n in range(4_000)]  # so much like it that it is written as a reference to them
    nested = pa.table({"a": [[{"b": one}] for one in [*many, text]]})
    return {
        "index": pd.DataFrame({"a": range(4_001)}, index=[*many, text]),
        "name of the index": pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name=text)),
        "category without a row": pd.DataFrame({"a": pd.Categorical(many, categories=[*many, f"{text}!"])}),
        "list of structs": nested,
        "list of structs in polars": pl.from_arrow(nested),
        "bytes": pa.table({"a": [text.encode(), *(one.encode() for one in many)]}),
        "dictionary": pa.table({"a": pa.array([*many, text]).dictionary_encode()}),
        "name of a column": pl.DataFrame({text: [1]}),
        "metadata": pa.table({"a": [1]}).replace_schema_metadata({"note": text}),
        "array": np.array([["x", text]]),
        "decimal": pa.table({"a": pa.array([int(text)] * 9 if text.isdigit() else [0], pa.decimal128(20, 0))}),
    }


@pytest.mark.parametrize("place", tables("x"))
def test_a_table_is_refused_wherever_in_it_the_value_stands(tmp_path, monkeypatch, place):
    text = "12345678901" if place == "decimal" else VALUE
    stage = discretion.guarded(DirectoryObjects(str(tmp_path)).stage, "step t")
    FormatRegistry().dump(tables(text)[place], stage)  # nothing is known yet
    monkeypatch.setattr(secret, "_revealed", {text: "env:CANARY"})
    stage = discretion.guarded(DirectoryObjects(str(tmp_path)).stage, "step t")
    with pytest.raises(PenstockError, match="holds the value of the secret env:CANARY"):
        FormatRegistry().dump(tables(text)[place], stage)
    assert FormatRegistry().dump(tables("harmless")["index" if place == "decimal" else place], stage).size


def test_bytes_that_only_begin_as_a_table_are_searched_as_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(secret, "_revealed", {VALUE: "env:CANARY"})
    stage = discretion.guarded(DirectoryObjects(str(tmp_path)).stage, "step t")
    assert stage(b"PAR1 and no more")[1] == 16
    with pytest.raises(PenstockError, match="holds the value"):
        stage(b"PAR1" + VALUE.encode())


def test_a_variable_that_is_not_set_is_told_before_the_step_begins(project, declared, monkeypatch):
    project.write(STEPS + "\nflow = printed(ps.Secret('env:ABSENT'))\n".replace("\n", "\n    "))
    error = project.run().error
    assert "the variable ABSENT is not set, or is empty" in str(error)
    assert error.exit_code == 2


def test_control_without_discretion_the_canary_is_in_the_log_the_ledger_and_the_errors(project, monkeypatch):
    """The search finds what it is meant to find: the same value, passed as text."""
    text = STEPS.replace('ps.Secret("env:CANARY")', repr(VALUE))
    monkeypatch.setenv("CANARY", VALUE)
    project.write(
        text + "\n    flow = ps.Flow(printed.ref(TOKEN), noted.ref(TOKEN), returned.ref(TOKEN), name='canary')\n"
    )
    report = project.run()
    assert report.error is None
    places = {name.rpartition("/")[2] for name, _ in kept_with_the_canary(project.root / ".penstock")}
    assert "printed.log" in places
    assert any(name.startswith("ledger.db") for name in places)


def test_control_a_log_that_is_not_held_back_has_the_value(monkeypatch, tmp_path):
    """Turned off, the safeguard's test turns red."""
    monkeypatch.setattr(secret, "_revealed", {VALUE: "env:CANARY"})
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    saved = [os.dup(1), os.dup(2)]
    try:
        for begin, expected in ((True, False), (False, True)):
            for stream in (1, 2):
                os.dup2(log, stream)
            if not begin:
                monkeypatch.setattr(discretion.Discretion, "begin", lambda self: None)
            with discretion.Discretion(log):
                os.write(1, VALUE.encode())
            assert (VALUE in (tmp_path / "log").read_text()) == expected
    finally:
        for held, stream in zip(saved, (1, 2), strict=True):
            os.dup2(held, stream)
            os.close(held)
        os.close(log)
        secret.watch(lambda: None)
