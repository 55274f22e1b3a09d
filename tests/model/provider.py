"""A provider whose answers the model gives, and gates where a consumer waits until the model lets it go on."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from delivery_consumer.destinations import Limits
from delivery_consumer.errors import PermanentDeliveryError, TransientDeliveryError, UnknownOutcomeError
from delivery_consumer.providers import Attempt, Place, Receipt
from shared.records import Record

Reply = Literal["accepted", "transient", "later", "permanent", "gone", "unknown, delivered", "unknown, not delivered"]
REPLIES: Final[tuple[Reply, ...]] = (
    "accepted",
    "transient",
    "later",
    "permanent",
    "gone",
    "unknown, delivered",
    "unknown, not delivered",
)
RETRY_AFTER_S: Final = 2_000.0


@dataclass(eq=False, slots=True)
class Gate:
    """A task that waits for the model's word."""

    name: str
    ticket: Any
    word: "asyncio.Future[Any]"


@dataclass(slots=True)
class Gates:
    """The tasks of one process that wait, oldest first."""

    waiting: list[Gate] = field(default_factory=list)

    async def arrive(self, name: str, ticket: Any = None) -> Any:
        """Wait; return the model's word."""
        gate = Gate(name, ticket, asyncio.get_running_loop().create_future())
        self.waiting.append(gate)
        try:
            return await gate.word
        finally:
            self.waiting.remove(gate)

    def of(self, *names: str) -> list[Gate]:
        """Return those of some names."""
        return [gate for gate in self.waiting if gate.name in names and not gate.word.done()]


class Witness(Protocol):
    """Who is told of every call before its first byte, and of every delivery."""

    def call_begins(self, owner: str, record: Record, attempt: int) -> None:
        """A call is about to begin."""
        ...

    def delivered(self, notification_id: str, attempt: int, how: str) -> None:
        """The receiver has it."""
        ...


class ModelProvider:
    """Provider: each call waits at a gate for its answer."""

    name, timeout_s, directory = "webhook", 15.0, None
    limits = Limits(slots=50, first_slots=50, waiting=5)

    def __init__(self, owner: str, gates: Gates, witness: Witness) -> None:
        self._owner, self._gates, self._witness = owner, gates, witness
        self.dead = False

    def place(self, record: Record, *, looked_up: bool = False) -> Place:
        """The recipient's host."""
        return Place(record.recipient.split("/")[2])

    async def send(self, record: Record, attempt: Attempt) -> Receipt:
        """Tell the witness, wait, answer."""
        self._witness.call_begins(self._owner, record, attempt.number)
        try:
            reply: Reply = await self._gates.arrive("provider", (record.id, attempt.number))
        except asyncio.CancelledError:
            if not self.dead:  # cut off in the middle: the receiver may have it
                self._witness.delivered(record.id, attempt.number, "cut")
            raise
        if reply in ("accepted", "unknown, delivered"):
            self._witness.delivered(record.id, attempt.number, reply)
        return self._answer(reply)

    @staticmethod
    def _answer(reply: Reply) -> Receipt:
        if reply == "accepted":
            return Receipt("http_200")
        if reply == "transient":
            raise TransientDeliveryError("http_503", answered=True)
        if reply == "later":
            raise TransientDeliveryError("http_429", answered=True, retry_after_s=RETRY_AFTER_S)
        if reply == "permanent":
            raise PermanentDeliveryError("http_400", answered=True)
        if reply == "gone":
            raise PermanentDeliveryError("http_410", answered=True, suppress="gone")
        raise UnknownOutcomeError("no_answer")

    async def aclose(self) -> None:
        """Nothing is open."""
