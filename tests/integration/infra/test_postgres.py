"""A PostgreSQL of one's own can be hurt, and keeps what it has committed."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.local.errors import LocalStackError
from infra.local.postgres import Postgres
from infra.local.processes import Supervisor


@pytest.fixture(params=[18, 16])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Postgres]:
    """A running server of each version in the wheel."""
    with Supervisor(tmp_path / "logs") as supervisor:
        server = Postgres(tmp_path / "postgres", supervisor, version=request.param)
        server.start()
        yield server


def write(server: Postgres) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute("CREATE TABLE kept (x int)")
        conn.execute("INSERT INTO kept VALUES (42)")


def read(server: Postgres) -> int:
    with psycopg.connect(server.dsn()) as conn:
        row = conn.execute("SELECT x FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def test_what_was_committed_survives_kill_and_restart_on_the_same_port(server: Postgres) -> None:
    """SIGKILL to the server and all its backends is a crash, and a crash loses no commit."""
    port = server.port
    write(server)

    server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn(), connect_timeout=2)
    server.start()

    assert (read(server), server.port) == (42, port)


def test_an_immediate_stop_is_a_crash_that_loses_nothing(server: Postgres) -> None:
    """And an orderly restart afterwards keeps it as well."""
    write(server)

    server.stop(immediate=True)
    server.start()
    server.restart()

    assert read(server) == 42


def test_durability_is_on(server: Postgres) -> None:
    """A test of a crash proves nothing on a server that never syncs."""
    with psycopg.connect(server.dsn()) as conn:
        settings = [conn.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")]

    assert settings == [("on",), ("on",)]


def test_a_paused_server_answers_nothing_and_then_continues(server: Postgres) -> None:
    """A connection that was open stays open."""
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        server.process.pause()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.dsn(), connect_timeout=2)
        server.process.resume()

        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_nobody_gets_in_without_the_password(server: Postgres) -> None:
    """The superuser can run programs; other users of the machine must not."""
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:guess@127.0.0.1:{server.port}/postgres")


def test_a_script_with_a_fault_is_reported_with_its_line_and_leaves_nothing(server: Postgres, tmp_path: Path) -> None:
    """All of a script, or none of it."""
    script = tmp_path / "faulty.sql"
    script.write_text("CREATE TABLE half (x int);\nSELECT 1 FROM nowhere;\n")
    server.create_database("mine")

    with pytest.raises(LocalStackError, match=r"faulty\.sql could not be applied .*:2: ERROR"):
        server.apply_sql(script, database="mine")

    with psycopg.connect(server.dsn("mine")) as conn:
        assert conn.execute("SELECT to_regclass('half')").fetchone() == (None,)
