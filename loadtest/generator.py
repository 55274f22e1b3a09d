"""One process of the generator: starts each request at its intended time, whatever the answers do.

It is steered at http://127.0.0.1:CONTROL, by one steersman:

    POST /window  {"from_us": ..., "to_us": ...}: requests intended in between are measured; begins a new measurement
    POST /stage   {"begin_us": ..., "for_s": ..., "rate_per_s": ..., "to_per_s": ...}, after those that came before
    POST /stop    nothing more is started; what has no answer now has none
    POST /take    what happened since the last time, see `Tally`
    GET /health/ready
"""

import asyncio
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import orjson
import uvloop

from infra.local.http_server import Request, Response, json_response, listen, problem, until_stopped
from loadtest import profiles
from loadtest.bodies import PATH, Bodies
from loadtest.books import Book
from loadtest.client import Client, Exchange
from loadtest.elsewhere import API_KEY
from loadtest.histograms import Histogram
from loadtest.profiles import Profile, Stage
from loadtest.schedule import Ask, Draw, Share, kinds_of
from loadtest.stamps import now_us, number

LATE_US: Final = 20_000
"""A request that goes out so long after its intended time was held up: by the machine, or for want of a connection."""


@dataclass(slots=True)
class Tally:
    """What happened since the last look. Counts are of notifications, but for `requests` and `late`."""

    requests: int = 0
    asked: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by status
    unanswered: Counter[str] = field(default_factory=Counter)  # by reason
    late: int = 0
    doubtful: list[tuple[int, int]] = field(default_factory=list)  # first number, how many: accepted or not, unknown


class Generator:
    """Draws, asks, and keeps the ledger of what was accepted."""

    def __init__(
        self, client: Client, draw: Draw, bodies: Bodies, book: Book, *, process: int, api_key: str = ""
    ) -> None:
        self._client, self._draw, self._bodies, self._book = client, draw, bodies, book
        self._process = process
        self._credential = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        self._stages: asyncio.Queue[tuple[int, Stage]] = asyncio.Queue()
        self._stopped = asyncio.Event()
        self._window = (0, 0)
        self._tally = Tally()
        self._measured, self._beside, self._lag = Histogram(), Histogram(), Histogram()

    @property
    def stopped(self) -> bool:
        """Say whether it was told to stop."""
        return self._stopped.is_set()

    async def run(self) -> None:
        """Play stages as they come, until told to stop."""
        while not self.stopped:
            begin_us, stage = await self._stages.get()
            await self._play(begin_us, stage)

    async def _play(self, begin_us: int, stage: Stage) -> None:
        for ask in self._draw.stage(stage):
            intended_us = begin_us + round(ask.at_s * 1_000_000)
            while (early_us := intended_us - now_us()) > 0:
                # The loop's timers count milliseconds: rounded up, since no request may start early.
                await asyncio.sleep(min(0.2, math.ceil(early_us / 1000) / 1000))
                if self.stopped:
                    return
            if self.stopped:
                return
            self._start(ask, intended_us)
            if self._tally.requests % 64 == 0:
                await asyncio.sleep(0)  # one that is behind its schedule must still read answers

    def _start(self, ask: Ask, intended_us: int) -> None:
        if self._is_measured(intended_us):
            self._lag.record(now_us() - intended_us)
        self._tally.requests += 1
        self._tally.asked += len(ask.kinds)

        def content() -> bytes:
            self._tally.late += now_us() - intended_us > LATE_US
            return self._content(ask, intended_us)

        def ended(status: int | None, body: bytes) -> None:
            self._ended(ask, intended_us, status, body)

        self._client.request(Exchange(content, ended))

    def _is_measured(self, intended_us: int) -> bool:
        return self._window[0] <= intended_us < self._window[1]

    def _content(self, ask: Ask, intended_us: int) -> bytes:
        body = self._bodies.body(ask, intended_us)
        key = f"Idempotency-Key: {self._bodies.key(ask)}\r\n" if ask.keyed else ""
        path = f"{self._client.prefix}{PATH}" + ("" if ask.single else "/batch")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._client.authority}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{self._credential}{key}\r\n"
        )
        return head.encode() + body

    def _ended(self, ask: Ask, intended_us: int, status: int | None, body: bytes) -> None:
        at_us = now_us()
        (self._measured if self._is_measured(intended_us) else self._beside).record(at_us - intended_us)
        items, tally = len(ask.kinds), self._tally
        ids = accepted_ids(body, single=ask.single) if status == 202 else []
        if len(ids) == items:
            tally.accepted += items
            for index, id_ in enumerate(ids):
                self._book.add(id_, number(self._process, ask.first + index), at_us)
            return
        if status is None:
            tally.unanswered[body.decode()] += items
        else:
            tally.refused[str(status)] += items
        if (status is None and body != b"never_sent") or (status is not None and not 300 <= status < 500):
            tally.doubtful.append((number(self._process, ask.first), items))

    def handle(self, request: Request) -> Response:
        """Do what the steersman asks."""
        told: dict[str, Any] = request.json() if request.body else {}
        if request.path == "/take":
            return json_response(self.take())
        if request.path == "/stage":
            stage = Stage(told["for_s"], told["rate_per_s"], told["to_per_s"])
            self._stages.put_nowait((told["begin_us"], stage))
        elif request.path == "/window":
            self._window = (told["from_us"], told["to_us"])
            self._measured.take()
            self._lag.take()
        elif request.path == "/stop":
            self._stopped.set()
            self._client.close()
        elif request.path != "/health/ready":
            return problem(404, "nothing is served here")
        return json_response({"ok": True})

    def take(self) -> dict[str, Any]:
        """Return what happened since the last time, and forget it."""
        self._book.flush()
        tally, self._tally = self._tally, Tally()
        return {
            **{name: getattr(tally, name) for name in Tally.__slots__},
            "under_way": self._client.under_way,
            "measured": self._measured.take(),
            "beside": self._beside.take(),
            "lag": self._lag.take(),
        }


