"""Rows 1 to 13 of the hostile input: bodies made to break whoever reads them, by both ways into the application.

What is posted as plain JSON is read in front of Flask (api_service/direct.py), everything else by it. Both give the
same verdict, and neither asks a database: the application of these tests has none, and would answer 503.
"""

import gzip
import io
import re
import time
import zlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api_service import strict_json
from api_service.schemas import MAX_FIELDS
from tests.unit.api_service.test_app import GOOD, PATH, problem
from tests.unit.api_service.test_direct import ask_both

JSON = "application/json"
MEGABYTE = 1024 * 1024
WITHIN_S = 0.1


@pytest.fixture
def refused(app: Flask, client: FlaskClient) -> Callable[[bytes, str, str], None]:
    """Holds that a body is refused with 400, a code, and a fault: posted alone by both ways, and within a batch."""

    def check(body: bytes, code: str, fault: str) -> None:
        answers = [*ask_both(app, data=body, content_type=JSON)]
        answers.append(client.post(f"{PATH}/batch", data=b"[" + body + b"]", content_type=JSON))
        answers.append(client.post(f"{PATH}/batch", data=body + b"\n", content_type="application/x-ndjson"))
        for answer in answers[:3]:
            assert {error["code"] for error in problem(answer, 400, code)["errors"]} == {fault}
        assert {error["code"] for error in problem(answers[3], 400, "validation_failed")["errors"]} == {fault}

    return check


def with_member(text: bytes) -> bytes:
    """A good request with one more member, written as given."""
    return orjson.dumps(GOOD)[:-1] + b"," + text + b"}"


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000])
def test_row_01_endless_nesting(refused: Callable[..., None], body: bytes) -> None:
    """100,000 nested arrays or objects, closed or not: 400, not a RecursionError's 500."""
    refused(body, "malformed_body", "nested_too_deep")


def test_row_01_nesting_that_could_not_be_written_again(refused: Callable[..., None]) -> None:
    """Read it could be; PostgreSQL and the record could not hold it."""
    refused(with_member(b'"metadata":' + b'{"a":' * 400 + b"1" + b"}" * 400), "malformed_body", "nested_too_deep")


@pytest.mark.parametrize(
    ("digits", "fault"), [(5000, "number_out_of_range"), (300, "integer_too_large"), (21, "integer_too_large")]
)
def test_row_02_endless_integers(refused: Callable[..., None], digits: int, fault: str) -> None:
    """5,000 digits, and as few as no longer fit 64 bits and would silently become another number."""
    refused(with_member(b'"metadata":{"n":-' + b"9" * digits + b"}"), "malformed_body", fault)


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (b"NaN", "malformed_json"),
        (b"Infinity", "malformed_json"),
        (b"-Infinity", "malformed_json"),
        (b"1e999", "number_out_of_range"),
        (b"-1e999", "number_out_of_range"),
    ],
)
def test_row_03_numbers_that_are_none(refused: Callable[..., None], number: bytes, fault: str) -> None:
    """Python's own reader takes all of them; PostgreSQL takes none."""
    refused(with_member(b'"metadata":{"n":' + number + b"}"), "malformed_body", fault)


@pytest.mark.parametrize(
    "member",
    [
        rb'"subject":"a\u0000b"',
        rb'"metadata":{"k":"\u0000"}',
        rb'"metadata":{"\u0000":1}',
        rb'"metadata":{"a":[["\u0000"]]}',
        rb'"\u0000":1',
    ],
)
def test_row_04_nul_in_a_string_or_a_name(refused: Callable[..., None], member: bytes) -> None:
    """PostgreSQL's text and jsonb cannot hold it."""
    refused(with_member(member), "malformed_body", "nul_character")


