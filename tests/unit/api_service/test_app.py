"""What the application answers before any database is asked: problems, ids, limits."""

import io
import json
import logging
from typing import Any
from uuid import UUID

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient

from api_service.accept import DEFAULT_TENANT
from api_service.paging import Cursors
from api_service.problems import PROBLEMS

PATH = "/api/v1/notifications"
ID = UUID("01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00")
GOOD = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """The body of a problem response, whose outside has been checked."""
    body: dict[str, Any] = orjson.loads(response.data)
    assert (response.status_code, body["code"], body["status"]) == (status, code, status)
    assert response.content_type == "application/problem+json"
    assert body["title"] == PROBLEMS[code][1]
    assert body["type"].endswith(code)
    assert body["request_id"] == response.headers["X-Request-ID"]
    return body


def test_an_unknown_path_is_a_problem(client: FlaskClient) -> None:
    """404 has the form of all errors."""
    problem(client.get("/nope"), 404, "not_found")


@pytest.mark.parametrize("name", ["x", "%00", "../secret", "a" * 10_000, "01930e2a-7c1e-7000-8f3a-5b6c7d8e9f0g"])
def test_an_id_that_is_none_is_not_found(client: FlaskClient, name: str) -> None:
    """No query is made: the pool of this application would answer 503."""
    problem(client.get(f"{PATH}/{name}"), 404, "not_found")


def test_a_wrong_method_is_a_problem_that_names_the_right_ones(client: FlaskClient) -> None:
    """405 keeps its Allow header."""
    response = client.put(PATH)

    problem(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
def test_another_media_type_is_refused(client: FlaskClient, content_type: str | None) -> None:
    """JSON is what is read here, and it is said to be."""
    problem(client.post(PATH, data=b"{}", content_type=content_type), 415, "unsupported_media_type")


def test_a_compressed_body_is_refused(client: FlaskClient) -> None:
    """Nothing is unpacked, so nothing can blow up."""
    response = client.post(PATH, data=b"x", content_type="application/json", headers={"Content-Encoding": "gzip"})

    problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("charset", ["application/json; charset=utf-8", "application/cloudevents+json"])
def test_json_under_another_name_is_read(client: FlaskClient, charset: str) -> None:
    """It is found to lack its fields, so it was read."""
    problem(client.post(PATH, data=b"{}", content_type=charset), 400, "validation_failed")


@pytest.mark.parametrize(
    ("path", "limit"),
    [(PATH, 1024 * 1024), (f"{PATH}/batch", 16 * 1024 * 1024), ("/webhook/test-webhook", 64 * 1024)],
)
def test_a_body_that_is_too_large_is_refused_unread(client: FlaskClient, path: str, limit: int) -> None:
    """By its declared length alone."""

    class Unreadable(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise AssertionError("was read")

    response = client.post(
        path,
        input_stream=Unreadable(),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": str(limit + 1)},
    )

    problem(response, 413, "body_too_large")


def test_a_chunked_body_that_is_too_large_is_refused(client: FlaskClient) -> None:
    """One without a declared length is read up to the limit, and a byte."""
    stream = io.BytesIO(b" " * (1024 * 1024 + 1))

    response = client.post(
        PATH, input_stream=stream, content_type="application/json", environ_overrides={"wsgi.input_terminated": True}
    )

    problem(response, 413, "body_too_large")


def test_a_body_that_stops_arriving_is_a_timeout(client: FlaskClient) -> None:
    """The socket's own limit ends the wait."""

    class Stalled(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise BlockingIOError

    response = client.post(
        PATH, input_stream=Stalled(), content_type="application/json", environ_overrides={"CONTENT_LENGTH": "10"}
    )

    problem(response, 408, "request_timeout")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b"NaN", "malformed_json"),
        (b"[" * 100_000, "nested_too_deep"),
        (b'{"a":' + b"9" * 30 + b"}", "integer_too_large"),
        (rb'{"a":"\u0000"}', "nul_character"),
        (b'{"message":1,"message":2}', "repeated_name"),
    ],
)
def test_a_body_that_is_no_strict_json_is_a_problem(client: FlaskClient, body: bytes, code: str) -> None:
    """400, with the reason and no quotation of the body."""
    answer = problem(client.post(PATH, data=body, content_type="application/json"), 400, "malformed_body")

    assert [error["code"] for error in answer["errors"]] == [code]


