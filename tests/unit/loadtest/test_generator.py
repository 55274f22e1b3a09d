"""One process of the generator: what it counts, and from when."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from infra.local.http_server import Request
from loadtest import stamps
from loadtest.bodies import Bodies
from loadtest.books import PARTS, Book, entries
from loadtest.client import Exchange
from loadtest.generator import Generator, accepted_ids
from loadtest.histograms import Histogram
from loadtest.profiles import Mix, Stage
from loadtest.schedule import Draw, Share, kinds_of
from shared.model import Channel

MIX = Mix({Channel.WEBHOOK: 1.0}, {100: 1.0}, 0.5, 5, 1.0, 0.0, 10)
SECOND_US = 1_000_000


class Api:
    """Stands in for the client: keeps what it is asked, and answers when told to."""

    prefix, authority, under_way = "", "api.test", 0

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.closed = False

    def request(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    def close(self) -> None:
        self.closed = True

    def accept(self, exchange: Exchange) -> list[UUID]:
        body = orjson.loads(exchange.content().partition(b"\r\n\r\n")[2])
        ids = [uuid4() for _ in body] if isinstance(body, list) else [uuid4()]
        made = [{"id": str(one)} for one in ids]
        exchange.ended(202, orjson.dumps({"notifications": made} if isinstance(body, list) else made[0]))
        return ids


def generated(directory: Path, *, ago_us: int, stage: Stage) -> tuple[Generator, Api]:
    """A generator that has played a stage whose beginning lies in the past: everything is due at once."""
    api = Api()
    kinds = kinds_of(MIX)
    bodies = Bodies(kinds, ["http://127.0.0.1:9"], recipients=10, run="0123abcd", process=0)
    draw = Draw(MIX, Share(1, 0, 1), poisson=True)
    generator = Generator(api, draw, bodies, Book(directory, "accepted-0"), process=0)  # type: ignore[arg-type]
    begin_us = stamps.now_us() - ago_us
    tell(generator, "/window", from_us=begin_us + SECOND_US, to_us=begin_us + 10 * SECOND_US)
    tell(
        generator, "/stage", begin_us=begin_us, for_s=stage.for_s, rate_per_s=stage.rate_per_s, to_per_s=stage.to_per_s
    )

    async def play() -> None:
        playing = asyncio.create_task(generator.run())
        while not api.exchanges or playing.done():
            await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        playing.cancel()

    asyncio.run(play())
    return generator, api


def tell(generator: Generator, path: str, **what: Any) -> int:
    return generator.handle(Request("POST", path, {}, {}, orjson.dumps(what))).status


def test_latency_counts_from_the_intended_time(tmp_path: Path) -> None:
    """A generator that is five seconds behind has latencies of three to five, though answers came at once."""
    generator, api = generated(tmp_path, ago_us=5 * SECOND_US, stage=Stage(2.0, 100, 100))

    for exchange in api.exchanges:
        api.accept(exchange)
    taken = generator.take()

    measured = Histogram()
    measured.add(taken["measured"])
    assert measured.count > 0
    low, high = measured.ms(0), measured.ms(100)
    assert low is not None
    assert high is not None
    assert 2_900 < low < high < 4_500  # intended in the second of the two seconds
    lag = Histogram()
    lag.add(taken["lag"])
    assert lag.count == measured.count  # and that the generator is who was late is a figure of its own
    assert (lag.ms(0) or 0) > 2_900
    assert taken["late"] == taken["requests"] == len(api.exchanges)
    assert measured.count < len(api.exchanges)  # the first second was not measured ...
    assert taken["asked"] == taken["accepted"]  # ... but counted


def test_what_was_accepted_is_in_the_ledger_with_its_number(tmp_path: Path) -> None:
    """Batch or single: an id per notification."""
    generator, api = generated(tmp_path, ago_us=3 * SECOND_US, stage=Stage(2.0, 100, 100))

    ids = [one for exchange in api.exchanges for one in api.accept(exchange)]
    taken = generator.take()

    found = [entry for part in range(PARTS) for entry in entries(tmp_path, "accepted", part)]
    assert {entry.id for entry in found} == {one.bytes for one in ids}
    assert sorted(entry.number for entry in found) == list(range(taken["accepted"]))


@pytest.mark.parametrize(
    ("status", "body", "counted", "is_doubtful"),
    [
        (503, b"{}", {"503": 1}, True),
        (422, b"{}", {"422": 1}, False),
        (202, b"not json", {"202": 1}, True),
        (None, b"timeout", {"timeout": 1}, True),
        (None, b"never_sent", {"never_sent": 1}, False),
    ],
)
def test_what_was_not_accepted_is_counted_by_why(
    tmp_path: Path, status: int | None, body: bytes, counted: dict[str, int], is_doubtful: bool
) -> None:
    """And what may have been accepted all the same is remembered by its number."""
    generator, api = generated(tmp_path, ago_us=3 * SECOND_US, stage=Stage(2.0, 100, 100))
    single = next(one for one in api.exchanges if b"/batch" not in one.content())

    single.ended(status, body)
    taken = generator.take()

    assert taken["refused" if status else "unanswered"] == counted
    assert [count for _, count in taken["doubtful"]] == ([1] if is_doubtful else [])
    assert generator.take()["doubtful"] == []


def test_a_request_is_http_with_its_key(tmp_path: Path) -> None:
    """Each key once."""
    _, api = generated(tmp_path, ago_us=3 * SECOND_US, stage=Stage(2.0, 100, 100))

    heads = [exchange.content().partition(b"\r\n\r\n") for exchange in api.exchanges]
    assert all(f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n" for head, _, body in heads)
    keys = {head.rpartition(b"Idempotency-Key: ")[2] for head, _, _ in heads}
    assert len(keys) == len(heads)


def test_stop_ends_everything_that_is_under_way(tmp_path: Path) -> None:
    """And what nobody serves is not found."""
    generator, api = generated(tmp_path, ago_us=3 * SECOND_US, stage=Stage(2.0, 10, 10))

    assert tell(generator, "/nothing") == 404
    assert tell(generator, "/health/ready") == 200
    assert tell(generator, "/stop") == 200
    assert api.closed
    assert generator.stopped


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id": 7}', b'{"id": "x"}', b'{"notifications": 3}'])
def test_an_answer_without_ids_accepts_nothing(body: bytes) -> None:
    """Whatever its status says."""
    assert accepted_ids(body, single=True) == []
    assert accepted_ids(body, single=False) == []
