"""What the tests of the consumer share: scripted servers, accepted notifications, a running consumer."""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, ClassVar

import uvloop
from confluent_kafka import Producer

from delivery_consumer.service import Service
from delivery_consumer.settings import EmailSettings, Settings, SmtpTls, WebhookSettings
from shared import db
from shared.db import accepting
from shared.db.accepting import NewNotification
from shared.model import Channel, OnUnknown, Priority, bucket_of, uuid7
from shared.records import Record, encode_record, record_headers, record_key
from shared.settings import GroupProtocol, KafkaSettings, LogLevel, ServiceSettings
from tests.servers import Database, FreshTopics

SECRET = hashlib.sha256(b"tests").digest()
Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """A TCP server that runs a script for each connection."""

    port: int = 0
    connections: int = 0
    lines: list[bytes] = field(default_factory=list)


@contextlib.asynccontextmanager
async def raw_server(session: Session) -> AsyncIterator[RawServer]:
    """Serve every connection with `session`; all are cut when the block ends."""
    state = RawServer()
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await session(reader, writer)
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    """Read one HTTP request; the request line is under the empty name."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {"": head[0]} | {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    return headers, await reader.readexactly(int(headers.get("content-length", "0")))


@dataclass
class Receiver:
    """A webhook receiver on a thread of its own that remembers what it took and answers as told."""

    port: int = 0
    requests: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answer: Callable[[dict[str, str]], Awaitable[bytes | None]] | None = None
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    def ids(self) -> list[str]:
        """The notification ids in the order they came."""
        return [request["webhook-id"] for request in self.requests]

    def wait_for(self, count: int, timeout_s: float = 30) -> None:
        """Wait until so many more requests have come."""
        for _ in range(count):
            assert self.arrived.acquire(timeout=timeout_s), f"only {len(self.requests)} requests came"


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def threaded(session: Session) -> Iterator[int]:
    """Serve `session` on a thread of its own; yields the port."""
    loop, ready, ports = uvloop.new_event_loop(), threading.Event(), []
    stop = asyncio.Event()

    async def serve() -> None:
        async with raw_server(session) as server:
            ports.append(server.port)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a receiver that answers 200 until told otherwise."""
    state = Receiver()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            headers, body = await read_request(reader)
            state.requests.append(headers)
            state.bodies.append(body)
            state.arrived.release()
            answer = OK if state.answer is None else await state.answer(headers)
            if answer is None:
                return
            writer.write(answer)

    with threaded(session) as state.port:
        yield state


DROP, SILENCE = b"(drop)", b"(silence)"


