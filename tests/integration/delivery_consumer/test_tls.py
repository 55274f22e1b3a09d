"""Both providers over real TLS, with a certificate made for the test."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network

import pytest

from delivery_consumer.errors import DeliveryError
from delivery_consumer.providers import Attempt
from delivery_consumer.providers.connecting import Connector
from delivery_consumer.providers.email import EmailProvider
from delivery_consumer.providers.transport import OriginTransport
from delivery_consumer.providers.webhook import WebhookProvider
from delivery_consumer.settings import SmtpTls, WebhookSettings, read_settings
from shared.model import Channel, uuid7
from shared.records import Record
from shared.settings import Environment
from tests.integration.delivery_consumer.parts import OK, SECRET, read_request
from tests.tls import Authority

NETWORKS = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who vouches for the servers here, called localhost, and is trusted by those who are told to."""
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who vouches for nobody here."""
    return Authority.create(tmp_path_factory.mktemp("stranger"))


async def https(authority: Authority, host: str, context: ssl.SSLContext, count: int = 1) -> tuple[int, list[str]]:
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

    server = await asyncio.start_server(session, "127.0.0.1", 0, ssl=authority.server("localhost"))
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


async def test_webhooks_go_over_one_kept_tls_connection(authority: Authority) -> None:
    """Large bodies too."""
    assert await https(authority, "localhost", authority.trusting(), count=3) == (1, ["http_200"] * 3)


async def test_a_certificate_nobody_vouches_for_is_refused(authority: Authority) -> None:
    """Nothing is sent."""
    assert await https(authority, "localhost", ssl.create_default_context()) == (
        0,
        ["TransientDeliveryError tls_failed"],
    )


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    """The name in the URL is what counts, though the address is the one that was judged."""
    assert await https(authority, "127.0.0.1", authority.trusting()) == (0, ["TransientDeliveryError tls_failed"])


def serve_mail(server: socket.socket, context: ssl.SSLContext, mode: SmtpTls, said: list[tuple[bool, bytes]]) -> None:
    """Take one session; `said` gets each line and whether it was encrypted. With OFF it does not offer STARTTLS."""
    connection, _ = server.accept()
    connection.settimeout(10)
    secure = mode is SmtpTls.TLS
    offered = {SmtpTls.STARTTLS: b"250-STARTTLS\r\n"}.get(mode, b"")
    try:
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
                answer = b"250-test\r\n" + offered + b"250 AUTH PLAIN\r\n"
            elif line.startswith(b"AUTH"):
                answer = b"235 welcome\r\n"
            else:
                in_message = line.startswith(b"DATA")
                answer = b"354 go on\r\n" if in_message else b"250 ok\r\n"
            connection.sendall(answer)
            if line.startswith(b"QUIT"):
                break
    except (OSError, ssl.SSLError):
        pass  # the client went away, as it should where it does not trust us
    connection.close()


@contextmanager
def mail_server(context: ssl.SSLContext, mode: SmtpTls) -> Iterator[tuple[int, list[tuple[bool, bytes]]]]:
    """A server for one session: its port, and what was said to it."""
    said: list[tuple[bool, bytes]] = []
    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve_mail, args=(server, context, mode, said), daemon=True)
    thread.start()
    yield server.getsockname()[1], said
    thread.join(10)
    server.close()


async def send_mail(port: int, mode: SmtpTls, ca_file: str, host: str = "localhost") -> str:
    """Send one message, logging in first; return the receipt, or why there is none."""
    values = {
        "DELIVERY_CHANNELS": "email", "SMTP_HOST": host, "SMTP_PORT": str(port), "SMTP_TLS": mode.value,
        "SMTP_USER": "shop", "SMTP_PASS": "9f8a7b", "SMTP_FROM": "shop@example.org", "SMTP_CA_FILE": ca_file,
        "SMTP_TIMEOUT_S": "5",
    }  # fmt: skip
    env = Environment(values)
    settings = read_settings(env)
    env.check()
    provider = EmailProvider(settings.email)
    record = Record(str(uuid7()), "default", Channel.EMAIL, "reader@example.org", "Hi", "2026-01-02T03:04:05Z")
    try:
        return (await provider.send(record, Attempt(1))).text
    except DeliveryError as error:
        return f"{type(error).__name__} {error.reason}"
    finally:
        await provider.aclose()


@pytest.mark.parametrize("mode", [SmtpTls.STARTTLS, SmtpTls.TLS])
async def test_mail_goes_over_tls(authority: Authority, mode: SmtpTls) -> None:
    """From the first byte, or after STARTTLS: then EHLO alone was said in the clear. SMTP_CA_FILE vouches."""
    with mail_server(authority.server("localhost"), mode) as (port, said):
        receipt = await send_mail(port, mode, authority.ca_file)

    assert receipt == "250 kept"
    in_clear = [line[:4] for secure, line in said if not secure]
    assert in_clear == ([] if mode is SmtpTls.TLS else [b"EHLO", b"STAR"])
    assert {(True, b"RCPT TO:<reader@example.org>\r\n"), (True, b"AUTH PLAIN AHNob3AAOWY4YTdi\r\n")} <= set(said)


@pytest.mark.parametrize("mode", [SmtpTls.STARTTLS, SmtpTls.TLS])
@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.1", True)])
async def test_a_mail_server_that_is_not_the_right_one_gets_neither_login_nor_mail(
    authority: Authority, stranger: Authority, mode: SmtpTls, host: str, trusted: bool
) -> None:
    """Another authority's certificate, or one for another name."""
    with mail_server(authority.server("localhost"), mode) as (port, said):
        result = await send_mail(port, mode, (authority if trusted else stranger).ca_file, host)

    assert result == "TransientDeliveryError tls_failed"
    assert [line[:4] for _, line in said] == ([] if mode is SmtpTls.TLS else [b"EHLO", b"STAR"])


@pytest.mark.parametrize("mode", [SmtpTls.STARTTLS, SmtpTls.TLS])
async def test_a_mail_server_without_tls_gets_neither_login_nor_mail(authority: Authority, mode: SmtpTls) -> None:
    """One that offers no STARTTLS, or someone between who took the offer out; or no TLS where it is expected."""
    with mail_server(authority.server("localhost"), SmtpTls.OFF) as (port, said):
        result = await send_mail(port, mode, authority.ca_file)

    assert result.startswith("TransientDeliveryError")
    heard = b"".join(line for _, line in said)
    assert not [word for word in (b"AUTH", b"9f8a7b", b"AHNob3AAOWY4YTdi", b"reader", b"STARTTLS") if word in heard]
