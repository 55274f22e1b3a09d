"""What is sent off is sent as a whole, also to a server that reads slowly."""

import socket
import struct
import threading
from collections.abc import Iterator

import psycopg
import pytest

from shared.db.pipelining import pipelined

SYNC = b"S\0\0\0\x04"


def message(kind: bytes, content: bytes) -> bytes:
    """A message of PostgreSQL's protocol."""
    return kind + struct.pack(">I", len(content) + 4) + content


class BusyServer:
    """Lets a client in, reads nothing for a moment, then everything; answers nothing."""

    def __init__(self) -> None:
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(1)
        self.port = self._listening.getsockname()[1]
        self.go_on, self.has_sync = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listening.accept()
        with client:
            client.recv(struct.unpack(">I", client.recv(4))[0] - 4)
            client.sendall(message(b"R", struct.pack(">I", 0)) + message(b"Z", b"I"))
            self.go_on.wait(10)
            end = b""
            while part := client.recv(65_536):
                end = (end + part)[-len(SYNC) :]
                if end == SYNC:
                    self.has_sync.set()

    def close(self) -> None:
        """End once the client has closed."""
        self._thread.join(10)
        self._listening.close()


@pytest.fixture
def server() -> Iterator[BusyServer]:
    """A server whose client is closed first."""
    server = BusyServer()
    yield server
    server.close()


def test_all_of_a_pipeline_is_sent(server: BusyServer) -> None:
    """Also what the socket did not take at once: with the Sync unsent a transaction would stay open."""
    where = f"host=127.0.0.1 port={server.port} user=x dbname=x sslmode=disable gssencmode=disable"
    conn = psycopg.connect(where, autocommit=True)
    threading.Timer(0.2, server.go_on.set).start()
    with pytest.raises(psycopg.OperationalError), pipelined(conn) as pipeline:
        conn.execute("SELECT %s", ("x" * 20_000_000,))

        pipeline.send_off()

        was_sent = server.has_sync.wait(5)
        conn.pgconn.finish()
    assert was_sent
