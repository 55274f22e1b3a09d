"""init.sql on every PostgreSQL it names: 18 and 16 from the wheel, and 15 where pg_config finds one."""

import functools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from infra.local import postgres as postgres_module
from infra.local.postgres import Postgres
from infra.local.processes import Supervisor

INIT_SQL = Path(__file__).resolve().parents[2] / "init.sql"
DATABASE = "schema"
NOW = datetime(2030, 1, 1, tzinfo=UTC)

Conn = psycopg.Connection[Any]


@functools.cache
def binaries(version: int) -> Path | None:
    """Where a version's programs are; None where this machine has none."""
    if version in postgres_module.INSTALLATIONS:
        return postgres_module._binaries(version)
    pg_config = shutil.which("pg_config")
    if pg_config is None:
        return None
    found = Path(subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=True).stdout.strip())
    if not (found / "postgres").exists():
        return None
    named = subprocess.run([found / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return found if f" {version}." in named else None


@pytest.fixture(scope="module", params=[18, 16, 15])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of each version, with the schema in a database of its own."""
    found = binaries(request.param)
    if found is None:
        pytest.skip(f"no PostgreSQL {request.param} here")
    directory = tmp_path_factory.mktemp(f"postgres{request.param}")
    with pytest.MonkeyPatch.context() as patch, Supervisor(directory / "logs") as supervisor:
        patch.setattr(postgres_module, "_binaries", lambda _version: found)
        server = Postgres(directory / "data", supervisor, version=request.param)
        server.start()
        server.create_database(DATABASE)
        server.apply_sql(INIT_SQL, database=DATABASE)
        yield server


@pytest.fixture
def conn(server: Postgres) -> Iterator[Conn]:
    """A connection whose work is rolled back after the test."""
    with psycopg.connect(server.dsn(DATABASE)) as connection:
        yield connection
        connection.rollback()


def dump(server: Postgres) -> list[str]:
    """The whole database as pg_dump writes it, without the key it makes up for each dump."""
    command = [str(server._bin / "pg_dump"), "--inserts", server.dsn(DATABASE)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))]


def test_running_it_again_changes_nothing(server: Postgres) -> None:
    """Schema, comments, storage parameters and rows are the same after a second and a third run."""
    before = dump(server)

    server.apply_sql(INIT_SQL, database=DATABASE)
    server.apply_sql(INIT_SQL, database=DATABASE)

    assert dump(server) == before
    assert any("CREATE TABLE public.notifications" in line for line in before)


def test_two_installers_at_once_take_turns(server: Postgres) -> None:
    """Both succeed on an empty database: the second waits for the first."""
    server.create_database("raced")
    psql = [str(server._bin / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={INIT_SQL}"]

    racing = [subprocess.Popen([*psql, server.dsn("raced")], stderr=subprocess.PIPE) for _ in range(3)]
    errors = [process.communicate()[1].decode() for process in racing]

    assert [(process.returncode, error) for process, error in zip(racing, errors, strict=True)] == [(0, "")] * 3


TO_OLDER = """
    DROP TRIGGER ordering_enter ON notifications;
    DROP TRIGGER ordering_move ON notifications;
    DROP TRIGGER ordering_delete ON notifications;
    DROP TABLE ordering_queue, ordering_turns CASCADE;
    ALTER TABLE dlq_messages DROP CONSTRAINT dlq_messages_resolution_check,
      ADD CONSTRAINT dlq_messages_resolution_check
          CHECK (resolution IN ('sent', 'discarded', 'expired', 'cancelled'));
"""


def test_a_database_from_before_is_brought_up_to_date(server: Postgres) -> None:
    """A retry may end suppressed, and what waits or is under way has its place in the order of its key; once."""
    server.create_database("older")
    server.apply_sql(INIT_SQL, database="older")
    with psycopg.connect(server.dsn("older"), autocommit=True) as conn:
        conn.execute(TO_OLDER)
        for n, status in enumerate(("sent", "pending", "processing", "pending"), start=1):
            add(conn, "notifications", id=UUID(int=n), ordering_key="k", status=status)
        add(conn, "notifications", id=UUID(int=5), ordering_key="k", status="pending", attempt=2)

        server.apply_sql(INIT_SQL, database="older")
        server.apply_sql(INIT_SQL, database="older")

        queue = conn.execute("SELECT notification_id FROM ordering_queue ORDER BY seq").fetchall()
        turns = conn.execute("SELECT ordering_key, notification_id FROM ordering_turns").fetchall()
        assert (queue, turns) == ([(UUID(int=n),) for n in (3, 2, 4)], [("k", UUID(int=3))])
        add(conn, "dlq_messages", status="resolved", resolution="suppressed", resolved_at=NOW)


def test_a_queue_from_before_learns_since_when_one_is_first(server: Postgres) -> None:
    """Its rows stay; who is made the first from then on is dated."""
    server.create_database("undated")
    server.apply_sql(INIT_SQL, database="undated")
    with psycopg.connect(server.dsn("undated"), autocommit=True) as conn:
        conn.execute("ALTER TABLE ordering_queue DROP COLUMN first_since")
        for n in (1, 2, 3):
            add(conn, "notifications", id=UUID(int=n), ordering_key="k", status="pending")

        server.apply_sql(INIT_SQL, database="undated")
        conn.execute("UPDATE notifications SET status = 'cancelled' WHERE id = %s", (UUID(int=1),))

        dated = conn.execute("SELECT notification_id, first_since IS NOT NULL FROM ordering_queue ORDER BY seq")
        assert dated.fetchall() == [(UUID(int=2), True), (UUID(int=3), False)]


def test_every_table_says_what_it_is_for(conn: Conn) -> None:
    """In a COMMENT, where a person at a prompt finds it."""
    query = """
        SELECT c.relname FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
           AND obj_description(c.oid, 'pg_class') IS NULL
    """

    assert conn.execute(query).fetchall() == []


def test_every_index_names_the_question_it_answers(conn: Conn) -> None:
    """Those behind a primary key or a UNIQUE constraint say it by being that."""
    query = """
        SELECT c.relname FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'i'
           AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid AND contype IN ('p', 'u'))
           AND obj_description(c.oid, 'pg_class') IS NULL
    """

    assert conn.execute(query).fetchall() == []


def test_no_index_on_notifications_touches_the_status(conn: Conn) -> None:
    """Neither as a column nor in its WHERE clause: either would rule out heap-only updates."""
    query = """
        SELECT indexrelid::regclass::text FROM pg_index
         WHERE indrelid = 'notifications'::regclass AND pg_get_indexdef(indexrelid) LIKE '%status%'
    """

    assert conn.execute(query).fetchall() == []


def test_a_change_of_status_is_a_heap_only_update(conn: Conn) -> None:
    """The row's place in the indexes stays as it is: PostgreSQL itself counts such updates."""
    add(conn, "notifications")

    conn.execute("UPDATE notifications SET status = 'processing', updated_at = now()")

    counted = "SELECT pg_stat_get_xact_tuples_hot_updated(oid) FROM pg_class WHERE oid = 'notifications'::regclass"
    assert conn.execute(counted).fetchall() == [(1,)]


def test_the_outbox_has_one_index_and_hands_out_numbers_one_by_one(conn: Conn) -> None:
    """Cached numbers would look like open transactions to the relay."""
    indexes = conn.execute("SELECT count(*) FROM pg_index WHERE indrelid = 'outbox'::regclass").fetchone()
    cache = conn.execute(
        "SELECT seqcache FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence('outbox', 'seq')::regclass"
    ).fetchone()

    assert (indexes, cache) == ((1,), (1,))


def test_it_needs_no_extension(conn: Conn) -> None:
    """plpgsql comes with every database, and nothing was added."""
    assert conn.execute("SELECT extname FROM pg_extension").fetchall() == [("plpgsql",)]


ROWS: dict[str, Callable[[], dict[str, Any]]] = {
    "tenants": lambda: {"id": "acme", "name": "Acme"},
    "api_keys": lambda: {"id": "k1", "tenant_id": "default", "secret_sha256": bytes(32), "scopes": ["send"]},
    "notifications": lambda: {
        "id": uuid4(),
        "tenant_id": "default",
        "channel": "email",
        "recipient": "ada@example.org",
        "priority": "normal",
        "on_unknown": "retry",
        "status": "pending",
        "created_at": NOW,
        "bucket": 7,
        "topic": "notifications.email",
        "record": b'{"message": "Hello"}',
    },
    "delivery_attempts": lambda: {
        "notification_id": uuid4(),
        "attempt": 1,
        "tenant_id": "default",
        "owner": uuid4(),
        "lease_until": NOW,
    },
    "dlq_messages": lambda: {
        "tenant_id": "default",
        "notification_id": uuid4(),
        "failure_class": "transient",
        "reason": "http_503",
        "fingerprint": "transient|a|http_503",
        "first_error": "busy",
        "error_message": "busy",
    },
    "dlq_retries": lambda: {
        "id": uuid4(),
        "tenant_id": "default",
        "status": "canary",
        "reason": "http_503",
        "rate_per_s": 10,
        "canary": 10,
        "by": "ops",
        "matched": 1,
    },
    "dlq_actions": lambda: {"dead_letter_id": uuid4(), "action": "retried", "by": "ops", "attempt": 2},
    "outbox_held": lambda: {"notification_id": uuid4(), "suppression_id": uuid4()},
    "ordering_queue": lambda: {"tenant_id": "default", "ordering_key": "k", "notification_id": uuid4()},
    "ordering_turns": lambda: {"tenant_id": "default", "ordering_key": "k", "notification_id": uuid4()},
    "idempotency_keys": lambda: {
        "tenant_id": "default",
        "key": "k",
        "request_sha256": bytes(32),
        "response_status": 202,
        "response_body": b"{}",
    },
    "suppressions": lambda: {
        "tenant_id": "default",
        "channel": "webhook",
        "recipient": "https://a.example/h",
        "reason": "gone",
        "created_by": "ann",
    },
    "destination_reports": lambda: {
        "destination": "https://a.example:443",
        "consumer": uuid4(),
        "channel": "webhook",
        "breaker": "closed",
        "slots_in_use": 0,
        "slots_allowed": 1,
        "waiting": 0,
        "calls": 0,
        "failures": 0,
    },
    "users": lambda: {
        "id": uuid4(),
        "tenant_id": "default",
        "email": "ann@example.com",
        "name": "Ann",
        "password_hash": "$argon2id$",
        "role": "user",
    },
    "sender_domains": lambda: {"tenant_id": "default", "domain": "example.org", "token": "t"},
    "endpoints": lambda: {"id": uuid4(), "tenant_id": "default", "url": "https://a.example/h"},
    "audit_log": lambda: {
        "seq": 1,
        "at": NOW,
        "tenant_id": "default",
        "actor_kind": "user",
        "actor_id": "1",
        "actor_name": "ann",
        "action": "key.created",
        "entity_type": "key",
        "entity_id": "k",
        "previous_hash": b"",
        "hash": b"",
    },
    "audit_head": lambda: {"seq": 1, "hash": b""},
    "audit_marks": lambda: {"mark": uuid4(), "passed": 1, "moved_at": NOW},
}

FORBIDDEN: list[tuple[str, str, dict[str, Any]]] = [
    ("tenants_id_check", "tenants", {"id": "Not A Slug"}),
    ("tenants_daily_quota_check", "tenants", {"daily_quota": 0}),
    ("api_keys_name_check", "api_keys", {"name": "n" * 101}),
    ("api_keys_limits_check", "api_keys", {"limits": "1" * 201}),
    ("api_keys_secret_sha256_check", "api_keys", {"secret_sha256": b"the secret itself"}),
    ("api_keys_scopes_check", "api_keys", {"scopes": ["send", "root"]}),
    ("notifications_channel_check", "notifications", {"channel": "pigeon"}),
    ("notifications_priority_check", "notifications", {"priority": "medium"}),
    ("notifications_on_unknown_check", "notifications", {"on_unknown": "guess"}),
    ("notifications_status_check", "notifications", {"status": "delivered"}),
    ("notifications_attempt_check", "notifications", {"attempt": 0}),
    ("notifications_bucket_check", "notifications", {"bucket": 64}),
    ("notifications_check", "notifications", {"scheduled_for": NOW, "expires_at": NOW}),
    ("notifications_check1", "notifications", {"status": "scheduled"}),
    ("delivery_attempts_attempt_check", "delivery_attempts", {"attempt": 0}),
    ("delivery_attempts_outcome_check", "delivery_attempts", {"outcome": "maybe", "ended_at": NOW}),
    ("delivery_attempts_check", "delivery_attempts", {"outcome": "accepted"}),
    ("dlq_messages_failure_class_check", "dlq_messages", {"failure_class": "bad_luck"}),
    ("dlq_messages_retry_count_check", "dlq_messages", {"retry_count": -1}),
    ("dlq_messages_status_check", "dlq_messages", {"status": "lost"}),
    (
        "dlq_messages_resolution_check",
        "dlq_messages",
        {"status": "resolved", "resolved_at": NOW, "resolution": "forgotten"},
    ),
    ("dlq_messages_check", "dlq_messages", {"status": "resolved", "resolution": "sent"}),
    ("dlq_messages_check1", "dlq_messages", {"status": "resolved", "resolved_at": NOW}),
    ("dlq_messages_check2", "dlq_messages", {"status": "retrying", "retry_at": NOW}),
    ("dlq_retries_status_check", "dlq_retries", {"status": "paused"}),
    ("dlq_retries_rate_per_s_check", "dlq_retries", {"rate_per_s": 1001}),
    ("dlq_retries_canary_check", "dlq_retries", {"canary": 101}),
    ("dlq_retries_by_check", "dlq_retries", {"by": ""}),
    ("dlq_retries_filter_check", "dlq_retries", {"reason": None}),
    ("dlq_retries_counts_check", "dlq_retries", {"retried": 1, "sent": 1, "failed": 1}),
    ("dlq_retries_finished_check", "dlq_retries", {"status": "done"}),
    ("dlq_retries_stopped_check", "dlq_retries", {"stop_reason": "canary_failed"}),
    ("dlq_actions_action_check", "dlq_actions", {"action": "looked_at"}),
    ("dlq_actions_by_check", "dlq_actions", {"by": "b" * 101}),
    ("dlq_actions_outcome_check", "dlq_actions", {"outcome": "lost"}),
    ("dlq_actions_retry_check", "dlq_actions", {"action": "retried_by_filter"}),
    ("dlq_actions_attempt_check", "dlq_actions", {"action": "discarded"}),
    ("idempotency_keys_key_check", "idempotency_keys", {"key": "k" * 256}),
    ("idempotency_keys_request_sha256_check", "idempotency_keys", {"request_sha256": b"short"}),
    ("suppressions_channel_check", "suppressions", {"channel": "pigeon"}),
    ("suppressions_reason_check", "suppressions", {"reason": "rude"}),
    ("suppressions_check", "suppressions", {"lifted_at": NOW}),
    ("destination_reports_breaker_check", "destination_reports", {"breaker": "ajar", "next_probe_at": NOW}),
    ("destination_reports_check", "destination_reports", {"breaker": "open"}),
    ("users_email_check", "users", {"email": "Ann@example.com"}),
    ("users_name_check", "users", {"name": ""}),
    ("users_role_check", "users", {"role": "root"}),
    ("endpoints_url_check", "endpoints", {"url": "u" * 2049}),
    ("endpoints_description_check", "endpoints", {"description": "d" * 501}),
    ("endpoints_rate_per_s_check", "endpoints", {"rate_per_s": 0}),
    ("endpoints_timeout_s_check", "endpoints", {"timeout_s": 121}),
    ("sender_domains_domain_check", "sender_domains", {"domain": "d" * 254}),
    ("audit_log_actor_kind_check", "audit_log", {"actor_kind": "ghost"}),
    ("audit_head_only_one_check", "audit_head", {"only_one": False}),
    ("audit_marks_only_one_check", "audit_marks", {"only_one": False}),
]


def add(conn: Conn, table: str, **replaced: Any) -> None:
    """Insert an ordinary row of a table, with some of its values replaced."""
    row = ROWS[table]() | replaced
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    conn.execute(statement, list(row.values()))


@pytest.mark.parametrize("table", ROWS)
def test_an_ordinary_row_is_welcome(conn: Conn, table: str) -> None:
    """So that what is refused below is refused for the one value that differs."""
    add(conn, table)

    count = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    assert count == ((2 if table == "tenants" else 1),)


@pytest.mark.parametrize(("constraint", "table", "replaced"), FORBIDDEN, ids=[name for name, _, _ in FORBIDDEN])
def test_each_check_forbids_what_it_says(conn: Conn, constraint: str, table: str, replaced: dict[str, Any]) -> None:
    """The row is refused by that very constraint."""
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        add(conn, table, **replaced)

    assert caught.value.diag.constraint_name == constraint


def test_no_check_is_left_untried(conn: Conn) -> None:
    """A new CHECK comes with a row it forbids."""
    query = "SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
    found = {name for (name,) in conn.execute(query)}

    assert found == {name for name, _, _ in FORBIDDEN}


def test_a_notification_has_one_dead_letter_and_an_attempt_number_is_used_once(conn: Conn) -> None:
    """Repeating the tracker's or the claim's work cannot make a second row."""
    once = uuid4()
    add(conn, "dlq_messages", notification_id=once)
    add(conn, "delivery_attempts", notification_id=once)

    for table in ("dlq_messages", "delivery_attempts"):
        with pytest.raises(psycopg.errors.UniqueViolation), conn.transaction():
            add(conn, table, notification_id=once)


def test_undecodable_bytes_are_known_by_where_they_stood(conn: Conn) -> None:
    """One row for each place; dead letters of notifications may share theirs."""
    place = {"topic": "notifications.email", "partition": 3, "offset": 42}
    add(conn, "dlq_messages", notification_id=None, **place)
    add(conn, "dlq_messages", **place)
    add(conn, "dlq_messages", **place)

    with pytest.raises(psycopg.errors.UniqueViolation):
        add(conn, "dlq_messages", notification_id=None, **place)


def test_the_textbook_view_shows_three_states(conn: Conn) -> None:
    """outbox_event: id, recipient, channel, message, status and createdAt, as the pattern is usually drawn."""
    shown = {"scheduled": "PENDING", "pending": "PENDING", "processing": "PENDING", "failed": "FAILED"}
    for status in ("scheduled", "pending", "processing", "sent", "failed", "cancelled", "expired", "suppressed"):
        add(conn, "notifications", status=status, recipient=status, scheduled_for=NOW - timedelta(days=1))

    cursor = conn.execute("SELECT * FROM outbox_event")
    columns = [column.name for column in cursor.description or ()]
    rows = cursor.fetchall()

    assert columns == ["id", "recipient", "channel", "message", "status", "createdAt"]
    assert {row[1]: row[4] for row in rows} == {row[1]: shown.get(row[1], "PROCESSED") for row in rows}
    assert {row[2:4] + row[5:] for row in rows} == {("email", "Hello", NOW)}
    assert len(rows) == 8