@dataclass
class SmtpScript:
    """An SMTP server by the book, but for the steps that `replies` names: BANNER, EHLO, ..., DATA, DOT.

    A reply DROP resets the connection, SILENCE says nothing for ever. `once` replies are used up by their first use.
    """

    replies: dict[str, bytes] = field(default_factory=dict)
    once: dict[str, bytes] = field(default_factory=dict)
    commands: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    hello: ClassVar[bytes] = b"250-test\r\n250 8BITMIME"

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak with one client."""
        self.connections += 1
        if not await self._say(writer, "BANNER", b"220 test"):
            return
        while line := await reader.readline():
            self.commands.append(line.rstrip(b"\r\n"))
            verb = line[:4].strip().upper().decode()
            usual = {"EHLO": self.hello, "DATA": b"354 go on", "QUIT": b"221 bye"}.get(verb, b"250 ok")
            if not await self._say(writer, verb, usual) or verb == "QUIT":
                return
            if verb == "DATA" and self._last.startswith(b"354"):
                content = await reader.readline()
                if content == b".\r\n":
                    await self._say(writer, "NOBODY", b"554 no valid recipients")
                    continue
                self.messages.append(content + await reader.readuntil(b"\r\n.\r\n"))
                if not await self._say(writer, "DOT", b"250 kept"):
                    return

    async def _say(self, writer: asyncio.StreamWriter, step: str, usual: bytes) -> bool:
        self._last = self.once.pop(step, b"") or self.replies.get(step, usual)
        if self._last == SILENCE:
            await asyncio.Event().wait()
        if self._last == DROP:
            return False
        writer.write(self._last + b"\r\n")
        return True


@dataclass
class Desk:
    """Accepts notifications the way the API does, and publishes them the way the relay does."""

    database: Database
    topics: FreshTopics

    def __post_init__(self) -> None:
        self.conn = db.connect(self.database.dsn, application_name="test")
        self.producer = Producer({"bootstrap.servers": self.topics.bootstrap_servers, "linger.ms": 5})

    def accept(
        self,
        recipients: Sequence[str],
        *,
        channel: Channel = Channel.WEBHOOK,
        publish: bool = True,
        copies: int = 1,
        ordering_key: str | None = None,
        priority: Priority = Priority.NORMAL,
        **fields: Any,
    ) -> list[NewNotification]:
        """Insert notifications and put their records into Kafka."""
        news = []
        for recipient in recipients:
            id_ = uuid7()
            record = Record(
                str(id_), "default", channel, recipient, "Hello", "2026-01-02T03:04:05.678901Z",
                subject="Hi", ordering_key=ordering_key, priority=priority, **fields,
            )  # fmt: skip
            key = record_key("default", str(id_), ordering_key)
            news.append(
                NewNotification(
                    id=id_,
                    tenant_id="default",
                    channel=channel,
                    recipient=recipient,
                    priority=priority,
                    on_unknown=OnUnknown.RETRY,
                    created_at=datetime.now(UTC),
                    bucket=bucket_of(key),
                    topic=self.topics.names.of(channel, priority, ordered=ordering_key is not None),
                    key=key,
                    record=encode_record(record),
                    headers=record_headers(attempt=1, traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"),
                    ordering_key=ordering_key,
                )
            )
        accepting.insert_many(self.conn, news)
        self.conn.execute("DELETE FROM outbox")
        if publish:
            self.publish(news, copies=copies)
        return news

    def publish(self, news: Sequence[NewNotification], *, copies: int = 1) -> None:
        """Put records into Kafka and wait for the acknowledgement."""
        for one in news:
            for _ in range(copies):
                self.producer.produce(one.topic, one.record, one.key, headers=list(one.headers.items()))
            self.producer.poll(0)
        assert self.producer.flush(30) == 0

    def statuses(self) -> dict[str, int]:
        """Count notifications by status."""
        return dict(self.conn.execute("SELECT status, count(*) FROM notifications GROUP BY status").fetchall())

    def attempts(self) -> list[tuple[str, str, int]]:
        """Outcome, reason and count of attempts."""
        query = "SELECT outcome, coalesce(reason, ''), count(*) FROM delivery_attempts GROUP BY 1, 2 ORDER BY 1, 2"
        return list(self.conn.execute(query).fetchall())

    def wait_for(self, timeout_s: float = 30, **statuses: int) -> None:
        """Wait until the counts of statuses are exactly these."""
        pause = threading.Event()
        for _ in range(int(timeout_s / 0.05)):
            if self.statuses() == statuses:
                return
            pause.wait(0.05)
        raise AssertionError(f"{self.statuses()} is not {statuses}; attempts {self.attempts()}")

    def close(self) -> None:
        """Close the connection."""
        self.conn.close()
        self.producer.flush(1)


def settings_for(database: Database, topics: FreshTopics, **changes: Any) -> Settings:
    """Settings of a consumer on this test's database and topics; keywords replace fields."""
    webhook = WebhookSettings((SECRET,), 5.0, (ip_network("127.0.0.0/8"),), 50)
    email = EmailSettings("127.0.0.1", 1, None, None, "Shop", "shop@example.org", SmtpTls.OFF, 5.0, 5)
    base = Settings(
        service=ServiceSettings(database.dsn_of("delivery_consumer"), "127.0.0.1", 1, LogLevel.INFO),
        kafka=KafkaSettings(topics.bootstrap_servers, topics.prefix, GroupProtocol.CONSUMER),
        channels=frozenset(Channel),
        concurrency=50,
        lease_s=30,
        webhook=webhook,
        email=email,
    )
    return replace(base, **changes)


@dataclass
class Running:
    """A consumer on a thread of its own."""

    settings: Settings

    def __post_init__(self) -> None:
        self.stop_asked = threading.Event()
        self.error: BaseException | None = None
        self.service: Service | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        async def serve() -> None:
            self.service = Service(self.settings)
            await self.service.run(self.stop_asked)

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        except BaseException as error:  # noqa: BLE001 - the test raises it again
            self.error = error

    def stop(self, timeout_s: float = 25) -> None:
        """Stop it as SIGTERM does; fails if it failed."""
        self.stop_asked.set()
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "it did not stop in time"
        if self.error is not None:
            raise self.error


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Running]:
    """Run a consumer for the length of a block."""
    consumer = Running(settings)
    try:
        yield consumer
    finally:
        consumer.stop()
