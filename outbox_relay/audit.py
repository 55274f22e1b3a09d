"""The command `notify-audit`: keeps the ledger, and sees whether the audit log is as it was written.

`verify` reconciles accepted = ended + live + pruned, names what breaks a rule, and looks at the newest rows of the log;
`verify --full` and `verify-log` look at all of it.

Exit 0: clean. 1: at least one offender, and nothing else. 2: bad usage, configuration or rights. 3: no verdict, since
PostgreSQL is out of reach or the report could not be written. 4: a bug in this command.
"""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn, TextIO
from uuid import UUID

import orjson
import psycopg

from outbox_relay.verifying import MOST_LISTED, Report, verify
from outbox_relay.verifying_log import NEWEST, LogReport, verify_log
from shared.conninfo import read_conninfo
from shared.db import OUTAGE, DatabaseNotReadyError, connect, readiness_fault
from shared.db.audit_chain import Anchor
from shared.db.ledger import FIRST_ID, LAST_ID, id_at
from shared.db.outages import outage_reason
from shared.db.tenancy import HiddenRowsError
from shared.settings import Environment, settings_or_exit

COMMAND: Final = "notify-audit"
CLEAN, OFFENDERS, MISUSED, NO_VERDICT, BUG = range(5)
MOST_GRACE_S: Final = 10 * 365 * 86_400
_TO_MEND: Final = {
    "connection_string_refused",
    "password_refused",
    "login_refused",
    "no_such_database",
    "no_such_database_or_role",
}
"""Reasons of an outage that do not pass by waiting."""
_OTHER_SCHEMA: Final = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command reads from the environment."""

    conninfo: str
    grace_s: float  # two times SWEEP_AFTER_S
    named: bool  # whether it says where PostgreSQL is


def read_settings(env: Environment) -> Settings:
    """Read what the command needs; faults stay with `env`."""
    named = bool(env.optional_text("DATABASE_URL") or env.optional_text("DB_HOST"))
    return Settings(read_conninfo(env), 2 * env.seconds("SWEEP_AFTER_S", 300, low=1, high=604_800), named)


def instant(text: str, now: datetime) -> datetime:
    """Read an ISO 8601 instant (UTC where it names no zone), or an age such as 90m, 2h, 7d.

    Raises argparse.ArgumentTypeError for what is neither, or beyond the years 1 to 9999.
    """
    try:
        if age := re.fullmatch(r"(\d{1,7})([smhd])", text):
            return now - timedelta(seconds=int(age[1]) * _UNITS[age[2]])
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no instant: 2030-01-31T09:00Z, or an age such as 2h") from None


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    now = datetime.now(UTC)

    def at(text: str) -> datetime:
        return instant(text, now)

    made = argparse.ArgumentParser(COMMAND, description="Keeps the ledger of the notification pipeline.")
    commands = made.add_subparsers(required=True, dest="command")
    one = commands.add_parser("verify", help="reconcile accepted = ended + live + pruned, and name each offender")
    one.add_argument("--since", type=at, metavar="T", help="only what was accepted since: 2030-01-31T09:00Z, or 2h")
    one.add_argument("--until", type=at, metavar="T", help="only what was accepted before; moves no mark")
    one.add_argument("--full", action="store_true", help="verify every row, and make the books anew")
    one.add_argument("--rebook", action="store_true", help="with --full: accept that rows are gone")
    one.add_argument("--grace", type=float, metavar="S", help="seconds something may be on its way (2 x SWEEP_AFTER_S)")
    one.add_argument("--json", action="store_true", help="one JSON object instead of text")
    log = commands.add_parser("verify-log", help="look at every row of the audit log: changed, missing, cut off, added")
    log.add_argument("--anchor", type=anchor, metavar="SEQ:HASH", help="a head that an earlier run printed")
    log.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return made


def anchor(text: str) -> Anchor:
    """Read the head of an earlier report, such as 17:0f3a…; raises argparse.ArgumentTypeError."""
    if not (found := re.fullmatch(r"([1-9]\d{0,17}):([0-9a-f]{64})", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no head: a number, a colon, 64 hexadecimal digits")
    return Anchor(int(found[1]), bytes.fromhex(found[2]))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit: 1 only where a report names or counts an offender, 0 only where it was written."""
    try:
        options = _options(argv)
        settings = settings_or_exit(COMMAND, read_settings)
        report, log = _verified(options, settings)
        text = as_json(report, log) if options.json else as_text(report, log)
    except Exception as error:  # noqa: BLE001 - whatever it is, Python's own exit code for it means "offender" here
        _give_up(BUG, f"a bug: {type(error).__name__} {_places(error)}")  # its words may quote a value
    if fault := _write(sys.stdout, text):
        _give_up(NO_VERDICT, f"the report could not be written: {fault}")
    raise SystemExit(CLEAN if all(one is None or one.clean for one in (report, log)) else OFFENDERS)


def _verified(options: argparse.Namespace, settings: Settings) -> tuple[Report | None, LogReport | None]:
    """Return what was found in the ledger, None where it was not asked for, and in the log, None where it is hidden."""
    try:
        with connect(settings.conninfo, application_name=COMMAND, settings=("SET lock_timeout = '50s'",)) as conn:
            if fault := readiness_fault(conn):
                raise DatabaseNotReadyError(fault)
            return _looked_at(conn, options, settings)
    except OUTAGE as error:
        reason = outage_reason(error)
        if reason in _TO_MEND:
            _give_up(MISUSED, f"PostgreSQL does not let us in: {reason}")
        if not settings.named and error.sqlstate is None:
            _give_up(MISUSED, f"neither DATABASE_URL nor DB_HOST is set, and at localhost: {reason}")
        _give_up(NO_VERDICT, f"PostgreSQL is out of reach: {reason}")
    except HiddenRowsError as error:
        _give_up(MISUSED, f"row-level security hides rows of {error.table} from its role: GRANT notify_relay TO it")
    except psycopg.errors.InsufficientPrivilege as error:
        _give_up(MISUSED, f"its role lacks a right: {error.diag.message_primary}")
    except _OTHER_SCHEMA as error:
        _give_up(NO_VERDICT, f"the schema is older than this command, run init.sql: {error.diag.message_primary}")
    except psycopg.ProgrammingError as error:
        if error.sqlstate is None:  # libpq could not read it; its words may hold the password
            _give_up(MISUSED, "DATABASE_URL is no connection string")
        raise