def accepted_ids(body: bytes, *, single: bool) -> list[bytes]:
    """Read the ids out of a 202; none where there are none."""
    try:
        answer = orjson.loads(body)
        items = [answer] if single else answer["notifications"]
        return [bytes.fromhex(item["id"].replace("-", "")) for item in items]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return []


async def serve(profile: Profile, share: Share, **where: Any) -> None:
    """Generate until SIGTERM."""
    connections = math.ceil(profile.generator.connections / share.processes)
    client = Client(where["api_url"], connections=connections, timeout_s=profile.generator.timeout_s)
    draw = Draw(profile.mix, share, poisson=profile.arrivals == "poisson")
    recipients = profile.mix.recipients
    bodies = Bodies(
        kinds_of(profile.mix), where["hooks"], recipients=recipients, run=where["run"], process=share.process
    )
    book = Book(where["directory"], f"accepted-{share.process}")
    api_key = os.environ.get(API_KEY, "")
    generator = Generator(client, draw, bodies, book, process=share.process, api_key=api_key)
    async with await listen(generator.handle, host="127.0.0.1", port=where["control_port"]):
        playing = asyncio.create_task(generator.run())
        stopped = asyncio.create_task(until_stopped())
        await asyncio.wait((playing, stopped), return_when=asyncio.FIRST_COMPLETED)
        book.flush()
        if playing.done() and not generator.stopped:
            playing.result()  # a bug: the process ends, and the run with it
        await stopped


@click.command(help=__doc__)
@click.option("--profile", "name", required=True)
@click.option("--set", "overrides", multiple=True)
@click.option("--seed", type=int, required=True)
@click.option("--process", type=int, required=True)
@click.option("--run", required=True, help="Eight hexadecimal digits, in each stamp.")
@click.option("--api-url", required=True)
@click.option("--hook", "hooks", multiple=True, required=True, help="A webhook origin; as often as there are.")
@click.option("--directory", type=click.Path(path_type=Path), required=True, help="For the ledger.")
@click.option("--control-port", type=int, required=True)
def main(name: str, overrides: tuple[str, ...], seed: int, process: int, **where: Any) -> None:
    """Generate."""
    profile = profiles.load(name, overrides)
    uvloop.run(serve(profile, Share(seed, process, profile.generator.processes), **where))


if __name__ == "__main__":
    main()
