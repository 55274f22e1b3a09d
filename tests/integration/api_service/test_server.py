"""The API as a process: several workers that agree on what they show, and an orderly end."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from api_service import security_headers
from infra.local.ports import free_port
from infra.local.processes import ManagedProcess, Supervisor
from tests.servers import Database

ROOT = Path(__file__).resolve().parents[3]
PATH = "/api/v1/notifications"
EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}


class Server:
    """A running API."""

    def __init__(self, process: ManagedProcess, port: int, directory: Path) -> None:
        self.process, self.port, self.directory = process, port, directory

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Send one request on a connection of its own, so that any worker may get it."""
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = None if body is None else orjson.dumps(body)
        try:
            conn.request(method, path, data, {"Content-Type": "application/json", **headers})
            response = conn.getresponse()
            return response.status, response.read()
        finally:
            conn.close()

    def log(self) -> list[dict[str, Any]]:
        """What it has logged, each line one JSON object; what it says to people at the start is none."""
        lines = self.process.log_path.read_text().splitlines()
        return [json.loads(line) for line in lines if not line.startswith("AUTH_MODE=open: ")]


def environ(**changes: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_START")
    }
    return kept | {"PYTHONPATH": str(ROOT), "BIND_HOST": "127.0.0.1", "AUTH_MODE": "open", **changes}


@contextmanager
def running(database: Database, directory: Path) -> Iterator[Server]:
    """Two workers of two threads each."""
    port = free_port()
    chosen = {"API_PORT": str(port), "API_WORKERS": "2", "API_THREADS": "2", "TMPDIR": str(directory)}
    env = environ(**database.environ_of("api_service"), **chosen)
    with Supervisor(directory / "logs") as supervisor:
        process = supervisor.process("api", [sys.executable, "-m", "api_service"], env=env, cwd=directory)
        process.start().wait_healthy(f"http://127.0.0.1:{port}/health/ready")
        yield Server(process, port, directory)


@pytest.fixture
def server(database: Database, tmp_path: Path) -> Iterator[Server]:
    """A running API."""
    with running(database, tmp_path) as one:
        yield one


def test_the_workers_count_together_and_the_inbox_is_one(server: Server) -> None:
    """Whichever of them is asked."""
    for number in range(12):
        assert server.request("POST", PATH, EMAIL)[0] == 202
        assert server.request("POST", "/webhook/test-webhook", {"n": number})[0] == 200

    for _ in range(6):
        text = server.request("GET", "/metrics")[1].decode()
        assert 'notifications_accepted_total{channel="email",priority="normal"} 12.0' in text
        assert f'http_requests_total{{method="POST",route="{PATH}",status="202"}} 12.0' in text
        kept = orjson.loads(server.request("GET", "/webhook/test-webhook")[1])["data"]
        assert [one["body"]["n"] for one in kept] == list(range(11, -1, -1))


def test_each_line_of_the_log_is_json(server: Server) -> None:
    """gunicorn's own lines too; a request is one line with its id."""
    server.request("POST", PATH, EMAIL, **{"X-Request-ID": "my-id"})

    [line] = [line for line in server.log() if line["event"] == "request"]
    assert (line["request_id"], line["status"], line["service"]) == ("my-id", 202, "api_service")
    assert any(line["logger"] == "gunicorn.error" for line in server.log())


def test_sigterm_ends_it_in_order_while_requests_run(server: Server) -> None:
    """Each request that was begun is answered; the exit code is 0; nothing is left on disk."""
    answers: list[int] = []
    stopping = threading.Event()

    def send() -> None:
        while True:
            try:
                answers.append(server.request("POST", PATH, EMAIL)[0])
            except (ConnectionRefusedError, ConnectionResetError, http.client.RemoteDisconnected):
                if stopping.is_set():  # not taken any more: it was never begun
                    return
                raise

    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    while len(answers) < 30:
        time.sleep(0.01)
    stopping.set()
    code = server.process.terminate(timeout_s=15)
    for sender in senders:
        sender.join()

    assert code == 0
    assert set(answers) == {202}
    assert list(server.directory.glob("notify-api-*")) == []