@pytest.mark.parametrize("path", ["dead-letters/{}/retry", "suppressions/{}/lift", "endpoints/{}/test"])
def test_a_body_that_says_null_is_not_one_that_is_missing(client: FlaskClient, path: str) -> None:
    """Where a body may be left out, what is not left out is an object, as the document says."""
    path = path.replace("{}", f"ep_{ID.hex}" if "endpoints" in path else str(ID))
    answer = problem(
        client.post(f"/api/v1/{path}", data=b"null", content_type="application/json"), 400, "validation_failed"
    )

    assert [(error["pointer"], error["code"]) for error in answer["errors"]] == [("", "not_an_object")]


def test_faults_are_named_by_pointers(client: FlaskClient) -> None:
    """All of them, in one answer."""
    answer = problem(client.post(PATH, json=GOOD | {"recipient": "x", "color": "red"}), 400, "validation_failed")

    assert {(error["pointer"], error["code"]) for error in answer["errors"]} == {
        ("/recipient", "invalid_email"),
        ("/color", "unknown_field"),
    }
    assert answer["detail"] == "2 faults; see errors"


def test_faults_of_a_batch_point_into_it(client: FlaskClient) -> None:
    """The first token of a pointer is the item's place."""
    batch = [GOOD, GOOD | {"recipient": "x"}, [], GOOD | {"message": ""}]

    answer = problem(client.post(f"{PATH}/batch", json=batch), 400, "validation_failed")

    assert [error["pointer"] for error in answer["errors"]] == ["/1/recipient", "/2", "/3/message"]


def test_no_more_than_a_hundred_faults_are_named(client: FlaskClient) -> None:
    """All are counted."""
    answer = problem(client.post(f"{PATH}/batch", json=[{}] * 1000), 400, "validation_failed")

    assert len(answer["errors"]) == 100
    assert answer["detail"] == "2000 faults; see errors"


@pytest.mark.parametrize(
    ("body", "code"), [([], "validation_failed"), ({}, "validation_failed"), ([GOOD] * 1001, "batch_too_long")]
)
def test_a_batch_has_one_to_a_thousand_items(client: FlaskClient, body: Any, code: str) -> None:
    """Anything else is refused whole, whatever `atomic` says."""
    problem(client.post(f"{PATH}/batch", json=body), 400, code)
    problem(client.post(f"{PATH}/batch?atomic=false", json=body), 400, code)


def test_a_batch_of_which_nothing_is_valid_is_refused_whole(client: FlaskClient) -> None:
    """Also where each item may fail alone."""
    answer = problem(client.post(f"{PATH}/batch?atomic=false", json=[{}, 1]), 400, "validation_failed")

    assert [error["pointer"] for error in answer["errors"]] == ["/0/message", "/0/channel", "/1"]


