"""Rows 10 and 14 to 19 of the hostile input: what goes wrong on the wire, on a real gunicorn without a database.

Each refusal is a problem like all others, ends its connection where nobody knows any more where the next request
begins, and says nothing of the request, neither in its answer nor in the log.
"""

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from api_service import security_headers
from api_service.problems import PROBLEMS
from infra.local.ports import free_port
from infra.local.processes import Supervisor
from tests.integration.api_service.test_server import EMAIL, PATH, Server, environ

POST = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
BODY = orjson.dumps(EMAIL)
CANARY = "canary-7c1e"


@contextlib.contextmanager
def api_alone(directory: Path) -> Iterator[Server]:
    """One worker, without PostgreSQL, behind a proxy at 127.0.0.2."""
    port = free_port()
    env = environ(
        API_PORT=str(port),
        API_WORKERS="1",
        API_THREADS="4",
        TMPDIR=str(directory),
        DB_HOST="127.0.0.1",
        DB_PORT=str(free_port()),
        TRUSTED_PROXIES="127.0.0.2/32",
        AUTH_MODE="open",
    )
    with Supervisor(directory / "logs") as supervisor:
        process = supervisor.process("api", [sys.executable, "-m", "api_service"], env=env, cwd=directory)
        process.start().wait_healthy(f"http://127.0.0.1:{port}/health/live")
        yield Server(process, port, directory)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An API for all that is tried here."""
    with api_alone(tmp_path_factory.mktemp("hostile")) as api:
        yield api


class Answer(NamedTuple):
    """What came back, and whether the connection ended."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_closed: bool


def ask(api: Server, *parts: bytes, source: str = "127.0.0.1") -> Answer:
    """Send bytes as they are, and read one answer."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=10, source_address=(source, 0)) as client:
        with contextlib.suppress(OSError):  # it may have been refused before all of it was sent
            for part in parts:
                client.sendall(part)
        return read(client)


def read(client: socket.socket) -> Answer:
    """Read one answer, and see whether there can be another."""
    data = b""
    while b"\r\n\r\n" not in data and (part := client.recv(65_536)):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += client.recv(65_536)
    client.settimeout(2)
    try:
        is_closed = client.recv(1) == b""
    except TimeoutError:
        is_closed = False
    except ConnectionResetError:
        is_closed = True
    return Answer(int(status.split()[1]), headers, body, is_closed)


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The problem in a refusal whose outside has been checked."""
    problem: dict[str, Any] = orjson.loads(answer.body)
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert problem["title"] == PROBLEMS[code][1]
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert {name: answer.headers.get(name.lower()) for name, _ in security_headers.PLAIN} == dict(
        security_headers.PLAIN
    )
    assert CANARY.encode() not in answer.body
    return problem


@pytest.fixture(autouse=True)
def _nothing_of_a_request_is_logged(api: Server) -> Iterator[None]:
    """Whatever is tried here has the canary in it, and no line may."""
    yield
    assert CANARY not in api.process.log_path.read_text()
    assert [line for line in api.log() if line["level"] == "error"] == []


