"""Files at URLs: fetched once, hashed on the way, known again, and never from where nobody may read."""

from __future__ import annotations

import hashlib
import http.server
import os
import sys
import threading
import time
from email.utils import formatdate

import fsspec
import pytest

from penstock.core.flow import Node
from penstock.engine import download, fetch
from penstock.engine.fetch import Fetcher, clear
from penstock.engine.gather import probe
from penstock.errors import MissingExtraError, SourceNotFoundError
from penstock.testing import MemoryLedger

TABLE = b"a,b\n1,2\n"


class Site(http.server.BaseHTTPRequestHandler):
    """Serves what the test says, and remembers what was asked."""

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, *, body):
        site = self.server.site
        site["asked"].append(f"{self.command} {self.path}")
        status, headers, data = site["answers"].get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_args):
        pass


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.site = {"asked": [], "answers": {"/t.csv": (200, {"ETag": '"1"'}, TABLE)}}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server.site["url"] = f"http://127.0.0.1:{server.server_port}"
    yield server.site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fetcher(tmp_path):
    return Fetcher(str(tmp_path / "fetched"), ["127.0.0.1"])


def source(*places):
    return Node("t", "e:e", ["list", []], "", kind="source", path=places[0], more=places[1:])


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


# ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_fetched_once_and_known_by_its_tag(site, fetcher):
    url, ledger = site["url"] + "/t.csv", MemoryLedger()
    found, [seen] = probe([source(url)], ledger, fetcher)
    [(name, path, digest)] = found["t"].files
    assert (name, digest, found["t"].many) == ("t.csv", hashlib.sha256(TABLE).hexdigest(), False)
    assert read_bytes(path) == TABLE
    ledger._sources[url] = seen
    site["asked"].clear()
    assert probe([source(url)], ledger, fetcher) == (found, [])
    assert site["asked"] == ["HEAD /t.csv"]
    site["answers"]["/t.csv"] = (200, {"ETag": '"2"'}, b"a,b\n3,4\n")
    assert probe([source(url)], ledger, fetcher)[0]["t"].digest != digest


@pytest.mark.parametrize(
    "headers",
    [{}, {"ETag": 'W/"1"'}, {"Last-Modified": "now"}, {"Last-Modified": "yesterday"}],
)
def test_what_does_not_tell_whether_it_changed_is_fetched_again(site, fetcher, headers):
    url, ledger = site["url"] + "/t.csv", MemoryLedger()
    headers = {name: formatdate(time.time(), usegmt=True) if text == "now" else text for name, text in headers.items()}
    site["answers"]["/t.csv"] = (200, headers, TABLE)
    found, seen = probe([source(url)], ledger, fetcher)
    assert seen == []
    site["answers"]["/t.csv"] = (200, headers, b"a,b\n9,9\n")
    assert probe([source(url)], ledger, fetcher)[0]["t"].digest != found["t"].digest


def test_a_last_change_long_ago_is_trusted(site, fetcher):
    site["answers"]["/t.csv"] = (200, {"Last-Modified": formatdate(1e9, usegmt=True)}, TABLE)
    assert len(probe([source(site["url"] + "/t.csv")], MemoryLedger(), fetcher)[1]) == 1


def test_a_copy_that_is_gone_is_fetched_again(site, fetcher, tmp_path):
    url, ledger = site["url"] + "/t.csv", MemoryLedger()
    found, [seen] = probe([source(url)], ledger, fetcher)
    ledger._sources[url] = seen
    for file in (tmp_path / "fetched").iterdir():
        file.unlink()
    again, _ = probe([source(url)], ledger, fetcher)
    assert again == found
    assert read_bytes(again["t"].files[0][1]) == TABLE


