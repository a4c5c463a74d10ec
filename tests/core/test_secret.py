"""A secret cannot be used by mistake; its value is found in whatever form it turns up."""

import base64
import copy
import json
import logging
import os
import pickle
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock import errors
from penstock.core import secret as module
from penstock.core.secret import forms_of, found_in, hidden, hidden_bytes, hidden_tree, reveal, secrets_in
from penstock.core.step import promises
from penstock.core.tree import copy_value, encode
from penstock.errors import ConfigurationError, DeclarationError, PenstockError, RefUseError, bounded

VALUE = 'hunter2/pä\'ss\n"w\\ord"+%'


@pytest.fixture(autouse=True)
def _forget():
    """No test leaves a value behind for the next."""
    yield
    module._revealed.clear()
    module._watchers.clear()
    errors._hiding.clear()


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setenv("CANARY", VALUE)
    return reveal(ps.Secret("env:CANARY"))


USES = {
    "formatted": lambda s: f"postgresql://me:{s}@host",
    "as text": str,
    "joined": lambda s: "password=" + s,
    "joined behind": lambda s: s + "!",
    "by percent": lambda s: "%s" % s,  # noqa: UP031
    "encoded": bytes,
    "compared to text": lambda s: s == "hunter2",
    "compared to bytes": lambda s: s == b"hunter2",
    "pickled": pickle.dumps,
    "measured": len,
    "iterated": list,
    "indexed": lambda s: s[0],
    "searched": lambda s: "h" in s,
    "a path": os.fspath,
    "changed": lambda s: setattr(s, "_name", "env:OTHER"),
}


@pytest.mark.parametrize("use", USES)
def test_it_cannot_be_used_as_if_it_were_the_value(use):
    with pytest.raises(RefUseError, match="a declaration has its name, not its value"):
        USES[use](ps.Secret("env:CANARY"))


def test_json_cannot_encode_it():
    with pytest.raises(TypeError):
        json.dumps(ps.Secret("env:CANARY"))


def test_it_shows_its_name(capsys):
    secret = ps.Secret("env:CANARY")
    assert repr([secret]) == "[<Secret env:CANARY>]"
    assert secret.name == "env:CANARY"
    assert encode(secret) == ["secret", "env:CANARY"]
    assert secret == ps.Secret("env:CANARY") != ps.Secret("env:OTHER")
    assert len({secret, ps.Secret("env:CANARY")}) == 1
    assert copy.deepcopy(secret) is secret
    assert copy_value({"a": [secret]}) == {"a": [secret]}


@pytest.mark.parametrize("name", ["hunter2", "env:", "file:", "env:1BAD", "env:A B", "vault:x", 3, None, "file:a\nb"])
def test_another_name_is_refused_and_not_repeated(name):
    with pytest.raises(DeclarationError, match='"env:NAME" or "file:PATH"') as raised:
        ps.Secret(name)
    assert str(name) not in str(raised.value) or name in ("env:", "file:", None)


def test_a_call_with_a_secret_is_promised():
    assert promises([{"a": (ps.Secret("env:CANARY"),)}])
    assert secrets_in([{"a": (ps.Secret("env:CANARY"),)}]) == [ps.Secret("env:CANARY")]


