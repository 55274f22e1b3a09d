"""The words of the pipeline: channels, priorities, states and the moves between them. No I/O, no imports of ours."""

import os
import threading
import time
import zlib
from enum import StrEnum
from typing import Final
from uuid import UUID, SafeUUID

import orjson

BUCKETS: Final = 64
"""Relays share the outbox by this many buckets; a power of two, so a mask finds one."""


class Channel(StrEnum):
    """How a notification reaches its recipient; each has a topic, a payload schema and a provider of its own."""

    EMAIL = "email"
    WEBHOOK = "webhook"


class Priority(StrEnum):
    """How urgent; `high` and `urgent` travel on the channel's high lane unless an ordering key forbids it."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class OnUnknown(StrEnum):
    """What to do when an attempt may have arrived: send again (a duplicate is possible) or hold it for a person."""

    RETRY = "retry"
    HOLD = "hold"


class Status(StrEnum):
    """Where a notification stands; `MOVES` says what may follow."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"


MOVES: Final[dict[Status, frozenset[Status]]] = {
    Status.SCHEDULED: frozenset({Status.PENDING, Status.CANCELLED}),
    Status.PENDING: frozenset({Status.PROCESSING, Status.CANCELLED, Status.EXPIRED, Status.SUPPRESSED, Status.FAILED}),
    # Back to pending: claimed, but its owner gave it back before the first byte was sent.
    Status.PROCESSING: frozenset({Status.SENT, Status.FAILED, Status.PENDING, Status.EXPIRED}),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.SENT: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.SUPPRESSED: frozenset({Status.PENDING, Status.CANCELLED}),  # held: the suppression may be lifted
}
"""Every move a statement in shared/db may make. pending → failed is the relay's: Kafka refused the record for good."""


class Outcome(StrEnum):
    """How an attempt ended. `unknown`: the request may have arrived, nobody can say."""

    ACCEPTED = "accepted"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    UNKNOWN = "unknown"


class FailureClass(StrEnum):
    """Whose fault a dead letter is: the receiver's side (first three) or, for `poison`, ours."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    UNKNOWN = "unknown"
    POISON = "poison"


class BreakerState(StrEnum):
    """Whether a destination is called: freely, not at all, or by one probe at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


def bucket_of(key: bytes) -> int:
    """Return the bucket, 0 to 63, of a Kafka key; stable across processes and releases."""
    return zlib.crc32(key) & (BUCKETS - 1)


_TAIL: Final = (1 << 62) - 1


class UuidV7Factory:
    """Makes UUIDv7 ids (RFC 9562 §5.7) that rise strictly within a process, also when the clock steps back.

    Layout: 48 bits of Unix milliseconds, 12 bits counting ids of one millisecond, 62 random bits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def __call__(self) -> UUID:
        """Return the next id."""
        return self.many(1)[0]

    def many(self, count: int) -> list[UUID]:
        """Return the next ids; together they cost a third of what they do one by one."""
        with self._lock:
            first = max(self._last + 1, time.time_ns() // 1_000_000 << 12)
            self._last = first + count - 1
        tails = memoryview(os.urandom(8 * count)).cast("Q")
        return [
            _uuid(number >> 12 << 80 | 0x7 << 76 | (number & 0xFFF) << 64 | 0b10 << 62 | tail & _TAIL)
            for number, tail in zip(range(first, first + count), tails, strict=True)
        ]


_UNKNOWN: Final = SafeUUID.unknown


def _uuid(value: int) -> UUID:
    """Return the UUID of a number known to be one: UUID itself looks at six ways to be called, twice as long."""
    made = object.__new__(UUID)
    object.__setattr__(made, "int", value)
    object.__setattr__(made, "is_safe", _UNKNOWN)
    return made


uuid7 = UuidV7Factory()


def uuid7_unix_ms(value: UUID) -> int:
    """Return the Unix milliseconds inside a UUIDv7."""
    return value.int >> 80


def uuid_texts(values: list[UUID]) -> list[str]:
    """Return the texts of several ids: as one JSON document, a fifth of what str() of each takes."""
    return orjson.dumps(values).decode()[2:-2].split('","')
