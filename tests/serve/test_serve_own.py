"""Classes of the project: named, held against the host's own source and configuration, and run in a process apart."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from command_line import call
from penstock.engine.own_types import own_types
from penstock.errors import ConfigurationError, FormatError, ModelAwayError, ModelError, UntrustedTypeError
from penstock.project import configure
from penstock.serve import own, process
from penstock.serve.app import Service
from penstock.serve.follow import Holder, _without_own
from penstock.serve.log import NoLog
from penstock.serve.own import Host, admit
from penstock.serve.predict import Live, Predictor

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / "src"
NAMES = ("fraud.features:AmountRatio", "fraud.features:Memory", "fraud.features:Vote", "fraud.features:log_all")
CONTRACT = {"task": "regression", "classes": None, "positive": None}
MEMORY = 700 << 20


def copy_project(folder: Path) -> Path:
    shutil.copytree(HERE / "fraud_project", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "host")


@pytest.fixture
def claimed(project):
    """What a bundle made in such a tree says of its types."""
    return {"types": own_types(str(project), NAMES), "folders": ["."]}


@pytest.fixture
def reading_here(monkeypatch):
    """Source files are read in this process: the same function, without the start of another."""
    monkeypatch.setattr(own, "read_types", lambda root, names, folders: own_types(root, names, folders))


def refused(claimed, host):
    with pytest.raises(UntrustedTypeError) as caught:
        admit("fraud@1", claimed, host)
    return caught.value


# ── what the host allows ─────────────────────────────────────────────────────────────────────────────────────


def test_the_line_of_the_refusal_is_the_line_that_trusts(project, claimed):
    """Read by the real process, which imports nothing of the project."""
    edit(
        project / "fraud" / "features.py",
        "import numpy as np",
        "import numpy as np\nopen('ran', 'w')",
    )
    shutil.copytree(HERE / "fraud_project", project, dirs_exist_ok=True)
    error = refused(claimed, Host(str(project)))
    assert "does not trust fraud.features:AmountRatio, fraud.features:Memory" in error.what
    assert str(project / "penstock.toml") in error.where
    line = error.hint.partition(": ")[2]
    (project / "penstock.toml").write_text(line + "\n")
    host = replace(Host.of(configure(str(project))), own=False)
    assert admit("fraud@1", claimed, host).names == tuple(name.replace(":", ".") for name in NAMES)
    short = replace(host, trust=host.trust[1:])
    assert "does not trust fraud.features:AmountRatio" in refused(claimed, short).what
    assert not (project / "ran").exists()


def test_nothing_of_the_project_is_imported_to_read_its_types(project):
    (project / "fraud" / "features.py").write_text("open('ran', 'w')\nclass AmountRatio: pass\n")
    found = own.read_types(str(project), ["fraud.features:AmountRatio"], ["."])
    assert found["fraud.features:AmountRatio"]["digest"].startswith("sha256:")
    assert not list(project.rglob("ran"))


@pytest.mark.usefixtures("reading_here")
@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("features.py", "self.scale * ratio", "2 * self.scale * ratio", "fraud.features:AmountRatio"),
        ("helpers.py", "FLOOR = 1e-9", "FLOOR = 1e-6", "fraud.helpers:FLOOR"),
        ("helpers.py", "np.abs(b)", "np.abs(a)", "fraud.helpers:ratio"),
    ],
)
def test_one_edited_line_is_refused_and_named(project, claimed, file, before, after, said):
    mine = own_types(str(project), NAMES)["fraud.features:AmountRatio"]["digest"]
    edit(project / "fraud" / file, before, after)
    here = own_types(str(project), NAMES)["fraud.features:AmountRatio"]["digest"]
    trusted = tuple(f"{name}@{told['digest']}" for name, told in claimed["types"].items())
    for host in (Host(str(project), own=True), Host(str(project), trust=trusted)):
        error = refused(claimed, host)
        assert mine[:19] in error.what
        assert here[:19] in error.what
        assert f"what differs: {said}" in error.what


@pytest.mark.usefixtures("reading_here")
def test_comments_layout_and_what_no_type_reaches_do_not_count(project, claimed):
    edit(project / "fraud" / "helpers.py", "return 1", "return 2")
    edit(project / "fraud" / "features.py", "    def transform", "    # as in the paper\n\n    def transform")
    assert admit("fraud@1", claimed, Host(str(project), own=True)).files == {
        "fraud.features": str(project / "fraud" / "features.py")
    }


@pytest.mark.usefixtures("reading_here")
def test_a_host_without_the_module_says_so(project, claimed, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no module fraud.features" in refused(claimed, Host(str(empty), own=True)).what
    edit(project / "fraud" / "features.py", "class Memory", "class Recollection")
    assert "fraud.features defines no Memory" in refused(claimed, Host(str(project), own=True)).what


@pytest.mark.usefixtures("reading_here")
def test_a_library_s_function_is_nobody_s_own_type(project, claimed):
    for name in ("os:system", "subprocess:Popen", "sklearn.base:BaseEstimator", "builtins:eval"):
        told = dict(claimed["types"]["fraud.features:Vote"])
        lying = {"types": {name: told}, "folders": ["."]}
        assert "has no module" in refused(lying, Host(str(project), own=True)).what


@pytest.mark.usefixtures("reading_here")
@pytest.mark.parametrize(
    "claim",
    [
        None,
        {},
        {"types": {}, "folders": []},
        {"types": {"fraud.features:Vote": {}}, "folders": ["."]},
        {"types": {"../evil:X": {"digest": "sha256:" + "0" * 64, "parts": {}}}, "folders": ["."]},
        {"types": {"a:X": {"digest": "md5:0", "parts": {}}}, "folders": ["."]},
        *({"types": {"a:X": {"fault": "x"}}, "folders": [folder]} for folder in ("..", "/tmp", "a/../..", "", 3)),
    ],
)
def test_what_is_no_list_of_types_is_refused(project, claim):
    with pytest.raises(FormatError, match="no list of types"):
        admit("fraud@1", claim, Host(str(project), own=True))


@pytest.mark.usefixtures("reading_here")
def test_sabotage_a_host_that_believes_the_bundle_would_run_edited_code(project, claimed, monkeypatch):
    edit(project / "fraud" / "helpers.py", "FLOOR = 1e-9", "FLOOR = 1e-6")
    refused(claimed, Host(str(project), own=True))
    monkeypatch.setattr(own, "read_types", lambda root, names, folders: claimed["types"])
    assert admit("fraud@1", claimed, Host(str(project), own=True)).names


def test_own_types_are_trusted_by_default_only_where_nobody_else_writes(tmp_path):
    (tmp_path / "penstock.toml").write_text("")
    assert Host.of(configure(str(tmp_path))).own
    (tmp_path / "penstock.toml").write_text('ledger = "postgresql://db/x"')
    assert not Host.of(configure(str(tmp_path))).own
    (tmp_path / "penstock.toml").write_text('store = "s3://bucket/x"')
    assert not Host.of(configure(str(tmp_path))).own
    (tmp_path / "penstock.toml").write_text('store = "s3://bucket/x"\ntrust = ["own"]')
    assert Host.of(configure(str(tmp_path))).own
    (tmp_path / "penstock.toml").write_text('trust = ["fraud:X@sha256:12"]')
    with pytest.raises(ConfigurationError, match="MODULE:NAME@sha256:DIGEST"):
        configure(str(tmp_path))


# ── the process ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def trouble(project, tmp_path, house, kit, monkeypatch):
    """A registered model that does what it is told, and the host that trusts it."""
    import pandas as pd

    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.syspath_prepend(str(project))
    for name in [name for name in sys.modules if name.partition(".")[0] == "fraud"]:
        monkeypatch.delitem(sys.modules, name)
    module = importlib.import_module("fraud.trouble")
    frame = pd.DataFrame({"amount": [1.0, 2.0]})
    estimator = module.Trouble(str(notes)).fit(frame)
    contract = CONTRACT | {"columns": [kit.column("amount", "float64", "number")]}
    types = {"types": own_types(str(project), ["fraud.trouble:Trouble"]), "folders": ["."]}
    house.register(house.bundle(estimator, contract, frame, types=types))
    monkeypatch.undo()
    for name in [name for name in sys.modules if name.partition(".")[0] == "fraud"]:
        del sys.modules[name]
    monkeypatch.setattr(process, "BACKOFF_S", (0.05, 0.2))
    monkeypatch.setattr(own, "read_types", lambda root, names, folders: own_types(root, names, folders))
    house.notes = notes
    house.host = Host(str(project), own=True, memory=MEMORY, timeout_s=3.0)
    return house


def load(house, version=1):
    from penstock.serve.follow import load_version

    return load_version(house.workflow, version, house.ledger, house.objects, house.formats, house.host)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ask(port, value):
    """Status, Retry-After and answer of one prediction."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        body = json.dumps({"records": [{"amount": value}]})
        connection.request("POST", "/predict", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers.get("retry-after"), json.loads(answer.read())
    finally:
        connection.close()


ENDING = {201: "took longer than 3 s", 202: "MiB of memory", 203: "code 3", 204: "code 4", 205: "signal 11"}
STAYING = {101: 422, 102: 500, 103: 500, 104: 200, 105: 200}


def test_whatever_a_class_does_the_server_goes_on(trouble, kit, capfd):
    """Values that raise, a loop without end, all memory, `os._exit`, children left behind, a segmentation fault."""
    model = load(trouble)
    holder = Holder()
    holder.swap(Live.of(model))
    service = Service("churn", holder, Predictor(NoLog()))
    with kit.on_loopback(service.app()) as wire, ThreadPoolExecutor(32) as clients:
        for value, status in STAYING.items():
            assert ask(wire.port, value)[0] == status
            assert ask(wire.port, 3)[2]["predictions"][0]["value"] == 6.0
        assert model.process.state()["restarts"] == 0
        first = model.process.state()["pid"]
        for count, (value, said) in enumerate(ENDING.items(), start=1):
            bad = clients.submit(ask, wire.port, value)
            others = [clients.submit(ask, wire.port, 3) for _ in range(31)]
            status, retry, body = bad.result()
            assert (status, retry) == (503, "1"), body
            kit.until(lambda said=said: said in model.process.state()["last_end"])
            told = [other.result() for other in others]
            assert {one[0] for one in told} <= {200, 503}
            assert all(one[1] == "1" for one in told if one[0] == 503)
            assert b"200 OK" in wire.get("/healthz")
            kit.until(lambda: model.process.is_ready, 60)
            assert b"200 OK" in wire.get("/readyz")
            assert ask(wire.port, 3)[2]["predictions"][0]["value"] == 6.0
            assert model.process.state()["restarts"] == count
        seen = json.loads(wire.get("/model").partition(b"\r\n\r\n")[2])["process"]
        assert (seen["ready"], seen["restarts"]) == (True, len(ENDING))
    left = [int((trouble.notes / name).read_text()) for name in ("one", "two", "three")]
    last = model.process.state()["pid"]
    assert first != last
    model.close()
    kit.until(lambda: not any(is_alive(pid) for pid in [*left, first, last]))
    assert service.predictor.close()
    said = capfd.readouterr().err
    assert said.count("answers again") == len(ENDING)


def test_while_it_is_away_nobody_waits(trouble, kit, monkeypatch):
    monkeypatch.setattr(process, "BACKOFF_S", (30.0, 30.0))
    model = load(trouble)
    holder = Holder()
    holder.swap(Live.of(model))
    predictor = Predictor(NoLog())
    client = kit.Client(Service("churn", holder, predictor).app())
    os.kill(model.process.state()["pid"], signal.SIGKILL)
    kit.until(lambda: not model.process.is_ready)
    begin = time.monotonic()
    with pytest.raises(ModelAwayError, match="started again: it was killed by signal 9"):
        model.answer([{"amount": 1.0}])
    reply = client.predict({"amount": 1.0})
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert client.call("GET", "/readyz").status == 503
    assert time.monotonic() - begin < 5
    assert client.call("GET", "/healthz").status == 200
    model.close()
    predictor.close()


def test_a_process_ends_with_its_model_and_a_frame_is_answered_as_records_are(trouble, kit):
    import pandas as pd

    model = load(trouble)
    keeper, pid = model.process._running.keeper.pid, model.process.state()["pid"]
    scored = model.score_frame(pd.DataFrame({"amount": [1.0, 2.5], "other": ["a", "b"]}, index=[7, 9]))
    assert scored["value"].to_dict() == {7: 2.0, 9: 5.0}
    assert model.answer([{"amount": 2.5}]) == [{"value": 5.0}]
    assert model.estimator is None
    assert "fraud.trouble" not in sys.modules
    with pytest.raises(ModelError, match="raised RuntimeError: out of order"):
        model.answer([{"amount": 102.0}])
    del model
    kit.until(lambda: not is_alive(pid) and not is_alive(keeper))


def test_code_that_is_edited_while_it_serves_is_not_run_by_the_next_start(trouble, kit, project):
    model = load(trouble)
    edit(project / "fraud" / "trouble.py", "return 2 * values", "return 3 * values")
    os.kill(model.process.state()["pid"], signal.SIGKILL)
    kit.until(lambda: "its code is" in str(model.process.state()["last_end"]), 30)
    with pytest.raises(ModelAwayError, match=r"what differs: fraud\.trouble:Trouble"):
        model.answer([{"amount": 1.0}])
    edit(project / "fraud" / "trouble.py", "return 3 * values", "return 2 * values")
    kit.until(lambda: model.process.is_ready, 60)
    assert model.answer([{"amount": 1.0}]) == [{"value": 2.0}]
    model.close()


def test_byte_code_beside_the_source_is_not_run(trouble, project):
    """A `.pyc` that claims to be of that source, and does something else."""
    import py_compile

    source = project / "fraud" / "trouble.py"
    text, stat = source.read_text(), source.stat()
    other = text.replace("return 2 * values", "return 7 * values")
    source.write_text(other)
    os.utime(source, (stat.st_atime, stat.st_mtime))
    py_compile.compile(str(source))
    source.write_text(text)
    os.utime(source, (stat.st_atime, stat.st_mtime))
    assert list(project.rglob("*.pyc"))
    model = load(trouble)
    assert model.answer([{"amount": 1.0}]) == [{"value": 2.0}]
    model.close()


def test_a_module_that_comes_from_another_file_than_was_read_is_refused(trouble, project):
    about = {"types": own_types(str(project), ["fraud.trouble:Trouble"]), "folders": ["."]}
    admitted = admit("churn@1", about, trouble.host)
    from penstock.serve.answering import SourceFinder

    wrong = SourceFinder(str(project), [str(project)], {"fraud": str(project / "elsewhere.py")})
    with pytest.raises(ImportError, match="not from the file that was read"):
        wrong.find_spec("fraud")
    right = SourceFinder(str(project), [str(project)], dict(admitted.files))
    assert right.find_spec("fraud").origin == str(project / "fraud" / "__init__.py")
    assert right.find_spec("numpy") is None


# ── hostile bundles ──────────────────────────────────────────────────────────────────────────────────────────


class Sentinel:
    """Leaves a file wherever somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def tampered(house, **files):
    """A second version whose bundle has some files replaced."""
    from penstock.core.artifact import Artifact

    entry = house.ledger.stream("churn/version")[0]
    manifest = json.loads(house.objects.read(entry.body["bundle"]["digest"]))
    for name, data in files.items():
        if isinstance(data, bytes):
            digest, size = house.objects.stage(data)
            manifest["files"][name] = {"digest": digest, "format": "skops", "size": size}
        elif name in manifest["files"]:
            manifest["files"][name] = house._json(data)
        else:
            manifest[name] = data
    digest, size = house.objects.stage(json.dumps(manifest).encode())
    refs = tuple(file["digest"] for file in manifest["files"].values())
    return house.register(Artifact(digest, "bundle", size, refs=refs))


def with_type(data, module, name):
    """An estimator's file whose every own type is called otherwise."""
    import io
    import zipfile

    from penstock.formats.archive import write_zip

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(one, archive.read(one)) for one in archive.namelist()]
    changed = [
        (one, text.replace(b"fraud.trouble", module.encode()).replace(b"Trouble", name.encode()))
        for one, text in members
    ]
    return write_zip(changed)


