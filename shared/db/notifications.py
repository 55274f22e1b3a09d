"""The notifications table: the moves between states, each one guarded statement with the outbox row that follows.

Accepting is in shared.db.accepting, promotion in shared.db.outbox.
Each function uses the caller's connection and never commits. On an autocommit connection each is one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, LiteralString, NamedTuple
from uuid import UUID

import orjson
from psycopg import Connection

from shared.db.outbox import APPEND_PENDING, RECORD_HEADERS, RECORD_KEY
from shared.model import Outcome


class Ticket(NamedTuple):
    """A record's claim to an attempt of a notification."""

    id: UUID
    attempt: int


class Claimed(NamedTuple):
    """What became of a ticket.

    `claimed`: the attempt has begun. `expired`: the notification's time had passed, and it has ended so. `suppressed`:
    nothing is sent to its recipient; it is held until that is lifted. `early`: another of its ordering key comes
    first, and whoever ends that one publishes this one again. `busy`: it is pending and another transaction holds its
    row, or is changing its key; ask again.
    """

    id: UUID
    attempt: int
    state: Literal["claimed", "expired", "suppressed", "early", "busy"]
    expires_in_s: float | None = None


def claim(conn: Connection[Any], tickets: Sequence[Ticket], *, owner: UUID, lease_s: float) -> list[Claimed]:
    """Move what may be sent now from pending to processing and begin its attempts; end what has expired.

    One statement for a whole poll batch; it waits for no row that somebody else holds. A ticket whose notification was
    cancelled, was claimed before, or waits for a later attempt is left out, which is how a record delivered twice is
    sent once. A first attempt with an ordering key needs the turn of its key: ordering_claim in init.sql.
    Raises psycopg.OperationalError when PostgreSQL is out of reach; calling again is safe.
    Source: docs/decisions/0004-claim-before-send.md, docs/decisions/0009-order-is-guarded-by-the-claim.md
    """
    query = """
        WITH free AS (
            SELECT n.id, n.attempt, n.ordering_key IS NOT NULL AND n.attempt = 1 AS ordered, s.id AS suppression_id
              FROM unnest(%(ids)s::uuid[], %(attempts)s::smallint[]) AS t(id, attempt)
              JOIN notifications n ON n.id = t.id AND n.attempt = t.attempt AND n.status = 'pending'
              LEFT JOIN suppressions s ON s.tenant_id = n.tenant_id AND s.channel = n.channel
                                      AND s.recipient = n.recipient AND s.lifted_at IS NULL
               FOR NO KEY UPDATE OF n SKIP LOCKED
        ), turn AS MATERIALIZED (
            SELECT id, verdict FROM ordering_claim(ARRAY(SELECT id FROM free WHERE ordered))
        ), moved AS (
            UPDATE notifications n
               SET status = CASE WHEN n.expires_at <= now() THEN 'expired'
                                 WHEN free.suppression_id IS NOT NULL THEN 'suppressed' ELSE 'processing' END,
                   updated_at = now()
              FROM free WHERE n.id = free.id AND n.status = 'pending'
               AND NOT (free.ordered AND EXISTS (SELECT FROM turn WHERE turn.id = free.id AND turn.verdict <> 'go'))
            RETURNING n.id, n.attempt, n.tenant_id, n.status, n.expires_at, free.suppression_id
        ), begun AS (
            INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, owner, lease_until)
            SELECT id, attempt, tenant_id, %(owner)s, now() + %(lease_s)s * interval '1 second'
              FROM moved WHERE status = 'processing'
        ), held AS (
            INSERT INTO outbox_held (notification_id, suppression_id)
            SELECT id, suppression_id FROM moved WHERE status = 'suppressed'
        ), ended AS (
            UPDATE dlq_messages d SET status = 'resolved', resolution = moved.status, resolved_at = now()
              FROM moved WHERE moved.status IN ('expired', 'suppressed') AND moved.attempt > 1
                           AND d.notification_id = moved.id AND d.status = 'retrying'
        )
        SELECT id, attempt, CASE status WHEN 'processing' THEN 'claimed' ELSE status END,
               extract(epoch FROM expires_at - now())::float8
          FROM moved
         UNION ALL
        SELECT DISTINCT free.id, free.attempt, turn.verdict, NULL::float8
          FROM free JOIN turn ON turn.id = free.id AND turn.verdict <> 'go'
         UNION ALL
        SELECT DISTINCT n.id, n.attempt, 'busy', NULL::float8
          FROM unnest(%(ids)s::uuid[], %(attempts)s::smallint[]) AS t(id, attempt)
          JOIN notifications n ON n.id = t.id AND n.attempt = t.attempt AND n.status = 'pending'
         WHERE (SELECT count(*) FROM free) < %(count)s AND n.id NOT IN (SELECT id FROM free)
    """
    parameters = {"owner": owner, "lease_s": lease_s, "count": len(tickets)} | ticket_arrays(tickets)
    return [Claimed(*row) for row in conn.execute(query, parameters)]


