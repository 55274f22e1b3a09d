"""The generator's HTTP client: kept connections, one request at a time on each, nothing repeated."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from loadtest.client import Client, Connection, Exchange, read_answer
from tests.unit.loadtest.fakes import Transport

OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, (202, b"{}", len(OK), False)),
        (OK + b"HTTP", (202, b"{}", len(OK), False)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"", 27, False)),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", (503, b"", 59, True)),
        (b"HTTP/1.1 200 K\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\n\r\n", (200, b"abc", 61, False)),
        (OK[:-1], None),
        (OK[:20], None),
        (b"HTTP/1.1 200 K\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", None),
    ],
)
def test_an_answer_is_read_when_it_is_whole(answer: bytes, expected: Any) -> None:
    """By its length, or by its chunks."""
    assert read_answer(bytearray(answer)) == expected


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nuntil the end"])
def test_what_keeps_no_connection_is_refused(answer: bytes) -> None:
    """There is no telling where such an answer ends."""
    with pytest.raises(ValueError, match=r"answer"):
        read_answer(bytearray(answer))


class Server:
    """Stands in for the network: hands out connections and remembers them."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.connections: list[tuple[Connection, Transport]] = []

    async def connect(self, make: Callable[[], Connection]) -> object:
        if self.refuses:
            raise ConnectionRefusedError
        connection = make()
        transport = Transport(connection)
        self.connections.append((connection, transport))
        connection.connection_made(transport)
        return transport

    def answer(self, number: int, answer: bytes = OK) -> None:
        self.connections[number][0].data_received(answer)


def asked(client: Client, name: str, answers: list[tuple[str, int | None, bytes]]) -> None:
    client.request(Exchange(name.encode, lambda status, body: answers.append((name, status, body))))


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(scenario: Callable[[Client, Server, list[Any]], Any], *, connections: int = 1, refuses: bool = False) -> None:
    async def body() -> None:
        server, answers = Server(refuses=refuses), list[Any]()
        client = Client("http://api.test", connections=connections, timeout_s=60, connector=server.connect)
        await scenario(client, server, answers)
        client.close()

    asyncio.run(body())


def test_a_connection_is_kept_and_carries_one_request_at_a_time() -> None:
    """What comes meanwhile waits for its turn, in order."""

    async def scenario(client: Client, server: Server, answers: list[Any]) -> None:
        for name in ("a", "b", "c"):
            asked(client, name, answers)
        await settled()
        assert (client.under_way, len(client._waiting)) == (3, 2)
        _, transport = server.connections[0]
        assert transport.said() == b"a"
        server.answer(0)
        assert transport.said() == b"b"
        server.answer(0, b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n")
        server.answer(0)
        assert answers == [("a", 202, b"{}"), ("b", 429, b""), ("c", 202, b"{}")]
        assert (client.under_way, len(server.connections)) == (0, 1)

    run(scenario)


def test_no_more_connections_than_allowed_are_opened() -> None:
    """Two for five requests, if two are allowed."""

    async def scenario(client: Client, server: Server, answers: list[Any]) -> None:
        for name in "abcde":
            asked(client, name, answers)
        await settled()
        assert len(server.connections) == 2
        for number in (0, 1, 0, 1, 0):
            server.answer(number)
        assert [name for name, status, _ in answers if status == 202] == list("abcde")

    run(scenario, connections=2)


def test_a_lost_connection_leaves_its_request_without_an_answer() -> None:
    """It is not repeated; the next one gets a new connection."""

    async def scenario(client: Client, server: Server, answers: list[Any]) -> None:
        asked(client, "a", answers)
        asked(client, "b", answers)
        await settled()
        server.connections[0][1].abort()
        await settled()
        server.answer(1)
        assert answers == [("a", None, b"closed"), ("b", 202, b"{}")]

    run(scenario)


def test_a_server_that_closes_is_believed() -> None:
    """The connection is not used again."""

    async def scenario(client: Client, server: Server, answers: list[Any]) -> None:
        asked(client, "a", answers)
        await settled()
        server.answer(0, b"HTTP/1.1 202 A\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        asked(client, "b", answers)
        await settled()
        assert server.connections[0][1].closed
        assert len(server.connections) == 2

    run(scenario)


def test_a_refused_connection_is_no_answer() -> None:
    """One request ends for each connection that could not be made."""

    async def scenario(client: Client, server: Server, answers: list[Any]) -> None:
        asked(client, "a", answers)
        await settled()
        assert answers == [("a", None, b"ConnectionRefusedError")]

    run(scenario, refuses=True)


def test_what_was_never_sent_says_so_at_the_end() -> None:
    """A run that is ended must not forget what waited."""

    async def scenario(client: Client, server: Server, answers: list[Any]) -> None:
        asked(client, "a", answers)
        asked(client, "b", answers)
        await settled()
        client.close()
        assert sorted(answers) == [("a", None, b"closed"), ("b", None, b"never_sent")]

    run(scenario)
