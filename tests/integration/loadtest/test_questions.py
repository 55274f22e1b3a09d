"""What load tests ask a real database, and what it says."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from loadtest.letters import End, Letters
from loadtest.measuring import Lines
from loadtest.reconcile import verify, whereabouts
from loadtest.sampling import DatabaseFigures
from tests.integration import ledger_rows
from tests.servers import Database

Conn = psycopg.Connection[Any]
HERE = "http://127.0.0.1:9001"


@pytest.fixture
def conn(database: Database) -> Any:
    """A connection to a fresh database."""
    with database.connect(autocommit=True) as conn:
        yield conn


def letter(conn: Conn, id_: UUID, **columns: Any) -> None:
    ledger_rows.letter(conn, id_, **{"destination": HERE} | columns)


def test_those_not_received_are_on_their_way_at_rest_or_lost(conn: Conn, database: Database) -> None:
    """What is not even there is lost, and so is what says that it was sent."""
    soon = datetime.now(UTC) + timedelta(seconds=60)
    waiting = [ledger_rows.notification(conn, status) for status in ("pending", "processing", "failed")]
    retried, resting = ledger_rows.notification(conn, "failed"), ledger_rows.notification(conn, "failed")
    letter(conn, retried, retry_at=soon)
    letter(conn, resting, rest_reason="permanent")
    sent, held = ledger_rows.notification(conn, "sent"), ledger_rows.notification(conn, "suppressed")

    discarded, nowhere = ledger_rows.notification(conn, "failed"), uuid4()
    letter(conn, discarded, **ledger_rows.resolved("discarded"))

    ids = [one.bytes for one in (*waiting, retried, resting, sent, held, discarded, nowhere)]
    counts, lost = whereabouts(database.dsn, ids)
    assert counts == Counter(on_their_way=4, at_rest=1, ended_otherwise=2)
    assert lost == [sent.bytes, nowhere.bytes]
    assert whereabouts(database.dsn, []) == (Counter(), [])


def test_dead_letters_are_followed_by_the_receiver_that_caused_them(conn: Conn, database: Database) -> None:
    """Their states, the retries so far, and how long the oldest that is due has waited."""
    late = datetime.now(UTC) - timedelta(seconds=30)
    due, done, gone = (ledger_rows.notification(conn, status) for status in ("failed", "sent", "failed"))
    conn.execute("UPDATE notifications SET attempt = 3 WHERE id = %s", (done,))
    letter(conn, due, retry_at=late)
    resolved = ledger_rows.resolved("sent")
    letter(conn, done, attempt=3, retry_count=2, destination="http://elsewhere", **resolved)
    letter(conn, gone, rest_reason="permanent", failure_class="permanent")
    for one in (due, gone):
        ledger_rows.attempt(conn, one, outcome="transient", destination=HERE)
    for number in (1, 2, 3):
        ledger_rows.attempt(conn, done, number, "accepted", destination="http://elsewhere")
    letters = Letters(database.dsn, {HERE: "here"})

    standing = letters.standing()
    assert standing.stands == {"here": Counter({"failed": 1, "at rest": 1}), "http://elsewhere": Counter(resolved=1)}
    assert standing.retries == Counter({"http://elsewhere": 2})
    assert 29 < standing.overdue_s < 60
    assert (standing.settled("here"), standing.settled("http://elsewhere")) == (False, True)
    assert (letters.untracked(), letters.miscounted(), letters.unended()) == (0, 0, 0)
    assert End("here", "failed", "permanent", "permanent", True, 1) in letters.ends()
    letters.close()


def test_what_is_wrong_with_dead_letters_is_counted(conn: Conn, database: Database) -> None:
    """A failure that is not tracked, a retry that is not counted, a notification that has not ended."""
    untracked = ledger_rows.notification(conn, "failed")
    miscounted, unmade = ledger_rows.failed(conn, retry_count=5), ledger_rows.notification(conn, "failed")
    letter(conn, unmade)  # of an attempt of which there is no row
    ledger_rows.notification(conn, "pending")
    letters = Letters(database.dsn, {})

    assert len({untracked, miscounted, unmade}) == 3
    assert (letters.untracked(), letters.miscounted(), letters.unended()) == (1, 2, 1)
    letters.close()


def test_the_database_tells_its_figures(database: Database) -> None:
    """Gauges at once, rates from the second look on."""
    lines, figures = Lines(), DatabaseFigures(database.dsn)
    figures.read(lines, 1.0)
    figures.read(lines, 2.0)
    figures.close()

    assert lines.names("database") == [
        "WAL on disk", "WAL written", "commits", "connections", "dead rows", "dead rows of outbox",
        "dead share of large tables", "size",
    ]  # fmt: skip
    assert lines.points("database", "connections")[0][1] >= 1


def test_the_ledgers_command_gives_its_verdict(conn: Conn, database: Database, tmp_path: Path) -> None:
    """Clean without offenders; then with one."""
    ledger_rows.sent(conn)
    verdict = verify(database.dsn, tmp_path, within_s=60)
    assert (verdict.clean, verdict.accepted, verdict.sent) == (True, 1, 1)

    ledger_rows.notification(conn, "pending")
    verdict = verify(database.dsn, tmp_path, within_s=60)
    assert verdict.clean is False
    assert "1" in verdict.words

    assert verify("postgresql://127.0.0.1:1/none", tmp_path, within_s=60).clean is None