@dataclass(slots=True)
class Ended:
    """How an attempt ended, as its owner writes it back, with the place its record stood in Kafka.

    Nobody changes one; a frozen one would take three times as long to make.
    """

    id: UUID
    attempt: int
    outcome: Outcome
    reason: str
    detail: str | None = None
    receipt: str | None = None
    provider: str | None = None
    destination: str | None = None
    tries: int = 1
    retry_after_s: float | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    suppress: str | None = None  # the recipient is gone: `gone` or `address_refused`, a reason of suppressions


_DEAD_LETTER_HEADERS: Final[LiteralString] = f"""
    jsonb_strip_nulls({RECORD_HEADERS} || jsonb_build_object(
        'error-class', e.outcome, 'error-reason', e.reason, 'error-message', e.detail, 'destination', e.destination,
        'retry-after-s', e.retry_after_s::text, 'failed-at', to_char(now(), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'original-topic', e.topic, 'original-partition', e.partition::text, 'original-offset', e."offset"::text))
"""

APPEND_DEAD_LETTERS: Final[LiteralString] = f"""
    INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
    SELECT n.id, n.bucket, %(dlq_topic)s, {RECORD_KEY}, n.record, {_DEAD_LETTER_HEADERS}
      FROM moved n JOIN ended e ON e.notification_id = n.id WHERE n.status = 'failed'
"""


def write_back(conn: Connection[Any], outcomes: Sequence[Ended], *, owner: UUID, dlq_topic: str) -> int:
    """End attempts and their notifications: sent, or failed with a dead letter on its way. One statement, any number.

    Returns how many attempts were still this owner's to end; the others were taken over when their lease was over.
    What failed because its recipient is gone suppresses that recipient as well. A repeat ends nothing twice.
    Raises psycopg.OperationalError when PostgreSQL is out of reach.
    """
    query = f"""
        WITH o AS (
            SELECT * FROM jsonb_to_recordset(%(outcomes)s::jsonb) AS o(
                id uuid, attempt smallint, outcome text, reason text, detail text, receipt text, provider text,
                destination text, tries smallint, retry_after_s float8, topic text, partition int, "offset" bigint,
                suppress text)
        ), ended AS (
            UPDATE delivery_attempts a
               SET outcome = o.outcome, reason = o.reason, detail = o.detail, receipt = o.receipt, tries = o.tries,
                   provider = o.provider, destination = o.destination, ended_at = now()
              FROM o WHERE a.notification_id = o.id AND a.attempt = o.attempt
                       AND a.owner = %(owner)s AND a.outcome = 'begun'
            RETURNING a.notification_id, a.attempt, o.outcome, o.reason, o.detail, o.destination, o.retry_after_s,
                      o.topic, o.partition, o."offset"
        ), moved AS (
            UPDATE notifications n
               SET status = CASE WHEN ended.outcome = 'accepted' THEN 'sent' ELSE 'failed' END, updated_at = now()
              FROM ended
             WHERE n.id = ended.notification_id AND n.attempt = ended.attempt AND n.status = 'processing'
            RETURNING n.*
        ), resolved AS (
            UPDATE dlq_messages d SET status = 'resolved', resolution = 'sent', resolved_at = now()
              FROM moved WHERE moved.status = 'sent' AND moved.attempt > 1
                           AND d.notification_id = moved.id AND d.status = 'retrying'
        ), suppressed AS (
            INSERT INTO suppressions AS s (tenant_id, channel, recipient, reason, detail, notification_id, created_by)
            SELECT DISTINCT ON (n.tenant_id, n.channel, n.recipient)
                   n.tenant_id, n.channel, n.recipient, o.suppress, o.reason, n.id, 'delivery_consumer'
              FROM moved n JOIN o ON o.id = n.id AND o.suppress IS NOT NULL WHERE n.status = 'failed'
             ORDER BY n.tenant_id, n.channel, n.recipient
            ON CONFLICT (tenant_id, channel, recipient) DO UPDATE
               SET reason = EXCLUDED.reason, detail = EXCLUDED.detail, notification_id = EXCLUDED.notification_id,
                   created_by = EXCLUDED.created_by, created_at = now(), lifted_at = NULL, lifted_by = NULL
             WHERE s.lifted_at IS NOT NULL
        ), dead AS ({APPEND_DEAD_LETTERS})
        SELECT count(*) FROM ended
    """
    parameters = {"outcomes": _outcomes_json(outcomes), "owner": owner, "dlq_topic": dlq_topic}
    row = conn.execute(query, parameters).fetchone()
    return int(row[0]) if row else 0


