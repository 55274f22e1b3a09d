"""What the database says once all is quiet: the columns the checker needs, a JSON array a line."""

from pathlib import Path
from typing import Any, LiteralString

from psycopg import Connection, sql


def _at(column: LiteralString) -> LiteralString:
    return f"extract(epoch FROM {column})::float8"


TABLES: dict[str, LiteralString] = {
    "notifications": f"""
        SELECT json_build_array(id, status, attempt, {_at("created_at")}, {_at("updated_at")}, {_at("scheduled_for")},
               {_at("expires_at")}, ordering_key, on_unknown, channel, recipient,
               split_part(convert_from(record, 'UTF8')::jsonb ->> 'message', ' ', 1),
               encode(sha256(record), 'hex')) FROM notifications ORDER BY id""",
    "attempts": f"""
        SELECT json_build_array(notification_id, attempt, outcome, reason, {_at("began_at")}, {_at("ended_at")}, tries,
               destination, owner) FROM delivery_attempts ORDER BY notification_id, attempt""",
    "dlq": f"""
        SELECT json_build_array(notification_id, status, attempt, failure_class, reason, retry_count, {_at("retry_at")},
               rest_reason, resolution, encode(sha256(original_payload), 'hex'), convert_from(message_key, 'UTF8'), id)
          FROM dlq_messages WHERE notification_id IS NOT NULL ORDER BY notification_id""",
    "by_hand": """
        SELECT json_build_array(d.notification_id, a.attempt)
          FROM dlq_actions a JOIN dlq_messages d ON d.id = a.dead_letter_id WHERE a.attempt IS NOT NULL""",
    "undecodable": """
        SELECT json_build_array(topic, partition, "offset", failure_class, reason, rest_reason,
               encode(sha256(original_payload), 'hex'), status)
          FROM dlq_messages WHERE notification_id IS NULL""",
    "outbox": "SELECT json_build_array(notification_id, topic, seq) FROM outbox",
    "outbox_dead": "SELECT json_build_array(notification_id, topic, error) FROM outbox_dead",
    "outbox_due": f"SELECT json_build_array(notification_id, {_at('due_at')}) FROM outbox_due",
    "wrong": f"SELECT json_build_array(what, id, {_at('at')}, old, new) FROM chaos_wrong ORDER BY at",
    "keys": "SELECT json_build_array(key, response_status) FROM idempotency_keys",
}


def dump(conn: Connection[Any], directory: Path) -> None:
    """Write every table of TABLES, all of one snapshot."""
    directory.mkdir(exist_ok=True)
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for name, query in TABLES.items():
            # CSV whose quote and delimiter JSON never has: each line is the value itself.
            copy = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')").format(
                sql.SQL(query)
            )
            with (directory / f"{name}.jsonl").open("wb") as file, conn.cursor().copy(copy) as rows:
                for block in rows:
                    file.write(block)
