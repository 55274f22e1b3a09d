"""What a crash test asks for: few notifications of every kind, by a client that remembers what it was told."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import orjson

from tests.chaos.config import Config
from tests.chaos.ledger import Ledger, now
from tests.chaos.load import Drawer, Item, Request, digest
from tests.chaos.producer import PATH, Answer, Producer

CANCEL_TIMEOUTS = 3


class Sender(Producer):
    """A producer that is told what to send. It repeats a request under its key until it is answered."""

    def __init__(self, config: Config, ledger: Ledger, number: int) -> None:
        rng = Random(number)
        super().__init__(config, ledger, Drawer(rng, number, (), config.hooks_port), rng, number)
        self._requested = itertools.count()

    def send(self, items: Sequence[Item], *, key: bool = True, repeats: int = 0) -> list[str]:
        """Ask for one notification, or for a batch; return the ids, none where nobody answered. Under a key unless
        told otherwise, and `repeats` times more under the same. What goes without a key is asked for once: where nobody
        answers, nobody but the database knows.
        """
        number = next(self._requested)
        request = Request(
            number, "batch" if len(items) > 1 else "single", list(items), key=f"crash-{self._number}-{number}" if key
            else None,
        )  # fmt: skip
        name, body = f"{self._number}-{number}", self._body(request)
        path = PATH + "/batch" if request.kind == "batch" else PATH
        self._ledger.write(
            {"e": "invoke", "t": now(), "r": name, "kind": request.kind, "key": request.key,
             "items": [item.entry() for item in request.items]}
        )  # fmt: skip
        result, ids, tries = self._until_known(path, body, request.key)
        self._ledger.write({"e": result, "t": now(), "r": name, "ids": ids, "tries": tries})
        for _ in range(repeats if key and result == "ok" else 0):
            self._repeat(Request(number, request.kind, request.items, key=request.key, repeat="same"), path, body, name)
        return ids

    def note_accepted(self, item: Item, notification_id: str, began: float) -> None:
        """Remember a notification that was accepted without the API, in a transaction of an application's own."""
        name = f"{self._number}-{next(self._requested)}"
        invoke = {"e": "invoke", "t": began, "r": name, "kind": "single", "key": None, "items": [item.entry()]}
        self._ledger.write(invoke)
        self._ledger.write({"e": "ok", "t": now(), "r": name, "ids": [notification_id], "tries": [202]})

    def ask(self, method: str, path: str, body: Any) -> int:
        """Ask for something that no ledger needs; return the status, 0 if nobody answered."""
        answer: Answer | None = self._client.call(method, path, body)
        return answer[0] if answer else 0

    def cancel(self, notification_id: str) -> int:
        """Ask for a cancel until somebody answers; return the status, 0 if nobody did."""
        for _ in range(CANCEL_TIMEOUTS):
            self._ledger.write({"e": "cancel", "t": now(), "id": notification_id})
            answer: Answer | None = self._client.call("DELETE", f"{PATH}/{notification_id}")
            status = answer[0] if answer else 0
            state = orjson.loads(answer[2]).get("state") if answer and status == 409 else None
            self._ledger.write({"e": "cancelled", "t": now(), "id": notification_id, "status": status, "state": state})
            if status in (200, 409):
                return status
        return 0


class Asking:
    """Makes items; each token is used once, whichever thread asks."""

    def __init__(self, hosts: Mapping[str, Sequence[str]], port: int) -> None:
        self._hosts = {behaviour: itertools.cycle(some) for behaviour, some in hosts.items()}
        self._port = port
        self._numbers = itertools.count(1)

    def hook(self, target: str = "ok", *, host: str | None = None, **more: Any) -> Item:
        """A webhook to an address that behaves so."""
        address = host or next(self._hosts[target])
        return self._item(target, {"channel": "webhook", "recipient": f"http://{address}:{self._port}/in", **more})

    def mail(self, target: str = "ok", **more: Any) -> Item:
        """A mail to a recipient that has the server behave so."""
        number = next(self._numbers)
        recipient = f"{target}.{number}@d{number % 7}.example.org"
        return self._item(target, {"channel": "email", "recipient": recipient, "subject": f"S {number}", **more})

    def hooks(self, count: int, target: str = "ok", **more: Any) -> list[Item]:
        """Several of them."""
        return [self.hook(target, **more) for _ in range(count)]

    def ordered(self, name: str, count: int) -> list[Item]:
        """Webhooks of four keys in turn."""
        return [self.hook(ordering_key=f"{name}-{n % 4}") for n in range(count)]

    def mixed(self) -> Iterator[tuple[list[Item], bool]]:
        """Requests of every kind, and whether each goes under a key: single, batch, mail, scheduled, expiring, ordered,
        refused, held. The first four are one and many, without a key and with one.
        """
        yield [self.hook()], False
        yield [*self.hooks(14), *(self.mail() for _ in range(5)), *self.hooks(2, "slow")], True
        yield [self.mail()], True
        yield [*self.hooks(100), *(self.mail() for _ in range(10)), *self.ordered("unkeyed", 20)], False
        yield [*self.hooks(4), self.hook(expires_in=20), self.hook(scheduled_for=after(0.5))], False
        yield [self.hook(ordering_key=f"order-{n % 3}") for n in range(9)], True
        yield [self.hook(scheduled_for=after(0.6 + 0.1 * n)) for n in range(6)], True
        yield [*self.hooks(5, "http_503"), self.mail("s451"), *self.hooks(2, "gone")], True
        yield [*self.hooks(2, "ambiguous"), *self.hooks(2, "ambiguous", on_unknown="hold"), self.mail("cut")], True
        yield [self.hook(expires_in=20), self.hook(priority="high"), self.hook(priority="urgent")], True

    def _item(self, target: str, body: dict[str, Any]) -> Item:
        token = f"crash-{next(self._numbers)}"
        body["message"] = f"{token} of a crash test"
        found = digest(body.get("subject"), body["message"], body.get("payload"), body.get("metadata"))
        return Item(token, body, found, target)


def after(seconds: float) -> str:
    """An instant from now, as a request names it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
