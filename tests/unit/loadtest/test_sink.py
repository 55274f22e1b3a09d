"""Receivers: what they count, how they fail, when they heal."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from infra.local.http_server import Request
from loadtest import stamps
from loadtest.books import PARTS, Book, entries
from loadtest.histograms import Histogram
from loadtest.manners import OK, Manner, Pace
from loadtest.receiving import Hook, Mail
from loadtest.sink import Hooks, Ledger, Receiver, Sink
from shared.model import Channel
from tests.unit.loadtest.fakes import Transport

RUN = "0123abcd"
ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An empty one."""
    return Ledger(Book(tmp_path, "received"), run=RUN, origins=3)


def a_receiver(ledger: Ledger, *, channel: Channel = Channel.WEBHOOK, **manner: Any) -> Receiver:
    chosen = Manner(**manner) if manner else OK
    return Receiver("0", channel, ledger, manner=chosen, pace=Pace(0, 0), rng=Random(1))


def webhook(number: int = 0, *, id_: UUID = ID, attempt: int = 1, run: str = RUN, intended_us: int = 0) -> bytes:
    body = b'{"data":{"message":"' + stamps.stamp(run, number, intended_us) + b'hello"}}'
    head = f"POST /hook/1 HTTP/1.1\r\nHost: x\r\nWebhook-Id: {id_}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"notification-attempt: %d\r\n\r\n" % attempt + body


def answered(receiver: Receiver, *data: bytes) -> bytes:
    """What a connection is answered to these bytes, once a second has passed or a connection was closed."""

    async def converse() -> bytes:
        hook = Hook(receiver, lambda _: None)
        transport = Transport(hook)
        hook.connection_made(transport)
        for part in data:
            hook.data_received(part)
        return transport.said() + (b"|closed" if transport.closed else b"")

    return asyncio.run(converse())


def test_a_delivery_is_in_the_ledger_with_id_number_and_instant(ledger: Ledger, tmp_path: Path) -> None:
    """Whatever pieces it comes in."""
    data = webhook(7)
    before = stamps.now_us()

    assert answered(a_receiver(ledger), data[:30], data[30:-5], data[-5:]).startswith(b"HTTP/1.1 200")

    assert ledger.take()["received"] == {"webhook": 1}
    (entry,) = [entry for part in range(PARTS) for entry in entries(tmp_path, "received", part)]
    assert (entry.id, entry.number) == (ID.bytes, 7)
    assert before <= entry.at_us <= stamps.now_us()


def test_two_requests_in_one_piece_are_two(ledger: Ledger) -> None:
    """Answered in order."""
    assert answered(a_receiver(ledger), webhook(1) + webhook(2)).count(b"HTTP/1.1 200") == 2


def test_what_comes_again_is_counted_as_such(ledger: Ledger) -> None:
    """And measured once."""
    answered(a_receiver(ledger), webhook(1), webhook(1, attempt=2))
    taken = ledger.take()

    assert (taken["received"], taken["again"], taken["retries"]) == ({"webhook": 1}, 1, {"0": 1})


