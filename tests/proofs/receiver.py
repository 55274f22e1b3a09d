"""A webhook receiver on many loopback addresses that writes down when what came, and hangs or refuses when told to.

Deliveries go to `http://127.0.x.y:PORT/...`, one origin per address. It is steered at `http://127.0.0.1:CONTROL`:

    POST /behave   {"hosts": [...] or null for all others, "answer": 200 or another status or "hang", "delay_s": 0}
    GET /ledger    ?since=N: the rows from the N-th on, see `Row`
    GET /health/ready
"""

import asyncio
import time
from dataclasses import dataclass, field

import click
import orjson

from infra.local.http_server import Request, Response, json_response, listen, until_stopped

_HEAD_END = b"\r\n\r\n"


@dataclass(slots=True)
class Row:
    """One request, as the receiver saw it; instants are Unix seconds."""

    received_at: float  # its last byte was read
    host: str
    id: str
    attempt: int
    answer: str  # the status, or hang
    ended_at: float | None = None  # answered, or its connection closed by the sender


@dataclass(slots=True)
class Behaviour:
    """What an address does with a request."""

    answer: int | str = 200
    delay_s: float = 0.0


@dataclass(slots=True)
class Book:
    """The ledger, and what each address is told to do."""

    rows: list[Row] = field(default_factory=list)
    by_host: dict[str, Behaviour] = field(default_factory=dict)
    others: Behaviour = field(default_factory=Behaviour)

    def steer(self, request: Request) -> Response:
        """Answer a request at the control address."""
        if (request.method, request.path) == ("GET", "/health/ready"):
            return json_response({"status": "ok"})
        if (request.method, request.path) == ("GET", "/ledger"):
            wanted = self.rows[int(request.query.get("since", "0")) :]
            return Response(200, orjson.dumps([[getattr(row, name) for name in Row.__slots__] for row in wanted]))
        if (request.method, request.path) == ("POST", "/behave"):
            told = request.json()
            behaviour = Behaviour(told.get("answer", 200), told.get("delay_s", 0.0))
            if told.get("hosts") is None:
                self.others = behaviour
            for host in told.get("hosts") or ():
                self.by_host[host] = behaviour
            return json_response({"ok": True})
        return Response(404, b"{}")


class Delivery(asyncio.Protocol):
    """One connection of a sender: requests one after the other, each with a Content-Length."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._buffer = bytearray()
        self._open: Row | None = None
        self._host = ""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._host = str(transport.get_extra_info("sockname")[0])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open is not None:
            self._open.ended_at = time.time()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = bytes(self._buffer).partition(_HEAD_END)
        if not found:
            return
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(headers.get(b"content-length", 0))
        if len(rest) < length or self._open is not None:
            return
        del self._buffer[: len(head) + len(_HEAD_END) + length]
        self._take(headers.get(b"webhook-id", b"").decode(), int(headers.get(b"notification-attempt", 0)))

    def _take(self, id_: str, attempt: int) -> None:
        behaviour = self._book.by_host.get(self._host, self._book.others)
        row = self._open = Row(time.time(), self._host, id_, attempt, str(behaviour.answer))
        self._book.rows.append(row)  # before the answer: what was answered is in the ledger
        if isinstance(behaviour.answer, str):
            return
        if behaviour.delay_s:
            asyncio.get_running_loop().call_later(behaviour.delay_s, self._answer, behaviour.answer)
        else:
            self._answer(behaviour.answer)

    def _answer(self, status: int) -> None:
        if self._transport is None or self._open is None:
            return
        self._open.ended_at = time.time()
        self._open = None
        self._transport.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status)


def addresses(count: int) -> list[str]:
    """Loopback addresses, `count` of them; Linux has all of 127/8 without being told."""
    return [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count)]


async def serve(*, port: int, control_port: int, count: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    book = Book()
    loop = asyncio.get_running_loop()
    control = await listen(book.steer, host="127.0.0.1", port=control_port)
    deliveries = await loop.create_server(lambda: Delivery(book), addresses(count), port, backlog=1024)
    async with control, deliveries:
        await until_stopped()


@click.command(help=__doc__)
@click.option("--port", type=int, required=True)
@click.option("--control-port", type=int, required=True)
@click.option("--count", type=int, required=True, help="How many addresses to listen on.")
def main(port: int, control_port: int, count: int) -> None:
    """Serve."""
    asyncio.run(serve(port=port, control_port=control_port, count=count))


if __name__ == "__main__":
    main()
