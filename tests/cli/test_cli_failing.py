"""What goes wrong ends in the right exit code and one clear message; our own frames are shown to nobody."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock import errors
from penstock.cli.failing import guarded
from penstock.cli.verbs import VERBS

CODES = {
    errors.PenstockError: 1,
    errors.UsageError: 2,
    errors.DataError: 3,
    errors.RefusedError: 4,
    errors.StepError: 5,
    errors.ModelError: 5,
    errors.NotReproducibleError: 6,
    errors.CancelledError: 130,
    errors.StoreError: 1,
    errors.ConflictError: 1,
    errors.InternalError: 1,
}
EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.PenstockError)]


def raising(error: BaseException):
    def dispatch(_words: list[str]) -> int:
        raise error

    return dispatch


def nearest_code(kind: type) -> int:
    return next(CODES[base] for base in kind.__mro__ if base in CODES)


# ── every error ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_each_error_has_its_exit_code_and_one_bounded_message(kind, capsys):
    error = kind("w" * 100_000, where="churn.py", hint="do this")
    assert guarded(raising(error), ["run"]) == nearest_code(kind)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("penstock run: churn.py: www")
    assert told.err.endswith("→ do this\n")
    assert len(told.err) < 6_000


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_each_error_is_one_json_document(kind, capsys):
    assert guarded(raising(kind("gone", hint="look")), ["run", "--json"]) == nearest_code(kind)
    told = capsys.readouterr()
    data = json.loads(told.out)
    assert (data["error"], data["what"], data["hint"], data["exit_code"]) == (
        kind.__name__,
        "gone",
        "look",
        nearest_code(kind),
    )
    assert told.err == ""


def test_data_cannot_steer_the_terminal(capsys):
    error = errors.DataError("column \x1b]0;owned\x07\x1b[2J is bad\rpenstock: fine", where="a\x9b31m.csv")
    error.traceback = "  File 'x'\n\x1b[31mred\n"
    guarded(raising(error), ["run"])
    assert not set(capsys.readouterr().err) & set("\x1b\x07\r\x9b")


# ── the unexpected ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unexpected_error_is_one_sentence_and_a_file(tmp_path, monkeypatch, capsys):
    (tmp_path / ".penstock").mkdir()
    monkeypatch.chdir(tmp_path)
    assert guarded(raising(ZeroDivisionError("oh")), ["run"]) == 1
    told = capsys.readouterr()
    [crash] = (tmp_path / ".penstock" / "logs").iterdir()
    assert "Traceback" in crash.read_text()
    assert "ZeroDivisionError: oh" in told.err
    assert str(crash) in told.err
    assert "Traceback" not in told.err


def test_debug_shows_the_whole_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("PENSTOCK_DEBUG", "1")
    assert guarded(raising(ZeroDivisionError("oh")), ["run"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert len(list(tmp_path.glob("crash-*.txt"))) == 1


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(3), 3)])
def test_an_end_from_outside_keeps_its_code(error, code, capsys):
    assert guarded(raising(error), ["models"]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_sigterm_between_runs_is_143(capsys):
    def dispatch(_words: list[str]) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    assert guarded(dispatch, ["models"]) == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert capsys.readouterr().err == "cancelled\n"


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["modles"], "there is no verb 'modles'; did you mean \"models\"?"),
        (["run", "--forse", "x"], 'there is no option --forse; did you mean "--force"?'),
        (["run", "chrun.py"], 'there is no file chrun.py; did you mean "churn.py"?'),
        (["run", "chrn"], "nothing called 'chrn' was run here"),
        (["run", "--param", "x"], "--param x: NAME=VALUE is meant"),
        (["schema", "acept"], 'schema acept; did you mean "accept"?'),
        (["gc", "--grace", "soon"], "--grace soon: a number with s, m, h, d or w is meant"),
        (["predict"], "--input: the file to score is missing"),
        (["promote", "churn", "--because", "x"], "'churn' names no version"),
        (["show", "run:zz"], "no run begins with it"),
        (["show", "last~x"], "there is no run last~x"),
        (["show"], "there is no run last"),
        (["lineage", "nothing.csv"], "no workflow called 'nothing.csv'"),
        (["models", "chrn"], "no workflow called 'chrn' has versions here"),
        (["doctor", "--env", "prod"], "there is no environment 'prod'"),
        (["promote"], "Missing argument"),
    ],
)
def test_a_wrong_word_is_2_and_says_what_is_right(empty, words, said, monkeypatch):
    monkeypatch.setenv("PENSTOCK_ENV", "dev")  # so that what --env sets is taken back
    ended = empty.call(*words)
    assert (ended.code, ended.out) == (2, ""), ended
    assert said in ended.err
    assert "→ " in ended.err
    if len(words) > 1:
        assert json.loads(empty.call(*words, "--json").out)["exit_code"] == 2


def test_without_words_the_help_is_shown(empty):
    ended = empty.call()
    assert ended.code == 0
    assert [word for word in VERBS if f"\n  {word}" not in ended.out] == []
    assert max(map(len, ended.out.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(empty, verb):
    ended = empty.call(verb, "--help")
    assert ended.code == 0
    assert VERBS[verb].help.split(";")[0].split(":")[0] in " ".join(ended.out.split())
    assert ("--json" in ended.out) == (verb != "serve")


def test_two_declaring_files_are_both_named(empty):
    empty.write("other.py", empty.declared)
    ended = empty.call("plan")
    assert ended.code == 2
    assert "churn.py, other.py" in ended.err


# ── a person's own code and data ────────────────────────────────────────────────────────────────────────────────


def test_a_failing_step_shows_the_users_traceback_and_no_frame_of_ours(step_file):
    ended = step_file("return 1 / 0").call("run", "prep.py")
    assert ended.code == 5
    assert "Traceback (most recent call last):" in ended.err
    assert "return 1 / 0" in ended.err
    assert ended.err.rstrip().splitlines()[-1] == "penstock run: step clean: ZeroDivisionError: division by zero"
    ours = os.path.dirname(os.path.dirname(os.path.abspath(errors.__file__)))
    assert os.path.join(ours, "penstock") not in ended.err
    assert " ✗ clean" in ended.out


def test_a_failed_run_can_be_looked_at_afterwards(step_file):
    shop = step_file("return 1 / 0")
    code = json.loads(shop.call("run", "prep.py", "--json").out)
    assert (code["exit_code"], code["error"]["error"]) == (5, "StepError")
    out = shop.call("show").out
    assert "failed" in out
    assert "return 1 / 0" in out


def test_what_a_step_prints_is_shown_when_asked_for(step_file):
    shop = step_file('return print("so many rows") or 1')
    assert "so many rows" not in shop.call("run", "prep.py").out
    assert "clean│ so many rows" in shop.call("run", "prep.py", "--force", "clean", "-v").out


def test_a_declaration_with_faults_is_2(empty):
    empty.write("churn.py", empty.declared.replace('"roc_auc", "neg_log_loss"', '"roc_auk"'))
    ended = empty.call("run")
    assert ended.code == 2
    assert 'did you mean "roc_auc"' in ended.err


def test_data_without_rows_is_3(empty):
    empty.write("customers.csv", "customer_id,a,b,churned\n")
    assert empty.call("run").code == 3


def test_too_little_evidence_is_7(empty):
    empty.write("customers.csv", empty.table(80))
    empty.write("churn.py", empty.declared.replace('gate=[ps.AtLeast("roc_auc", 0.6), ps.Improves()]', 'drop=["a"]'))
    ended = empty.call("run")
    assert ended.code == 7
    assert "? churn@1 undecided: not enough evidence" in ended.out
    again = empty.call("run")
    assert again.code == 7
    assert again.out.startswith("nothing to do: all steps reused; no look spent")


# ── signals and pipes ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_cancelled_run_ends_with_its_code_and_is_on_record(step_file, number, code):
    shop = step_file('(__import__("pathlib").Path("began")).touch() or __import__("time").sleep(60)')
    process = shop.start("run", "prep.py", start_new_session=True)
    wait_for(shop.folder / "began", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, (out, err)
    assert "cancelled" in err
    assert "Traceback" not in err
    assert json.loads(shop.call("runs", "--json").out)[0]["state"] == "cancelled"


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "the step did not begin"
        time.sleep(0.02)


def test_a_reader_that_has_gone_is_no_error(step_file):
    ends, begins = os.pipe()
    os.close(ends)
    process = step_file("return 1").start("run", "prep.py", stdout=begins)
    os.close(begins)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


# ── the checks themselves ───────────────────────────────────────────────────────────────────────────────────────


def test_without_the_cleaning_the_terminal_would_be_steered(monkeypatch, capsys):
    monkeypatch.setattr("penstock.cli.failing.harmless", lambda text: text)
    guarded(raising(errors.DataError("\x1b[2J")), ["run"])
    assert "\x1b" in capsys.readouterr().err


def test_without_the_drop_a_gone_reader_would_be_an_error(step_file):
    ends, begins = os.pipe()
    os.close(ends)
    shop = step_file("return 1")
    code = "import os; os.write(1, b'x')"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=begins, stderr=subprocess.PIPE, cwd=shop.folder)
    os.close(begins)
    _, err = process.communicate(timeout=60)
    assert b"BrokenPipeError" in err