@pytest.mark.parametrize("text", [rb"\ud800", rb"\udfff", rb"\udc00\ud800"])
def test_row_05_lone_surrogates(refused: Callable[..., None], text: bytes) -> None:
    """They cannot be written as UTF-8."""
    refused(with_member(b'"subject":"' + text + b'"'), "malformed_body", "malformed_json")
    refused(with_member(b'"metadata":{"' + text + b'":1}'), "malformed_body", "malformed_json")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (orjson.dumps(GOOD).decode().encode("utf-16"), "invalid_utf8"),
        (orjson.dumps(GOOD).decode().encode("utf-16-le"), "malformed_json"),
        (orjson.dumps(GOOD).decode().encode("utf-32-be"), "malformed_json"),
        (b"\xef\xbb\xbf" + orjson.dumps(GOOD), "byte_order_mark"),
        (with_member(b'"subject":"\xff"'), "invalid_utf8"),
        (with_member(b'"subject":"\xc0\xaf"'), "invalid_utf8"),
        (with_member(b'"subject":"\xed\xa0\x80"'), "invalid_utf8"),
    ],
)
def test_row_06_other_encodings(app: Flask, body: bytes, fault: str) -> None:
    """UTF-16, UTF-32, a byte order mark, bytes that are no UTF-8, overlong and surrogate ones among them."""
    for answer in ask_both(app, data=body, content_type=JSON):
        assert [error["code"] for error in problem(answer, 400, "malformed_body")["errors"]] == [fault]


@pytest.mark.parametrize("charset", ["utf-16", "iso-8859-1", "utf-7"])
def test_row_06_another_charset_is_no_media_type_of_ours(app: Flask, charset: str) -> None:
    """Whoever declares one means other letters than we would read."""
    content_type = f"{JSON}; charset={charset}"

    for answer in ask_both(app, data=orjson.dumps(GOOD), content_type=content_type):
        problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "member",
    [
        b'"message":"other"',
        b'"recipient":"eve@example.com"',
        rb'"rec\u0069pient":"eve@example.com"',
        b'"metadata":{"a":1,"a":2}',
    ],
)
def test_row_07_names_given_twice(refused: Callable[..., None], member: bytes) -> None:
    """Readers disagree on which one counts: what was checked need not be what is sent."""
    refused(with_member(member), "malformed_body", "repeated_name")


@pytest.mark.parametrize("body", [b"null", b"[]", b'["a"]', b'"text"', b"1", b"true"])
def test_row_08_what_is_no_object(app: Flask, client: FlaskClient, body: bytes) -> None:
    """Our 400 validation_failed, where others answer 422: the body can be read, and says nothing to send."""
    for answer in ask_both(app, data=body, content_type=JSON):
        assert [e["code"] for e in problem(answer, 400, "validation_failed")["errors"]] == ["not_an_object"]
    item = client.post(f"{PATH}/batch", data=b"[" + body + b"]", content_type=JSON)
    assert [e["pointer"] for e in problem(item, 400, "validation_failed")["errors"]] == ["/0"]


def test_row_08_an_empty_body(app: Flask, client: FlaskClient) -> None:
    """Of no length, or declared as none: 400 malformed_body."""
    for answer in ask_both(app, data=b"", content_type=JSON):
        problem(answer, 400, "malformed_body")
    problem(client.post(f"{PATH}/batch", data=b"", content_type=JSON), 400, "malformed_body")
    problem(client.post(f"{PATH}/batch", data=b"\n\n", content_type="application/x-ndjson"), 400, "validation_failed")


OURS = ("id", "tenant_id", "status", "attempt", "created_at", "record", "is_operator", "__proto__")


@pytest.mark.parametrize("name", OURS)
def test_row_09_fields_that_are_ours_to_set(app: Flask, client: FlaskClient, name: str) -> None:
    """Refused by name, never passed over: whoever sends tenant_id believes that it counts."""
    body = orjson.dumps(GOOD | {name: "x"})

    for answer in ask_both(app, data=body, content_type=JSON):
        found = problem(answer, 400, "validation_failed")["errors"]
        assert [(error["pointer"], error["code"]) for error in found] == [(f"/{name}", "unknown_field")]
    answer = client.post(f"{PATH}/batch", data=b"[" + body + b"]", content_type=JSON)
    assert [error["pointer"] for error in problem(answer, 400, "validation_failed")["errors"]] == [f"/0/{name}"]


