"""Clients that send or take a byte now and then: each gets so much time, and the others are served meanwhile."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator

import orjson
import pytest

from infra.local.ports import free_port
from infra.local.processes import Supervisor
from tests.integration.api_service.test_server import Server, environ

HEAD = b"POST /api/v1/notifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker of two threads, without PostgreSQL: what is asked of it needs none."""
    directory, port = tmp_path_factory.mktemp("slow"), free_port()
    env = environ(API_PORT=str(port), API_WORKERS="1", API_THREADS="2", TMPDIR=str(directory), DB_HOST="127.0.0.1")
    with Supervisor(directory / "logs") as supervisor:
        process = supervisor.process("api", [sys.executable, "-m", "api_service"], env=env, cwd=directory)
        process.start().wait_healthy(f"http://127.0.0.1:{port}/health/live")
        yield Server(process, port, directory)


class Drip(threading.Thread):
    """Sends what it is given at once, then a byte every half second for as long as it is let."""

    def __init__(self, port: int, first: bytes) -> None:
        super().__init__(daemon=True)
        self.answer = b""
        self.dropped = threading.Event()
        self._let_go = threading.Event()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.sendall(first)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def run(self) -> None:
        self._reader.start()
        with contextlib.suppress(OSError):
            while not self._let_go.wait(0.5):
                self._socket.sendall(b" ")

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while part := self._socket.recv(65_536):
                self.answer += part
        self.dropped.set()

    def let_go(self) -> None:
        self._let_go.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.join()
        self._reader.join()
        self._socket.close()


@contextlib.contextmanager
def drips(port: int, first: bytes) -> Iterator[list[Drip]]:
    """As many as there are threads to hold."""
    clients = [Drip(port, first) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.let_go()


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(HEAD + b"Content-Length: 100000\r\n\r\n{", id="body"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n{", id="chunked body"),
        pytest.param(HEAD + b"X-Long: ", id="head"),
    ],
)
def test_clients_that_drip_lose_their_threads(small_server: Server, first: bytes) -> None:
    """Each is told 408 and its connection ends; who waited behind them is served."""
    with drips(small_server.port, first) as clients:
        time.sleep(0.5)  # both threads are held by now

        status, _ = small_server.request("GET", "/health/live")  # gives up after thirty seconds

        assert status == 200
        assert all(client.dropped.wait(10) for client in clients)
    for client in clients:
        head, _, body = client.answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408")
        assert b"connection: close" in head.lower()
        assert orjson.loads(body)["code"] == "request_timeout"
    assert all(line["level"] != "error" for line in small_server.log())


def test_a_client_that_does_not_hang_up_keeps_nobody_waiting(small_server: Server) -> None:
    """What ends its connection must not be the thread that accepts all others."""
    refused = [socket.create_connection(("127.0.0.1", small_server.port), timeout=30) for _ in range(8)]
    try:
        for client in refused:
            client.sendall(b"nonsense\r\n\r\n")
        time.sleep(0.5)  # answered by now, as far as there are threads
        began = time.monotonic()

        status, _ = small_server.request("GET", "/health/live")

        assert status == 200
        assert time.monotonic() - began < 10  # where gunicorn lingers, one after the other, it takes sixteen
        assert all(client.recv(65_536).startswith(b"HTTP/1.1 400") for client in refused)
    finally:
        for client in refused:
            client.close()


def test_connections_that_say_nothing_take_no_thread(small_server: Server) -> None:
    """Clients open some in advance, and whoever means harm does too; each is served when it speaks, or goes away."""
    silent = [socket.create_connection(("127.0.0.1", small_server.port), timeout=30) for _ in range(20)]
    try:
        status, _ = small_server.request("GET", "/health/live")  # gives up after thirty seconds
        silent.pop().close()
        silent[0].sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")

        assert status == 200
        assert silent[0].recv(65_536).startswith(b"HTTP/1.1 200")
        assert small_server.request("GET", "/health/live")[0] == 200
    finally:
        for client in silent:
            client.close()
