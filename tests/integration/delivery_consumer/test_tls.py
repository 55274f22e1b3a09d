"""Both providers over real TLS, with a certificate made for the test."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from delivery_consumer.errors import DeliveryError
from delivery_consumer.providers import Attempt
from delivery_consumer.providers.connecting import Connector
from delivery_consumer.providers.email import EmailProvider
from delivery_consumer.providers.transport import OriginTransport
from delivery_consumer.providers.webhook import WebhookProvider
from delivery_consumer.settings import EmailSettings, SmtpTls, WebhookSettings
from shared.model import Channel, uuid7
from shared.records import Record
from tests.integration.delivery_consumer.parts import OK, SECRET, read_request

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the certificate is made with openssl")
NETWORKS = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True)
class Tls:
    """Contexts for a server called localhost and for clients that trust it, or do not."""

    server: ssl.SSLContext
    trusting: Callable[[], ssl.SSLContext]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate for localhost that nobody else trusts."""
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key),
               "-out", str(cert)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return Tls(server, lambda: ssl.create_default_context(cafile=cert))


async def https(tls: Tls, host: str, context: ssl.SSLContext, count: int = 1) -> tuple[int, list[str]]:
    """Send webhooks to an HTTPS server; returns how many connections it saw, and receipts or reasons."""
    connections, results = 0, []

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                await read_request(reader)
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(session, "127.0.0.1", 0, ssl=tls.server)
    port = server.sockets[0].getsockname()[1]
    transport = OriginTransport(Connector(allowed=NETWORKS, tls=context), timeout_s=5)
    provider = WebhookProvider(WebhookSettings((SECRET,), 5, NETWORKS, 50), transport=transport)
    for _ in range(count):
        record = Record(
            str(uuid7()), "default", Channel.WEBHOOK, f"https://{host}:{port}/", "x" * 500_000, "2026-01-02T03:04:05Z"
        )
        try:
            results.append((await provider.send(record, Attempt(1))).text)
        except DeliveryError as error:
            results.append(f"{type(error).__name__} {error.reason}")
    await provider.aclose()
    server.close()
    await asyncio.sleep(0.05)
    return connections, results


async def test_webhooks_go_over_one_kept_tls_connection(tls: Tls) -> None:
    """Large bodies too."""
    assert await https(tls, "localhost", tls.trusting(), count=3) == (1, ["http_200"] * 3)


async def test_a_certificate_nobody_vouches_for_is_refused(tls: Tls) -> None:
    """Nothing is sent."""
    assert await https(tls, "localhost", ssl.create_default_context()) == (0, ["TransientDeliveryError tls_failed"])


async def test_a_certificate_for_another_name_is_refused(tls: Tls) -> None:
    """The name in the URL is what counts, though the address is the one that was judged."""
    assert await https(tls, "127.0.0.1", tls.trusting()) == (0, ["TransientDeliveryError tls_failed"])


def serve_mail(server: socket.socket, context: ssl.SSLContext, mode: SmtpTls, said: list[tuple[bool, bytes]]) -> None:
    """Take one session; `said` gets each line and whether it was encrypted."""
    connection, _ = server.accept()
    connection.settimeout(10)
    secure = mode is SmtpTls.TLS
    if secure:
        connection = context.wrap_socket(connection, server_side=True)
    connection.sendall(b"220 test\r\n")
    lines, in_message = connection.makefile("rb"), False
    while line := lines.readline():
        said.append((secure, line))
        if in_message:
            in_message = line != b".\r\n"
            answer = b"" if in_message else b"250 kept\r\n"
        elif line.startswith(b"STARTTLS"):
            connection.sendall(b"220 go\r\n")
            connection = context.wrap_socket(connection, server_side=True)
            lines, secure, answer = connection.makefile("rb"), True, b""
        elif line.startswith(b"EHLO"):
            answer = b"250-test\r\n250 STARTTLS\r\n"
        else:
            in_message = line.startswith(b"DATA")
            answer = b"354 go on\r\n" if in_message else b"250 ok\r\n"
        connection.sendall(answer)
        if line.startswith(b"QUIT"):
            break
    connection.close()


@pytest.mark.parametrize("mode", [SmtpTls.STARTTLS, SmtpTls.TLS])
async def test_mail_goes_over_tls(tls: Tls, mode: SmtpTls) -> None:
    """From the first byte, or after STARTTLS: then EHLO alone was said in the clear."""
    said: list[tuple[bool, bytes]] = []
    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve_mail, args=(server, tls.server, mode, said), daemon=True)
    thread.start()
    settings = EmailSettings("localhost", server.getsockname()[1], None, None, "", "shop@example.org", mode, 5.0, 2)
    provider = EmailProvider(settings, tls=tls.trusting())
    record = Record(str(uuid7()), "default", Channel.EMAIL, "reader@example.org", "Hi", "2026-01-02T03:04:05Z")

    receipt = await provider.send(record, Attempt(1))
    await provider.aclose()
    await asyncio.to_thread(thread.join, 10)
    server.close()

    assert receipt.text == "250 kept"
    in_clear = [line[:4] for secure, line in said if not secure]
    assert in_clear == ([] if mode is SmtpTls.TLS else [b"EHLO", b"STAR"])
    assert (True, b"RCPT TO:<reader@example.org>\r\n") in said
