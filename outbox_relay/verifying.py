"""One run of the ledger: what is walked in which order, and what it adds up to."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from psycopg import Connection, IsolationLevel, Rollback

from shared.db import ledger, ledger_rules
from shared.db.ledger import FIRST_ID, LAST_ID, Books
from shared.db.ledger_rules import Offender, Stretch
from shared.db.tenancy import require_all_of

MOST_LISTED: Final = 1_000
"""Offenders named in a report; all are counted."""


@dataclass(slots=True)
class Report:
    """What a run found. `ended`, `live`, `pruned` and `gone` add up to `accepted`."""

    scope: str
    accepted: int = 0
    statuses: Counter[str] = field(default_factory=Counter)  # rows in the table
    ended: Counter[str] = field(default_factory=Counter)  # by status
    live: Counter[str] = field(default_factory=Counter)  # by cause
    pruned: Counter[str] = field(default_factory=Counter)  # by status
    gone: int = 0
    late: int = 0
    broken: Counter[str] = field(default_factory=Counter)  # by rule
    offenders: list[Offender] = field(default_factory=list)
    mark: datetime | None = None
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Say whether no rule is broken and the sums agree."""
        return not self.broken

    def accuse(self, *offenders: Offender) -> None:
        """Count offenders, and name the first ones."""
        for offender in offenders:
            self.broken[offender.rule] += 1
            if len(self.offenders) < MOST_LISTED:
                self.offenders.append(offender)

    def add(self, stretch: Stretch) -> int:
        """Take in what a stretch holds; return how many rows that were."""
        for tally in stretch.tallies:
            self.statuses[tally.status] += tally.count
            if tally.cause is None:
                self.ended[tally.status] += tally.count
            else:
                self.live[tally.cause] += tally.count
        self.accuse(*stretch.offenders)
        return sum(tally.count for tally in stretch.tallies)


def verify(
    conn: Connection[Any],
    *,
    grace_s: float,
    between: tuple[UUID, UUID] | None = None,
    full: bool = False,
    rebook: bool = False,
) -> Report:
    """Reconcile in one snapshot; needs an autocommit connection.

    Without arguments: what is open behind the mark and what is beyond it; the mark moves. `full`: everything, and the
    books are made anew, unless rows are missing; then they stay as they are, `rebook` apart. `between` (after, until]:
    that stretch, and no mark moves. A crash at any point leaves the books as they were. Raises HiddenRowsError for a
    role that sees some tenants' rows alone.
    """
    began = time.monotonic()
    require_all_of(conn, "notifications")
    ledger.take_lock(conn)
    horizon = ledger.horizon(conn)
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    report = Report("stretch" if between else "full" if full else "since the mark")
    with conn.transaction() as whole:
        ledger_rules.prepare(conn)
        books = ledger.books(conn)
        if between:
            _verify_stretch(conn, report, between, grace_s)
        elif full:
            _verify_all(conn, report, books, horizon, grace_s)
            if report.gone and not rebook:
                _finish(report, books.mark, began)
                raise Rollback(whole)
        else:
            _verify_on(conn, report, books, horizon, grace_s)
        _finish(report, ledger.books(conn).mark, began)
    return report


def _finish(report: Report, mark: UUID, began: float) -> None:
    report.mark = datetime.fromtimestamp((mark.int >> 80) / 1000, UTC)
    report.seconds = round(time.monotonic() - began, 3)


def _verify_stretch(conn: Connection[Any], report: Report, between: tuple[UUID, UUID], grace_s: float) -> None:
    after, until = between
    for stretch in ledger_rules.walk(conn, after=after, until=until, grace_s=grace_s):
        report.accepted += report.add(stretch)
    report.accuse(*ledger_rules.question(conn, after=after, until=until))


def _verify_on(conn: Connection[Any], report: Report, books: Books, horizon: UUID, grace_s: float) -> None:
    for status, account in books.accounts.items():
        report.statuses[status] += account.settled - account.pruned
        report.ended[status] += account.settled - account.pruned
        report.pruned[status] += account.pruned + account.ahead
    settled = sum(account.settled for account in books.accounts.values())
    if books.passed != settled + ledger.listed_open(conn):
        report.accuse(_unbalanced(f"the mark passed {books.passed} ids, {settled} settled and the rest is not listed"))
    for stretch in ledger_rules.walk(conn, after=FIRST_ID, until=LAST_ID, grace_s=grace_s, listed=True):
        report.add(stretch)
        ledger.settle_open(conn, after=stretch.after, to=stretch.to, offenders=_ids(stretch))
    report.gone = report.broken["gone"]
    beyond = sum(report.add(stretch) for stretch in _pass_over(conn, books.mark, max(horizon, books.mark), grace_s))
    for stretch in ledger_rules.walk(conn, after=max(horizon, books.mark), until=LAST_ID, grace_s=grace_s):
        beyond += report.add(stretch)
    report.accepted = books.passed + sum(account.ahead for account in books.accounts.values()) + beyond
    report.accuse(*ledger_rules.question(conn, after=books.mark, until=LAST_ID))


def _verify_all(conn: Connection[Any], report: Report, books: Books, horizon: UUID, grace_s: float) -> None:
    ledger.begin_anew(conn)
    behind = sum(report.add(stretch) for stretch in _pass_over(conn, FIRST_ID, books.mark, grace_s))
    found = behind
    if horizon > books.mark:
        found += sum(report.add(stretch) for stretch in _pass_over(conn, books.mark, horizon, grace_s))
    for stretch in ledger_rules.walk(conn, after=max(horizon, books.mark), until=LAST_ID, grace_s=grace_s):
        found += report.add(stretch)
    for status, account in books.accounts.items():
        report.pruned[status] += account.pruned + account.ahead
    expected = books.passed - sum(account.pruned for account in books.accounts.values())
    report.gone, report.late = max(0, expected - behind), max(0, behind - expected)
    if report.gone:
        report.accuse(_unbalanced(f"{report.gone} of {books.passed} ids behind the mark are gone without being pruned"))
    report.accepted = found + report.gone + report.pruned.total()
    report.accuse(*ledger_rules.question(conn, after=FIRST_ID, until=LAST_ID))


def _pass_over(conn: Connection[Any], mark: UUID, to: UUID, grace_s: float) -> Iterator[Stretch]:
    """Judge (mark, to] and move the mark behind each stretch."""
    for stretch in ledger_rules.walk(conn, after=mark, until=to, grace_s=grace_s) if to > mark else ():
        yield stretch
        ledger.pass_over(conn, mark=stretch.after, to=stretch.to, offenders=_ids(stretch))


def _ids(stretch: Stretch) -> list[UUID]:
    return list({UUID(offender.id) for offender in stretch.offenders})


def _unbalanced(what: str) -> Offender:
    return Offender("books", "-", None, None, None, f"rows: {what}")
