"""What producers ask for: requests drawn from a seed, with everything a client may do, and some things it may not."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import orjson

from tests.chaos.plan import Destination

KEYS_PER_PRODUCER = 20
BATCH = (20, 120)
BATCHES_AMONG_REQUESTS = 0.45
# Mail by what its recipient makes the server do, see tests/chaos/smtp.py; few enough that the host's breaker is closed.
MAIL: dict[str, float] = {
    "ok": 0.90, "drop": 0.02, "silent": 0.01, "cut": 0.015, "s451": 0.025, "s452": 0.01, "s550": 0.01, "s554": 0.01,
}  # fmt: skip
_INVALID: tuple[dict[str, Any], ...] = (
    {"channel": "webhook", "recipient": "ftp://127.31.0.1/x", "message": "no such scheme"},
    {"channel": "email", "recipient": "nobody", "message": "no address"},
    {"channel": "pigeon", "recipient": "roof", "message": "no channel"},
    {"channel": "webhook", "recipient": "http://127.31.0.1/x"},
    {"channel": "email", "recipient": "a@example.org", "message": "x", "expires_in": -1},
)


@dataclass(frozen=True, slots=True)
class Item:
    """One notification asked for: the body, and what the checker has to know of it."""

    token: str
    body: dict[str, Any]
    digest: str  # of its content, as the receiver will see it
    target: str  # behaviour it is addressed to
    cancel_after_s: float | None = None

    def entry(self) -> dict[str, Any]:
        """What the ledger keeps."""
        kept = {"tok": self.token, "h": self.digest, "target": self.target, "to": self.body["recipient"]}
        for name in ("channel", "ordering_key", "scheduled_for", "expires_at", "expires_in", "on_unknown"):
            if name in self.body:
                kept[name] = self.body[name]
        return kept


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a producer."""

    number: int
    kind: str  # single, batch, invalid
    items: list[Item] = field(default_factory=list)
    invalid: dict[str, Any] | None = None
    key: str | None = None
    repeat: str | None = None  # same: sent again under its key; other: another body under its key


def digest(subject: str | None, message: str, payload: Any, metadata: Any) -> str:
    """A short hash of what a recipient is to see."""
    content = orjson.dumps([subject or None, message, payload or None, metadata or None], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()[:20]


class Drawer:
    """Draws the requests of one producer."""

    def __init__(self, rng: Random, producer: int, destinations: Sequence[Destination], hooks_port: int) -> None:
        self._rng, self._producer, self._port = rng, producer, hooks_port
        self._destinations = list(destinations)
        self._weights = list(itertools.accumulate(one.weight for one in destinations))

    def requests(self) -> Iterator[Request]:
        """Draw for ever."""
        for number in itertools.count():
            yield self._request(number)

    def _request(self, number: int) -> Request:
        rng = self._rng
        if rng.random() < 0.01:
            return Request(number, "invalid", invalid=rng.choice(_INVALID))
        batch = rng.random() < BATCHES_AMONG_REQUESTS
        keyed = rng.random() < 0.8
        count = rng.randint(*BATCH) if batch else 1
        repeat = rng.choice(("same", "same", "other")) if keyed and rng.random() < 0.05 else None
        return Request(
            number=number,
            kind="batch" if batch else "single",
            items=[self._item(f"{self._producer}-{number}-{index}") for index in range(count)],
            key=f"chaos-{self._producer}-{number}-{rng.getrandbits(40):x}" if keyed else None,
            repeat=repeat,
        )

    def _item(self, token: str) -> Item:
        rng = self._rng
        mail = rng.random() < 0.1
        body: dict[str, Any] = {"message": f"{token} {self._text()}"}
        if mail:
            target = rng.choices(list(MAIL), list(MAIL.values()))[0]
            body |= {"channel": "email", "recipient": f"{target}.{token}@d{rng.randrange(40)}.example.org"}
            body["subject"] = f"Subject {token}" + rng.choice(("", " äöü €", " 通知"))
        else:
            destination = rng.choices(self._destinations, cum_weights=self._weights)[0]
            target = destination.behaviour
            body |= {"channel": "webhook", "recipient": f"http://{destination.host}:{self._port}/in"}
            if rng.random() < 0.5:
                body["payload"] = {"n": rng.randrange(10**6), "text": self._text()}
            if rng.random() < 0.2:
                body["metadata"] = {"trace": f"{rng.getrandbits(64):x}"}
        if rng.random() < 0.2:
            body["priority"] = rng.choice(("high", "urgent", "low"))
        if rng.random() < 0.05:
            body["on_unknown"] = "hold"
        cancel_after_s = self._in_time(body, mail=mail)
        found = digest(body.get("subject"), body["message"], body.get("payload"), body.get("metadata"))
        return Item(token, body, found, target, cancel_after_s)

    def _in_time(self, body: dict[str, Any], *, mail: bool) -> float | None:
        """Order, schedule, expiry; return after how long it is cancelled, if at all."""
        rng, ahead_s, present = self._rng, 0.0, datetime.now(UTC)
        which = rng.random()
        if which < 0.1:
            # A channel has its own topic, so a key is one channel's.
            lane = "m" if mail else "w"
            body["ordering_key"] = f"k{self._producer}-{lane}{rng.randrange(KEYS_PER_PRODUCER)}"
        elif which < 0.2:
            ahead_s = rng.uniform(1, 20)
            body["scheduled_for"] = (present + timedelta(seconds=ahead_s)).isoformat()
        if rng.random() < 0.05:
            if ahead_s:
                body["expires_at"] = (present + timedelta(seconds=ahead_s + rng.uniform(0.5, 10))).isoformat()
            else:
                body["expires_in"] = round(rng.uniform(2, 30), 3)
        if rng.random() >= 0.05:
            return None
        return rng.uniform(0, ahead_s + 0.5) if ahead_s else rng.choice((0.0, 0.0, rng.uniform(0, 1.5)))

    def _text(self) -> str:
        rng = self._rng
        size = rng.choice((10, 40, 80, 160, 400))
        return f"{rng.getrandbits(size * 4):x}"