def test_no_bundle_speaks_for_itself(trouble, tmp_path, project):
    """A pickle under another name, types that are not listed, a list of its own trust: refused, and nothing ran."""
    sentinel = tmp_path / "ran"
    entry = trouble.ledger.stream("churn/version")[0]
    manifest = json.loads(trouble.objects.read(entry.body["bundle"]["digest"]))
    good = trouble.objects.read(manifest["files"]["estimator"]["digest"])
    pickled = tampered(trouble, estimator=pickle.dumps(Sentinel(str(sentinel))))
    with pytest.raises(FormatError, match="do not begin as a zip does"):
        load(trouble, pickled)
    (project / "unlisted.py").write_text(f"open({str(sentinel)!r}, 'w')\nclass Trouble: pass\n")
    unlisted = tampered(trouble, estimator=with_type(good, "unlisted", "Trouble"))
    with pytest.raises(UntrustedTypeError, match=r"unlisted\.Trouble"):
        load(trouble, unlisted)
    system = tampered(trouble, estimator=with_type(good, "os", "system"), trust=["os.system"], trusted=["os.system"])
    with pytest.raises(UntrustedTypeError, match=r"os\.system"):
        load(trouble, system)
    strict = replace(trouble.host, own=False)
    trouble.host = strict
    itself = tampered(trouble, trust=[f"fraud.trouble:Trouble@sha256:{'0' * 64}"])
    with pytest.raises(UntrustedTypeError, match=r"does not trust fraud\.trouble:Trouble"):
        load(trouble, itself)
    assert not sentinel.exists()
    with open(tmp_path / "control", "wb") as file:
        pickle.dump(Sentinel(str(sentinel)), file)
    pickle.loads((tmp_path / "control").read_bytes()).close()  # the control: it does leave a file where it is unpickled
    assert sentinel.exists()


