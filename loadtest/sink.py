"""Receivers that count, delay, fail as told and heal at set times; and the ledger of what was received.

Webhooks arrive at one port per origin, mail at another. It is steered at http://127.0.0.1:CONTROL, by one steersman:

    POST /window  {"from_us": ..., "to_us": ...}: messages intended in between are measured; begins a new measurement
    POST /behave  {"origin": 3 or null for all, "way": "ok" | "status" | "hang" | "garbage" | "refused",
                   "status": 503, "share": 1, "retry_after_s": 2, "until_us": ...}; see manners.py
    POST /take    what happened since the last time, see `Tally`
    GET /health/ready
"""

import asyncio
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import click
import uvloop

from infra.local.http_server import Request, Response, json_response, listen, problem, until_stopped
from loadtest import profiles
from loadtest.books import Book
from loadtest.histograms import Histogram
from loadtest.manners import OK, Manner, Pace
from loadtest.profiles import Receivers
from loadtest.receiving import Hook, Mail
from loadtest.stamps import find, now_us, parts
from shared.model import Channel

CHANNELS = tuple(Channel)


@dataclass(slots=True)
class Tally:
    """What happened since the last look."""

    received: Counter[str] = field(default_factory=Counter)  # by channel, each notification once
    again: int = 0  # deliveries of what had been received before
    refused: Counter[str] = field(default_factory=Counter)  # deliveries, by origin and how they were answered
    retries: Counter[str] = field(default_factory=Counter)  # second and later attempts, as they say, by origin
    foreign: int = 0  # without a stamp, or with that of another run
    astray: int = 0  # at another origin than the one it was meant for


class Ledger:
    """What was received; one for all origins of this process."""

    def __init__(self, book: Book, *, run: str, origins: int) -> None:
        self._book, self._run, self._origins = book, run.encode(), origins
        self._seen: dict[int, bytearray] = {}  # process of the generator -> a byte per notification
        self._histograms = {name: {channel: Histogram() for channel in CHANNELS} for name in ("measured", "beside")}
        self.window = (0, 0)
        self.tally = Tally()

    def received(self, channel: Channel, id_: bytes, content: bytes, at_us: int, *, origin: int | None = None) -> None:
        """Note a delivery that is going to be accepted; of a webhook with the number of the origin it came to."""
        stamp = find(content)
        if stamp is None or stamp.run != self._run or len(id_) != 16:
            self.tally.foreign += 1
            return
        self._book.add(id_, stamp.number, at_us)
        self.tally.astray += origin is not None and parts(stamp.number)[1] % self._origins != origin
        if self._is_new(stamp.number):
            self.tally.received[channel] += 1
            measured = self.window[0] <= stamp.intended_us < self.window[1]
            self._histograms["measured" if measured else "beside"][channel].record(at_us - stamp.intended_us)
        else:
            self.tally.again += 1

    def _is_new(self, number: int) -> bool:
        process, count = parts(number)
        seen = self._seen.setdefault(process, bytearray())
        if count >= len(seen):
            seen.extend(bytes(count + 100_000 - len(seen)))
        new = not seen[count]
        seen[count] = 1
        return new

    def begin_window(self, from_us: int, to_us: int) -> None:
        """Measure what is intended in between."""
        self.window = (from_us, to_us)
        for histogram in self._histograms["measured"].values():
            histogram.take()

    def take(self) -> dict[str, Any]:
        """Return what happened since the last time, and forget it."""
        self._book.flush()
        tally, self.tally = self.tally, Tally()
        taken = {
            name: {channel.value: histogram.take() for channel, histogram in histograms.items()}
            for name, histograms in self._histograms.items()
        }
        return {**{name: getattr(tally, name) for name in Tally.__slots__}, **taken}


class Receiver:
    """One webhook origin, or the mail server."""

    def __init__(
        self, name: str, channel: Channel, ledger: Ledger, *, manner: Manner, pace: Pace, rng: Random,
        origin: int | None = None,
    ) -> None:  # fmt: skip
        self.name, self.manner, self._origin = name, manner, origin
        self._channel, self._ledger, self._pace, self._rng = channel, ledger, pace, rng

    def deliver(self, id_: bytes, content: bytes, *, attempt: int) -> tuple[Manner, float]:
        """Take note of a delivery; return how to answer it, and after how many seconds."""
        at_us = now_us()
        manner = self.manner.now(at_us)
        self._ledger.tally.retries[self.name] += attempt > 1
        if manner.hits(self._rng):
            answered = str(manner.status) if manner.way == "status" else manner.way
            self._ledger.tally.refused[f"{self.name} {answered}"] += 1
        else:
            manner = OK
            self._ledger.received(self._channel, id_, content, at_us, origin=self._origin)
        return manner, self._pace.draw(self._rng)


