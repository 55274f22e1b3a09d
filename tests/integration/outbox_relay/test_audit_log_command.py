"""`notify-audit` on the audit log: what it prints, and its exit codes."""

import re

import orjson
import pytest

from outbox_relay import verifying_log
from shared.db import audit
from shared.db.audit import ActorKind, Entry
from tests.integration.ledger_rows import Conn
from tests.integration.outbox_relay.test_audit_command import login, notify_audit, rights_of_the_manual, role
from tests.servers import Database

__all__ = ["role"]


def written(conn: Conn, count: int) -> None:
    """Fill the log."""
    for number in range(count):
        actor = ("acme", ActorKind.USER, "u1", "ann")
        audit.append(conn, Entry(*actor, "suppression.lifted", "suppression", f"s{number}"))


def test_a_whole_log_is_said_to_be_so_with_its_head(conn: Conn, database: Database) -> None:
    """By either command; the head is what a later run can be held to."""
    written(conn, 5)

    ledger, log = (notify_audit(command, **database.environ_of("outbox_relay")) for command in ("verify", "verify-log"))

    assert [(one.returncode, one.stderr) for one in (ledger, log)] == [(0, ""), (0, "")]
    for one in (ledger, log):
        assert "audit log: 5 of 5 rows" in one.stdout
        assert "clean: every row is there, as it was written" in one.stdout
    [head] = re.findall(r"(?m)^  head (5:[0-9a-f]{64})$", log.stdout)
    assert notify_audit("verify-log", "--anchor", head, **database.environ_of("outbox_relay")).returncode == 0
    other = head.replace("5:", "4:")
    assert notify_audit("verify-log", "--anchor", other, **database.environ_of("outbox_relay")).returncode == 1


@pytest.mark.parametrize(
    ("statement", "said", "found"),
    [
        ("UPDATE audit_log SET action = 'x' WHERE seq = 3", "changed: row 3", ("changed", 3, 3)),
        ("DELETE FROM audit_log WHERE seq IN (2, 3)", "missing: rows 2 to 3", ("missing", 2, 3)),
        ("DELETE FROM audit_log WHERE seq > 3", "cut_off: rows 4 to 5", ("cut_off", 4, 5)),
    ],
)
def test_what_was_done_to_it_is_named_and_the_exit_is_1(
    conn: Conn, database: Database, statement: str, said: str, found: tuple[str, int, int]
) -> None:
    """In text and in JSON; a run of the ledger tells it too."""
    written(conn, 5)
    conn.execute(statement)

    ledger, log = (notify_audit(command, **database.environ_of("outbox_relay")) for command in ("verify", "verify-log"))
    json = notify_audit("verify-log", "--json", **database.environ_of("outbox_relay"))
    both = notify_audit("verify", "--json", **database.environ_of("outbox_relay"))

    assert [one.returncode for one in (ledger, log, json, both)] == [1] * 4
    assert all(said in one.stdout for one in (ledger, log))
    report = orjson.loads(json.stdout)
    assert report["found"] == [dict(zip(("what", "first", "last"), found, strict=True))]
    assert (report["clean"], report["wrong"], report["head"]["seq"]) == (False, {found[0]: 1}, 5)
    whole = orjson.loads(both.stdout)
    assert (whole["clean"], whole["broken"], whole["audit_log"]["found"]) == (False, {}, report["found"])


def test_a_run_of_the_ledger_looks_at_the_newest_rows_and_a_full_one_at_all(conn: Conn, database: Database) -> None:
    """It may run each minute, however long the log has become."""
    written(conn, 1)
    conn.execute("SELECT audit_append('acme', 'user', 'u', 'n', 'a', 'e', 'i', NULL, NULL, NULL, NULL, NULL)"
                 "  FROM generate_series(1, 10000)")  # fmt: skip
    conn.execute("UPDATE audit_log SET action = 'x' WHERE seq = 1")

    young, full = (
        notify_audit("verify", *options, **database.environ_of("outbox_relay")) for options in ([], ["--full"])
    )

    assert (young.returncode, full.returncode) == (0, 1)
    assert "audit log: 10,000 of 10,001 rows" in young.stdout
    assert "changed: row 1" in full.stdout


def test_a_role_that_may_not_read_the_log_can_keep_the_ledger(conn: Conn, database: Database, role: str) -> None:
    """It says so; asked for the log itself it lacks a right. What is hidden from it is not taken for missing."""
    written(conn, 3)
    for statement in rights_of_the_manual(role):
        conn.execute(statement.replace("DATABASE notifications", f"DATABASE {database.name}"))
    asked = {"DATABASE_URL": login(database, role)}
    seeing = [notify_audit(command, **asked) for command in ("verify", "verify-log")]
    conn.execute("REVOKE SELECT ON audit_log FROM notify_relay")
    blind = [notify_audit(command, **asked) for command in ("verify", "verify-log")]
    conn.execute(f"GRANT SELECT ON audit_log TO {role}")
    conn.execute("ALTER POLICY all_tenants ON audit_log TO notify_dlq")
    bound = [notify_audit(command, **asked) for command in ("verify", "verify-log")]

    assert [one.returncode for one in seeing] == [0, 0]
    assert "audit log: 3 of 3 rows" in seeing[0].stdout
    for ledger, log in (bound, blind):
        assert (ledger.returncode, log.returncode) == (0, 2)
        assert "audit log: not looked at" in ledger.stdout
    assert "row-level security hides rows of audit_log" in bound[1].stderr
    assert "its role lacks a right" in blind[1].stderr


def test_a_role_that_sees_one_tenant_is_no_judge(conn: Conn, database: Database, role: str) -> None:
    """With every right but sight it would find an empty ledger clean, and a full log cut off."""
    written(conn, 3)
    for grant in ("SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public", "pg_read_all_stats"):
        conn.execute(f"GRANT {grant} TO {role}")

    ran = [notify_audit(command, DATABASE_URL=login(database, role)) for command in ("verify", "verify-log")]

    assert [(one.returncode, one.stdout) for one in ran] == [(2, "")] * 2
    assert ["notifications" in ran[0].stderr, "audit_log" in ran[1].stderr] == [True, True]


@pytest.mark.parametrize("anchor", ["", "5", "0:" + "0" * 64, "5:" + "0" * 63, "5:" + "g" * 64, "-1:" + "0" * 64])
def test_an_anchor_that_is_none_is_bad_usage(anchor: str) -> None:
    """Before anything is connected to."""
    assert notify_audit("verify-log", "--anchor", anchor, DB_HOST="127.0.0.1", DB_PORT="1").returncode == 2


def test_only_some_faults_are_named_but_all_counted(conn: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report stays readable, and its memory bounded."""
    written(conn, 4)
    conn.execute("UPDATE audit_log SET action = 'x'")
    monkeypatch.setattr(verifying_log, "MOST_LISTED", 2)

    report = verifying_log.verify_log(conn)

    assert (report.wrong, len(report.found)) == ({"changed": 4}, 2)
    assert "only the first 2 are named" in report.as_lines()[-1]
