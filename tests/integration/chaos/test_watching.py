"""The triggers of a run: they notice what may not be committed, and nothing else."""

from typing import Any

import pytest
from psycopg import Connection

from tests.chaos import watching
from tests.chaos.dump import TABLES
from tests.servers import Database

_ID = "01a1fe42-67d9-700e-b5f9-612cf10bb80a"
_INSERT = f"""
    INSERT INTO notifications (id, tenant_id, channel, recipient, priority, on_unknown, status, created_at, bucket,
                               topic, record)
    VALUES ('{_ID}', 'default', 'email', 'a@example.org', 'normal', 'retry', 'pending', now(), 1, 't', '{{}}');
    INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, owner, lease_until)
    VALUES ('{_ID}', 1, 'default', gen_random_uuid(), now())
"""  # fmt: skip


@pytest.fixture
def conn(database: Database) -> Any:
    with database.connect(autocommit=True) as connection:
        watching.install(connection)
        connection.execute(_INSERT)
        yield connection


def noticed(conn: Connection[Any]) -> list[str]:
    return [row[0] for row in conn.execute("SELECT what FROM chaos_wrong ORDER BY at")]


def test_what_is_allowed_is_not_noticed(conn: Connection[Any]) -> None:
    conn.execute("UPDATE notifications SET status = 'processing'")
    conn.execute("UPDATE delivery_attempts SET outcome = 'unknown', ended_at = now()")
    conn.execute("UPDATE notifications SET status = 'failed'")
    conn.execute("UPDATE notifications SET status = 'pending', attempt = 2")

    assert noticed(conn) == []


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE notifications SET status = 'sent'", "illegal_move"),
        ("UPDATE notifications SET recipient = 'b@example.org'", "changed_after_accept"),
        ("UPDATE notifications SET attempt = 3; UPDATE notifications SET attempt = 2", "attempt_number_fell"),
        ("DELETE FROM notifications", "notification_deleted"),
        ("UPDATE delivery_attempts SET owner = gen_random_uuid()", "attempt_changed_hands"),
        (
            "UPDATE delivery_attempts SET outcome = 'unknown', ended_at = now();"
            "UPDATE delivery_attempts SET outcome = 'accepted'",
            "attempt_ended_twice",
        ),
    ],
)
def test_what_may_not_be_committed_is_noticed(conn: Connection[Any], statement: Any, what: str) -> None:
    conn.execute(statement)

    assert noticed(conn) == [what]


@pytest.mark.parametrize("table", TABLES)
def test_every_table_can_be_dumped(conn: Connection[Any], table: str) -> None:
    conn.execute(TABLES[table])
