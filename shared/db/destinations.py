"""The tables destination_reports and delivery_consumers: what consumers hold against destinations, to be looked at."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

import orjson
from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from shared.model import BreakerState, Channel

GONE_AFTER_S: Final = 15
"""A consumer that has not reported for so long is taken for gone."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one consumer holds against one destination at this instant."""

    destination: str
    channel: str
    breaker: BreakerState
    slots_in_use: int
    slots_allowed: int
    waiting: int
    calls: int
    failures: int
    last_reason: str | None
    probe_in_s: float | None  # until the breaker lets a probe through; None while it is closed
    tenant_id: str = ""  # whose destination it is; empty: one that all share


@dataclass(frozen=True, slots=True)
class Reported:
    """What came of a report."""

    known: bool  # the consumer was, before it
    webhook_consumers: int  # how many are alive that send webhooks, this one taken for one of them


def report(
    conn: Connection[Any],
    consumer: UUID,
    reports: Sequence[Report],
    *,
    forgotten: Sequence[tuple[str, str]] = (),
    channels: Iterable[Channel] = tuple(Channel),
) -> Reported:
    """Say that a consumer is alive, write what has changed, drop what it has forgotten and consumers that are gone.

    `channels` are those that it sends. One statement. Where nothing was known of this consumer before, what it reported
    earlier and does not report now is missing: it reports all of it again.
    """
    query = """
        WITH beat AS (
            INSERT INTO delivery_consumers (consumer, channels) VALUES (%(consumer)s, %(channels)s)
            ON CONFLICT (consumer) DO UPDATE SET reported_at = now()
        ), silent AS (
            SELECT consumer FROM delivery_consumers
             WHERE reported_at < now() - %(gone_after_s)s * interval '1 second' AND consumer <> %(consumer)s
             LIMIT 8 FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM delivery_consumers c USING silent WHERE c.consumer = silent.consumer RETURNING c.consumer
        ), swept AS (
            DELETE FROM destination_reports r USING gone WHERE r.consumer = gone.consumer
        ), dropped AS (
            DELETE FROM destination_reports r
             USING unnest(%(tenants)s::text[], %(names)s::text[]) AS f(tenant_id, destination)
             WHERE r.destination = f.destination AND r.tenant_id = f.tenant_id AND r.consumer = %(consumer)s
        ), written AS (
            INSERT INTO destination_reports
                   (tenant_id, destination, consumer, channel, breaker, slots_in_use, slots_allowed, waiting, calls,
                    failures, last_reason, next_probe_at)
            SELECT tenant_id, destination, %(consumer)s, channel, breaker, slots_in_use, slots_allowed, waiting, calls,
                   failures, last_reason, now() + probe_in_s * interval '1 second'
              FROM jsonb_to_recordset(%(reports)s) AS r (
                   tenant_id text, destination text, channel text, breaker text, slots_in_use int, slots_allowed int,
                   waiting int, calls int, failures int, last_reason text, probe_in_s float8)
            ON CONFLICT (destination, tenant_id, consumer) DO UPDATE SET
                   channel = excluded.channel, breaker = excluded.breaker, slots_in_use = excluded.slots_in_use,
                   slots_allowed = excluded.slots_allowed, waiting = excluded.waiting, calls = excluded.calls,
                   failures = excluded.failures, last_reason = excluded.last_reason,
                   next_probe_at = excluded.next_probe_at, changed_at = now()
        )
        SELECT count(*) FILTER (WHERE consumer = %(consumer)s),
               count(*) FILTER (WHERE consumer <> %(consumer)s AND 'webhook' = ANY(channels)
                                  AND reported_at >= now() - %(gone_after_s)s * interval '1 second')
          FROM delivery_consumers
    """
    parameters = {
        "consumer": consumer,
        "channels": [channel.value for channel in channels],
        "gone_after_s": GONE_AFTER_S,
        "tenants": [tenant_id for tenant_id, _ in forgotten],
        "names": [name for _, name in forgotten],
        "reports": Jsonb(list(reports), dumps=orjson.dumps),  # it knows dataclasses
    }
    known, others = conn.execute(query, parameters).fetchall()[0]
    return Reported(known=bool(known), webhook_consumers=others + 1)


