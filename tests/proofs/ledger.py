"""How long the ledger takes on a large table: `python -m tests.proofs ledger --rows 10000000`.

Makes a PostgreSQL of its own in a temporary directory, fills it with notifications as a month of traffic leaves them
(96.5 % sent, 1 % each cancelled and expired, 0.5 % suppressed, 0.9 % failed with their dead letters, 0.1 % scheduled),
runs `notify-audit verify` as cron would, with a minute's traffic before each run, and removes it all.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import psycopg

from infra.local.postgres import Postgres
from infra.local.processes import Supervisor
from outbox_relay.verifying import Report, verify
from shared import db
from tests.arguments import at_least
from tests.proofs import report as proof

CHUNK = 500_000
RECORD_BYTES = 400
GRACE_S = 600.0

_ID = """(lpad(to_hex(({ms})::bigint), 12, '0') || '7' || lpad(to_hex(i %% 4096), 3, '0') || '8'
          || substr(md5(i::text), 1, 15))::uuid"""
_FILL = f"""
    WITH made AS MATERIALIZED (
        SELECT i, to_timestamp(s.at_s) AS at, {_ID.format(ms="s.at_s * 1000")} AS id,
               CASE WHEN i %% 1000 < 965 THEN 'sent' WHEN i %% 1000 < 975 THEN 'cancelled'
                    WHEN i %% 1000 < 985 THEN 'expired' WHEN i %% 1000 < 990 THEN 'suppressed'
                    WHEN i %% 1000 < 999 THEN 'failed' ELSE 'scheduled' END AS status
          FROM generate_series(%(first)s::bigint, %(last)s::bigint) i,
               LATERAL (SELECT %(from_s)s::float8 + (%(to_s)s::float8 - %(from_s)s::float8)
                               * (i - %(first)s) / (%(last)s - %(first)s + 1) AS at_s) s
    ), n AS (
        INSERT INTO notifications (id, tenant_id, channel, recipient, priority, on_unknown, status, scheduled_for,
                                   created_at, updated_at, bucket, topic, record)
        SELECT id, 'default', 'email', 'user' || i || '@example.org', 'normal', 'retry', status,
               CASE status WHEN 'scheduled' THEN now() + interval '1 day' END, at, at + interval '1 second', i & 63,
               'notifications.email', %(record)s::bytea FROM made
    ), a AS (
        INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, owner, lease_until, began_at, ended_at,
                                       outcome, provider, destination, reason, receipt, tries)
        SELECT id, 1, 'default', '00000000-0000-4000-8000-000000000001', at + interval '10 seconds', at,
               at + interval '100 ms', CASE status WHEN 'sent' THEN 'accepted' ELSE 'transient' END, 'smtp',
               'mail.example.org:25', 'accepted', CASE status WHEN 'sent' THEN '250 ok' END, 1
          FROM made WHERE status IN ('sent', 'failed')
    ), h AS (
        INSERT INTO outbox_held (notification_id, suppression_id)
        SELECT id, '00000000-0000-4000-8000-000000000002' FROM made WHERE status = 'suppressed'
    ), d AS (
        INSERT INTO dlq_messages (tenant_id, notification_id, channel, attempt, original_payload, failure_class, reason,
                                  fingerprint, first_error, error_message, rest_reason)
        SELECT 'default', id, 'email', 1, %(record)s::bytea, 'permanent', 'smtp_550', 'f', 'refused', 'refused',
               'permanent' FROM made WHERE status = 'failed'
    )
    INSERT INTO outbox_due (notification_id, tenant_id, due_at)
    SELECT id, 'default', now() + interval '1 day' FROM made WHERE status = 'scheduled'
"""

_SUPPRESSION = """
    INSERT INTO suppressions (id, tenant_id, channel, recipient, reason, created_by)
    VALUES ('00000000-0000-4000-8000-000000000002', 'default', 'email', 'all of them', 'manual', 'proof')
