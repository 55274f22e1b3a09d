"""`notify-audit verify` as a person or cron runs it: what it prints, and its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from outbox_relay import audit
from outbox_relay.verifying import verify
from tests.integration import ledger_rows as rows
from tests.integration.ledger_rows import Conn
from tests.servers import Database

REPOSITORY = Path(__file__).resolve().parents[3]


def notify_audit(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, away from any .env."""
    command = [sys.executable, "-m", "outbox_relay.audit", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **environ},
    )


def test_a_clean_ledger_is_printed_and_exits_0(conn: Conn, database: Database) -> None:
    """Accepted, ended, live, pruned; the table by status; the verdict."""
    rows.sent(conn)
    rows.accepted(conn)

    ran = notify_audit("verify", **database.environ)

    assert (ran.returncode, ran.stderr) == (0, "")
    text = " ".join(ran.stdout.split())
    assert "accepted 2 ended 1 sent 1 live 1 outbox 1 pruned 0 gone 0" in text
    assert "clean: nothing is missing a cause" in text


def test_an_offender_is_named_and_the_exit_is_1(conn: Conn, database: Database) -> None:
    """In text: id, status, attempt, age, rule, missing cause. In JSON: the same, to be read by a program."""
    id_ = rows.notification(conn, "pending")

    text = notify_audit("verify", **database.environ)
    json = notify_audit("verify", "--json", "--full", **database.environ)

    line = next(line for line in text.stdout.splitlines() if str(id_) in line)
    assert (text.returncode, json.returncode) == (1, 1)
    assert "pending attempt 1, 1:00:0" in line
    assert "pending_without_record: missing an outbox row, or a consumer" in line
    report = orjson.loads(json.stdout)
    assert (report["accepted"], report["live_total"], report["clean"]) == (1, 1, False)
    assert report["broken"] == {"pending_without_record": 1}
    assert report["offenders"][0]["id"] == str(id_)


def test_only_some_offenders_are_named_but_all_counted(conn: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report stays readable, and its memory bounded, whatever happened."""
    monkeypatch.setattr("outbox_relay.verifying.MOST_LISTED", 2)
    for _ in range(3):
        rows.notification(conn, "pending")

    report = verify(conn, grace_s=600)

    assert (report.broken, len(report.offenders)) == ({"pending_without_record": 3}, 2)
    assert "only the first" in audit.as_text(report)


def test_the_grace_is_two_sweeps_unless_given(conn: Conn, database: Database) -> None:
    """What stands still for an hour is in time where the sweeper takes its time."""
    rows.notification(conn, "pending")

    assert notify_audit("verify", SWEEP_AFTER_S="3600", **database.environ).returncode == 0
    assert notify_audit("verify", "--grace", "1", SWEEP_AFTER_S="3600", **database.environ).returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["verify", "--since", "yesterday"],
        ["verify", "--full", "--since", "2h"],
        ["verify", "--rebook"],
        ["verify", "--since", "2030-01-02", "--until", "2030-01-01"],
        ["verify", "--grace", "-1"],
    ],
)
def test_bad_usage_exits_2(arguments: list[str]) -> None:
    """And says what is wrong, before it connects."""
    ran = notify_audit(*arguments, DB_HOST="127.0.0.1", DB_PORT="1")

    assert ran.returncode == 2
    assert "notify-audit" in ran.stderr


def test_a_bad_configuration_names_all_its_faults_and_exits_2() -> None:
    """Like the services."""
    ran = notify_audit("verify", DB_PORT="none", SWEEP_AFTER_S="soon")

    assert ran.returncode == 2
    assert "DB_PORT" in ran.stderr
    assert "SWEEP_AFTER_S" in ran.stderr


def test_postgres_out_of_reach_exits_3(database: Database) -> None:
    """Neither clean nor broken: nobody knows. The password is not in what it says."""
    away = notify_audit("verify", DATABASE_URL="postgresql://u:geheim@127.0.0.1:1/x")
    empty = notify_audit("verify", DATABASE_URL=database.dsn.rsplit("/", 1)[0] + "/postgres")

    assert (away.returncode, empty.returncode) == (3, 3)
    assert "geheim" not in away.stderr + empty.stderr
    assert "schema_missing" in empty.stderr


def test_instants_may_be_ages() -> None:
    """2h is two hours ago; an instant without a zone is UTC."""
    assert audit.instant("2h") < audit.instant("90m") < audit.instant("1s")
    assert audit.instant("2030-01-31T09:00").isoformat() == "2030-01-31T09:00:00+00:00"
    assert audit.instant("2030-01-31T09:00+02:00").hour == 9