@pytest.mark.parametrize("key", ["", " ", "a\tb", "ä", "a" * 256, " a"])
def test_an_idempotency_key_that_cannot_be_one_is_refused(client: FlaskClient, key: str) -> None:
    """1 to 255 printable characters."""
    response = client.post(PATH, json=GOOD, headers={"Idempotency-Key": key})

    answer = problem(response, 400, "invalid_header")
    assert answer["errors"][0]["header"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("query", "parameter", "code"),
    [
        ("limit=0", "limit", "out_of_range"),
        ("limit=251", "limit", "out_of_range"),
        ("limit=ten", "limit", "out_of_range"),
        ("limit=-1", "limit", "out_of_range"),
        ("cursor=abc", "cursor", "invalid_cursor"),
        ("cursor=", "cursor", "invalid"),
        ("status=done", "status", "unknown_value"),
        ("channel=fax", "channel", "unknown_value"),
        ("from=yesterday", "from", "invalid_instant"),
        ("to=2030-01-01", "to", "invalid_instant"),
        ("tenant_id=other", "tenant_id", "unknown_parameter"),
        ("sort='; --", "sort", "unknown_parameter"),
        ("status=sent&status=failed", "status", "repeated_parameter"),
        ("recipient=%00", "recipient", "invalid"),
    ],
)
def test_a_bad_query_parameter_is_named(client: FlaskClient, query: str, parameter: str, code: str) -> None:
    """A filter that is misspelt never lists everything instead."""
    answer = problem(client.get(f"{PATH}?{query}"), 400, "validation_failed")

    assert [(error["parameter"], error["code"]) for error in answer["errors"]] == [(parameter, code)]


def test_a_cursor_of_another_list_is_refused(client: FlaskClient) -> None:
    """A cursor of dead letters says nothing about notifications."""
    cursor = Cursors("notification", DEFAULT_TENANT).of_id(UUID(int=1))

    answer = problem(client.get(f"/api/v1/dead-letters?cursor={cursor}"), 400, "validation_failed")
    assert answer["errors"][0]["parameter"] == "cursor"


def test_without_its_database_the_service_is_unavailable(client: FlaskClient) -> None:
    """503 says when to come back, and readiness says why; liveness does not care."""
    response = client.post(PATH, json=GOOD)

    problem(response, 503, "database_unavailable")
    assert response.headers["Retry-After"] == "2"
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503
    assert orjson.loads(client.get("/health").data)["checks"] == {"postgres": "no_connection"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "words"),
    [
        ("GET", PATH, {}, "repeat this in a moment"),
        ("GET", f"{PATH}/{UUID(int=1)}", {"Idempotency-Key": "k"}, "repeat this in a moment"),
        ("POST", PATH, {"Idempotency-Key": "k"}, "with the same Idempotency-Key"),
        ("POST", PATH, {}, "without an Idempotency-Key a repeat may do it a second time"),
        ("POST", f"/api/v1/dead-letters/{UUID(int=1)}/retry", {}, "look first"),
        ("DELETE", f"{PATH}/{UUID(int=1)}", {}, "look first"),
    ],
)
def test_a_503_says_how_to_repeat_this_very_request(
    client: FlaskClient, method: str, path: str, headers: dict[str, str], words: str
) -> None:
    """An Idempotency-Key is named where one is taken, and was sent."""
    body = GOOD if (method, path) == ("POST", PATH) else None
    answer = problem(client.open(path, method=method, json=body, headers=headers), 503, "database_unavailable")

    assert words in answer["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/dead-letters/retry", {"filter": {"reason": "http_503"}, "dry_run": False}),
        ("/api/v1/api-keys", {"name": "till", "scopes": ["send"]}),
        ("/api/v1/api-keys/0123456789abcdef/rotate", {"overlap_s": 60}),
    ],
)
def test_what_cannot_be_repeated_refuses_an_idempotency_key(client: FlaskClient, path: str, body: Any) -> None:
    """Taken in silence it would promise that a repeat starts no second one, makes no second key, ends no overlap."""
    response = client.post(path, json=body, headers={"Idempotency-Key": "k"})

    answer = problem(response, 400, "invalid_header")
    assert [(error["header"], error["code"]) for error in answer["errors"]] == [
        ("Idempotency-Key", "unsupported_header")
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PATH),
        ("POST", f"{PATH}/batch"),
        ("DELETE", f"{PATH}/{UUID(int=1)}"),
        ("POST", "/api/v1/dead-letters/retry"),
        ("POST", f"/api/v1/suppressions/{UUID(int=1)}/lift"),
    ],
)
def test_what_changes_something_refuses_an_unknown_parameter(client: FlaskClient, method: str, path: str) -> None:
    """dry_run belongs into a body; in the query it would be passed over."""
    answer = problem(client.open(f"{path}?dry_run=true", method=method, json=GOOD), 400, "validation_failed")

    assert [(error["parameter"], error["code"]) for error in answer["errors"]] == [("dry_run", "unknown_parameter")]