"""

Conn = psycopg.Connection[Any]


def fill(conn: Conn, *, first: int, rows: int, from_s: float, to_s: float) -> None:
    """Add `rows` notifications, numbered from `first`, accepted evenly between two instants."""
    step = (to_s - from_s) / rows
    for offset in range(0, rows, CHUNK):
        size = min(CHUNK, rows - offset)
        parameters = {
            "first": first + offset,
            "last": first + offset + size - 1,
            "from_s": from_s + offset * step,
            "to_s": from_s + (offset + size) * step,
            "record": bytes(range(32, 127)) * (RECORD_BYTES // 95),
        }
        conn.execute(_FILL, parameters)


def timed(dsn: str, say: str, **arguments: Any) -> Report:
    """One run on a connection of its own, printed."""
    with db.connect(dsn, application_name="proof") as conn:
        report = verify(conn, grace_s=GRACE_S, **arguments)
    verdict = "clean" if report.clean else f"broken: {dict(report.broken)}"
    click.echo(f"{say:<46}{report.seconds:>8.2f} s   accepted {report.accepted:,}, {verdict}")
    return report


def measure(server: Postgres, found: proof.Report, rows: int, *, rate: int, minutes: int) -> None:
    """Fill and run; promised is that every run is clean and counts every row."""
    dsn = server.dsn("ledger")
    with db.connect(dsn, application_name="fill") as conn:
        conn.execute(_SUPPRESSION)
        began, now = time.monotonic(), time.time()
        fill(conn, first=1, rows=rows, from_s=now - 25 * 86_400, to_s=now - 120)
        conn.execute("VACUUM (ANALYZE)")
        size = conn.execute("SELECT pg_size_pretty(pg_database_size(current_database()))").fetchone()
        click.echo(f"{rows:,} rows in {time.monotonic() - began:.0f} s, {size[0] if size else '?'}")
    good = [(timed(dsn, "first run: everything"), rows)]
    for minute in range(minutes):
        with db.connect(dsn, application_name="fill") as conn:
            now = time.time()
            fill(conn, first=rows + 1 + minute * rate * 60, rows=rate * 60, from_s=now - 60, to_s=now)
        report = timed(dsn, f"minute {minute + 1}: {rate * 60:,} rows more")
        good.append((report, rows + (minute + 1) * rate * 60))
    runs = [report.seconds for report, _ in good[1:]]
    good.append((timed(dsn, "full: every row again", full=True), good[-1][1]))
    right = sum(report.clean and report.accepted == accepted for report, accepted in good)
    found.promise("runs that were clean and counted each row", right, f"all {len(good)}", held=right == len(good))
    found.figure("size of the database", size[0] if size else "?")
    found.figure("the first run: everything, s", good[0][0].seconds)
    found.figure("each minute, median, s", statistics.median(runs))
    found.figure("each minute, worst, s", max(runs))
    found.figure("--full: every row again, s", good[-1][0].seconds)


def main(argv: Sequence[str]) -> int:
    """Run the measurement; 0 where every run was clean and the sums were right."""
    parser = argparse.ArgumentParser(
        "python -m tests.proofs ledger", description="How long the ledger takes on a large table."
    )
    parser.add_argument("--json", metavar="FILE", help="write the report there as well")
    parser.add_argument("--rows", type=at_least(1), default=10_000_000, help="in the table (%(default)s)")
    parser.add_argument(
        "--rate", type=at_least(1), default=1_000, help="accepted per second between the runs (%(default)s)"
    )
    parser.add_argument("--minutes", type=at_least(1), default=5, help="runs with a minute between (%(default)s)")
    options = parser.parse_args(argv)
    sizes = {"rows": options.rows, "rate": options.rate, "minutes": options.minutes}
    found = proof.Report("ledger", sizes)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ledger-", ignore_cleanup_errors=True)))
        supervisor = stack.enter_context(Supervisor(directory / "logs"))
        server = Postgres(directory / "data", supervisor, settings={"synchronous_commit": "off", "max_wal_size": "8GB"})
        server.start()
        server.create_database("ledger")
        server.install_schema("ledger")
        measure(server, found, options.rows, rate=options.rate, minutes=options.minutes)
        with db.connect(server.dsn("ledger"), application_name="proof") as conn:
            version = conn.execute("SHOW server_version").fetchall()[0][0]
        return found.finish(postgres=version, json_file=options.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