def test_messages_of_another_run_are_foreign(ledger: Ledger) -> None:
    """The database may still hold some."""
    answered(a_receiver(ledger), webhook(1, run="ffffffff"), b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    taken = ledger.take()

    assert (taken["received"], taken["foreign"]) == ({}, 2)


def test_a_message_at_another_origin_is_astray(ledger: Ledger) -> None:
    """The generator gives its messages to one origin after the other."""
    for origin in range(3):
        receiver = Receiver("1", Channel.WEBHOOK, ledger, manner=OK, pace=Pace(0, 0), rng=Random(1), origin=origin)
        answered(receiver, webhook(7))

    assert ledger.take()["astray"] == 2


def test_latency_is_measured_from_the_intended_instant_within_the_window(ledger: Ledger) -> None:
    """Messages intended before or after are beside it."""
    now_us = stamps.now_us()
    ledger.begin_window(now_us - 3_000_000, now_us - 1_000_000)
    for number, ago_us in enumerate((4_000_000, 2_000_000, 500_000)):
        ledger.received(Channel.EMAIL, uuid4().bytes, stamps.stamp(RUN, number, now_us - ago_us), now_us)
    taken = ledger.take()

    measured, beside = Histogram(), Histogram()
    measured.add(taken["measured"]["email"])
    beside.add(taken["beside"]["email"])
    assert (measured.count, beside.count) == (1, 2)
    assert measured.ms(50) == pytest.approx(2_000, rel=0.002)


@pytest.mark.parametrize(
    ("manner", "says"),
    [
        ({"way": "status", "status": 503, "retry_after_s": 7}, b"HTTP/1.1 503 No\r\nRetry-After: 7\r\n"),
        ({"way": "status", "status": 410}, b"HTTP/1.1 410 No\r\nContent-Length: 0"),
        ({"way": "garbage"}, b"\x16\x03\x01"),
    ],
)
def test_an_origin_fails_as_it_was_told(ledger: Ledger, manner: dict[str, Any], says: bytes) -> None:
    """What it refuses is not in the ledger of what was received."""
    assert answered(a_receiver(ledger, **manner), webhook()).startswith(says)

    taken = ledger.take()
    assert taken["received"] == {}
    assert sum(taken["refused"].values()) == 1


def test_one_that_hangs_never_answers(ledger: Ledger) -> None:
    """And its connection stays open."""
    assert answered(a_receiver(ledger, way="hang"), webhook(), webhook()) == b""
    assert ledger.take()["refused"] == {"0 hang": 1}


def test_manners_heal_at_their_time(ledger: Ledger) -> None:
    """By the clock, without being told again."""
    now_us = stamps.now_us()

    assert Manner("hang", until_us=now_us + 10**9).now(now_us).way == "hang"
    assert Manner("hang", until_us=now_us).now(now_us) is OK
    assert answered(a_receiver(ledger, way="hang", until_us=now_us - 1), webhook()).startswith(b"HTTP/1.1 200")


def test_a_share_of_deliveries_fails(ledger: Ledger) -> None:
    """About as many as it says."""
    receiver = a_receiver(ledger, way="status", status=500, share=0.3)

    failed = sum(receiver.deliver(uuid4().bytes, b"", attempt=1)[0].way == "status" for _ in range(2000))
    assert 500 < failed < 700


@pytest.mark.parametrize("told", [{"way": "sing"}, {"way": "status", "status": 99}, {"share": 2}])
def test_a_manner_that_is_none_is_refused(told: dict[str, Any]) -> None:
    """A steersman's mistake must not look like a receiver that works."""
    with pytest.raises(ValueError, match="no way to answer"):
        Manner.parse(told)


def test_the_pace_has_its_median_and_its_99th_percentile() -> None:
    """Log-normal; none at all where the median is nothing."""
    rng = Random(1)
    drawn = sorted(Pace(0.010, 0.050).draw(rng) for _ in range(20_000))

    assert drawn[10_000] == pytest.approx(0.010, rel=0.05)
    assert drawn[19_800] == pytest.approx(0.050, rel=0.15)
    assert Pace(0, 0).draw(rng) == 0.0


def mailed(ledger: Ledger, *data: bytes, **manner: Any) -> bytes:
    async def converse() -> bytes:
        mail = Mail(a_receiver(ledger, channel=Channel.EMAIL, **manner))
        transport = Transport(mail)
        mail.connection_made(transport)
        for part in data:
            mail.data_received(part)
        return transport.said()

    return asyncio.run(converse())


MESSAGE = b"Date: today\r\nX-Notification-Id: %s\r\nSubject: x\r\n\r\n%s\r\n.\r\n" % (
    str(ID).encode(),
    stamps.stamp(RUN, 3, 0),
)


def test_mail_is_taken_step_by_step(ledger: Ledger) -> None:
    """As a client without pipelining sends it; the next message follows on the same connection."""
    steps = [b"EHLO me\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", MESSAGE[:40], MESSAGE[40:]]

    said = mailed(ledger, *steps, *steps[1:], b"QUIT\r\n")

    codes = [line[:3] for line in said.split(b"\r\n") if line and line[3:4] == b" "]
    assert codes == [b"220", b"250", *(b"250", b"250", b"354", b"250") * 2, b"221"]
    assert ledger.take()["received"] == {"email": 1}


def test_mail_may_be_pipelined(ledger: Ledger) -> None:
    """Everything in one piece."""
    said = mailed(ledger, b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + MESSAGE + b"QUIT\r\n")

    assert said.endswith(b"354 go on\r\n250 taken\r\n221 bye\r\n")
    assert ledger.take()["received"] == {"email": 1}


def test_mail_is_refused_for_now(ledger: Ledger) -> None:
    """After its content, as a full disk would."""
    said = mailed(ledger, b"DATA\r\n" + MESSAGE, way="status", status=503)

    assert said.endswith(b"451 4.7.1 try again later\r\n")
    assert ledger.take()["received"] == {}


class Servers:
    """Stands in for listening."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.closed: list[int] = []

    async def create(self, _make: Callable[[], Any], _host: str, port: int, **_: Any) -> Any:
        self.opened.append(port)
        closed = self.closed

        class Server:
            def close(self) -> None:
                closed.append(port)

        return Server()


def test_an_origin_that_refuses_stops_to_listen_until_it_heals(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that were kept are reset."""
    servers = Servers()

    async def scenario() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_server", servers.create)
        hooks = Hooks("127.0.0.1", [1, 2], [a_receiver(ledger), a_receiver(ledger)])
        for origin in range(2):
            await hooks.open(origin)
        sink = Sink(hooks, ledger)
        heals_us = stamps.now_us() - 1
        told = {"origin": 1, "way": "refused", "until_us": heals_us}
        assert sink.handle(Request("POST", "/behave", {}, {}, json.dumps(told).encode())).status == 200
        assert servers.closed == [2]
        await asyncio.sleep(0.01)
        assert servers.opened == [1, 2, 2]

    asyncio.run(scenario())


def test_the_sink_is_steered_by_http(ledger: Ledger) -> None:
    """And says what it saw."""
    sink = Sink(Hooks("127.0.0.1", [], []), ledger)

    def ask(path: str, body: bytes = b"") -> Any:
        return sink.handle(Request("POST", path, {}, {}, body))

    assert ask("/window", b'{"from_us": 5, "to_us": 9}').status == 200
    assert ledger.window == (5, 9)
    assert ask("/health/ready").status == 200
    assert ask("/nothing").status == 404
    assert b'"foreign": 0' in ask("/take").body