@dataclass(frozen=True, slots=True)
class Seen:
    """A destination over all consumers that are alive: the worst breaker, the sums, the last that was heard."""

    destination: str
    channel: str
    breaker: str
    slots_in_use: int
    slots_allowed: int
    waiting: int
    calls: int
    failures: int
    last_reason: str | None
    next_probe_at: datetime | None
    reported_at: datetime
    consumer_count: int


@dataclass(frozen=True, slots=True)
class SeenByOne:
    """What one consumer holds against a destination."""

    consumer: UUID
    breaker: str
    slots_in_use: int
    slots_allowed: int
    waiting: int
    calls: int
    failures: int
    last_reason: str | None
    next_probe_at: datetime | None
    changed_at: datetime
    reported_at: datetime


@dataclass(frozen=True, slots=True)
class Filter:
    """Which destinations to list: a tenant's and those that all share; None means any."""

    tenant_id: str
    destination: str | None = None
    breaker: BreakerState | None = None
    channel: Channel | None = None
    after: str | None = None  # exclusive


_ALIVE: Final[LiteralString] = """ARRAY(SELECT consumer FROM delivery_consumers
    WHERE reported_at >= now() - %(gone_after_s)s * interval '1 second')"""
_WORST: Final[LiteralString] = """CASE WHEN bool_or(breaker = 'open') THEN 'open'
    WHEN bool_or(breaker = 'half_open') THEN 'half_open' ELSE 'closed' END"""


def list_page(conn: Connection[Any], where: Filter, *, limit: int) -> list[Seen]:
    """Return up to `limit` destinations by name, each over all consumers that are alive.

    Without a join, so that PostgreSQL goes along the primary key and ends with the page.
    """
    not_closed: LiteralString = (
        "AND r.destination IN (SELECT destination FROM destination_reports WHERE breaker <> 'closed'"
        " AND tenant_id IN (%(tenant_id)s, ''))"
        if where.breaker not in (None, BreakerState.CLOSED)
        else ""
    )
    query = f"""
        SELECT destination, min(channel) AS channel, {_WORST} AS breaker, sum(slots_in_use) AS slots_in_use,
               sum(slots_allowed) AS slots_allowed, sum(waiting) AS waiting, sum(calls) AS calls,
               sum(failures) AS failures,
               (array_agg(last_reason ORDER BY changed_at DESC) FILTER (WHERE last_reason IS NOT NULL))[1]
                 AS last_reason,
               min(next_probe_at) AS next_probe_at, count(*) AS consumer_count,
               (SELECT max(reported_at) FROM delivery_consumers WHERE consumer = ANY(array_agg(r.consumer)))
                 AS reported_at
          FROM destination_reports r
         WHERE consumer = ANY({_ALIVE}) AND tenant_id IN (%(tenant_id)s, '')
           AND (%(destination)s::text IS NULL OR destination = %(destination)s)
           AND (%(channel)s::text IS NULL OR channel = %(channel)s)
           AND (%(after)s::text IS NULL OR destination > %(after)s) {not_closed}
         GROUP BY destination HAVING %(breaker)s::text IS NULL OR {_WORST} = %(breaker)s
         ORDER BY destination LIMIT %(limit)s
    """
    parameters = asdict(where) | {"gone_after_s": GONE_AFTER_S, "limit": limit}
    return conn.cursor(row_factory=class_row(Seen)).execute(query, parameters).fetchall()


def by_consumer(conn: Connection[Any], destination: str, *, tenant_id: str) -> list[SeenByOne]:
    """Return what each consumer that is alive holds against a destination of a tenant, or of all."""
    query = f"""
        SELECT r.consumer, breaker, slots_in_use, slots_allowed, waiting, calls, failures, last_reason, next_probe_at,
               changed_at, c.reported_at
          FROM destination_reports r JOIN delivery_consumers c USING (consumer)
         WHERE destination = %(destination)s AND tenant_id IN (%(tenant_id)s, '') AND r.consumer = ANY({_ALIVE})
         ORDER BY r.consumer
    """
    parameters = {"destination": destination, "tenant_id": tenant_id, "gone_after_s": GONE_AFTER_S}
    return conn.cursor(row_factory=class_row(SeenByOne)).execute(query, parameters).fetchall()