def test_a_file_is_read_without_its_last_line_break(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("a b\n\n")
    declared = {"__name__": "flows", "__file__": str(tmp_path / "flows.py"), "ps": ps}
    exec("s = ps.Secret('file:token')", declared)
    assert reveal(declared["s"]) == "a b\n"


@pytest.mark.parametrize("name", ["env:ABSENT", "env:EMPTY", "file:/nowhere/token", "file:/"])
def test_what_is_not_there_is_told_by_its_name(name, monkeypatch):
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(ConfigurationError, match="<Secret "):
        reveal(ps.Secret(name))


def wrapped(data, head):
    return base64.b64encode(head + data + b"tail").decode()


FORMS = {
    "plain": lambda v: v,
    "repr": repr,
    "repr of repr": lambda v: repr(repr(v)),
    "bytes": lambda v: repr(v.encode()),
    "json": json.dumps,
    "json, not ascii": lambda v: json.dumps(v, ensure_ascii=False),
    "url": lambda v: urllib.parse.quote(v, safe=""),
    "path of a url": urllib.parse.quote,
    "form": urllib.parse.quote_plus,
    "url in small letters": lambda v: urllib.parse.quote(v, safe="").replace("%2F", "%2f").replace("%C3%A4", "%c3%a4"),
    "sql": lambda v: "'" + v.replace("'", "''") + "'",
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 of user:value": lambda v: wrapped(v.encode(), b"reader:"),
    "base64, second place": lambda v: wrapped(v.encode(), b"x"),
    "base64, third place": lambda v: wrapped(v.encode(), b"xy"),
    "urlsafe base64": lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
    "hexadecimals": lambda v: v.encode().hex(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_value_is_hidden_and_named(known, form):
    text = FORMS[form](known)
    shown = hidden(f"before {text} after")
    assert "<env:CANARY>" in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert "hunter2" not in shown
    assert found_in([f"x{text}y".encode()]) == "env:CANARY"


@given(
    value=st.text(st.characters(codec="utf-8"), min_size=8, max_size=30),
    head=st.binary(max_size=5),
    tail=st.binary(max_size=5),
)
def test_law_base64_of_whatever_holds_the_value_is_found(value, head, tail):
    forms = forms_of(value)
    text = base64.b64encode(head + value.encode() + tail).decode()
    assert any(form in text for form in forms)
    assert value in forms


def test_bytes_that_are_no_text_and_plain_data_are_searched_too(known):
    assert hidden_bytes(b"\xff" + known.encode() + b"\xfe") == b"\xff<env:CANARY>\xfe"
    assert hidden_tree({"a": [known, 1, None], known: {"b": 0.5}}) == {
        "a": ["<env:CANARY>", 1, None],
        "<env:CANARY>": {"b": 0.5},
    }


def test_an_error_is_searched_before_it_is_cut(known):
    """Cut first, half of the value would be left at the edge."""
    text = "x" * 40 + known + "y" * 40
    for limit in range(20, 120):
        assert not any(part in bounded(text, limit) for part in ("hunt", "er2/", "w\\or"))
    assert "hunter2" not in str(PenstockError(f"cannot connect: {known}", where=known, hint=repr(known)))


def test_a_value_split_over_pieces_is_found(known):
    data = known.encode()
    for cut in range(len(data)):
        assert found_in([b"a" * 50 + data[:cut], data[cut:] + b"b"]) == "env:CANARY"
    assert found_in([data[:6], b"\0", data[6:10]]) == ""


def test_each_line_of_a_long_secret_and_the_password_of_a_url_count(monkeypatch):
    monkeypatch.setenv("KEY", "-----BEGIN-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END-----")
    monkeypatch.setenv("DSN", "postgresql://me:pass%2Fword@host/db")
    reveal(ps.Secret("env:KEY"))
    reveal(ps.Secret("env:DSN"))
    assert hidden("  MIIEvQIBADANBgkq") == "  <env:KEY>"
    assert hidden("bad password 'pass/word' or pass%2Fword") == "bad password '<env:DSN>' or <env:DSN>"


def test_a_short_value_is_hidden_as_it_is_and_never_looked_for_in_outputs(monkeypatch):
    monkeypatch.setenv("PIN", "x9")
    reveal(ps.Secret("env:PIN"))
    assert hidden("pin x9") == "pin <env:PIN>"
    assert found_in([b"x9"]) == ""


def test_control_without_a_revealed_value_nothing_is_hidden():
    assert hidden(VALUE) == VALUE


def test_logging_it_leaves_no_value(caplog):
    logging.getLogger("x").warning("using %r", ps.Secret("env:CANARY"))
    assert caplog.messages == ["using <Secret env:CANARY>"]
