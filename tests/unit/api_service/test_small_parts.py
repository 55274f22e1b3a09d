"""Cursors, trace ids, representations, and what is prepared before a database is asked."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import orjson
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from api_service import accept, bodies, dead_letter_schemas, representations, schemas, suppression_schemas, tracing
from api_service.accept import Origin
from api_service.faults import FaultyValueError
from api_service.idempotency import keyed_request
from api_service.paging import Cursors
from api_service.problems import Problem
from api_service.server import Server
from api_service.settings import read_settings
from shared.db import accepting
from shared.db.dlq_messages import DeadLetter
from shared.db.notification_lists import Notification
from shared.model import uuid7_unix_ms
from shared.records import Topics, decode_record
from shared.settings import Environment
from tests.unit.api_service.test_app import problem

PLACES = Cursors("notification", "acme")


@given(st.uuids())
def test_a_cursor_of_an_id_comes_back(before: UUID) -> None:
    """Opaque on the way, the same at the end."""
    assert PLACES.read_id(PLACES.of_id(before)) == before


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)), st.uuids())  # noqa: DTZ001
def test_a_cursor_of_an_instant_comes_back(at: datetime, before: UUID) -> None:
    """To the microsecond, or a page would repeat or skip a row."""
    assert PLACES.read_instant(PLACES.of_instant((at, before))) == (at, before)


@given(st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1))
def test_a_cursor_of_a_number_or_a_text_comes_back(number: int, text: str) -> None:
    """Whatever a destination is called."""
    assert (PLACES.read_number(PLACES.of_number(number)), PLACES.read_text(PLACES.of_text(text))) == (number, text)


@given(st.text(max_size=60))
def test_any_other_text_is_no_cursor(text: str) -> None:
    """It is refused, never an error of ours."""
    for read in (PLACES.read_id, PLACES.read_instant, PLACES.read_number, PLACES.read_text):
        with pytest.raises(FaultyValueError) as refused:
            read(text)
        assert refused.value.fault.code == "invalid_cursor"


@pytest.mark.parametrize("other", [Cursors("notification", "b-ltd"), Cursors("dead_letter", "acme")])
def test_a_cursor_of_another_tenant_or_list_is_refused(other: Cursors) -> None:
    """It was copied from elsewhere; so was one whose place was changed."""
    for cursor in (other.of_id(UUID(int=7)), "A" + PLACES.of_id(UUID(int=7))[1:].swapcase()):
        with pytest.raises(FaultyValueError):
            PLACES.read_id(cursor)


@pytest.mark.parametrize("text", ["", "a\x00b"])
def test_a_place_that_postgresql_cannot_hold_is_refused(text: str) -> None:
    """Though its sum is right: the sum is no secret."""
    with pytest.raises(FaultyValueError):
        PLACES.read_text(PLACES.of_text(text))


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (TRACE, TRACE),
        ("cc" + TRACE[2:] + "-what-the-future-brings", TRACE),
        (TRACE + "-more", None),
        (TRACE.upper(), None),
        ("ff" + TRACE[2:], None),
        ("00-" + "0" * 32 + TRACE[35:], None),
        (TRACE[:36] + "0" * 16 + "-01", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_a_traceparent_is_kept_where_it_is_one(given: str, kept: str | None) -> None:
    """W3C Trace Context: what is malformed is ignored."""
    assert tracing.request_ids({"HTTP_TRACEPARENT": given}).traceparent == kept


def test_what_is_prepared_is_one_notification_throughout() -> None:
    """Row, record, key and headers name one id, one instant, one order."""
    request = schemas.load(
        {"channel": "webhook", "recipient": "https://example.com/", "message": "m", "ordering_key": "k"}
        | {"priority": "high", "payload": {"a": 1}}
    )

    new = accept.prepare(request, topics=Topics("t"), origin=Origin("default", TRACE, "corr"))

    record = decode_record(new.record)
    assert record.id == str(new.id)
    assert record.created_at == accept.rfc3339(new.created_at)
    assert new.created_at == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=uuid7_unix_ms(new.id))
    assert (new.topic, new.key) == ("t.webhook", b"default/k")
    assert (new.headers["traceparent"], new.headers["correlation-id"], new.headers["attempt"]) == (TRACE, "corr", "1")


LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("count", "fields", "way"),
    [
        (1, {}, "insert"),
        (1, {"expires_in": 60}, "insert"),
        (1, {"scheduled_for": LATER.isoformat()}, "insert_many"),
        (2, {}, "insert_many"),
    ],
)
def test_what_is_prepared_is_written_in_the_cheapest_way_there_is(
    count: int, fields: dict[str, object], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is published at once has a statement of its own."""
    chosen: list[str] = []
    for name in ("insert", "insert_many"):
        monkeypatch.setattr(accepting, name, lambda *_, name=name: chosen.append(name))
    request = schemas.load({"channel": "email", "recipient": "a@example.com", "message": "m"} | fields)

    accept.write(cast(Any, None), accept.prepare_many([request] * count, topics=Topics("t"), origin=Origin()))

    assert chosen == [way]


def test_what_is_prepared_together_rises_in_the_order_given() -> None:
    """Each with an id and a record of its own, at one instant."""
    requests = [
        schemas.load({"channel": "email", "recipient": "a@example.com", "message": f"m{n}"}) for n in range(5000)
    ]

    news = accept.prepare_many(requests, topics=Topics("t"), origin=Origin())

    assert [new.id for new in news] == sorted({new.id for new in news})
    assert [decode_record(new.record).message for new in news] == [request.message for request in requests]
    assert all(decode_record(new.record).id == str(new.id) for new in news)
    assert all(new.created_at.timestamp() * 1000 == uuid7_unix_ms(new.id) for new in news)


