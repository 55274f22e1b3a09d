"""Combining on a real PostgreSQL: requests that wait share a statement, and nothing else."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from api_service import wsgi
from api_service.combining import Combiner
from api_service.services import EXTENSION, Services
from api_service.settings import read_settings
from shared.settings import Environment
from tests.integration.api_service.conftest import counts
from tests.servers import Database

PATH = "/api/v1/notifications"
Send = Callable[..., "Future[TestResponse]"]
EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}


@pytest.fixture
def app(database: Database, tmp_path: Path) -> Iterator[Flask]:
    """An API of eight threads."""
    app = wsgi.build(read_settings(Environment({**database.environ, "API_THREADS": "8"})), tmp_path)
    yield app
    wsgi.close(app)


@pytest.fixture
def send(app: Flask) -> Iterator[Send]:
    """Post from a thread of its own."""
    with ThreadPoolExecutor(8) as threads:

        def post(body: dict[str, Any], **headers: str) -> TestResponse:
            return app.test_client().post(PATH, json=body, headers=headers)

        yield lambda body, **headers: threads.submit(post, body, **headers)


def combiner(app: Flask) -> Combiner:
    """The combiner of an application."""
    services = cast(Services, app.extensions[EXTENSION])
    return cast(Combiner, cast(Any, services.write).__self__)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def behind_a_lock(
    app: Flask, database: Database, send: Send, bodies: list[dict[str, Any]], meanwhile: Callable[[], object]
) -> list[TestResponse]:
    """The answers to requests of which the first meets a lock and the others meet the first."""
    with database.connect() as conn:
        conn.execute("LOCK TABLE outbox")
        futures = [send(bodies[0])]
        until(lambda: combiner(app).is_writing)
        futures += [send(body) for body in bodies[1:]]
        until(lambda: combiner(app).waiting == len(bodies) - 1)
        meanwhile()
        conn.rollback()
    return [future.result(timeout=20) for future in futures]


def transactions(database: Database) -> list[int]:
    """How many notifications each transaction wrote, smallest first."""
    with database.connect() as conn:
        found = conn.execute("SELECT count(*)::int FROM notifications GROUP BY xmin ORDER BY 1").fetchall()
    return [row[0] for row in found]


def test_those_that_wait_share_one_transaction(app: Flask, database: Database, send: Send) -> None:
    """Each has its own answer, its own row and its own outbox row."""
    bodies = [EMAIL | {"message": f"m{n}"} for n in range(6)]

    answers = behind_a_lock(app, database, send, bodies, lambda: None)

    assert [answer.status_code for answer in answers] == [202] * 6
    assert transactions(database) == [1, 5]
    ids = {orjson.loads(answer.data)["id"] for answer in answers}
    with database.connect() as conn:
        stored = conn.execute("SELECT n.id::text FROM notifications n JOIN outbox o ON o.notification_id = n.id")
        assert {row[0] for row in stored.fetchall()} == ids
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 6
    assert all(answer.headers["Location"].endswith(orjson.loads(answer.data)["id"]) for answer in answers)


def test_all_kinds_go_together(app: Flask, database: Database, send: Send) -> None:
    """Scheduled ones, ordered ones, those with a lifetime."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    changes: list[dict[str, Any]] = [{}, {"scheduled_for": later}, {"ordering_key": "k"}, {"expires_in": 60}]
    bodies = [EMAIL | change for change in changes]

    answers = behind_a_lock(app, database, send, bodies, lambda: None)

    assert [orjson.loads(answer.data)["status"] for answer in answers] == ["pending", "scheduled", "pending", "pending"]
    assert counts(database) == {"notifications": 4, "outbox": 3, "outbox_due": 1, "idempotency_keys": 0}


