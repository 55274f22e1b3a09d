"""What the ledger checks of each notification: the rules, and the walks that apply them.

A rule is a condition over one notification and all that stands with it, that holds only where something is missing.
One statement judges a stretch of ids; its probes are by primary key and forced to be (LATERAL), so a stretch costs the
same in a small and in a large table. The outbox has no index by notification: its ids are copied once per run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import Connection

CHUNK: Final = 20_000
SKEW_S: Final = 120.0
"""How far the clock that made an id may be from the one that dated the key it was accepted under."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`broken` is SQL over the facts of one notification; `missing` says which cause it should have, and has not."""

    name: LiteralString
    broken: LiteralString
    missing: LiteralString


@dataclass(frozen=True, slots=True)
class Offender:
    """Something that breaks a rule. `id` is the notification's, or what the rule says where there is none."""

    rule: str
    id: str
    status: str | None
    attempt: int | None
    age_s: float | None
    missing: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How many notifications of a status are there, by what keeps them alive; `cause` None: they have ended."""

    status: str
    cause: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one statement saw."""

    after: UUID
    to: UUID  # the stretch is (after, to]
    tallies: list[Tally]
    offenders: list[Offender]


_OLD: Final[LiteralString] = "f.updated_at < now() - %(grace_s)s * interval '1 second'"
_FREE_SINCE_LONG: Final[LiteralString] = (
    "greatest(f.updated_at, f.first_since) < now() - %(grace_s)s * interval '1 second'"
)

RULES: Final = (
    Rule(
        "gone",
        "f.status IS NULL",
        "its row: it was accepted, listed as open, and is in the table no more without having been pruned",
    ),
    Rule(
        "pending_without_record",
        f"f.status = 'pending' AND f.cause = 'kafka' AND {_FREE_SINCE_LONG}",
        "an outbox row, or a consumer: it has stood still for longer than a record may be in Kafka",
    ),
    Rule("scheduled_without_due", "f.status = 'scheduled' AND f.due_at IS NULL", "its outbox_due row"),
    Rule(
        "due_overdue",
        "f.status IN ('scheduled', 'pending') AND f.due_at < now() - %(grace_s)s * interval '1 second'",
        "its promotion: its outbox_due row came due and is still there (upkeep)",
    ),
    Rule(
        "processing_without_lease",
        "f.status = 'processing' AND f.lease_until IS NULL",
        "an open attempt: nobody holds it and no lease will end",
    ),
    Rule(
        "lease_over",
        "f.status = 'processing' AND f.lease_until < now() - %(grace_s)s * interval '1 second'",
        "the end of its attempt: its lease is over and nobody ended it (upkeep)",
    ),
    Rule(
        "attempt_left_open",
        "f.open > CASE WHEN f.status = 'processing' AND f.lease_until IS NOT NULL THEN 1 ELSE 0 END",
        "an end: an attempt is open though its notification is not processing it",
    ),
    Rule(
        "sent_without_receipt",
        "f.status = 'sent' AND f.receipted IS NOT TRUE",
        "its last attempt, ended accepted and with a receipt",
    ),
    Rule(
        "accepted_not_sent",
        "f.accepted > 0 AND f.status <> 'sent'",
        "the status sent: a provider accepted an attempt of it",
    ),
    Rule(
        "failed_without_letter",
        f"f.status = 'failed' AND f.cause = 'letter' AND NOT f.in_outbox AND {_OLD}",
        "its dead letter: neither tracked in dlq_messages nor on its way in the outbox",
    ),
    Rule(
        "letter_overdue",
        "f.letter = 'failed' AND f.retry_at < now() - %(grace_s)s * interval '1 second'",
        "its retry: retry_at has passed and nobody took it up (dlq_consumer)",
    ),
    Rule(
        "letter_without_failure",
        "f.letter = 'failed' AND f.letter_attempt >= f.attempt AND f.status <> 'failed'",
        "the status failed, which its dead letter says it has",
    ),
    Rule(
        "letter_retrying_without_run",
        f"f.letter = 'retrying' AND NOT (f.status IN ('pending', 'processing') OR f.status = 'failed' AND NOT {_OLD}"
        " OR f.status = 'failed' AND f.in_outbox)",
        "the attempt its dead letter waits for: it is neither pending nor processing",
    ),
    Rule(
        "letter_resolved_otherwise",
        "f.letter = 'resolved' AND f.resolution <> CASE WHEN f.status = 'failed' THEN 'discarded' ELSE f.status END",
        "the end that its dead letter was resolved with",
    ),
    Rule(
        "ended_with_attempt",
        "f.status IN ('cancelled', 'expired', 'suppressed') AND (f.open > 0 OR f.last_began > f.updated_at)",
        "peace: an attempt is open, or began after it had ended",
    ),
    Rule("suppressed_without_hold", "f.status = 'suppressed' AND f.held IS NULL", "its outbox_held row"),
    Rule("held_without_suppression", "f.held AND NOT f.has_suppression", "the suppression it is held for"),
    Rule(
        "held_overdue",
        "f.held AND f.lifted_at < now() - %(grace_s)s * interval '1 second'",
        "its resumption: the suppression it is held for was lifted (upkeep)",
    ),
    Rule(
        "ordered_without_place",
        "f.ordering_key IS NOT NULL AND f.status IN ('pending', 'processing') AND f.attempt = 1 AND f.placed IS NULL",
        "its place in ordering_queue: nothing keeps the order of its key",
    ),
    Rule(
        "place_kept",
        "f.placed AND NOT (f.status IN ('pending', 'processing') AND f.attempt = 1)",
        "the end of its place in ordering_queue: those behind it of its key wait for it",
    ),
    Rule("attempt_above", "f.highest > f.attempt", "the move to that attempt: a later one was begun than it is at"),
    Rule("attempt_early", "f.first_began < f.scheduled_for", "patience: an attempt began before scheduled_for"),
    Rule("attempt_late", "f.last_began >= f.expires_at", "its expiry: an attempt began after expires_at"),
    Rule(
        "attempt_gap",
        "f.attempts + f.refused < f.attempt - CASE WHEN f.status IN ('processing', 'sent', 'failed') THEN 0 ELSE 1 END",
        "an attempt's row: the numbers have a gap",
    ),
)