def _looked_at(
    conn: psycopg.Connection[Any], options: argparse.Namespace, settings: Settings
) -> tuple[Report | None, LogReport | None]:
    if options.command == "verify-log":
        return None, verify_log(conn, anchor=options.anchor)
    grace_s = settings.grace_s if options.grace is None else options.grace
    report = verify(conn, grace_s=grace_s, between=_between(options), full=options.full, rebook=options.rebook)
    try:
        return report, verify_log(conn, newest=None if options.full else NEWEST)
    except (psycopg.errors.InsufficientPrivilege, HiddenRowsError):
        return report, None  # a role that keeps the ledger need not see who did what


def _places(error: Exception) -> str:
    """Where it came from, through this project's modules."""
    frames = [(frame.f_globals["__name__"], line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [f"{name}:{line}" for name, line in frames if name.startswith(("outbox_relay.", "shared.", "__main__"))]
    return " > ".join(ours)


def _give_up(code: int, why: str) -> NoReturn:
    _write(sys.stderr, f"{COMMAND}: {why}\n")
    raise SystemExit(code)


def _write(stream: TextIO | None, text: str) -> str | None:
    """Write and flush; return why that failed. What is left in the buffer then must not fail again at exit."""
    if stream is None:
        return "it is closed"
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error.strerror or type(error).__name__
    return None


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser()
    options = made.parse_args(argv)
    if options.command == "verify-log":
        return options
    if options.full and (options.since or options.until):
        made.error("--full is everything: it goes without --since and --until")
    if options.rebook and not options.full:
        made.error("--rebook goes with --full")
    if (stretch := _between(options)) and stretch[0] >= stretch[1]:
        made.error("nothing is between: --since must be before --until")
    if options.grace is not None and not 0 <= options.grace <= MOST_GRACE_S:
        made.error(f"--grace must be a number of seconds, at most {MOST_GRACE_S} (ten years)")
    return options


def _between(options: argparse.Namespace) -> tuple[UUID, UUID] | None:
    if options.since is None and options.until is None:
        return None
    after = id_at(options.since.timestamp()) if options.since else FIRST_ID
    return after, id_at(options.until.timestamp()) if options.until else LAST_ID


def as_json(report: Report | None, log: LogReport | None) -> str:
    """Write what was found as one line of JSON."""
    of_log = log and log.as_json()
    if report is None:
        return orjson.dumps(of_log).decode() + "\n"
    body = {
        "clean": report.clean and (log is None or log.clean),
        "scope": report.scope,
        "accepted": report.accepted,
        "ended_total": report.ended.total(),
        "live_total": report.live.total(),
        "pruned_total": report.pruned.total(),
        "gone": report.gone,
        "late": report.late,
        "ended": report.ended,
        "live": report.live,
        "pruned": report.pruned,
        "statuses": report.statuses,
        "broken": report.broken,
        "offenders": report.offenders,
        "mark": report.mark,
        "seconds": report.seconds,
        "audit_log": of_log,
    }
    return orjson.dumps(body).decode() + "\n"


def as_text(report: Report | None, log: LogReport | None) -> str:
    """Write what was found for a person."""
    of_log = log.as_lines() if log else ["audit log: not looked at, this role may not read all of it"]
    return "\n".join([*(_ledger_lines(report) if report else []), *of_log]) + "\n"


def _ledger_lines(report: Report) -> list[str]:
    mark = f", mark at {report.mark:%Y-%m-%d %H:%M:%S} UTC" if report.mark and report.scope != "stretch" else ""
    lines = [f"ledger ({report.scope}{mark}, {report.seconds:.1f} s)", ""]
    lines += [f"  accepted {report.accepted:>14,}", *_part("ended", report.ended), *_part("live", report.live)]
    lines += [*_part("pruned", report.pruned), f"  gone     {report.gone:>14,}", ""]
    if report.late:
        lines += [f"  {report.late:,} rows had come late, behind the mark; they are in the books now", ""]
    lines += ["  in the table: " + (_listed(report.statuses) or "nothing"), ""]
    if report.clean:
        return [*lines, "clean: nothing is missing a cause", ""]
    lines += [f"{report.broken.total():,} OFFENDERS: " + _listed(report.broken), ""]
    for offender in report.offenders:
        state = f"{offender.status or '-'} attempt {offender.attempt or '-'}, {_age(offender.age_s)}"
        lines.append(f"  {offender.id}  {state}  {offender.rule}: missing {offender.missing}")
    if report.broken.total() > len(report.offenders):
        lines.append(f"  ... only the first {MOST_LISTED:,} are named")
    return [*lines, ""]


def _part(name: str, counts: dict[str, int]) -> list[str]:
    total = sum(counts.values())
    detail = _listed(counts)
    return [f"  {name:<9}{total:>14,}" + (f"   {detail}" if detail else "")]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count)


def _age(age_s: float | None) -> str:
    return "-" if age_s is None else f"{timedelta(seconds=round(age_s))} old"


if __name__ == "__main__":
    main()
