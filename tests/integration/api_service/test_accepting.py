"""Accepting: what a 202 stands for in the database, and that a refusal leaves nothing there."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest
from flask.testing import FlaskClient

from api_service import accept, schemas
from shared.model import bucket_of, uuid7_unix_ms
from shared.records import Topics, decode_record
from tests.integration.api_service.conftest import counts
from tests.servers import Database

PATH = "/api/v1/notifications"
EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}
WEBHOOK = {"channel": "webhook", "recipient": "https://example.com/h", "message": "hello"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOTHING = {"notifications": 0, "outbox": 0, "outbox_due": 0, "idempotency_keys": 0}


def rows(database: Database, query: str) -> list[Any]:
    with database.connect() as conn:
        return conn.execute(query).fetchall()


def test_a_202_is_a_notification_and_its_outbox_row(client: FlaskClient, database: Database) -> None:
    """Both name one id, one record, one route; the trace travels along."""
    response = client.post(
        PATH,
        json=WEBHOOK | {"priority": "urgent", "payload": {"n": 1}},
        headers={"traceparent": TRACE, "X-Correlation-ID": "order-7"},
    )

    assert response.status_code == 202
    body = orjson.loads(response.data)
    assert response.headers["Location"] == f"{PATH}/{body['id']}"
    [(at, status, trace, correlation, record)] = rows(
        database, "SELECT created_at, status, traceparent, correlation_id, record FROM notifications"
    )
    [(notification_id, bucket, topic, key, value, headers)] = rows(
        database, "SELECT notification_id, bucket, topic, key, value, headers FROM outbox"
    )
    assert (str(notification_id), body["status"], status) == (body["id"], "pending", "pending")
    assert int(at.timestamp() * 1000) == uuid7_unix_ms(notification_id)
    assert (trace, correlation) == (TRACE, "order-7")
    assert (topic, key, bucket) == ("notifications.webhook.high", body["id"].encode(), bucket_of(key))
    assert (headers["attempt"], headers["traceparent"], headers["correlation-id"]) == ("1", TRACE, "order-7")
    assert bytes(record) == bytes(value)
    assert decode_record(bytes(value)).payload == {"n": 1}


def test_the_short_path_is_the_same_resource(client: FlaskClient) -> None:
    """/api/notifications answers with the canonical Location."""
    response = client.post("/api/notifications", json=EMAIL)

    assert client.get(response.headers["Location"]).status_code == 200


def test_an_ordering_key_routes_to_the_normal_lane(client: FlaskClient, database: Database) -> None:
    """Whatever the priority: two lanes share no order."""
    client.post(PATH, json=WEBHOOK | {"priority": "high", "ordering_key": "order-1"})

    [(topic, key, bucket)] = rows(database, "SELECT topic, key, bucket FROM outbox")
    assert (topic, bytes(key), bucket) == ("notifications.webhook", b"default/order-1", bucket_of(b"default/order-1"))


def test_what_is_scheduled_waits_outside_the_outbox(client: FlaskClient, database: Database) -> None:
    """It has a due time instead."""
    due = datetime.now(UTC) + timedelta(hours=1)

    response = client.post(PATH, json=EMAIL | {"scheduled_for": due.isoformat(), "expires_in": 7200})

    assert orjson.loads(response.data)["status"] == "scheduled"
    assert counts(database) == NOTHING | {"notifications": 1, "outbox_due": 1}
    assert rows(database, "SELECT due_at FROM outbox_due") == [(due,)]


def test_expiry_counts_from_the_acceptance(client: FlaskClient, database: Database) -> None:
    """By PostgreSQL's clock."""
    client.post(PATH, json=EMAIL | {"expires_in": 60})

    assert rows(database, "SELECT extract(epoch FROM expires_at - updated_at)::float8 FROM notifications") == [(60.0,)]


@pytest.mark.parametrize("key", [None, "key-1"])
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"null",
        b"[]",
        b"{}",
        orjson.dumps(EMAIL | {"recipient": "nobody"}),
        orjson.dumps(EMAIL | {"message": ""}),
        orjson.dumps(EMAIL | {"scheduled_for": "2001-01-01T00:00:00Z"}),
        orjson.dumps(EMAIL | {"id": "01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00"}),
        orjson.dumps(WEBHOOK | {"recipient": "ftp://example.com"}),
        orjson.dumps(WEBHOOK | {"headers": {"Host": "x"}}),
        rb'{"channel":"email","recipient":"ada@example.com","message":"a\u0000b"}',
    ],
)
def test_a_refusal_writes_nothing(client: FlaskClient, database: Database, body: bytes, key: str | None) -> None:
    """Neither a notification, nor an outbox row, nor the idempotency key."""
    headers = {"Idempotency-Key": key} if key else {}

    response = client.post(PATH, data=body, content_type="application/json", headers=headers)

    assert response.status_code == 400
    assert counts(database) == NOTHING