_RANGE: Final[LiteralString] = """
    SELECT id, status, attempt, scheduled_for, expires_at, updated_at, ordering_key FROM notifications
     WHERE id > %(after)s AND id <= %(until)s ORDER BY id LIMIT %(limit)s
"""
_OPEN: Final[LiteralString] = """
    SELECT o.notification_id AS id, n.status, n.attempt, n.scheduled_for, n.expires_at, n.updated_at, n.ordering_key
      FROM (SELECT notification_id FROM audit_open WHERE notification_id > %(after)s AND notification_id <= %(until)s
             ORDER BY notification_id LIMIT %(limit)s) o
      LEFT JOIN LATERAL (SELECT * FROM notifications n WHERE n.id = o.notification_id OFFSET 0) n ON true
"""

_FACTS: Final[LiteralString] = """
    SELECT s.*, t.*, d.status AS letter, d.attempt AS letter_attempt, d.retry_at, d.resolution, u.due_at,
           h.held, h.has_suppression, h.lifted_at, q.placed, q.first_since, coalesce(r.refused, 0) AS refused,
           CASE s.status WHEN 'pending' THEN w.record_attempt = s.attempt
                         WHEN 'failed' THEN w.letter_attempt = s.attempt END IS TRUE AS in_outbox,
           CASE s.status
                WHEN 'pending' THEN CASE WHEN w.record_attempt = s.attempt THEN 'outbox'
                                         WHEN u.due_at IS NOT NULL THEN 'due'
                                         WHEN q.behind_others THEN 'queue' ELSE 'kafka' END
                WHEN 'scheduled' THEN 'due'
                WHEN 'processing' THEN 'lease'
                WHEN 'failed' THEN CASE WHEN d.attempt >= s.attempt AND d.retry_at IS NOT NULL THEN 'retry_at'
                                        WHEN d.attempt >= s.attempt THEN NULL ELSE 'letter' END
                WHEN 'suppressed' THEN 'held'
           END AS cause
      FROM seen s
      LEFT JOIN LATERAL (
            SELECT count(*) AS attempts, max(a.attempt) AS highest, min(a.began_at) AS first_began,
                   max(a.began_at) AS last_began, count(*) FILTER (WHERE a.outcome = 'begun') AS open,
                   count(*) FILTER (WHERE a.outcome = 'accepted') AS accepted,
                   bool_or(a.outcome = 'accepted' AND a.receipt IS NOT NULL AND a.attempt = s.attempt) AS receipted,
                   max(a.lease_until) FILTER (WHERE a.outcome = 'begun' AND a.attempt = s.attempt) AS lease_until
              FROM delivery_attempts a WHERE a.notification_id = s.id) t ON true
      LEFT JOIN LATERAL (SELECT * FROM dlq_messages d WHERE d.notification_id = s.id OFFSET 0) d ON true
      LEFT JOIN LATERAL (SELECT due_at FROM outbox_due u
                          WHERE u.notification_id = s.id AND s.status IN ('scheduled', 'pending') OFFSET 0) u ON true
      LEFT JOIN LATERAL (SELECT * FROM audit_waiting w
                          WHERE w.notification_id = s.id AND s.status IN ('pending', 'failed') OFFSET 0) w ON true
      LEFT JOIN LATERAL (SELECT refused FROM audit_refused r WHERE r.notification_id = s.id OFFSET 0) r ON true
      LEFT JOIN LATERAL (SELECT true AS held, p.id IS NOT NULL AS has_suppression, p.lifted_at
                           FROM outbox_held o LEFT JOIN suppressions p ON p.id = o.suppression_id
                          WHERE o.notification_id = s.id AND s.status = 'suppressed' OFFSET 0) h ON true
      LEFT JOIN LATERAL (SELECT true AS placed, q.first_since, s.status = 'pending' AND EXISTS (
                                SELECT FROM ordering_queue e WHERE e.tenant_id = q.tenant_id
                                   AND e.ordering_key = q.ordering_key AND e.seq < q.seq) AS behind_others
                           FROM ordering_queue q
                          WHERE q.notification_id = s.id AND s.ordering_key IS NOT NULL OFFSET 0) q ON true
"""
_ANY_BROKEN: Final[LiteralString] = " OR ".join(f"({rule.broken})" for rule in RULES)
_EACH_RULE: Final[LiteralString] = ", ".join(f"('{rule.name}', {rule.broken})" for rule in RULES)

