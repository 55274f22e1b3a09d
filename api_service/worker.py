"""gunicorn's threaded worker, in which no client holds a thread for longer than it is given."""

import contextlib
import selectors
import socket
import time
from functools import partial
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker

from api_service import refusals
from api_service.deadlines import Deadlines
from api_service.exchange import EXCHANGE, Exchange
from api_service.problems import Problem

READ_WITHIN_S: Final = 15.0
"""Head and body of a request arrive within this, whatever the client sends how often; 16 MiB in it are 9 Mbit/s."""
SERVE_WITHIN_S: Final = 60.0
"""A request is read, worked on and its answer taken within this: a client may also read too slowly."""
LINGER_S: Final = 1.0
"""How long what a client still sends is read after the last answer: closing on it at once could destroy the answer."""
_LINGER_BYTES: Final = 256 * 1024
_BLANK_LINE: Final = b"\r\n"


class BoundedThreadWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Ends each exchange with a client in time."""

    def init_process(self) -> None:
        """Run until the worker ends; this is the first that happens after the fork."""
        self._deadlines = Deadlines("client-deadlines")
        super().init_process()

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread once it has sent something: gunicorn lets one wait five seconds for a new one.

        Four connections that say nothing, as clients open in advance, would be a worker that serves nobody meanwhile.
        """
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        conn.sock.setblocking(False)
        conn.set_timeout()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _cap_keepalive(self, deadline: float) -> None:
        """Let what is idle end by then, as the worker stops: those that have said nothing, too."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def handle(self, conn: Any) -> Any:
        """Serve one request of a connection; return whether there may be another."""
        exchange = Exchange(conn.sock)
        reading = self._deadlines.on(exchange.stop_reading, READ_WITHIN_S)
        token = EXCHANGE.set(exchange)
        try:
            with reading, self._deadlines.on(exchange.cut, SERVE_WITHIN_S):
                goes_on = super().handle(conn)
        finally:
            EXCHANGE.reset(token)
        if exchange.is_late and exchange.request is None:
            late = Problem("request_timeout", "the head of the request did not arrive in time")
            refusals.answer(conn.sock, conn.client[0], late)
        if exchange.is_late or goes_on is False:
            _linger(conn.sock)
            return False
        return goes_on

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve a request whose head has arrived."""
        refusals.refuse_codings(req)
        exchange = EXCHANGE.get()
        if exchange:
            exchange.request = req
        client, conn.sock = conn.sock, _HeadWithBody(conn.sock, exchange)
        try:
            goes_on = super().handle_request(req, conn)
            conn.sock.flush()
        finally:
            conn.sock = client
        return goes_on

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:  # noqa: ARG002
        """Answer what ended in an error before or behind the application."""
        refusals.answer_error(client, addr[0], exc)


class _HeadWithBody:
    """A client's socket on which the head of an answer waits for the first of its body: one packet, one system call.

    It puts the exchange's lines into the head: gunicorn looks at each header for a microsecond or two.
    """

    def __init__(self, client: socket.socket, exchange: Exchange | None) -> None:
        self._client, self._exchange, self._waiting, self._is_head = client, exchange, b"", True

    def sendall(self, data: bytes) -> None:
        """Send it behind what waits; the first is the head, and waits."""
        if self._is_head:
            if self._exchange and self._exchange.head_lines:
                data = data[:-2] + self._exchange.head_lines + _BLANK_LINE
            self._waiting, self._is_head = data, False
        else:
            data, self._waiting = self._waiting + data, b""
            self._client.sendall(data)

    def flush(self) -> None:
        """Send a head that no body followed."""
        if self._waiting:
            self.sendall(b"")

    def __getattr__(self, name: str) -> Any:
        """Do anything else with the socket itself."""
        self.flush()
        return getattr(self._client, name)


def _linger(connection: socket.socket) -> None:
    """Take the client's last bytes, here: gunicorn would, on the one thread that also accepts all others."""
    deadline, taken = time.monotonic() + LINGER_S, 0
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0 and taken < _LINGER_BYTES:
            connection.settimeout(left)
            if not (part := connection.recv(65_536)):
                break
            taken += len(part)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)  # and gunicorn finds nothing left to wait for