class Hooks:
    """The webhook origins, which can be closed and opened one by one."""

    def __init__(self, host: str, ports: Sequence[int], receivers: Sequence[Receiver]) -> None:
        self._host, self._ports, self.receivers = host, ports, receivers
        self._servers: list[asyncio.Server | None] = [None] * len(ports)
        self._connections: list[weakref.WeakSet[Hook]] = [weakref.WeakSet() for _ in ports]
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, origin: int) -> None:
        """Have an origin listen."""
        if self._servers[origin] is None:
            receiver, seen = self.receivers[origin], self._connections[origin].add
            self._servers[origin] = await asyncio.get_running_loop().create_server(
                lambda: Hook(receiver, seen), self._host, self._ports[origin], backlog=1024
            )

    def behave(self, origin: int, manner: Manner) -> None:
        """Change an origin's manner; one that refuses stops to listen until it heals."""
        self.receivers[origin].manner = manner
        if timer := self._timers.pop(origin, None):
            timer.cancel()
        if manner.way != "refused":
            self._open_soon(origin)
            return
        if server := self._servers[origin]:
            server.close()
            self._servers[origin] = None
        for connection in self._connections[origin]:
            connection.abort()
        if manner.until_us is not None:
            heals_in_s = max(0.0, (manner.until_us - now_us()) / 1_000_000)
            self._timers[origin] = asyncio.get_running_loop().call_later(heals_in_s, self._open_soon, origin)

    def _open_soon(self, origin: int) -> None:
        task = asyncio.get_running_loop().create_task(self.open(origin))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Sink:
    """All receivers of a process, and what steers them."""

    def __init__(self, hooks: Hooks, ledger: Ledger) -> None:
        self._hooks, self._ledger = hooks, ledger

    def handle(self, request: Request) -> Response:
        """Do what the steersman asks."""
        told: dict[str, Any] = request.json() if request.body else {}
        if request.path == "/take":
            return json_response(self._ledger.take())
        if request.path == "/window":
            self._ledger.begin_window(told["from_us"], told["to_us"])
        elif request.path == "/behave":
            chosen = told.pop("origin", None)
            origins = range(len(self._hooks.receivers)) if chosen is None else [chosen]
            for origin in origins:
                self._hooks.behave(origin, Manner.parse(told))
        elif request.path != "/health/ready":
            return problem(404, "nothing is served here")
        return json_response({"ok": True})


async def serve(receivers: Receivers, *, run: str, directory: Path, **where: Any) -> None:
    """Receive until SIGTERM."""
    book = Book(directory, "received")
    host, ports = where["host"], where["hook_ports"]
    ledger = Ledger(book, run=run, origins=len(ports))
    pace = Pace(receivers.latency_ms / 1000, receivers.latency_p99_ms / 1000)
    manner = Manner("status", receivers.failing_status, share=receivers.failing_share)

    def receiver(name: str, channel: Channel, origin: int | None = None) -> Receiver:
        rng = Random(f"{run}/{name}")  # noqa: S311 - how receivers dawdle
        return Receiver(name, channel, ledger, manner=manner, pace=pace, rng=rng, origin=origin)

    hooks = Hooks(host, ports, [receiver(str(origin), Channel.WEBHOOK, origin) for origin in range(len(ports))])
    for origin in range(len(ports)):
        await hooks.open(origin)
    mail, loop = receiver("mail", Channel.EMAIL), asyncio.get_running_loop()
    kept = [await loop.create_server(lambda: Mail(mail), host, where["smtp_port"], backlog=1024)]
    kept.append(await listen(Sink(hooks, ledger).handle, host="127.0.0.1", port=where["control_port"]))
    await until_stopped()
    book.flush()


@click.command(help=__doc__)
@click.option("--profile", "name", required=True)
@click.option("--set", "overrides", multiple=True)
@click.option("--run", required=True, help="Eight hexadecimal digits, in each stamp.")
@click.option("--hook-port", "hook_ports", type=int, multiple=True, required=True, help="One per origin.")
@click.option("--smtp-port", type=int, required=True)
@click.option("--host", default="127.0.0.1", help="Where to listen.")
@click.option("--control-port", type=int, required=True)
@click.option("--directory", type=click.Path(path_type=Path), required=True, help="For the ledger.")
def main(name: str, overrides: tuple[str, ...], **where: Any) -> None:
    """Receive."""
    uvloop.run(serve(profiles.load(name, overrides).receivers, **where))


if __name__ == "__main__":
    main()