IDS = ("01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00", "ep_01930e2a7c1e70008f3a5b6c7d8e9f00", "0123456789abcdef")
"""Of each form that there is: a UUID, an endpoint's, a key's."""


def operations_with_a_body(client: FlaskClient) -> list[tuple[str, str]]:
    """Every method and path of the document that takes JSON objects of ours."""
    paths = orjson.loads(client.get("/openapi.json").data)["paths"]
    return [
        (method.upper(), path)
        for path, item in paths.items()
        for method, operation in item.items()
        if method in ("post", "put", "patch", "delete")
        and JSON in operation.get("requestBody", {}).get("content", {})
        and not path.startswith("/webhook/")
    ]


def test_row_09_no_operation_passes_them_over(app: Flask, client: FlaskClient) -> None:
    """Whatever takes a body, now or later."""
    operations = operations_with_a_body(client)
    assert len(operations) >= 8

    for method, path in operations:
        for id_ in IDS:
            whole = re.sub(r"\{[^}]+\}", id_, path)
            sent: Any = dict.fromkeys(OURS, "x") | (GOOD if "notifications" in path else {})
            answer = client.open(whole, method=method, json=[sent] if path.endswith("/batch") else sent)
            if answer.status_code != 404:
                break
        found = {error["pointer"].rpartition("/")[2] for error in problem(answer, 400, "validation_failed")["errors"]}
        assert found >= set(OURS), (method, path)


class Unreadable(io.BytesIO):
    """A body nobody may read."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("was read")


@pytest.mark.parametrize(
    ("path", "limit"),
    [(PATH, MEGABYTE), (f"{PATH}/batch", 16 * MEGABYTE), ("/auth/login", 8 * 1024), ("/auth/register", 8 * 1024)],
)
def test_row_10_a_body_that_is_too_large_by_its_length(app: Flask, path: str, limit: int) -> None:
    """413, unread. What is sent without a length: tests/integration/api_service/test_hostile_http.py."""
    for answer in ask_both(
        app,
        path,
        input_stream=Unreadable(),
        content_type=JSON,
        environ_overrides={"CONTENT_LENGTH": str(limit + 1)},
    ):
        problem(answer, 413, "body_too_large")


def bomb() -> bytes:
    """Ten megabytes in ten kilobytes."""
    return gzip.compress(b'{"message":"' + b"a" * (10 * MEGABYTE) + b'"}')


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "GZIP", "identity, gzip", "x", ""])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/batch", "/webhook/test-webhook"])
def test_row_11_compressed_bodies(app: Flask, path: str, encoding: str) -> None:
    """415: nothing is unpacked, so nothing can blow up."""
    for body in (bomb(), zlib.compress(b"{}"), orjson.dumps(GOOD)):
        for answer in ask_both(app, path, data=body, content_type=JSON, headers={"Content-Encoding": encoding}):
            problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/json"),
        *("application/xml", "application/jsonp", "application/json, text/plain", "*/*", "", None),
    ],
)
def test_row_12_other_media_types(app: Flask, content_type: str | None) -> None:
    """What a browser sends without asking first is among them: no form of another site posts here."""
    for path in (PATH, f"{PATH}/batch", "/webhook/test-webhook", "/api/v1/suppressions"):
        for answer in ask_both(app, path, data=orjson.dumps(GOOD), content_type=content_type):
            problem(answer, 415, "unsupported_media_type")


def timed(ask: Callable[[], TestResponse]) -> tuple[TestResponse, float]:
    """An answer, and the least of three times it took, of this thread's own: the machine may be busy with others."""
    took = []
    for _ in range(3):
        began = time.thread_time()
        answer = ask()
        took.append(time.thread_time() - began)
    return answer, min(took)


