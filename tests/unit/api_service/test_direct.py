"""What is served in front of Flask is answered, logged and written as the application alone would."""

import gc
import io
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import flask
import orjson
import pytest
from flask import Flask
from marshmallow import ValidationError
from werkzeug.test import Client, TestResponse

from api_service import sending
from api_service.database import DatabaseUnavailableError
from api_service.direct import Direct
from api_service.schemas import InvalidRequestError
from api_service.services import EXTENSION, Services
from shared.db.accepting import NewNotification

PATH = "/api/v1/notifications"
EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Table:
    """Takes what is written without a key, or fails. What has a key meets no database."""

    def __init__(self) -> None:
        self.rows: list[NewNotification] = []
        self.error: Exception | None = None

    def write(self, _conn: object, news: Sequence[NewNotification]) -> None:
        """Write, and fail afterwards if told to: nobody knows then."""
        self.rows += news
        if self.error:
            raise self.error

    def write_keyed(self, *_: object) -> None:
        """Fail."""
        raise DatabaseUnavailableError("no_connection")


@pytest.fixture
def table(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Where the application writes what has no key."""
    table = Table()
    services = cast(Services, app.extensions[EXTENSION])
    monkeypatch.setattr(services.database, "run", lambda work, **_: work(None))
    monkeypatch.setattr(sending, "write_once", table.write)
    monkeypatch.setattr(sending, "accept_once", table.write_keyed)
    return table


class Served:
    """Counts what is served in front of the application."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """How many requests were begun in front of the application."""
    served, serve = Served(), Direct._serve

    def counting(self: Direct, *arguments: Any) -> Any:
        served.count += 1
        return serve(self, *arguments)

    monkeypatch.setattr(Direct, "_serve", counting)
    return served


def ask_both(app: Flask, path: str = PATH, **request: Any) -> tuple[TestResponse, TestResponse]:
    """The answers with Direct in front, and without."""
    direct = cast(Direct, app.wsgi_app)
    return tuple(Client(wsgi).open(path, **{"method": "POST"} | request) for wsgi in (direct, direct._application))  # type: ignore[return-value]


def without_ids(response: TestResponse) -> Any:
    """An answer, its ids and instants aside."""
    made = {orjson.loads(response.data).get(name) for name in ("id", "created_at", "request_id")}
    made |= {response.headers["X-Request-ID"]} - {"mine"}
    text = response.data.decode()
    headers = {name: value for name, value in response.headers.items() if name != "Content-Length"}
    for one in filter(None, made):
        text = text.replace(one, "*")
        headers = {name: value.replace(one, "*") for name, value in headers.items()}
    return response.status, sorted(headers.items()), text


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The lines of requests, what differs from one to the next aside."""
    names = ("method", "route", "status", "problem")
    found = [record.__dict__ for record in caplog.records if record.message == "request"]
    return [{name: line[name] for name in names} | {"id": line["notification_id"] is None} for line in found]


@pytest.mark.parametrize("path", [PATH, "/api/notifications"])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (EMAIL, {}),
        (EMAIL, {"traceparent": TRACE, "X-Request-ID": "mine", "X-Correlation-ID": "order-7"}),
        (EMAIL, {"X-Request-ID": "not safe", "traceparent": "nonsense"}),
        (EMAIL, {"Content-Type": "application/json; charset=utf-8"}),
        ({"channel": "webhook", "recipient": "https://example.com/", "message": "ü", "payload": {"a": [1]}}, {}),
    ],
)
def test_an_answer_is_that_of_the_application(
    app: Flask, table: Table, served: Served, caplog: pytest.LogCaptureFixture, *, path: str, body: Any, headers: Any
) -> None:
    """Status, headers, body, log line and row; only ids differ."""
    caplog.set_level(logging.INFO)

    direct, plain = ask_both(app, path, data=orjson.dumps(body), headers={"Content-Type": "application/json"} | headers)

    assert (direct.status_code, served.count) == (202, 1)
    assert without_ids(direct) == without_ids(plain)
    assert [row.correlation_id for row in table.rows] == [one.headers["X-Correlation-ID"] for one in (direct, plain)]
    first, second = ({**row._asdict(), "record": orjson.loads(row.record)} for row in table.rows)
    for row in (first, second):
        row["record"] |= {"id": 0, "created_at": 0}
        row["headers"].pop("correlation-id")
    changing = ("id", "created_at", "bucket", "key", "correlation_id")
    assert {**first, **dict.fromkeys(changing)} == {**second, **dict.fromkeys(changing)}
    [line, other] = lines(caplog)
    assert line == other == {"method": "POST", "route": path, "status": 202, "problem": None, "id": False}


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        (PATH, {"method": "PUT", "json": EMAIL}),
        (f"{PATH}?dry_run=true", {"json": EMAIL}),
        (f"{PATH}/", {"json": EMAIL}),
        ("/api/v2/notifications", {"json": EMAIL}),
        (PATH, {"data": b"{}", "content_type": "text/plain"}),
        (PATH, {"data": b"{}"}),
        (PATH, {"data": b"{}", "content_type": "application/json", "headers": {"Content-Encoding": "gzip"}}),
        (PATH, {"data": b"", "content_type": "application/json"}),
        (PATH, {"data": b" " * (1024 * 1024 + 1), "content_type": "application/json"}),
        (PATH, {"data": b"{}", "content_type": "application/json", "environ_overrides": {"CONTENT_LENGTH": "x"}}),
        (PATH, {"data": b"{}", "content_type": "application/json", "environ_overrides": {"CONTENT_LENGTH": "-2"}}),
    ],
)
def test_what_is_not_plain_is_handed_on(app: Flask, table: Table, served: Served, path: str, request_: Any) -> None:
    """Untouched."""
    direct, plain = ask_both(app, path, **request_)

    assert without_ids(direct) == without_ids(plain)
    assert (served.count, table.rows) == (0, [])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"message":1,"message":2}', 400),
        (orjson.dumps(EMAIL | {"recipient": "x"}), 400),
        (orjson.dumps(EMAIL | {"channel": "EMAIL"}), 202),
        (orjson.dumps(EMAIL | {"priority": "medium"}), 202),
    ],
)
def test_what_is_doubtful_is_read_again(app: Flask, table: Table, served: Served, body: bytes, status: int) -> None:
    """By the application, which judges and words it."""
    direct, plain = ask_both(app, data=body, content_type="application/json")

    assert (direct.status_code, served.count) == (status, 1)
    assert without_ids(direct) == without_ids(plain)
    assert len(table.rows) == (2 if status == 202 else 0)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DatabaseUnavailableError("lock_timeout"), 503, "database_unavailable"),
        (RuntimeError("secret"), 500, "internal_error"),
    ],
)
def test_what_fails_is_answered_by_the_application_and_done_once(
    app: Flask, table: Table, caplog: pytest.LogCaptureFixture, *, error: Exception, status: int, code: str
) -> None:
    """Under the ids it was begun with: what was stored may be looked for by them."""
    table.error = error

    direct, plain = ask_both(app, json=EMAIL)

    assert (direct.status_code, orjson.loads(direct.data)["code"]) == (status, code)
    assert without_ids(direct) == without_ids(plain)
    assert [row.correlation_id for row in table.rows] == [one.headers["X-Request-ID"] for one in (direct, plain)]
    assert "secret" not in direct.text
    failed = [record.__dict__["request_id"] for record in caplog.records if record.message == "request_failed"]
    assert failed == ([one.headers["X-Request-ID"] for one in (direct, plain)] if status == 500 else [])