def test_a_killed_worker_is_replaced_and_its_counts_stay(server: Server) -> None:
    """The others serve on meanwhile."""
    for _ in range(10):
        server.request("POST", PATH, EMAIL)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    os.kill(int(children[0]), 9)
    time.sleep(1)

    assert [server.request("POST", PATH, EMAIL)[0] for _ in range(10)] == [202] * 10
    text = server.request("GET", "/metrics")[1].decode()
    assert 'notifications_accepted_total{channel="email",priority="normal"} 20.0' in text
    assert "db_connections_in_use 0.0" in text


def test_what_a_killed_server_leaves_is_removed_by_the_next(server: Server) -> None:
    """kill -9 lets nobody tidy up."""
    [left] = server.directory.glob("notify-api-*")
    server.process.kill()

    server.process.start().wait_healthy(f"http://127.0.0.1:{server.port}/health/ready")

    [now] = server.directory.glob("notify-api-*")
    assert now != left
    assert server.request("GET", "/metrics")[0] == 200


def test_a_chunked_body_is_read_and_bounded(server: Server) -> None:
    """Through the real server: accepted when small, 413 when it does not end in time."""

    def chunked(*parts: bytes) -> int:
        conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            conn.request("POST", PATH, iter(parts), {"Content-Type": "application/json"}, encode_chunked=True)
            return conn.getresponse().status
        finally:
            conn.close()

    body = orjson.dumps(EMAIL)
    assert chunked(body[:10], body[10:]) == 202
    assert chunked(*[b" " * 65_536] * 17) == 413


def test_a_client_that_stalls_loses_its_connection(server: Server) -> None:
    """A body that stops arriving is given up after ten seconds, and its thread is free again."""
    head = b"POST /api/v1/notifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as stalled:
        stalled.sendall(head + b"Content-Length: 50\r\n\r\n{")
        answer = b"".join(iter(lambda: stalled.recv(65_536), b""))

    assert answer.startswith(b"HTTP/1.1 408")
    assert 9 < time.monotonic() - began < 13
    assert all(line["level"] != "error" for line in server.log())


def run(**changes: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "api_service"],
        env=environ(**changes),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_taken_port_is_one_clear_sentence() -> None:
    """And exit 2, at once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(API_PORT=str(port))

    assert ended.returncode == 2
    assert f"port {port} on 127.0.0.1 cannot be used: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bad_environment_lists_all_its_faults() -> None:
    """And exit 2."""
    ended = run(API_WORKERS="0", API_PORT="http", LOG_LEVEL="loud")

    assert ended.returncode == 2
    assert all(name in ended.stderr for name in ("API_WORKERS", "API_PORT", "LOG_LEVEL"))


def test_an_answer_goes_out_in_one_piece(server: Server) -> None:
    """Head and body together, served in front of the application or by it; a connection serves one after the other."""
    answers = []
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        for body in (orjson.dumps(EMAIL), b"{}"):
            head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            head_of_answer, _, answer = client.recv(65_536).partition(b"\r\n\r\n")
            answers.append((head_of_answer.split()[1], orjson.loads(answer)))

    assert [status for status, _ in answers] == [b"202", b"400"]
    assert answers[0][1]["channel"] == "email"
    assert answers[1][1]["status"] == 400


def test_a_connection_that_says_nothing_does_not_hold_up_the_end(server: Server) -> None:
    """It would until the grace period is over, and be cut then with whatever is under way."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10):
        server.request("GET", "/health/live")

        assert server.process.terminate(timeout_s=12) == 0


def test_accepting_has_the_same_headers_by_both_ways(server: Server) -> None:
    """What is served in front of Flask writes them into the head by itself, security headers among them."""
    answers = []
    for content_type in ("application/json", "application/json;charset=utf-8"):
        conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        conn.request("POST", PATH, orjson.dumps(EMAIL), {"Content-Type": content_type, "X-Request-ID": "same"})
        with contextlib.closing(conn), conn.getresponse() as response:
            answers.append((response.status, response.getheaders()))

    (_, in_front), (_, behind) = answers
    assert [status for status, _ in answers] == [202, 202]
    assert sorted(name for name, _ in in_front) == sorted(name for name, _ in behind)
    made = {"Date", "Location"}
    assert {pair for pair in in_front if pair[0] not in made} == {pair for pair in behind if pair[0] not in made}
    assert set(security_headers.PLAIN) <= set(in_front)