@pytest.mark.parametrize("declared", [str(1024 * 1024 + 1), str(10**15)], ids=["a byte too many", "a petabyte"])
def test_row_10_a_length_that_is_too_large_is_refused_unread(api: Server, declared: str) -> None:
    """413 before a byte of the body is sent."""
    began = time.monotonic()

    answer = ask(api, POST + f"Content-Length: {declared}\r\n\r\n".encode())

    refused(answer, 413, "body_too_large")
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("chunk", [64 * 1024, 1024 * 1024 + 1])
def test_row_10_a_chunked_body_that_is_too_large_is_refused(api: Server, chunk: int) -> None:
    """413 as well, as soon as it is known."""
    chunks = (f"{chunk:x}\r\n".encode() + b" " * chunk + b"\r\n" for _ in range(2 * 1024 * 1024 // chunk + 1))

    answer = ask(api, POST + b"Transfer-Encoding: chunked\r\n\r\n", *chunks)

    refused(answer, 413, "body_too_large")


LENGTH = f"Content-Length: {len(BODY)}\r\n".encode()


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="CL and TE"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n", id="TE and CL"),
        pytest.param(POST + LENGTH + LENGTH + b"\r\n" + BODY, id="two CL"),
        pytest.param(POST + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY, id="two different CL"),
        pytest.param(POST + b"Content-Length: 5, 5\r\n\r\n" + BODY, id="CL list"),
        pytest.param(POST + b"Content-Length: +7\r\n\r\n" + BODY, id="+7"),
        pytest.param(POST + b"Content-Length: -7\r\n\r\n" + BODY, id="-7"),
        pytest.param(POST + b"Content-Length: 0_7\r\n\r\n" + BODY, id="0_7"),
        pytest.param(POST + b"Content-Length: 0x7\r\n\r\n" + BODY, id="0x7"),
        pytest.param(POST + b"Content-Length: \xb2\r\n\r\n" + BODY, id="superscript"),
        pytest.param(POST + b"Content-Length:\r\n\r\n" + BODY, id="empty CL"),
        pytest.param(POST + b"Content-Length : 7\r\n\r\n" + BODY, id="blank before the colon"),
        pytest.param(POST + b" Content-Length: 7\r\n\r\n" + BODY, id="folded"),
        pytest.param(POST.replace(b"\r\n", b"\n") + LENGTH + b"\n" + BODY, id="bare LF"),
        pytest.param(POST + b"X-A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="bare LF in a header"),
        pytest.param(POST + b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="bare CR in a header"),
        pytest.param(POST + b"X-A: b\x00c\r\n\r\n", id="NUL in a header"),
        pytest.param(POST + b"Host: y\r\n\r\n", id="two hosts"),
        pytest.param(POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", id="chunked twice"),
        pytest.param(POST + b"Transfer-Encoding: identity\r\n\r\n" + BODY, id="identity"),
        pytest.param(POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunked 1.0"),
        pytest.param(f"GET /{CANARY}\r\n\r\n".encode(), id="HTTP/0.9"),
        pytest.param(f"GET /{CANARY} HTTP/2.0\r\nHost: x\r\n\r\n".encode(), id="HTTP/2.0"),
        pytest.param(f"get /{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), id="small letters"),
        pytest.param(f"GET {CANARY} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), id="no path"),
        pytest.param(f"GET /{CANARY}\x7f HTTP/1.1\r\nHost: x\r\n\r\n".encode(), id="DEL in the path"),
        pytest.param(f"nonsense {CANARY}\r\n\r\n".encode(), id="nonsense"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
    ],
)
def test_row_14_a_request_whose_end_is_in_doubt_is_refused(api: Server, request_: bytes) -> None:
    """400, and the connection ends: what follows could be a second request that a proxy took for the body of this."""
    request_ = request_.replace(b"Host: x\r\n", b"Host: x\r\nX-Canary: " + CANARY.encode() + b"\r\n", 1)
    smuggled = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"

    answer = ask(api, request_ + smuggled)

    refused(answer, 400, "bad_request")
    assert answer.headers["connection"] == "close"
    assert answer.is_closed


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"-5\r\n",
        b"5\rhello",
        b"5\r\nhello0\r\n\r\n",
        b"5;\x00=1\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_row_14_chunks_that_are_malformed_are_refused(api: Server, body: bytes) -> None:
    """400, and nothing after it is read as a request."""
    answer = ask(
        api, POST + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    )

    assert answer.status in (400, 413)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.is_closed


@pytest.mark.parametrize(
    "coding",
    ["gzip, chunked", "chunked, gzip", "deflate, chunked", "identity, chunked", "gzip", "x, chunked", "chunkedx"],
)
def test_row_15_other_transfer_codings_are_refused(api: Server, coding: str) -> None:
    """400 or 501, and the connection ends: gunicorn would hand on what is packed as if it were not."""
    head = f"Transfer-Encoding: {coding}\r\nX-Canary: {CANARY}\r\n\r\n".encode()

    answer = ask(api, POST + head + f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n")

    assert answer.status in (400, 501)
    refused(answer, answer.status, "bad_request" if answer.status == 400 else "transfer_coding_unsupported")
    assert answer.is_closed


def test_row_15_chunked_alone_is_read(api: Server) -> None:
    """In any case; it then meets a database that is not there."""
    for coding in ("chunked", "Chunked"):
        head = f"Transfer-Encoding: {coding}\r\n\r\n".encode()
        answer = ask(api, POST + head + f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n")

        refused(answer, 503, "database_unavailable")


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"X-A: canary-7c1e\r\n" * 200, 431, "headers_too_large"),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: " + b"canary-7c1e" * 900, 431, "headers_too_large"),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 100_000, 431, "headers_too_large"),
        (b"GET /canary-7c1e" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n", 414, "uri_too_long"),
        (b"GET /health/live?canary-7c1e=" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n", 414, "uri_too_long"),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nExpect: canary-7c1e\r\n", 417, "expectation_failed"),
    ],
    ids=["200 headers", "a header of 9 kB", "100,000 headers", "a line of 9 kB", "a query of 1 MB", "an expectation"],
)
def test_row_16_heads_that_are_too_large(api: Server, head: bytes, status: int, code: str) -> None:
    """431 for headers, 414 for the line."""
    answer = ask(api, head + b"\r\n\r\n")

    refused(answer, status, code)
    assert answer.is_closed


def test_refusals_are_counted_and_logged_like_requests(api: Server) -> None:
    """Under a route of their own."""
    refused(ask(api, b"nonsense\r\n\r\n"), 400, "bad_request")
    lines = [line for line in api.log() if line["event"] == "request" and line["route"] == "unparsed"]

    assert (lines[-1]["method"], lines[-1]["status"], lines[-1]["problem"]) == ("other", 400, "bad_request")
    assert lines[-1]["client"] == "127.0.0.1"
    counted = ask(api, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").body.decode()
    assert 'http_requests_total{method="other",route="unparsed",status="400"}' in counted


FORGED = (
    "X-Forwarded-For: 203.0.113.66\r\nX_Forwarded_For: 203.0.113.66\r\nForwarded: for=203.0.113.66;host=evil.nu\r\n"
    "X-Real-IP: 203.0.113.66\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on\r\n"
    "X-Forwarded-Prefix: /evil\r\nX-Forwarded-Port: 666\r\nSCRIPT_NAME: /evil\r\nPATH_INFO: /evil\r\n"
    "X-Original-URL: /evil\r\nX-HTTP-Method-Override: DELETE\r\n"
)


@pytest.mark.parametrize(
    "target",
    [
        "/health/live",
        "//health/live",
        "/health//live",
        "/docs/",
        "/api/v1/notifications/",
        f"{PATH}/x/../..",
        "/openapi.json",
        "/nope",
    ],
)
def test_row_18_forged_headers_have_no_effect(api: Server, target: str) -> None:
    """Neither on the answer, its links and its headers, nor on what is logged."""
    plain = ask(api, f"GET {target} HTTP/1.1\r\nHost: api.example\r\nX-Request-ID: same\r\n\r\n".encode())

    forged = ask(api, f"GET {target} HTTP/1.1\r\nHost: evil.example\r\nX-Request-ID: same\r\n{FORGED}\r\n".encode())

    def without_date(answer: Answer) -> Any:
        return answer._replace(headers={name: value for name, value in answer.headers.items() if name != "date"})

    assert without_date(forged) == without_date(plain)
    assert "evil" not in str(forged.headers) + forged.body.decode()
    assert "location" not in forged.headers
    assert "strict-transport-security" not in forged.headers
    text = api.process.log_path.read_text()
    assert "203.0.113.66" not in text
    assert "evil" not in text
    addresses = {line["client"] for line in api.log() if line["event"] == "request"}
    assert addresses <= {"127.0.0.1", "198.51.100.7"}


def test_row_18_an_absolute_target_names_no_host_of_ours(api: Server) -> None:
    """The path is served, whatever stands before it."""
    answer = ask(api, b"GET http://evil.example/health/live HTTP/1.1\r\nHost: other.example\r\n\r\n")

    assert answer.status == 200
    assert b"evil" not in answer.body


def test_row_18_a_trusted_proxy_is_believed(api: Server) -> None:
    """It says who the client is, whatever the client said before, and that it came over TLS."""
    forwarded = b"X-Forwarded-For: 203.0.113.66, 198.51.100.7\r\nX-Forwarded-Proto: https\r\n"

    answer = ask(api, b"GET /nope HTTP/1.1\r\nHost: x\r\n" + forwarded + b"\r\n", source="127.0.0.2")

    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
    assert [line["client"] for line in api.log() if line["event"] == "request"][-1] == "198.51.100.7"
    refusal = ask(api, POST + b"Content-Length: +7\r\n\r\n", source="127.0.0.2")
    refused(refusal, 400, "bad_request")