def _outcomes_json(outcomes: Sequence[Ended]) -> str:
    # orjson writes dataclasses, enums and UUIDs by itself; it raises for a lone surrogate.
    return orjson.dumps([_storable(ended) for ended in outcomes]).decode()


def _storable(ended: Ended) -> Ended:
    """Return an outcome whose words PostgreSQL can store: the other side wrote some of them.

    Half a surrogate pair (a byte that was no UTF-8) becomes a question mark, NUL U+FFFD.
    """
    words = f"{ended.reason}{ended.detail}{ended.receipt}{ended.destination}"
    if words.isascii() and "\0" not in words:
        return ended
    reason, detail, receipt, destination = map(
        _storable_text, (ended.reason, ended.detail, ended.receipt, ended.destination)
    )
    return replace(ended, reason=reason or "", detail=detail, receipt=receipt, destination=destination)


def _storable_text(text: str | None) -> str | None:
    return text and text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def release(conn: Connection[Any], tickets: Sequence[Ticket], *, owner: UUID, republish: bool) -> int:
    """Give claimed attempts back whose first byte was never sent; return how many were still this owner's.

    They are pending again (expired, if their time has passed meanwhile) and their attempt rows are gone. With
    `republish` an outbox row follows; without it their records must still be uncommitted in Kafka.
    """
    query = f"""
        WITH given AS (
            DELETE FROM delivery_attempts a
             USING unnest(%(ids)s::uuid[], %(attempts)s::smallint[]) AS t(id, attempt)
             WHERE a.notification_id = t.id AND a.attempt = t.attempt AND a.owner = %(owner)s AND a.outcome = 'begun'
            RETURNING a.notification_id, a.attempt
        ), moved AS (
            UPDATE notifications n
               SET status = CASE WHEN n.expires_at <= now() THEN 'expired' ELSE 'pending' END, updated_at = now()
              FROM given
             WHERE n.id = given.notification_id AND n.attempt = given.attempt AND n.status = 'processing'
            RETURNING n.*
        ), resolved AS (
            UPDATE dlq_messages d SET status = 'resolved', resolution = 'expired', resolved_at = now()
              FROM moved WHERE moved.status = 'expired' AND d.notification_id = moved.id AND d.status = 'retrying'
        ), published AS ({APPEND_PENDING} AND %(republish)s)
        SELECT count(*) FROM given
    """
    parameters = {"owner": owner, "republish": republish} | ticket_arrays(tickets)
    row = conn.execute(query, parameters).fetchone()
    return int(row[0]) if row else 0


def end_overdue_leases(conn: Connection[Any], *, dlq_topic: str, limit: int) -> int:
    """End attempts whose lease is over as `unknown` and fail their notifications; return how many.

    Their owner died or was stopped: the request may have gone out. Rows another session holds are skipped.
    """
    query = f"""
        WITH ended AS (
            UPDATE delivery_attempts a
               SET outcome = 'unknown', reason = 'lease_over', detail = 'its consumer stopped before it reported',
                   ended_at = now()
              FROM (SELECT notification_id, attempt FROM delivery_attempts
                     WHERE outcome = 'begun' AND lease_until < now()
                     ORDER BY lease_until LIMIT %(limit)s FOR UPDATE SKIP LOCKED) over
             WHERE a.notification_id = over.notification_id AND a.attempt = over.attempt
            RETURNING a.notification_id, a.attempt, a.outcome, a.reason, a.detail, a.destination,
                      NULL::float8 AS retry_after_s, NULL::text AS topic, NULL::int AS partition,
                      NULL::bigint AS "offset"
        ), moved AS (
            UPDATE notifications n SET status = 'failed', updated_at = now()
              FROM ended WHERE n.id = ended.notification_id AND n.attempt = ended.attempt AND n.status = 'processing'
            RETURNING n.*
        ), dead AS ({APPEND_DEAD_LETTERS})
        SELECT count(*) FROM ended
    """
    row = conn.execute(query, {"dlq_topic": dlq_topic, "limit": limit}).fetchone()
    return int(row[0]) if row else 0


