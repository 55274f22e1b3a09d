"""PostgreSQL away, restarting, frozen, busy: a quick 503, and recovery without anybody's help."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import orjson
import psycopg
import pytest
from flask.testing import FlaskClient

from api_service import wsgi
from api_service.settings import read_settings
from infra.local.postgres import Postgres
from infra.local.processes import Supervisor
from shared.db import tenancy
from shared.settings import Environment
from tests.integration.api_service.conftest import OPEN, counts
from tests.integration.api_service.tenants import body_of
from tests.servers import Database

PATH = "/api/v1/notifications"
EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL of this module's own, to be hurt."""
    directory = tmp_path_factory.mktemp("outages")
    with Supervisor(directory / "logs") as supervisor:
        postgres = Postgres(directory / "data", supervisor)
        postgres.start()
        postgres.create_database("notifications")
        postgres.install_schema("notifications")
        yield postgres


@pytest.fixture
def away(server: Postgres, tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of the API on that server, which runs when the test begins."""
    if not server.process.is_running:
        server.start()
    env = Environment({"DATABASE_URL": server.dsn("notifications", service="api_service"), **OPEN})
    app = wsgi.build(read_settings(env), tmp_path)
    client = app.test_client()
    assert until_accepted(client) < 10
    yield client
    wsgi.close(app)


def post(client: FlaskClient, **headers: str) -> tuple[int, float, dict[str, Any]]:
    """Post; return status, seconds taken, body."""
    began = time.monotonic()
    response = client.post(PATH, json=EMAIL, headers=headers)
    return response.status_code, time.monotonic() - began, orjson.loads(response.data)


def until_accepted(client: FlaskClient) -> float:
    """Seconds until a post is accepted."""
    began = time.monotonic()
    while post(client)[0] != 202:
        assert time.monotonic() - began < 30
        time.sleep(0.05)
    return time.monotonic() - began


def test_without_postgres_each_request_is_refused_within_three_seconds(away: FlaskClient, server: Postgres) -> None:
    """503 with Retry-After; readiness fails, liveness does not."""
    server.stop(immediate=True)

    for _ in range(3):
        status, took_s, body = post(away)
        assert (status, body["code"]) == (503, "database_unavailable")
        assert took_s < 3
    assert away.get("/health/ready").status_code == 503
    assert away.get("/health/live").status_code == 200


def test_without_postgres_a_queue_of_requests_drains_quickly(away: FlaskClient, server: Postgres) -> None:
    """One a second looks for a connection properly; the others are told at once what it found."""
    server.stop(immediate=True)

    took = [post(away)[1] for _ in range(30)]

    assert sum(took) < 8
    assert sorted(took)[15] < 0.5


def test_the_service_recovers_by_itself(away: FlaskClient, server: Postgres) -> None:
    """Also after an outage longer than the time for which the pool goes on trying."""
    server.stop(immediate=True)
    deadline = time.monotonic() + 8  # the pool gives up reconnecting after five seconds
    while time.monotonic() < deadline:
        assert post(away)[0] == 503

    server.start()

    assert until_accepted(away) < 5
    assert away.get("/health/ready").status_code == 200


def test_a_restart_between_requests_is_not_seen(away: FlaskClient, server: Postgres) -> None:
    """Every pooled connection is broken then; the work is done again on a new one."""
    server.stop(immediate=True)
    server.start()

    assert [post(away)[0] for _ in range(8)] == [202] * 8


def test_connections_cut_one_by_one_are_not_seen(away: FlaskClient, server: Postgres) -> None:
    """And nothing is accepted twice, with a key or without."""
    before = _accepted(server)
    for number in range(6):
        with psycopg.connect(server.dsn("notifications"), autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'api_service'"
            )
        keyed = {"Idempotency-Key": f"cut-{number}"} if number % 2 else {}
        assert post(away, **keyed)[0] == 202

    assert _accepted(server) == before + 6


def test_a_large_batch_is_accepted_once_on_a_connection_that_is_gone(away: FlaskClient, server: Postgres) -> None:
    """Whole, on another connection."""
    before = _accepted(server)
    with psycopg.connect(server.dsn("notifications"), autocommit=True) as conn:
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'api_service'")

    response = away.post(f"{PATH}/batch", json=[EMAIL] * 500)

    assert (response.status_code, orjson.loads(response.data)["accepted"]) == (202, 500)
    assert _accepted(server) == before + 500


def _accepted(server: Postgres) -> int:
    with psycopg.connect(server.dsn("notifications")) as conn:
        row = conn.execute("SELECT count(*) FROM notifications").fetchone()
    assert row is not None
    return int(row[0])


def endpoint(client: FlaskClient) -> str:
    """Make an endpoint; return where it is."""
    return str(body_of(client.post("/api/v1/endpoints", json={"url": "https://example.com/in"}), 201)["href"])


def test_a_change_is_not_made_again_when_its_connection_breaks_after_it(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been made, as here: 503 says so, one row of the audit log is all there is, and a look tells."""
    one = endpoint(client)
    as_tenant = tenancy.as_tenant

    def cut_after_commit(conn: psycopg.Connection[Any], **arguments: Any) -> Any:
        result = as_tenant(conn, **arguments)
        if flask.request.method != "GET":
            with database.connect(autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (conn.info.backend_pid,))
            conn.execute("SELECT 1")
        return result

    monkeypatch.setattr(tenancy, "as_tenant", cut_after_commit)
    changed = client.patch(one, json={"timeout_s": 3})
    seen = body_of(client.get(one))["timeout_s"]
    deleted = client.delete(one)

    assert [body_of(answer, 503)["code"] for answer in (changed, deleted)] == ["database_unavailable"] * 2
    assert (seen, client.get(one).status_code) == (3, 404)
    with database.connect() as conn:
        noted = conn.execute("SELECT action FROM audit_log ORDER BY seq").fetchall()
    assert noted == [("endpoint.created",), ("endpoint.changed",), ("endpoint.deleted",)]


def test_a_change_is_made_on_another_connection_where_its_own_was_gone(client: FlaskClient, database: Database) -> None:
    """A restart of PostgreSQL between two requests is not seen, and nothing is done twice."""
    one = endpoint(client)

    def cut() -> None:
        with database.connect(autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'api_service'"
            )

    answers = []
    for method, path, body in (("PATCH", "", {"timeout_s": 3}), ("POST", "/secrets/rotate", {}), ("DELETE", "", None)):
        cut()
        answers.append(client.open(one + path, method=method, json=body).status_code)

    assert answers == [200, 200, 204]
    with database.connect() as conn:
        noted = [action for (action,) in conn.execute("SELECT action FROM audit_log ORDER BY seq")]
    assert noted == ["endpoint.created", "endpoint.changed", "signing_secret.rotated", "endpoint.deleted"]


def test_a_frozen_server_holds_no_request_for_ever(away: FlaskClient, server: Postgres) -> None:
    """It neither answers nor closes: the first request waits out its limit, the next ones are refused quickly."""
    server.process.pause()
    try:
        first, second = post(away), post(away)
    finally:
        server.process.resume()

    assert (first[0], second[0]) == (503, 503)
    assert first[1] < 11
    assert second[1] < 3
    assert until_accepted(away) < 10


def test_a_locked_table_is_a_503_and_nothing_is_left(client: FlaskClient, database: Database) -> None:
    """lock_timeout ends the wait after two seconds."""
    with database.connect() as conn:
        conn.execute("LOCK TABLE outbox")
        status, took_s, body = post(client)
        conn.rollback()

    assert (status, body["code"]) == (503, "database_unavailable")
    assert took_s < 3
    assert counts(database)["notifications"] == 0
    assert post(client)[0] == 202


def test_a_database_without_the_schema_is_not_ready(client: FlaskClient, database: Database) -> None:
    """Installed later, it is ready then: no restart is asked for."""
    with database.connect(autocommit=True) as conn:
        conn.execute("ALTER TABLE outbox RENAME TO not_yet")
        assert post(client)[0] == 503
        assert "init.sql" in orjson.loads(client.get("/health").data)["checks"]["postgres"]
        conn.execute("ALTER TABLE not_yet RENAME TO outbox")

    assert post(client)[0] == 202
