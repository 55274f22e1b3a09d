"""`notify-audit verify` as a person or cron runs it: what it prints, and its exit codes."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
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

    ran = notify_audit("verify", **database.environ_of("outbox_relay"))

    assert (ran.returncode, ran.stderr) == (0, "")
    text = " ".join(ran.stdout.split())
    assert "accepted 2 ended 1 sent 1 live 1 outbox 1 pruned 0 gone 0" in text
    assert "clean: nothing is missing a cause" in text


def test_an_offender_is_named_and_the_exit_is_1(conn: Conn, database: Database) -> None:
    """In text: id, status, attempt, age, rule, missing cause. In JSON: the same, to be read by a program."""
    id_ = rows.notification(conn, "pending")

    text = notify_audit("verify", **database.environ_of("outbox_relay"))
    json = notify_audit("verify", "--json", "--full", **database.environ_of("outbox_relay"))

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
    assert "only the first" in audit.as_text(report, None)


def test_the_grace_is_two_sweeps_unless_given(conn: Conn, database: Database) -> None:
    """What stands still for an hour is in time where the sweeper takes its time."""
    rows.notification(conn, "pending")

    assert notify_audit("verify", SWEEP_AFTER_S="3600", **database.environ_of("outbox_relay")).returncode == 0
    assert (
        notify_audit("verify", "--grace", "1", SWEEP_AFTER_S="3600", **database.environ_of("outbox_relay")).returncode
        == 1
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["verify", "--since", "yesterday"],
        ["verify", "--full", "--since", "2h"],
        ["verify", "--rebook"],
        ["verify", "--since", "2030-01-02", "--until", "2030-01-01"],
        ["verify", "--since", "1h", "--until", "1h"],
        ["verify", "--since", "9999999d"],
        ["verify", "--since", "0001-01-01T00:00+14:00"],
        ["verify", "--grace", "-1"],
        ["verify", "--grace", "nan"],
        ["verify", "--grace", "1e12"],
        ["verify", "--grace", "1e300"],
    ],
)
def test_bad_usage_exits_2(arguments: list[str]) -> None:
    """And says what is wrong, before it connects."""
    ran = notify_audit(*arguments, DB_HOST="127.0.0.1", DB_PORT="1")

    assert ran.returncode == 2
    assert "notify-audit" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("extreme", [["--grace", "315360000"], ["--since", "0001-01-01"], ["--until", "9999-12-31"]])
def test_the_widest_that_is_allowed_runs(database: Database, extreme: list[str]) -> None:
    """What PostgreSQL could not reckon with was refused before."""
    ran = notify_audit("verify", *extreme, **database.environ_of("outbox_relay"))

    assert (ran.returncode, ran.stderr) == (0, "")


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


def login(database: Database, user: str, password: str = "pw") -> str:
    """The database as somebody else sees it."""
    return f"postgresql://{user}:{password}@127.0.0.1:{database.port}/{database.name}"


@pytest.fixture
def role(conn: Conn, database: Database) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = f"auditor_{database.name}"
    conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    yield name
    conn.execute(f"DROP OWNED BY {name}")
    conn.execute(f"DROP ROLE {name}")


def rights_of_the_manual(role: str) -> list[str]:
    """The statements docs/operations.md gives, for this role; what a database is called there aside."""
    text = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    return [found.replace("auditor", role) for found in re.findall(r"(?m)^    (GRANT .*;)$", text)]


def test_the_rights_that_the_manual_names_are_enough(conn: Conn, database: Database, role: str) -> None:
    """With them each kind of run is carried through; without: bad configuration; read only: no verdict."""
    rows.sent(conn)
    without = notify_audit("verify", DATABASE_URL=login(database, role))
    for statement in rights_of_the_manual(role):
        conn.execute(statement.replace("DATABASE notifications", f"DATABASE {database.name}"))
    kinds: list[list[str]] = [[], [], ["--full"], ["--since", "2h"], ["--full", "--rebook"]]
    ran = [notify_audit("verify", *kind, DATABASE_URL=login(database, role)) for kind in kinds]
    conn.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    read_only = notify_audit("verify", "--full", DATABASE_URL=login(database, role))

    assert (without.returncode, len(without.stderr.splitlines())) == (2, 1)
    assert "GRANT notify_relay" in without.stderr
    assert [(one.returncode, one.stderr) for one in ran] == [(0, "")] * 5
    assert (read_only.returncode, read_only.stderr) == (3, "notify-audit: PostgreSQL is out of reach: read_only\n")


def test_what_no_waiting_mends_exits_2(database: Database) -> None:
    """Who logs in where is configuration; whether it answers is not, unless nobody said where it is."""
    urls = {
        "no such role": login(database, "nobody_at_all"),
        "no such database": database.dsn.rsplit("/", 1)[0] + "/nowhere",
        "no port": "postgresql://u:p@127.0.0.1:geheim/x",
        "no connection string": "postgresql://u:geheim@[::1/x",
    }

    ran = {name: notify_audit("verify", DATABASE_URL=url) for name, url in urls.items()}
    unnamed = notify_audit("verify", DB_PORT="1")

    assert {name: one.returncode for name, one in ran.items()} == dict.fromkeys(urls, 2)
    assert all(len(one.stderr.splitlines()) == 1 and "geheim" not in one.stderr for one in ran.values())
    assert unnamed.returncode == 2
    assert "neither DATABASE_URL nor DB_HOST is set" in unnamed.stderr


def test_an_older_schema_gives_no_verdict(conn: Conn, database: Database) -> None:
    """As none at all does; it says what to run."""
    conn.execute("DROP TABLE audit_open")

    ran = notify_audit("verify", **database.environ_of("outbox_relay"))

    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (3, "", 1)
    assert "run init.sql" in ran.stderr


@pytest.mark.parametrize("broken", [">/dev/full", ">&-", "| true"])
@pytest.mark.parametrize("offender", [False, True])
def test_a_report_that_nobody_got_is_no_verdict(conn: Conn, database: Database, broken: str, offender: bool) -> None:
    """Neither clean nor an offender: a full disk, a closed stdout, a reader that went away."""
    if offender:
        rows.notification(conn, "pending")
    command = f"set -o pipefail; {{ sleep 0.5; exec {sys.executable} -m outbox_relay.audit verify --json; }} {broken}"

    ran = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], **database.environ_of("outbox_relay")},
    )  # fmt: skip

    assert (ran.returncode, len(ran.stderr.splitlines())) == (3, 1)
    assert "the report could not be written" in ran.stderr


def test_a_bug_is_no_offender(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4, one line, with the place and not the words, which may quote a value."""

    def stumble(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a@example.org")

    monkeypatch.setenv("DATABASE_URL", database.dsn)
    monkeypatch.setattr(audit, "verify", stumble)

    with pytest.raises(SystemExit) as ended:
        audit.main(["verify"])

    said = capsys.readouterr().err
    assert (ended.value.code, len(said.splitlines())) == (4, 1)
    assert "ZeroDivisionError outbox_relay.audit:" in said
    assert "example.org" not in said


def test_instants_may_be_ages() -> None:
    """2h is two hours ago; an instant without a zone is UTC."""
    now = datetime(2030, 1, 31, 9, tzinfo=UTC)

    assert [audit.instant(age, now).hour for age in ("2h", "90m", "1s")] == [7, 7, 8]
    assert audit.instant("2030-01-31T09:00", now) == now
    assert audit.instant("2030-01-31T11:00+02:00", now) == now