def test_a_bug_of_ours_tells_nothing(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """The request id leads to the log; the answer has neither message nor stack."""

    @app.get("/bug")
    def bug() -> str:
        raise RuntimeError("secret detail")

    answer = app.test_client().get("/bug")

    problem(answer, 500, "internal_error")
    assert b"secret" not in answer.data
    failed = next(record for record in caplog.records if record.message == "request_failed")
    assert failed.__dict__["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("given", ["abc-123", "A" * 128, "svc/req:1=2@x+y._"])
def test_a_safe_request_id_is_kept(client: FlaskClient, given: str) -> None:
    """It comes back, and is the correlation id where none is given."""
    response = client.get("/health/live", headers={"X-Request-ID": given})

    assert (response.headers["X-Request-ID"], response.headers["X-Correlation-ID"]) == (given, given)


@pytest.mark.parametrize("given", ["", "a b", "A" * 129, 'x"y', "ä", "<script>"])
def test_an_unsafe_request_id_is_replaced(client: FlaskClient, given: str) -> None:
    """It would end up in logs and headers."""
    response = client.get("/health/live", headers={"X-Request-ID": given, "X-Correlation-ID": given})

    assert response.headers["X-Request-ID"] != given
    assert response.headers["X-Correlation-ID"] == response.headers["X-Request-ID"]


def test_a_request_is_one_log_line_without_user_data(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    """Neither recipients, nor bodies, nor keys, nor query strings; probes are not logged at all."""
    caplog.set_level(logging.DEBUG)

    client.post(PATH, json=GOOD | {"message": "canary"}, headers={"Idempotency-Key": "canary"})
    client.get(f"{PATH}?recipient=canary@example.com")
    client.get("/canary")
    client.get("/health/live")

    lines = [record.__dict__ for record in caplog.records if record.name == "api_service.finishing"]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", PATH, 503),
        ("GET", PATH, 503),
        ("GET", "unmatched", 404),
    ]
    assert "canary" not in json.dumps(lines, default=str)
    assert "ada@example.com" not in json.dumps(lines, default=str)


def test_the_test_receiver_keeps_the_last_hundred(client: FlaskClient) -> None:
    """With the headers that matter to a webhook, newest first."""
    for number in range(103):
        response = client.post("/webhook/test-webhook", json={"n": number}, headers={"webhook-id": str(number)})
        assert response.status_code == 200

    kept = orjson.loads(client.get("/webhook/test-webhook").data)["data"]

    assert [one["body"]["n"] for one in kept] == list(range(102, 2, -1))
    assert kept[0]["headers"]["webhook-id"] == "102"


def test_the_docs_need_no_network_and_no_inline_script(client: FlaskClient) -> None:
    """All that the page loads is served here, under a policy that allows nothing else."""
    page = client.get("/docs")

    assert "script-src 'self';" in page.headers["Content-Security-Policy"]
    assert "://" not in page.text
    for name in ("swagger-ui.css", "index.css", "swagger-ui-bundle.js", "start.js", "favicon-32x32.png"):
        assert f"/docs/{name}" in page.text
        assert client.get(f"/docs/{name}").status_code == 200
    assert client.get("/docs/oauth2-redirect.html").status_code == 404


def test_metrics_count_requests_by_route_template(client: FlaskClient) -> None:
    """No id ever becomes a label."""
    client.get(f"{PATH}/01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00")
    client.get("/nowhere/at/all")

    text = client.get("/metrics").text
    assert f'route="{PATH}/<uuid:notification_id>"' in text
    assert 'route="unmatched"' in text
    assert "01930e2a" not in text
    assert "nowhere" not in text
