"""For tests of TLS: authorities, certificates, and what speaks TLS before a server that does not."""

import asyncio
import functools
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""What a client of PostgreSQL sends first where it wants TLS (PostgreSQL documentation, 55.2.11)."""


@dataclass(frozen=True)
class Authority:
    """A certificate authority that nobody trusts unless told to."""

    ca: trustme.CA
    directory: Path

    @classmethod
    def create(cls, directory: Path) -> "Authority":
        """Make one; `ca_file` is in `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        one = cls(trustme.CA(), directory)
        one.ca.cert_pem.write_to_path(one.ca_file)
        return one

    @property
    def ca_file(self) -> str:
        """What clients that trust it are given."""
        return str(self.directory / "ca.pem")

    def files(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate for this name alone, and of its key."""
        issued = self.ca.issue_cert(name)
        cert, key = self.directory / f"{name}.cert.pem", self.directory / f"{name}.key.pem"
        issued.cert_chain_pems[0].write_to_path(cert)
        loaded = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
        key.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))  # all that Java reads
        key.chmod(0o600)
        return cert, key

    def server(self, name: str) -> ssl.SSLContext:
        """Return a context for a server of this name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(name).configure_cert(context)
        return context

    def trusting(self) -> ssl.SSLContext:
        """Return a context for a client that trusts this authority."""
        return ssl.create_default_context(cafile=self.ca_file)


@dataclass
class Heard:
    """What clients said to a server: before TLS, and within it."""

    in_clear: bytearray = field(default_factory=bytearray)
    within_tls: bytearray = field(default_factory=bytearray)
    handshakes: int = 0


@contextmanager
def tls_front(target_port: int, context: ssl.SSLContext, *, postgresql: bool = False) -> Iterator[tuple[int, Heard]]:
    """Speak TLS on a port of its own, and plainly to the server behind; yields the port and what was heard.

    A client of PostgreSQL asks for TLS first, and is told yes.
    """
    heard = Heard()
    started: Future[tuple[int, Callable[[], None]]] = Future()
    thread = threading.Thread(target=asyncio.run, args=(_front(target_port, context, postgresql, heard, started),))
    thread.start()
    port, stop = started.result(10)
    try:
        yield port, heard
    finally:
        stop()
        thread.join(10)


async def _front(
    target_port: int,
    context: ssl.SSLContext,
    postgresql: bool,
    heard: Heard,
    started: "Future[tuple[int, Callable[[], None]]]",
) -> None:
    sessions: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            if postgresql:
                heard.in_clear += await reader.readexactly(len(_SSL_REQUEST))
                writer.write(b"S" if heard.in_clear.endswith(_SSL_REQUEST) else b"N")
            await writer.start_tls(context)
            heard.handshakes += 1
            behind_reader, behind = await asyncio.open_connection("127.0.0.1", target_port)
            writers.append(behind)
            await asyncio.gather(_pump(reader, behind, heard.within_tls), _pump(behind_reader, writer, bytearray()))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sessions.add(asyncio.ensure_future(session(reader, writer)))

    stop = asyncio.Event()
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    started.set_result((server.sockets[0].getsockname()[1], functools.partial(_set, loop, stop)))
    await stop.wait()
    server.close()
    for writer in writers:
        writer.transport.abort()
    for one in sessions:
        one.cancel()
    await asyncio.gather(*sessions, return_exceptions=True)
    await asyncio.sleep(0.05)  # for what the aborted connections still have to say to the loop


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray) -> None:
    while data := await reader.read(65_536):
        heard += data
        writer.write(data)
        await writer.drain()
    writer.close()


@contextmanager
def plain_listener(answer: bytes = b"") -> Iterator[tuple[int, Heard]]:
    """A server that speaks no TLS: it says `answer` to whatever comes, and remembers that."""
    heard = Heard()
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.settimeout(5)
            with connection, suppress(OSError):
                while data := connection.recv(65_536):
                    heard.in_clear.extend(data)
                    if not answer:
                        break
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], heard
    finally:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)
