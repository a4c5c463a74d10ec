"""The server for tests is real, ends with its maker, and comes back with its data."""

import os
import signal
import socket
import time

import psycopg
import pytest

from penstock.testing.postgres import SCRAM_GROUP, PostgresServer, binaries


@pytest.fixture
def server(postgres_server):
    """One of its own: it is killed here. That the machine has PostgreSQL, the shared one has shown."""
    server = PostgresServer()
    yield server
    server.close()


def test_each_test_has_a_database_of_its_own(postgres, postgres_server):
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    other = postgres_server.create_database()
    assert postgres_server.url(other) != postgres
    postgres_server.drop_database(other)


def test_what_was_committed_survives_a_crash(server):
    server.execute("CREATE TABLE t (x int)")
    server.execute("INSERT INTO t VALUES (1)")
    port = server.port
    server.stop(signal.SIGQUIT)
    with pytest.raises(psycopg.OperationalError):
        server.execute("SELECT 1")
    server.start()
    assert server.port == port
    assert server.execute("SELECT x FROM t") == [(1,)]


def test_it_ends_with_its_maker():
    if binaries() is None:
        pytest.skip("needs system package postgresql (command postgres)")
    read, write = os.pipe()
    maker = os.fork()
    if maker == 0:
        server = PostgresServer()
        os.write(write, f"{server.port} {server.folder}".encode())
        signal.pause()
    port, folder = os.read(read, 1_000).decode().split()
    os.kill(maker, signal.SIGKILL)
    os.waitpid(maker, 0)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(port))):
                break
        time.sleep(0.02)
    else:
        pytest.fail("the server outlived its maker")
    os.close(read)
    os.close(write)
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def test_a_password_is_asked_for_where_a_test_wants_it(postgres_server, postgres):
    postgres_server.execute(f"CREATE ROLE reader LOGIN PASSWORD 'secret' IN ROLE {SCRAM_GROUP}")
    try:
        url = postgres.replace("penstock@", "reader@")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url, passfile=os.devnull)
        psycopg.connect(url, password="secret").close()
    finally:
        postgres_server.execute("DROP ROLE reader")


def test_a_taken_folder_is_told(tmp_path, postgres_server):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "theirs").write_text("x")
    with pytest.raises(RuntimeError, match="not empty"):
        PostgresServer(str(tmp_path))
