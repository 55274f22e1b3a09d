"""Row 17 of the hostile input, and what else the gateway keeps from the API; on a real nginx, where there is one."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from api_service import security_headers
from tests.hostile.gateway import CAPACITY, Gateway, running, why_not
from tests.integration.api_service.test_server import EMAIL, PATH

HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
SLOW = {
    "heads": HEAD + b"X-Slow: ",
    "bodies": HEAD + b"Content-Length: 900000\r\n\r\n{",
    "chunked bodies": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n{",
    "reads": b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n",
}
ASKED = 300
ENOUGH_S = 0.02
"""A hundredth of what is asked may take this long for no reason but the machine's."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway and an API behind it; skipped where no nginx is installed."""
    if reason := why_not():
        pytest.skip(reason)
    with running(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


class Slow(threading.Thread):
    """Clients that send a byte of their request, or take one of their answer, twice a second."""

    def __init__(self, port: int, first: bytes, count: int) -> None:
        super().__init__(daemon=True)
        self._reads = first.startswith(b"GET")
        self._over = threading.Event()
        self._clients = [self._connect(port, first) for _ in range(count)]

    @staticmethod
    def _connect(port: int, first: bytes) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", port))
        client.sendall(first)
        return client

    def run(self) -> None:
        while not self._over.wait(0.5):
            for client in self._clients:
                with contextlib.suppress(OSError):
                    if self._reads:
                        client.recv(1)
                    else:
                        client.sendall(b" ")

    def __enter__(self) -> "Slow":
        self.start()
        time.sleep(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        for client in self._clients:
            client.close()


def p99_s(port: int, *, asked: int = ASKED, timeout_s: float = 20) -> float:
    """How long a hundredth of some requests takes at least, each on a connection of its own."""
    took = []
    for _ in range(asked):
        began = time.perf_counter()
        ask(port, "GET", "/health/live", timeout_s=timeout_s)
        took.append(time.perf_counter() - began)
    return sorted(took)[-max(1, asked // 100)]


def ask(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    headers: Any = None,
    *,
    timeout_s: float = 20,
    address: str = "127.0.0.1",
) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body of an answer to a client with this address."""
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s, source_address=(address, 0))
    with contextlib.closing(conn):
        conn.request(method, path, body, headers or {})
        response = conn.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


@pytest.mark.parametrize("kind", SLOW)
def test_row_17_slow_clients_keep_nobody_waiting(gateway: Gateway, kind: str) -> None:
    """Four times as many as the API serves at once, and the others' p99 is at most twice that of a calm time."""
    calm = p99_s(gateway.port)

    with Slow(gateway.port, SLOW[kind], 4 * CAPACITY):
        attacked = p99_s(gateway.port)

    assert attacked <= 2 * max(calm, ENOUGH_S), f"{attacked * 1000:.1f} ms, calm {calm * 1000:.1f} ms"


def test_row_17_slow_batches_of_one_client_leave_room_for_those_of_others(gateway: Gateway) -> None:
    """Bodies of batches may be large, so few may be on their way at once: one address has half of these at most."""
    head = HEAD.replace(b"notifications ", b"notifications/batch ")
    headers = {"Content-Type": "application/json"}

    with Slow(gateway.port, head + b"Content-Length: 900000\r\n\r\n{", 16):
        statuses = [
            ask(gateway.port, "POST", f"{PATH}/batch", b"{}", headers, address=one)[0]
            for one in ("127.0.0.1", "127.0.0.2")
        ]

    assert statuses == [429, 400]


def test_row_17_without_the_gateway_they_do(gateway: Gateway) -> None:
    """Or the test above would hold of anything: the same clients at the API itself hold up the next one for seconds."""
    with Slow(gateway.api_port, SLOW["bodies"], 4 * CAPACITY), pytest.raises(TimeoutError):
        ask(gateway.api_port, "GET", "/health/live", timeout_s=3)
    time.sleep(16)  # what they sent is let go of


def raw(gateway: Gateway, request: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    """The problem that answers some bytes."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as client:
        with contextlib.suppress(OSError):
            client.sendall(request)
        response = http.client.HTTPResponse(client)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, orjson.loads(response.read())


GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, "bad_request", id="nonsense"),
        pytest.param(
            HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request", id="CL, TE"
        ),
        pytest.param(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "bad_request", id="two CL"),
        pytest.param(HEAD + b"Content-Length: +7\r\n\r\n", 400, "bad_request", id="+7"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found", id="metrics"),
        pytest.param(b"GET //%6detrics HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found", id="metrics otherwise"),
        pytest.param(b"GET /x/../metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found", id="metrics around"),
        pytest.param(b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed", id="TRACE"),
        pytest.param(HEAD + b"Content-Length: 1048577\r\n\r\n", 413, "body_too_large", id="1 MiB and a byte"),
        pytest.param(
            HEAD.replace(b"notifications", b"notifications/batch") + b"Content-Length: 16777217\r\n\r\n",
            *(413, "body_too_large"),
            id="16 MiB and a byte",
        ),
        pytest.param(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long", id="long line"),
        pytest.param(GET + b"X-A: " + b"b" * 9000 + b"\r\n\r\n", 431, "headers_too_large", id="long header"),
        pytest.param(GET + b"X-A: b\r\n" * 200 + b"\r\n", 431, "headers_too_large", id="200 headers"),
        pytest.param(
            HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "transfer_coding_unsupported", id="gzip"
        ),
    ],
)
def test_what_is_refused_is_a_problem_of_ours(gateway: Gateway, request_: bytes, status: int, code: str) -> None:
    """Whoever refuses it, nginx or the API behind it."""
    answered, headers, problem = raw(gateway, request_)

    assert (answered, problem["status"], problem["code"]) == (status, status, code)
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == problem["request_id"]
    assert {name: headers[name.lower()] for name, _ in security_headers.PLAIN} == dict(security_headers.PLAIN)


def test_a_body_that_is_too_large_is_refused_however_it_is_sent(gateway: Gateway) -> None:
    """In chunks, of which nginx counts the bytes as they come."""
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"

    status, _, problem = raw(gateway, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17)

    assert (status, problem["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("size", [len(orjson.dumps(EMAIL)), 900_000])
def test_whole_requests_reach_the_api(gateway: Gateway, size: int) -> None:
    """Small ones and those that waited in a file; the API answers that it has no database."""
    body = orjson.dumps(EMAIL).ljust(size)
    before = len(gateway.requests())

    for sent in (body, iter([body[:10], body[10:]])):
        status, _, answer = ask(gateway.port, "POST", PATH, sent, {"Content-Type": "application/json"})
        assert (status, orjson.loads(answer)["code"]) == (503, "database_unavailable")
    assert len(gateway.requests()) == before + 2


def test_row_18_the_gateway_says_who_the_client_is(gateway: Gateway) -> None:
    """Not the client: nothing that it writes about itself is believed, or repeated."""
    forged = {
        "X-Forwarded-For": "203.0.113.66",
        "X_Forwarded_For": "203.0.113.66",
        "Forwarded": "for=203.0.113.66",
        "X-Forwarded-Proto": "https",
        "X-Real-IP": "203.0.113.66",
        "Host": "evil.example",
    }

    _, headers, body = ask(gateway.port, "GET", "/api/v1/nothing", headers=forged)

    assert gateway.requests()[-1]["client"] == "127.0.0.1"
    assert "strict-transport-security" not in headers
    assert b"evil" not in body
    assert "203.0.113.66" not in gateway.logs


def test_no_query_string_is_logged(gateway: Gateway) -> None:
    """Nor a path, neither here nor there, nor where nginx refuses a request by itself."""
    before = len(gateway.lines())
    ask(gateway.port, "GET", "/api/v1/canary-7c1e?token=canary-7c1e")
    large = HEAD.replace(b" HTTP", b"?token=canary-7c1e HTTP", 1) + b"Content-Length: 1048577\r\n\r\n"
    assert raw(gateway, large)[0] == 413

    deadline, seen = time.monotonic() + 10, list[Any]()
    while len(seen) < 2 and time.monotonic() < deadline:  # a line is written once its connection is closed
        time.sleep(0.1)
        seen = [one["of_the_api"] for one in gateway.lines()[before:] if one["status"] in (404, 413)]
    assert sorted(seen) == ["", "404"]
    assert "canary-7c1e" not in gateway.logs


def test_an_api_that_is_away_is_a_503(tmp_path: Path) -> None:
    """With Retry-After, and without a word about what is behind."""
    if reason := why_not():
        pytest.skip(reason)
    with running(tmp_path) as gateway:
        gateway.api.terminate(timeout_s=20)

        status, headers, problem = raw(gateway, GET.replace(b" HTTP", b"?token=canary-7c1e HTTP") + b"\r\n")

    assert (status, problem["code"], headers["retry-after"]) == (503, "service_unavailable", "2")
    assert "127.0.0.1" not in str(problem)
    assert "canary-7c1e" not in gateway.logs