def test_what_no_recent_run_used_is_cleared_and_what_one_used_again_stays(site, fetcher, tmp_path):
    folder, ledger = tmp_path / "fetched", MemoryLedger()
    other = site["url"] + "/other.csv"
    site["answers"]["/other.csv"] = (200, {"ETag": '"1"'}, TABLE)
    for url in (site["url"] + "/t.csv", other):
        _, [seen] = probe([source(url)], ledger, fetcher)
        ledger._sources[url] = seen
    (folder / "fetching-killed").write_bytes(b"half")
    for file in folder.iterdir():
        os.utime(file, (1e9, 1e9))
    found, _ = probe([source(other)], ledger, fetcher)  # nothing is fetched, and the copy is used
    before = time.time() - 3600
    assert clear(str(folder), before, dry_run=True) == (2, len(TABLE) + 4)
    assert len(list(folder.iterdir())) == 3
    assert clear(str(folder), before) == (2, len(TABLE) + 4)
    assert [str(file) for file in folder.iterdir()] == [found["t"].files[0][1]]
    assert clear(str(folder), before) == clear(str(tmp_path / "nowhere"), before) == (0, 0)
    again, _ = probe([source(site["url"] + "/t.csv")], ledger, fetcher)
    assert read_bytes(again["t"].files[0][1]) == TABLE


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, {}, b""), "no such file"),
        ((500, {}, b""), "the server answers 500"),
        ((200, {"Content-Length": "100"}, TABLE), "cut off"),
        ((302, {"Location": "file:///etc/passwd"}, b""), "answers 302"),
        ((302, {"Location": "ftp://127.0.0.1/x"}, b""), "sent on from http:// to ftp://"),
        ((302, {"Location": "/t.csv"}, b""), "answers 302"),
    ],
)
def test_whatever_goes_wrong_names_the_url_and_leaves_nothing(site, fetcher, tmp_path, answer, message):
    site["answers"]["/t.csv"] = answer
    with pytest.raises(SourceNotFoundError, match=message) as caught:
        probe([source(site["url"] + "/t.csv")], MemoryLedger(), fetcher)
    assert "/t.csv" in str(caught.value)
    assert not list((tmp_path / "fetched").glob("*"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/t.csv",
        "http://localhost:{port}/t.csv",
        "http://[::ffff:127.0.0.1]:{port}/t.csv",
        "http://0x7f000001:{port}/t.csv",
        "http://2130706433:{port}/t.csv",
    ],
)
def test_addresses_inside_a_network_are_refused_unless_configured(site, tmp_path, url):
    address = url.format(port=site["url"].rpartition(":")[2])
    with pytest.raises(SourceNotFoundError, match="an address inside a network") as caught:
        probe([source(address)], MemoryLedger(), Fetcher(str(tmp_path)))
    assert "hosts = [" in caught.value.hint
    assert site["asked"] == []


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "192.168.1.1", "::1", "fe80::1%eth0", "100.64.0.1"])
def test_each_kind_of_inner_address_is_known(address):
    with pytest.raises(download.RefusedAddressError):
        download.check_address("host", address, ())


def test_a_redirect_into_the_network_is_refused(site, tmp_path, monkeypatch):
    """The first address is taken for a public one; the second is judged all the same."""
    whole = download.check_address
    monkeypatch.setattr(download, "check_address", lambda host, ip, ok: host == "localhost" or whole(host, ip, ok))
    port = site["url"].rpartition(":")[2]
    site["answers"]["/t.csv"] = (302, {"Location": f"http://127.0.0.1:{port}/secret.csv"}, b"")
    with pytest.raises(SourceNotFoundError, match=r"127\.0\.0\.1 stands for 127\.0\.0\.1"):
        probe([source(f"http://localhost:{port}/t.csv")], MemoryLedger(), Fetcher(str(tmp_path)))
    assert not any("secret" in line for line in site["asked"])


def test_sabotage_without_the_check_an_inner_address_is_read(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "check_address", lambda *_: None)
    assert probe([source(site["url"] + "/t.csv")], MemoryLedger(), Fetcher(str(tmp_path)))[0]["t"].digest


def test_a_file_that_would_fill_the_disk_is_refused_before_it_is_read(site, fetcher, monkeypatch):
    monkeypatch.setattr(fetch, "ROOM", 1 << 62)
    with pytest.raises(SourceNotFoundError, match="are free on this disk"):
        probe([source(site["url"] + "/t.csv")], MemoryLedger(), fetcher)


