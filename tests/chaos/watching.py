"""Triggers in the database of a run that write down what must never be committed; all else costs them nothing.

The product does not know of them. What they notice is in the dump, table `wrong`.
"""

from typing import Any, LiteralString

from psycopg import Connection, sql

from shared.model import MOVES

_NOTE: LiteralString = """
    CREATE TABLE chaos_wrong (
        at timestamptz NOT NULL DEFAULT clock_timestamp(), what text, id text, old jsonb, new jsonb
    );
    CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - 'record' - 'original_payload' - 'value' END;
        is_ jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - 'record' - 'original_payload' - 'value' END;
    BEGIN
        INSERT INTO chaos_wrong (what, id, old, new)
        VALUES (TG_ARGV[0], coalesce(is_, was) ->> TG_ARGV[1], was, is_);
        RETURN NULL;
    END $$
"""
# What it is called, the table, the column that names the notification, the event, and when it is wrong.
_TRIGGERS: tuple[tuple[LiteralString, LiteralString, LiteralString, LiteralString, LiteralString], ...] = (
    ("illegal_move", "notifications", "id", "UPDATE",
     "OLD.status <> NEW.status AND NOT (OLD.status || '>' || NEW.status) = ANY ({moves}::text[])"),
    ("changed_after_accept", "notifications", "id", "UPDATE",
     "(OLD.id, OLD.recipient, OLD.ordering_key, OLD.topic, OLD.created_at, OLD.record)"
     " IS DISTINCT FROM (NEW.id, NEW.recipient, NEW.ordering_key, NEW.topic, NEW.created_at, NEW.record)"),
    ("attempt_number_fell", "notifications", "id", "UPDATE", "NEW.attempt < OLD.attempt"),
    ("accepted_in_a_late_state", "notifications", "id", "INSERT",
     "NEW.status NOT IN ('pending', 'scheduled', 'suppressed')"),
    ("notification_deleted", "notifications", "id", "DELETE", "true"),
    ("attempt_ended_twice", "delivery_attempts", "notification_id", "UPDATE",
     "OLD.outcome <> 'begun' AND (OLD.outcome, OLD.ended_at) IS DISTINCT FROM (NEW.outcome, NEW.ended_at)"),
    ("attempt_changed_hands", "delivery_attempts", "notification_id", "UPDATE", "OLD.owner <> NEW.owner"),
    ("ended_attempt_deleted", "delivery_attempts", "notification_id", "DELETE", "OLD.outcome <> 'begun'"),
    ("retry_count_fell", "dlq_messages", "notification_id", "UPDATE", "NEW.retry_count < OLD.retry_count"),
    ("resolved_letter_reopened", "dlq_messages", "notification_id", "UPDATE",
     "OLD.status = 'resolved' AND NEW.status <> 'resolved'"),
    ("letter_deleted", "dlq_messages", "notification_id", "DELETE", "true"),
    ("outbox_row_changed", "outbox", "notification_id", "UPDATE", "true"),
)  # fmt: skip


def install(conn: Connection[Any]) -> None:
    """Create the triggers."""
    moves = sql.Literal([f"{old}>{new}" for old, allowed in MOVES.items() for new in allowed])
    conn.execute(_NOTE)
    for name, table, id_column, event, wrong in _TRIGGERS:
        conn.execute(
            sql.SQL(
                "CREATE TRIGGER {} AFTER {} ON {} FOR EACH ROW WHEN ({}) EXECUTE FUNCTION chaos_note({}, {})"
            ).format(
                sql.Identifier(f"chaos_{name}"),
                sql.SQL(event),
                sql.Identifier(table),
                sql.SQL(wrong).format(moves=moves),
                sql.Literal(name),
                sql.Literal(id_column),
            )
        )