MANY_NAMES = b"{" + b",".join(b'"%05x":1' % number for number in range(100_000)) + b"}"
HUGE: dict[str, tuple[str, bytes, str]] = {
    "ten thousand items": (f"{PATH}/batch", orjson.dumps([GOOD] * 10_000), "batch_too_long"),
    "one field of a megabyte": (PATH, orjson.dumps(GOOD | {"message": "x" * 1_000_000}), "validation_failed"),
    "a hundred thousand names": (PATH, MANY_NAMES, "validation_failed"),
    "an e-mail of as many": (PATH, orjson.dumps(GOOD)[:-1] + b"," + MANY_NAMES[1:], "validation_failed"),
    "as many of metadata": (PATH, with_member(b'"metadata":' + MANY_NAMES), "validation_failed"),
    "as many headers": (PATH, with_member(b'"headers":' + MANY_NAMES), "validation_failed"),
}


@pytest.mark.parametrize("name", HUGE)
def test_row_13_huge_bodies_are_refused_quickly(app: Flask, name: str) -> None:
    """Within 100 ms of work: whoever sends them must not keep the others waiting."""
    path, body, code = HUGE[name]
    assert path != PATH or len(body) <= MEGABYTE

    for number in (0, 1):
        answer, took_s = timed(lambda number=number: ask_both(app, path, data=body, content_type=JSON)[number])  # type: ignore[misc]
        problem(answer, 400, code)
    assert took_s / 2 < WITHIN_S  # each time both ways were asked


def test_row_13_too_many_fields_are_not_gone_through(client: FlaskClient) -> None:
    """One fault says so, not a hundred thousand."""
    answer = problem(client.post(PATH, data=MANY_NAMES, content_type=JSON), 400, "validation_failed")

    assert [(error["pointer"], error["code"]) for error in answer["errors"]] == [("", "too_many_fields")]
    some = GOOD | {f"x{number}": 1 for number in range(MAX_FIELDS - len(GOOD))}
    assert "unknown_field" in {
        e["code"] for e in problem(client.post(PATH, json=some), 400, "validation_failed")["errors"]
    }


@pytest.mark.parametrize("body", [b"\n" * (16 * MEGABYTE), b"1\n" * (8 * MEGABYTE)])
def test_row_13_endless_lines_are_not_taken_apart(client: FlaskClient, body: bytes) -> None:
    """A list of them would take eight times the memory of the body."""
    answer, took_s = timed(lambda: client.post(f"{PATH}/batch", data=body, content_type="application/x-ndjson"))

    problem(answer, 400, "batch_too_long")
    assert took_s < 5 * WITHIN_S  # most of it is this client's, putting 16 MiB together


@pytest.mark.parametrize("body", [b"[" + b"[]," * 5_000_000 + b"[]]", b"[" + b"{}," * 5_000_000 + b"{}]"])
def test_row_13_small_values_do_not_become_a_multiple_in_memory(client: FlaskClient, body: bytes) -> None:
    """16 MiB of empty arrays would be 340 MiB: they are counted before they are read."""
    answer = client.post(f"{PATH}/batch", data=body, content_type=JSON)
    assert [error["code"] for error in problem(answer, 400, "malformed_body")["errors"]] == ["too_many_values"]

    one_line = client.post(
        f"{PATH}/batch", data=b"\n".join([body[: len(body) // 20]] * 20), content_type="application/x-ndjson"
    )
    assert [error["code"] for error in problem(one_line, 400, "malformed_body")["errors"]] == ["too_many_values"]
    strict_json.refuse_dense(b"x" * 20 + b"," * (strict_json.MAX_VALUES - 1) + b"x" * MEGABYTE)