def test_a_version_of_another_ledger_is_not_trusted_for_being_in_a_local_one(trouble):
    entry = trouble.ledger.stream("churn/version")[0]
    from penstock.core.run import Entry

    trouble.ledger.append([Entry("churn/version", 2, dict(entry.body) | {"from": "prod"})])
    with pytest.raises(UntrustedTypeError, match="does not trust"):
        load(trouble, 2)
    always = replace(trouble.host, own_always=True)
    assert _without_own(always, trouble.ledger.stream("churn/version")[1]).own


# ── the whole way ────────────────────────────────────────────────────────────────────────────────────────────


LOADS = (
    "import penstock as ps; found = ps.load('fraud'); "
    "print(type(found.steps[0][1]).__name__, type(found.steps[2][1].memory_).__name__)"
)


def python(folder, text):
    env = os.environ | {"PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-P", "-c", text]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=110, check=False)


def test_from_run_to_serve(project, kit, warm_processes):
    """Trained, rehearsed, champion; served by a host that trusts it; ended with its server, however that ends."""
    random.seed(1)
    rows = ["id,amount,age,fraud"]
    for i in range(400):
        bad = random.random() < 0.4
        rows.append(f"{i},{random.lognormvariate(3 + bad, 0.5):.3f},{random.uniform(18, 80) - 8 * bad:.2f},{bad:d}")
    (project / "payments.csv").write_text("\n".join(rows) + "\n")
    done = call(project, "run", "fraud_model.py")
    assert done.code == 0, done.out + done.err
    assert "champion: fraud@1" in done.out
    assert "needs: fraud.features" in call(project, "show", "fraud@1").out
    told = json.loads(call(project, "show", "fraud@1", "--json").out)
    assert sorted(told["needs"]) == sorted(NAMES)
    page = (project / ".penstock" / "reports" / "fraud-1.html").read_text()
    assert "It needs fraud.features, modules of the project" in page
    command = [sys.executable, "-m", "penstock", "serve", "fraud", "--port", "0"]
    env = os.environ | {"PYTHONPATH": str(SOURCES), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        port = int(line.partition("127.0.0.1:")[2].split()[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/model")
        pid = json.loads(connection.getresponse().read())["process"]["pid"]
        body = json.dumps({"records": [{"amount": 40.0, "age": 30.0}]})
        connection.request("POST", "/predict", body, {"content-type": "application/json"})
        assert 0.5 < json.loads(connection.getresponse().read())["predictions"][0]["score"] < 0.6
        connection.close()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    kit.until(lambda: not is_alive(pid))
    loaded = python(project, LOADS)
    assert loaded.stdout == "AmountRatio Memory\n", loaded.stderr
    edit(project / "fraud" / "helpers.py", "FLOOR = 1e-9", "FLOOR = 1e-6")
    loaded = python(project, LOADS)
    assert "UntrustedTypeError: fraud@1 cannot be loaded here: it was made with another" in loaded.stderr
    refusal = call(project, "predict", "fraud", "payments.csv")
    assert refusal.code == 2
    assert "what differs: fraud.helpers:FLOOR" in refusal.err
    assert "Traceback" not in refusal.err
    again = call(project, "run", "fraud_model.py", "--quiet")
    assert again.code == 7, again.out + again.err
    assert "the champion cannot answer: it was made with another fraud.features:AmountRatio" in again.out
    assert "keep both: bring its code back as it was" in call(project, "show", "fraud@2").out
    edit(project / "fraud" / "helpers.py", "FLOOR = 1e-6", "FLOOR = 1e-9")
    edited = "class Wider(AmountRatio):\n    def transform(self, X):\n        return 2 * super().transform(X)\n\n\n"
    edit(project / "fraud" / "features.py", "class Memory:", f"{edited}class Memory:")
    edit(project / "fraud_model.py", "import AmountRatio, Vote", "import Vote, Wider")
    edit(project / "fraud_model.py", "AmountRatio()", "Wider()")
    fair = call(project, "run", "fraud_model.py")
    assert fair.code in {0, 4, 7}, fair.out + fair.err
    assert "cannot answer" not in fair.out
    compared = json.loads(call(project, "show", "fraud@3", "--json").out)
    assert compared["verdict"]["against"] == "fraud@1"


def test_a_process_that_was_ended_for_its_answer_is_watched_at_leisure_afterwards(monkeypatch):
    """Whoever asked ends it, while the watcher already waits to start it again: the watcher must not spin then."""

    class Started:
        pid = 0

        def __init__(self):
            self.keeper = self

        def poll(self):
            return None

        def end(self):
            return None

        def end_and_tell(self):
            time.sleep(0.1)  # the watcher has seen meanwhile that nothing runs
            return ""

    for name, value in (("LOOK_S", 0.02), ("BACKOFF_S", (0.01, 0.01)), ("STEADY_S", 0.05)):
        monkeypatch.setattr(process, name, value)
    looks = []
    monkeypatch.setattr(process.ModelProcess, "_start", lambda _: Started())
    monkeypatch.setattr(process.ModelProcess, "_look", lambda *_, **__: looks.append(0))
    model = process.ModelProcess("fraud@1", lambda: ({}, b""), Host("."))
    model.start()
    model._fail(model._running, "it took too long")
    while not model.is_ready:
        time.sleep(0.01)
    time.sleep(0.2)  # steady again
    looks.clear()
    began = time.monotonic()
    time.sleep(0.4)
    model.close()
    assert len(looks) <= (time.monotonic() - began) / 0.02 + 2