_JUDGE: Final[LiteralString] = f"""
     , facts AS MATERIALIZED ({_FACTS}),
    broken AS (
        SELECT r.rule, f.id, f.status, f.attempt, extract(epoch FROM now() - f.updated_at)::float8 AS age_s
          FROM facts f CROSS JOIN LATERAL (VALUES {_EACH_RULE}) r(rule, broken) WHERE ({_ANY_BROKEN}) AND r.broken
    )
    SELECT NULL AS rule, NULL::uuid AS id, status, cause, count(*) AS count, NULL::int AS attempt, NULL::float8 AS age_s
      FROM facts WHERE status IS NOT NULL GROUP BY status, cause
     UNION ALL
    SELECT NULL, (SELECT max(id::text)::uuid FROM seen), NULL, NULL, (SELECT count(*) FROM seen), NULL, NULL
     UNION ALL
    SELECT rule, id, status, NULL, NULL, attempt, age_s FROM broken
"""


def prepare(conn: Connection[Any]) -> None:
    """Copy the ids of the outbox, once per run and transaction: it has no index by notification, and is small."""
    conn.execute("""
        CREATE TEMPORARY TABLE audit_waiting ON COMMIT DROP AS
        SELECT notification_id, min(created_at) AS waiting_since,
               max((headers ->> 'attempt')::int) FILTER (WHERE NOT headers ? 'error-class') AS record_attempt,
               max((headers ->> 'attempt')::int) FILTER (WHERE headers ? 'error-class') AS letter_attempt
          FROM outbox GROUP BY notification_id
    """)
    conn.execute("""
        CREATE TEMPORARY TABLE audit_refused ON COMMIT DROP AS
        SELECT notification_id, count(*) AS refused FROM outbox_dead WHERE NOT headers ? 'error-class'
         GROUP BY notification_id
    """)
    conn.execute("ALTER TABLE audit_waiting ADD PRIMARY KEY (notification_id)")
    conn.execute("ALTER TABLE audit_refused ADD PRIMARY KEY (notification_id)")
    conn.execute("ANALYZE audit_waiting, audit_refused")