def test_a_batch_is_accepted_whole(client: FlaskClient, database: Database) -> None:
    """In the order it came: ids rise, and so do the outbox numbers of what is due at once."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    batch = [WEBHOOK, EMAIL, EMAIL | {"scheduled_for": later}] * 100

    response = client.post(f"{PATH}/batch", json=batch)

    body = orjson.loads(response.data)
    assert (response.status_code, body["accepted"]) == (202, 300)
    ids = [one["id"] for one in body["notifications"]]
    assert ids == sorted(ids)
    assert counts(database) == NOTHING | {"notifications": 300, "outbox": 200, "outbox_due": 100}
    relayed = [str(row[0]) for row in rows(database, "SELECT notification_id FROM outbox ORDER BY seq")]
    assert relayed == [one["id"] for one in body["notifications"] if one["status"] == "pending"]


def test_a_batch_is_published_as_it_came(client: FlaskClient, database: Database) -> None:
    """Each item in its place, with its key and its trace."""
    batch = [WEBHOOK | {"payload": {"n": n}, "ordering_key": f"k{n % 7}"} for n in range(300)]

    response = client.post(f"{PATH}/batch", json=batch, headers={"traceparent": TRACE})

    ids = [one["id"] for one in orjson.loads(response.data)["notifications"]]
    assert counts(database) == NOTHING | {"notifications": 300, "outbox": 300}
    stored = rows(database, "SELECT notification_id, key, value, headers FROM outbox ORDER BY seq")
    assert [str(row[0]) for row in stored] == ids
    assert [decode_record(bytes(row[2])).payload for row in stored] == [{"n": n} for n in range(300)]
    assert {(bytes(row[1]), row[3]["traceparent"]) for row in stored} == {
        (f"default/k{n}".encode(), TRACE) for n in range(7)
    }


def test_a_batch_comes_as_lines_too(client: FlaskClient, database: Database) -> None:
    """NDJSON, blank lines aside."""
    lines = b"\n".join([orjson.dumps(EMAIL), b"", orjson.dumps(WEBHOOK), b"\r"])

    response = client.post(f"{PATH}/batch", data=lines, content_type="application/x-ndjson")

    assert orjson.loads(response.data)["accepted"] == 2
    assert counts(database)["outbox"] == 2


def test_one_bad_item_refuses_the_batch(client: FlaskClient, database: Database) -> None:
    """All or nothing unless asked otherwise; the item is named."""
    response = client.post(f"{PATH}/batch", json=[EMAIL, EMAIL, EMAIL, EMAIL | {"recipient": "x"}])

    assert response.status_code == 400
    assert [error["pointer"] for error in orjson.loads(response.data)["errors"]] == ["/3/recipient"]
    assert counts(database) == NOTHING


def test_a_batch_may_be_accepted_item_by_item(client: FlaskClient, database: Database) -> None:
    """A result per item, in its place: an id or a problem."""
    lines = b"\n".join([orjson.dumps(EMAIL), b"{", orjson.dumps(EMAIL | {"message": ""}), orjson.dumps(WEBHOOK)])

    response = client.post(f"{PATH}/batch?atomic=false", data=lines, content_type="application/x-ndjson")

    body = orjson.loads(response.data)
    assert (response.status_code, body["accepted"]) == (202, 2)
    assert [result["index"] for result in body["results"]] == [0, 1, 2, 3]
    assert ["id" in result for result in body["results"]] == [True, False, False, True]
    faults = [result["problem"]["errors"][0] for result in body["results"][1:3]]
    assert [(fault["pointer"], fault["code"]) for fault in faults] == [("", "malformed_json"), ("/message", "empty")]
    assert counts(database) == NOTHING | {"notifications": 2, "outbox": 2}


@pytest.mark.parametrize("end", [psycopg.Connection.commit, psycopg.Connection.rollback])
def test_an_application_accepts_inside_its_own_transaction(
    database: Database, end: Callable[[psycopg.Connection[Any]], None]
) -> None:
    """Its row and the notification are there together, or neither is."""
    with database.connect() as conn:
        conn.execute("CREATE TABLE orders (id int)")
        conn.commit()
        conn.execute("INSERT INTO orders VALUES (1)")
        accept.accept(conn, schemas.load(EMAIL), topics=Topics())
        end(conn)

        found = conn.execute("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox)").fetchone()

    assert found in ((1, 1), (0, 0))
    assert (found == (1, 1)) == (end is psycopg.Connection.commit)