# ── file systems ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def lake():
    system = fsspec.filesystem("memory")
    for name in ("lake/year=2025/a.csv", "lake/year=2026/b.csv", "lake/README.md"):
        system.pipe(f"/{name}", f"n\n{len(name)}\n".encode())
    yield system
    system.rm("/lake", recursive=True)


@pytest.mark.parametrize("place", ["memory://lake/", "memory://lake/*/*.csv", "memory://lake/year=*/*.csv"])
def test_folders_and_patterns_of_a_file_system(lake, fetcher, place):
    found, _ = probe([source(place)], MemoryLedger(), fetcher)
    assert [name for name, _, _ in found["t"].files] == ["year=2025/a.csv", "year=2026/b.csv"]
    assert found["t"].many


def test_a_folder_leaves_out_what_a_local_one_does_and_a_pattern_what_is_no_file(lake, fetcher):
    """A job that writes a table has its unfinished parts below `_temporary`."""
    for name in ("_temporary/0/part.csv", "year=2026/.part.csv", "year=2026/_part.csv"):
        lake.pipe(f"/lake/{name}", b"n\n0\n")
    assert fetcher.expand("memory://lake/")[1] == ["memory://lake/year=2025/a.csv", "memory://lake/year=2026/b.csv"]
    assert fetcher.expand("memory://lake/_temporary/0/")[1] == ["memory://lake/_temporary/0/part.csv"]
    assert fetcher.expand("memory://lake/R*")[1] == ["memory://lake/README.md"]
    assert fetcher.expand("memory://lake/**/a.*")[1] == ["memory://lake/year=2025/a.csv"]
    assert "memory://lake/year=2025" not in fetcher.expand("memory://lake/*")[1]


def test_a_list_of_urls_and_files_is_one_source(lake, fetcher, tmp_path):
    (tmp_path / "z.csv").write_text("n\n1\n")
    places = ("memory://lake/year=2025/a.csv", "memory://lake/year=2026/b.csv", str(tmp_path / "z.csv"))
    found, _ = probe([source(*places)], MemoryLedger(), fetcher)
    assert [name for name, _, _ in found["t"].files] == ["year=2025/a.csv", "year=2026/b.csv", "z.csv"]


def test_files_of_one_name_at_several_places_all_count(site, fetcher, tmp_path):
    """The digest of a source is over names: a file without one of its own would not count."""
    (tmp_path / "t.csv").write_bytes(TABLE)
    queries = [f"/t.csv?day={day}" for day in (1, 2)]
    for query in queries:
        site["answers"][query] = (200, {}, TABLE)
    places = (site["url"] + queries[0], site["url"] + queries[1], str(tmp_path / "t.csv"))

    def digest():
        found = probe([source(*places)], MemoryLedger(), fetcher, fresh=True)[0]["t"]
        assert sorted(found.parts) == ["2/t.csv", "3/t.csv", "t.csv"]
        return found.digest

    seen = {digest()}
    for n, query in enumerate(queries, 1):
        site["answers"][query] = (200, {}, TABLE * (n + 1))
        seen.add(digest())
    (tmp_path / "t.csv").write_bytes(TABLE * 9)
    assert len(seen | {digest()}) == 4


def test_nothing_there_and_a_missing_library_are_told(fetcher, monkeypatch):
    with pytest.raises(SourceNotFoundError, match="no such file: memory://nowhere/a"):
        probe([source("memory://nowhere/a.csv")], MemoryLedger(), fetcher)
    with pytest.raises(SourceNotFoundError, match=r"no (table there|such file)"):
        probe([source("memory://nowhere/")], MemoryLedger(), fetcher)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    known = sys.modules["fsspec.registry"]._registry
    for protocol in ("s3", "s3a"):  # an earlier test may have loaded it
        monkeypatch.delitem(known, protocol, raising=False)
    with pytest.raises(MissingExtraError) as caught:
        probe([source("s3://lake/a.csv")], MemoryLedger(), fetcher)
    assert caught.value.hint == "pip install 'penstock[s3]'"