def walk(conn: Connection[Any], *, after: UUID, until: UUID, grace_s: float, listed: bool = False) -> Iterator[Stretch]:
    """Judge the notifications of (after, until] in order of id, or those of them listed as open; one chunk at a time.

    Needs `prepare` before it, in the same transaction.
    """
    query = f"WITH seen AS MATERIALIZED ({_OPEN if listed else _RANGE}) {_JUDGE}"
    missing = {rule.name: rule.missing for rule in RULES}
    while True:
        parameters = {"after": after, "until": until, "limit": CHUNK, "grace_s": grace_s}
        last, seen, tallies, offenders = None, 0, [], []
        for rule, id_, status, cause, count, attempt, age_s in conn.execute(query, parameters).fetchall():
            if rule is not None:
                offenders.append(Offender(rule, str(id_), status, attempt, age_s, missing[rule]))
            elif status is not None:
                tallies.append(Tally(status, cause, count))
            else:
                last, seen = id_, count
        if last is None or seen < CHUNK:
            yield Stretch(after, until, tallies, offenders)
            return
        yield Stretch(after, last, tallies, offenders)
        after = last


@dataclass(frozen=True, slots=True)
class _Question:
    """Rows of another table that should not be there: SQL that answers with `id` and `age_s`."""

    name: str
    query: LiteralString
    missing: LiteralString


def _orphans(table: LiteralString, since: LiteralString) -> _Question:
    return _Question(
        f"orphan_in_{table}",
        f"""SELECT notification_id::text AS id, extract(epoch FROM now() - {since})::float8 AS age_s FROM {table} o
             WHERE o.notification_id > %(after)s AND o.notification_id <= %(until)s
               AND NOT EXISTS (SELECT FROM notifications n WHERE n.id = o.notification_id)""",
        f"its notification: {table} has a row of an id that does not exist",
    )


_QUESTIONS: Final = (
    _Question(
        "orphan_in_outbox",
        """SELECT notification_id::text AS id, extract(epoch FROM now() - waiting_since)::float8 AS age_s
             FROM audit_waiting w WHERE NOT EXISTS (SELECT FROM notifications n WHERE n.id = w.notification_id)""",
        "its notification: the outbox has a row of an id that does not exist",
    ),
    _orphans("outbox_due", "o.due_at"),
    _orphans("delivery_attempts", "o.began_at"),
    _orphans("dlq_messages", "o.last_failed_at"),
    _orphans("outbox_held", "o.held_at"),
    _orphans("ordering_queue", "now()"),
    _Question(
        "turn_kept",
        """SELECT t.notification_id::text AS id, extract(epoch FROM now() - n.updated_at)::float8 AS age_s
             FROM ordering_turns t LEFT JOIN notifications n ON n.id = t.notification_id
            WHERE (n.status = 'processing' AND n.attempt = 1) IS NOT TRUE""",
        "the end of its turn in ordering_turns: its key waits for it, and it is not processing",
    ),
    _Question(
        "answer_without_notification",
        """SELECT named.id, extract(epoch FROM now() - k.created_at)::float8 AS age_s
             FROM idempotency_keys k
            CROSS JOIN LATERAL (SELECT convert_from(k.response_body, 'UTF8')::jsonb AS body OFFSET 0) b
            CROSS JOIN LATERAL (
                  SELECT body ->> 'id' AS id WHERE k.response_path IS NOT NULL
                  UNION ALL
                  SELECT jsonb_path_query(body, '$.notifications[*].id') #>> '{}'
                  UNION ALL
                  SELECT jsonb_path_query(body, '$.results[*].id') #>> '{}') named
            WHERE k.response_status = 202 AND k.created_at >= to_timestamp(%(since_s)s)
              AND k.created_at < to_timestamp(%(until_s)s)
              AND named.id ~ '^[0-9a-f-]{36}$'
              AND named.id::uuid > %(after)s AND named.id::uuid <= %(until)s
              AND NOT EXISTS (SELECT FROM notifications n WHERE n.id = named.id::uuid)""",
        "the notification that the stored answer to an Idempotency-Key promises",
    ),
)


def question(conn: Connection[Any], *, after: UUID, until: UUID) -> list[Offender]:
    """Ask the other tables for what names a notification in (after, until] that does not exist."""
    parameters = {
        "after": after,
        "until": until,
        "since_s": max(0.0, (after.int >> 80) / 1000 - SKEW_S),
        "until_s": min(4e9, (until.int >> 80) / 1000 + SKEW_S),
    }
    found = []
    for asked in _QUESTIONS:
        rows = conn.execute(asked.query, parameters).fetchall()
        found += [Offender(asked.name, id_, None, None, age_s, asked.missing) for id_, age_s in rows]
    return found
