"""A record on its way through the consumer: as Kafka handed it over, and as a job that a worker takes."""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from delivery_consumer.destinations import Destination
from delivery_consumer.offsets import PartitionOffsets
from delivery_consumer.rates import Rate
from delivery_consumer.tenants import Tenant, Tenants
from shared.db.notifications import Ticket
from shared.model import Channel
from shared.records import (
    HEADER_ATTEMPT,
    HEADER_CORRELATION_ID,
    HEADER_TRACEPARENT,
    Record,
    UndecodableRecordError,
    attempt_of,
    decode_record,
    header_text,
    raw_headers,
)

Headers = list[tuple[str, bytes | str | None]]
PartitionId = tuple[str, int]
"""Topic and partition."""


class Received(NamedTuple):
    """One Kafka record, its bytes as they were read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None

    @property
    def size_bytes(self) -> int:
        """Return what its value weighs."""
        return len(self.value or b"")


@dataclass(slots=True, eq=False)
class Source:
    """An assigned partition while we own it. A partition that comes back later is a new Source."""

    topic: str
    partition: int
    high: bool
    offsets: PartitionOffsets = field(default_factory=PartitionOffsets)
    leaving: bool = False  # being given back or lost: nothing of it is begun any more
    lost: bool = False  # somebody else may own it already
    in_hand: int = 0  # records read and neither ended nor given back
    idle: asyncio.Event = field(default_factory=asyncio.Event)  # set while leaving and nothing is in hand


@dataclass(slots=True, eq=False)
class Job:
    """One attempt of one notification, from reading its record to the end of its write-back."""

    record: Record
    ticket: Ticket
    source: Source
    tenant: Tenant
    offset: int
    traceparent: str | None
    correlation_id: str | None
    size_bytes: int
    lease_until: float = 0.0  # monotonic clock
    expires_at: float | None = None  # monotonic clock
    destination: Destination | None = None
    holds_slot: bool = False
    busy_for: Tenant | None = None  # taken to be claimed, and not given back since: as whose, everybody's or its own
    rate: Rate | None = None  # of its endpoint, until its turn has come
    paced: bool = False  # its endpoint has a rate: a turn is one call, and the next one is another attempt's
    known_until: float = 0.0  # until then nobody need ask whether what was looked up for it is too old; monotonic clock
    refused: str | None = None  # ended before it was begun, as transient, for this reason
    out_of_turn: bool = False  # claimed beside an earlier one of its key, to be told that it is early
    begun: bool = False  # a provider may have been called
    unheard: bool = False  # a claim of it may have succeeded whose answer was lost
    taken_over: bool = False  # the lease was over and somebody else ended the attempt
    cut: bool = False  # stopped in the middle because the process has to end
    tries: int = 0
    worker: asyncio.Task[None] | None = None

    @property
    def key(self) -> tuple[str, str] | None:
        """Return what it keeps order by, or None."""
        ordering_key = self.record.ordering_key
        return (self.record.tenant_id, ordering_key) if ordering_key else None


def job_of(received: Received, source: Source, channels: frozenset[Channel], tenants: Tenants) -> Job:
    """Decode a record into a job. Raises UndecodableRecordError for what no release of ours has written."""
    headers = raw_headers(received.headers)
    record = decode_record(received.value)
    if record.channel not in channels:
        raise UndecodableRecordError("unknown_channel")
    try:
        ticket = Ticket(UUID(record.id), attempt_of(header_text(headers, HEADER_ATTEMPT)))
    except ValueError as error:
        if isinstance(error, UndecodableRecordError):
            raise
        raise UndecodableRecordError("bad_field") from error
    return Job(
        record,
        ticket,
        source,
        tenants.get(record.tenant_id),
        received.offset,
        header_text(headers, HEADER_TRACEPARENT) or None,
        header_text(headers, HEADER_CORRELATION_ID) or None,
        received.size_bytes,
    )