def requeue_due(conn: Connection[Any], *, limit: int) -> int:
    """Publish dead letters again whose retry_at has come, as attempt n+1; return how many rows were taken up.

    One statement; rows another session holds are skipped, so several schedulers share the work. A row whose
    notification does not stand where it should rests for a person instead of being tried for ever.
    """
    query = f"""
        WITH due AS (
            SELECT id, notification_id, attempt FROM dlq_messages
             WHERE status = 'failed' AND retry_at <= now() AND notification_id IS NOT NULL
             ORDER BY retry_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ), moved AS (
            UPDATE notifications n SET status = 'pending', attempt = n.attempt + 1, updated_at = now()
              FROM due WHERE n.id = due.notification_id AND n.status = 'failed' AND n.attempt = due.attempt
            RETURNING n.*
        ), marked AS (
            UPDATE dlq_messages d
               SET status = CASE WHEN moved.id IS NULL THEN 'failed' ELSE 'retrying' END, retry_at = NULL,
                   retry_count = d.retry_count + CASE WHEN moved.id IS NULL THEN 0 ELSE 1 END,
                   rest_reason = CASE WHEN moved.id IS NULL THEN 'notification_moved_on' END
              FROM due LEFT JOIN moved ON moved.id = due.notification_id WHERE d.id = due.id
        ), published AS ({APPEND_PENDING})
        SELECT count(*) FROM due
    """
    row = conn.execute(query, {"limit": limit}).fetchone()
    return int(row[0]) if row else 0


def replay(conn: Connection[Any], dead_letter_id: UUID, *, tenant_id: str) -> bool:
    """Publish one failed dead letter again at a person's word; False where it is not failed, or is unknown."""
    query = f"""
        WITH due AS (
            SELECT id, notification_id, attempt FROM dlq_messages
             WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND status = 'failed' FOR UPDATE
        ), moved AS (
            UPDATE notifications n SET status = 'pending', attempt = n.attempt + 1, updated_at = now()
              FROM due WHERE n.id = due.notification_id AND n.status = 'failed' AND n.attempt = due.attempt
            RETURNING n.*
        ), marked AS (
            UPDATE dlq_messages d SET status = 'retrying', retry_at = NULL, rest_reason = NULL,
                                      retry_count = d.retry_count + 1
              FROM moved WHERE d.notification_id = moved.id
        ), published AS ({APPEND_PENDING})
        SELECT count(*) FROM moved
    """
    row = conn.execute(query, {"id": dead_letter_id, "tenant_id": tenant_id}).fetchone()
    return bool(row and row[0])


def cancel(conn: Connection[Any], notification_id: UUID, *, tenant_id: str) -> bool:
    """Cancel what has no attempt under way and may still get one; True if this call or an earlier one did.

    That is pending, scheduled, or held for a suppression; False for any other state. After True no attempt begins: the
    claim asks for `pending`. The outbox row or Kafka record left behind is dropped by the claim, a scheduled one's
    wait by the promotion, a held one's when its suppression is lifted.
    """
    query = """
        WITH moved AS (
            UPDATE notifications SET status = 'cancelled', updated_at = now()
             WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND status IN ('pending', 'scheduled', 'suppressed')
            RETURNING id, attempt
        ), ended AS (
            UPDATE dlq_messages d SET status = 'resolved', resolution = 'cancelled', resolved_at = now()
              FROM moved WHERE moved.attempt > 1 AND d.notification_id = moved.id
                           AND (d.status = 'retrying' OR d.resolution = 'suppressed')
        )
        SELECT FROM moved
    """
    earlier = "SELECT FROM notifications WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND status = 'cancelled'"
    parameters = {"id": notification_id, "tenant_id": tenant_id}
    if conn.execute(query, parameters).rowcount:
        return True
    # A statement of its own, which sees what the one above has waited for.
    return bool(conn.execute(earlier, parameters).rowcount)


def has_several_tenants(conn: Connection[Any]) -> bool:
    """Say whether there are notifications of more than one tenant: two looks at the ends of an index."""
    row = conn.execute("SELECT min(tenant_id) IS DISTINCT FROM max(tenant_id) FROM notifications").fetchone()
    return bool(row and row[0])


def ticket_arrays(tickets: Sequence[Ticket]) -> dict[str, str]:
    """Write array literals: Python lists as parameters cost ten times as much to encode."""
    return {
        "ids": "{" + ",".join(str(ticket.id) for ticket in tickets) + "}",
        "attempts": "{" + ",".join(str(ticket.attempt) for ticket in tickets) + "}",
    }