def test_a_repeat_is_recognised_by_its_value() -> None:
    """Not by blanks or the order of names; by path and body."""
    headers = Headers({"Idempotency-Key": "k"})

    def sha(operation: str, body: object) -> bytes:
        keyed = keyed_request(headers, operation, body, tenant_id="default")
        assert keyed is not None
        return keyed.sha256

    assert sha("a", {"x": 1, "y": 2}) == sha("a", {"y": 2, "x": 1})
    assert sha("a", {"x": 1}) != sha("b", {"x": 1})
    assert sha("a", {"x": 1}) != sha("a", {"x": 2})


def a_notification(**record: object) -> Notification:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    return Notification(
        id=UUID(int=1),
        tenant_id="default",
        channel="webhook",
        recipient="https://example.com/",
        priority="normal",
        ordering_key=None,
        on_unknown="retry",
        status="sent",
        attempt=1,
        scheduled_for=None,
        expires_at=None,
        created_at=now,
        updated_at=now,
        correlation_id=None,
        traceparent=None,
        record=orjson.dumps(record),
    )


def test_credentials_in_headers_are_not_shown() -> None:
    """They are stored to be sent, not to be read back."""
    headers = {"Authorization": "Bearer x", "X-Api-Key": "x", "X-Auth-Token": "x", "X-Region": "eu"}

    shown = representations.detail(a_notification(message="m", headers=headers), [], None)

    assert shown["headers"] == {
        "Authorization": "(hidden)",
        "X-Api-Key": "(hidden)",
        "X-Auth-Token": "(hidden)",
        "X-Region": "eu",
    }


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (None, None),
        ("grüße".encode(), {"encoding": "text", "data": "grüße"}),
        (b"\xff\x00", {"encoding": "base64", "data": "/wA="}),
        (b'{ "headers": {"X-Region": "eu"}, "n": 1e400 }', None),
        (b'{"a":[1,1]', None),
        (b'{"headers":"token"}', None),
        (
            b'{ "headers": {"X-API-Key": "s", "token": {"deep": "s"}, "x": "y"}, "z": 1 }',
            {"encoding": "text", "data": '{"headers":{"X-API-Key":"(hidden)","token":"(hidden)","x":"y"},"z":1}'},
        ),
        (b'{"headers":{"token":"s"},"z":' + b"[" * 300 + b"]" * 300 + b"}", {"encoding": "text", "data": "(hidden)"}),
    ],
)
def test_an_original_payload_is_shown_whole_but_for_credentials(payload: bytes | None, shown: object) -> None:
    """As text where it is text, else so that the bytes can be had back; unchanged where nothing has to be hidden."""
    if payload and shown is None:
        shown = {"encoding": "text", "data": payload.decode()}
    now = datetime(2030, 1, 1, tzinfo=UTC)
    names = DeadLetter.__dataclass_fields__
    values = dict.fromkeys(names) | {"id": UUID(int=2), "first_failed_at": now, "headers": {"key": "s"}}

    body = representations.letter_detail(DeadLetter(**values | {"original_payload": payload}), [], [])  # type: ignore[arg-type]

    assert (body["original_payload"], body["headers"]) == (shown, {"key": "(hidden)"})


def test_who_decides_is_read_alike_wherever_a_person_decides() -> None:
    """A client handles one code, whatever was decided."""
    said, codes = {"by": "a\nb"}, []

    with pytest.raises(Problem) as caught:
        bodies.load(dead_letter_schemas.DECISION, said)
    codes += [fault.fault.code for fault in caught.value.errors]
    with pytest.raises(Problem) as caught:
        suppression_schemas.load_lift(said)
    codes += [fault.fault.code for fault in caught.value.errors]

    assert codes == ["invalid_by"] * 2


@pytest.mark.parametrize(("level", "gunicorns"), [("debug", "info"), ("info", "info"), ("warning", "warning")])
def test_gunicorn_never_logs_what_was_asked_for(tmp_path: Path, level: str, gunicorns: str) -> None:
    """Its debug lines begin with method and path, whatever stands in them."""
    environ = {"DATABASE_URL": "postgresql://notify@db/notifications", "LOG_LEVEL": level}
    server = Server(read_settings(Environment(environ)), tmp_path)

    assert server.cfg.loglevel == gunicorns


@pytest.mark.parametrize(
    ("path", "body", "pointer", "words"),
    [
        (f"/api/v1/dead-letters/{UUID(int=1)}/discard", None, "/reason", "required"),
        ("/api/v1/api-keys/0123456789abcdef/rotate", {"overlap_s": "1d"}, "/overlap_s", "a number of seconds from 0"),
        ("/api/v1/signing-secret/rotate", {"overlap_s": "1d"}, "/overlap_s", "a whole number of seconds from 0"),
    ],
)
def test_a_fault_says_what_is_wanted(client: FlaskClient, path: str, body: Any, pointer: str, words: str) -> None:
    """The field that is missing where there is no body at all; the unit of a number."""
    [error] = problem(client.post(path, json=body) if body else client.post(path), 400, "validation_failed")["errors"]

    assert error["pointer"] == pointer
    assert words in error["detail"]
