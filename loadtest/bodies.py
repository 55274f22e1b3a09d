"""The bytes of requests, put together from pieces made once: a generator that builds JSON measures itself."""

import json
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Final

from loadtest.schedule import Ask, Kind
from loadtest.stamps import LENGTH, number, stamp
from shared.model import Channel

PATH: Final = "/api/v1/notifications"
KEYS: Final = 1_000
_WORDS: Final = (
    "Your order has left the warehouse and will be with you on Thursday between nine and noon. "
    "Somebody has to be there; if nobody is, it waits for a week at the post office around the corner.\n"
)
"""Lines stay below 998 characters, so that a mail is sent as it is (RFC 5322 §2.1.1)."""


class Bodies:
    """Makes the bodies of one process' requests. `hooks` are the webhook origins, such as http://127.0.0.1:9000."""

    def __init__(self, kinds: Sequence[Kind], hooks: Sequence[str], *, recipients: int, run: str, process: int) -> None:
        self._run, self._process = run, process
        self._ordered = [kind.ordered for kind in kinds]
        self._heads = [[_head(kind.channel, hook) for hook in hooks] for kind in kinds]
        self._tails = [_tail(kind) for kind in kinds]
        self._origins, self._recipients = len(hooks), recipients

    def body(self, ask: Ask, intended_us: int) -> bytes:
        """The JSON of a request whose intended start is known; a batch's items are one array."""
        items = [self._item(kind, ask.first + index, intended_us) for index, kind in enumerate(ask.kinds)]
        return items[0] if ask.single else b"[" + b",".join(items) + b"]"

    def key(self, ask: Ask) -> str:
        """An Idempotency-Key that no other request has."""
        return f"{self._run}-{self._process}-{ask.first}"

    def _item(self, kind: int, count: int, intended_us: int) -> bytes:
        stamped = stamp(self._run, number(self._process, count), intended_us)
        ordered = b'{"ordering_key":"order-%d",' % (count % KEYS) if self._ordered[kind] else b"{"
        turn, origin = divmod(count, self._origins)
        before, after = self._heads[kind][origin]
        return ordered + before + b"%d" % (turn % self._recipients) + after + stamped + self._tails[kind]


def _head(channel: Channel, hook: str) -> tuple[bytes, bytes]:
    """What comes before and after the number of the recipient, up to the message."""
    if channel is Channel.EMAIL:
        return b'"channel":"email","recipient":"ada-', b'@example.org","subject":"It is on its way","message":"'
    return f'"channel":"webhook","recipient":"{hook}/hook/'.encode(), b'","message":"'


def _tail(kind: Kind) -> bytes:
    text = "".join(islice(cycle(_WORDS), max(0, kind.message_bytes - LENGTH)))
    rest = {"metadata": {"order": "4711", "source": "load test"}}
    if kind.channel is Channel.WEBHOOK:
        rest["payload"] = {"order": "4711", "state": "shipped"}
    return (json.dumps(text)[1:-1] + '",' + json.dumps(rest, separators=(",", ":"))[1:]).encode()