def test_a_row_that_postgres_refuses_fails_alone(app: Flask, database: Database, send: Send) -> None:
    """500 for it, 202 for those that shared its statement."""
    with database.connect(autocommit=True) as conn:
        conn.execute("ALTER TABLE notifications ADD CHECK (recipient <> 'bad@example.com')")
    bodies = [EMAIL, EMAIL, EMAIL | {"recipient": "bad@example.com"}, EMAIL]

    answers = behind_a_lock(app, database, send, bodies, lambda: None)

    assert [answer.status_code for answer in answers] == [202, 202, 500, 202]
    assert counts(database)["notifications"] == counts(database)["outbox"] == 3


def test_a_statement_whose_connection_is_cut_is_repeated_for_all(app: Flask, database: Database, send: Send) -> None:
    """On another connection, once."""

    def cut() -> None:
        with database.connect(autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'api_service' AND datname = current_database()"
            )

    answers = behind_a_lock(app, database, send, [EMAIL] * 5, cut)

    assert [answer.status_code for answer in answers] == [202] * 5
    assert counts(database)["notifications"] == counts(database)["outbox"] == 5


def test_a_lock_that_lasts_is_a_503_for_each(app: Flask, database: Database, send: Send) -> None:
    """Those that waited and those that came late; nothing is left, and the next is accepted."""
    with database.connect() as conn:
        conn.execute("LOCK TABLE outbox")
        futures = [send(EMAIL) for _ in range(5)]
        answers = [future.result(timeout=20) for future in futures]
        conn.rollback()

    assert [answer.status_code for answer in answers] == [503] * 5
    assert counts(database)["notifications"] == 0
    assert send(EMAIL).result(timeout=20).status_code == 202


def test_a_key_waits_for_nobody_and_keeps_its_meaning(app: Flask, database: Database, send: Send) -> None:
    """It is written with its answer, by itself: another request that uses the same key would hold up all others."""
    with database.connect() as conn:
        conn.execute(
            "INSERT INTO idempotency_keys (tenant_id, key, request_sha256, response_status, response_body)"
            " VALUES ('default', 'order-1', sha256('x'), 202, '')"
        )
        busy = send(EMAIL, **{"Idempotency-Key": "order-1"})
        until(lambda: _waits(database))
        plain = send(EMAIL).result(timeout=20)
        other = send(EMAIL, **{"Idempotency-Key": "order-2"}).result(timeout=20)
        was_waiting = not busy.done()
        conn.rollback()

    assert was_waiting
    assert [answer.status_code for answer in (plain, other, busy.result(timeout=20))] == [202, 202, 202]
    assert counts(database)["notifications"] == 3


def _waits(database: Database) -> bool:
    with database.connect() as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ).fetchone()
    return row == (1,)


def test_one_after_another_each_has_its_own_transaction(app: Flask, database: Database) -> None:
    """Nothing is held back to see whether more will come."""
    client = app.test_client()
    for _ in range(3):
        client.post(PATH, json=EMAIL)

    assert transactions(database) == [1, 1, 1]


def test_under_load_each_answer_stands_for_one_row(app: Flask, database: Database, send: Send) -> None:
    """Whoever was written with whom."""
    ended = threading.Event()

    def cut_now_and_then() -> None:
        with database.connect(autocommit=True) as conn:
            while not ended.wait(0.15):
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'api_service'"
                    " AND datname = current_database() ORDER BY random() LIMIT 1"
                )

    cutter = threading.Thread(target=cut_now_and_then)
    cutter.start()
    answers = [future.result(timeout=30) for future in [send(EMAIL) for _ in range(300)]]
    ended.set()
    cutter.join()

    accepted = [orjson.loads(answer.data)["id"] for answer in answers if answer.status_code == 202]
    with database.connect() as conn:
        stored = {row[0] for row in conn.execute("SELECT id::text FROM notifications").fetchall()}
        relayed = [row[0] for row in conn.execute("SELECT notification_id::text FROM outbox").fetchall()]
    assert {answer.status_code for answer in answers} <= {202, 503}
    assert len(set(accepted)) == len(accepted)
    assert set(accepted) <= stored
    assert sorted(relayed) == sorted(stored)
    assert len(accepted) > 200