class _Stalled(io.BytesIO):
    def read(self, *_: Any) -> bytes:
        raise BlockingIOError


@pytest.mark.parametrize(
    ("stream", "status"), [(_Stalled, 408), (lambda: io.BytesIO(b'{"channel":'), 400)], ids=["stalled", "short"]
)
def test_a_body_that_does_not_arrive_is_not_waited_for_again(
    app: Flask, served: Served, stream: Callable[[], io.BytesIO], status: int
) -> None:
    """Once was enough."""
    answers = [
        Client(wsgi).post(
            PATH, input_stream=stream(), content_type="application/json", environ_overrides={"CONTENT_LENGTH": "500"}
        )
        for wsgi in (app.wsgi_app, cast(Direct, app.wsgi_app)._application)
    ]

    assert (answers[0].status_code, served.count) == (status, 1)
    assert without_ids(answers[0]) == without_ids(answers[1])


@pytest.mark.parametrize(("key", "status"), [("a\tb", 400), ("order-1", 503)])
def test_a_key_is_looked_at_here_too(app: Flask, table: Table, served: Served, key: str, status: int) -> None:
    """It leads past what has none, to a database that this application does not have."""
    direct, plain = ask_both(app, json=EMAIL, headers={"Idempotency-Key": key})

    assert (direct.status_code, served.count, table.rows) == (status, 1, [])
    assert without_ids(direct) == without_ids(plain)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("in_front", [True, False], ids=["in front of Flask", "Flask alone"])
@pytest.mark.parametrize(
    ("expected", "path", "body"),
    [
        (503, PATH, EMAIL),
        (400, PATH, EMAIL | {"recipient": "nobody", "nonsense": 1}),
        (400, PATH, [EMAIL]),
        (400, f"{PATH}?dry_run=true", EMAIL),
        (400, f"{PATH}/batch", {"notifications": [EMAIL, EMAIL | {"message": ""}]}),
        (404, "/api/v1/nothing", EMAIL),
        (500, PATH, EMAIL | {"subject": "bug"}),
    ],
)
def test_a_request_that_failed_leaves_nothing_behind(
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    expected: int,
    path: str,
    body: Any,
    *,
    in_front: bool,
) -> None:
    """No cycle keeps it: cycles are looked for seldom, and bodies are large."""

    def fail(_: object, news: Sequence[NewNotification]) -> None:
        raise ZeroDivisionError if b"bug" in news[0].record else DatabaseUnavailableError("no_connection")

    monkeypatch.setattr(sending, "write_once", fail)
    direct = cast(Direct, app.wsgi_app)
    client = Client(direct if in_front else direct._application)
    client.post(path, json=body)
    gc.collect()

    logging.disable()  # pytest keeps what the log is told of a bug
    gc.disable()
    try:
        before = in_memory()
        status = client.post(path, json=body).status_code
        kept = in_memory() - before
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)

    assert (status, kept) == (expected, Counter())


def in_memory() -> Counter[str]:
    """How many objects there are of kinds that belong to one request."""
    kinds = (NewNotification, flask.Request, InvalidRequestError, ValidationError)
    return Counter(type(found).__name__ for found in gc.get_objects() if type(found) in kinds)
