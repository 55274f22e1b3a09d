"""The command `notify-audit verify`: reconciles accepted = ended + live + pruned, and names what breaks a rule.

Exit 0: clean. 1: at least one offender. 2: bad usage or configuration. 3: PostgreSQL out of reach.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import orjson

from outbox_relay.verifying import MOST_LISTED, Report, verify
from shared.db import OUTAGE, DatabaseNotReadyError, connect, readiness_fault
from shared.db.ledger import FIRST_ID, LAST_ID, id_at
from shared.db.outages import outage_reason
from shared.settings import Environment, read_conninfo, settings_or_exit

COMMAND: Final = "notify-audit"
CLEAN, OFFENDERS, OUT_OF_REACH = 0, 1, 3
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command reads from the environment."""

    conninfo: str
    grace_s: float  # two times SWEEP_AFTER_S


def read_settings(env: Environment) -> Settings:
    """Read what the command needs; faults stay with `env`."""
    return Settings(read_conninfo(env), 2 * env.seconds("SWEEP_AFTER_S", 300, low=1, high=604_800))


def instant(text: str) -> datetime:
    """Read an ISO 8601 instant (UTC where it names no zone), or an age such as 90m, 2h, 7d. Raises ValueError."""
    if age := re.fullmatch(r"(\d{1,7})([smhd])", text):
        return datetime.now(UTC) - timedelta(seconds=int(age[1]) * _UNITS[age[2]])
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    made = argparse.ArgumentParser(COMMAND, description="Keeps the ledger of the notification pipeline.")
    commands = made.add_subparsers(required=True)
    one = commands.add_parser("verify", help="reconcile accepted = ended + live + pruned, and name each offender")
    one.add_argument(
        "--since", type=instant, metavar="T", help="only what was accepted since: 2030-01-31T09:00Z, or 2h"
    )
    one.add_argument("--until", type=instant, metavar="T", help="only what was accepted before; moves no mark")
    one.add_argument("--full", action="store_true", help="verify every row, and make the books anew")
    one.add_argument("--rebook", action="store_true", help="with --full: accept that rows are gone")
    one.add_argument("--grace", type=float, metavar="S", help="seconds something may be on its way (2 x SWEEP_AFTER_S)")
    one.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    options = _options(argv)
    settings = settings_or_exit(COMMAND, read_settings)
    try:
        with connect(settings.conninfo, application_name=COMMAND, settings=("SET lock_timeout = '50s'",)) as conn:
            if fault := readiness_fault(conn):
                raise DatabaseNotReadyError(fault)
            grace_s = settings.grace_s if options.grace is None else options.grace
            report = verify(conn, grace_s=grace_s, between=_between(options), full=options.full, rebook=options.rebook)
    except OUTAGE as error:
        sys.stderr.write(f"{COMMAND}: PostgreSQL is out of reach: {outage_reason(error)}\n")
        raise SystemExit(OUT_OF_REACH) from None
    sys.stdout.write(as_json(report) if options.json else as_text(report))
    raise SystemExit(CLEAN if report.clean else OFFENDERS)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser()
    options = made.parse_args(argv)
    if options.full and (options.since or options.until):
        made.error("--full is everything: it goes without --since and --until")
    if options.rebook and not options.full:
        made.error("--rebook goes with --full")
    if options.since and options.until and options.since >= options.until:
        made.error("--since must be before --until")
    if options.grace is not None and not 0 <= options.grace < float("inf"):
        made.error("--grace must be a number of seconds")
    return options


def _between(options: argparse.Namespace) -> tuple[UUID, UUID] | None:
    if options.since is None and options.until is None:
        return None
    after = id_at(options.since.timestamp()) if options.since else FIRST_ID
    return after, id_at(options.until.timestamp()) if options.until else LAST_ID


def as_json(report: Report) -> str:
    """Write a report as one line of JSON."""
    body = {
        "clean": report.clean,
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
    }
    return orjson.dumps(body).decode() + "\n"


def as_text(report: Report) -> str:
    """Write a report for a person."""
    mark = f", mark at {report.mark:%Y-%m-%d %H:%M:%S} UTC" if report.mark and report.scope != "stretch" else ""
    lines = [f"ledger ({report.scope}{mark}, {report.seconds:.1f} s)", ""]
    lines += [f"  accepted {report.accepted:>14,}", *_part("ended", report.ended), *_part("live", report.live)]
    lines += [*_part("pruned", report.pruned), f"  gone     {report.gone:>14,}", ""]
    if report.late:
        lines += [f"  {report.late:,} rows had come late, behind the mark; they are in the books now", ""]
    lines += ["  in the table: " + (_listed(report.statuses) or "nothing"), ""]
    if report.clean:
        return "\n".join([*lines, "clean: nothing is missing a cause"]) + "\n"
    lines += [f"{report.broken.total():,} OFFENDERS: " + _listed(report.broken), ""]
    for offender in report.offenders:
        state = f"{offender.status or '-'} attempt {offender.attempt or '-'}, {_age(offender.age_s)}"
        lines.append(f"  {offender.id}  {state}  {offender.rule}: missing {offender.missing}")
    if report.broken.total() > len(report.offenders):
        lines.append(f"  ... only the first {MOST_LISTED:,} are named")
    return "\n".join(lines) + "\n"


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
