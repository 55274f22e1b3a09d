"""One look at the audit log, as `notify-audit` reports it."""

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from psycopg import Connection

from shared.db.audit_chain import Anchor, Chain, Found

MOST_LISTED: Final = 1_000
"""Faults named in a report; all are counted."""
NEWEST: Final = 10_000
"""Rows that a run of the ledger looks at, which may be each minute."""


@dataclass(slots=True)
class LogReport:
    """What a look at the log found. `rows` were looked at; `head` is the log's last row, by audit_head."""

    rows: int = 0
    head: Anchor | None = None
    wrong: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Say whether every row is there, as it was written."""
        return not self.wrong

    def as_json(self) -> dict[str, Any]:
        """Return it for a program."""
        head = self.head and {"seq": self.head.seq, "hash": bytes(self.head.hash).hex()}
        return {
            "clean": self.clean,
            "rows": self.rows,
            "head": head,
            "wrong": self.wrong,
            "found": [asdict(one) for one in self.found],
            "seconds": self.seconds,
        }

    def as_lines(self) -> list[str]:
        """Return it for a person."""
        if self.head is None and self.clean:
            return ["audit log: empty"]
        total = self.head.seq if self.head else self.rows
        lines = [f"audit log: {self.rows:,} of {total:,} rows, {self.seconds:.1f} s"]
        if self.head:
            lines.append(f"  head {self.head.seq}:{bytes(self.head.hash).hex()}")
        if self.clean:
            return [*lines, "clean: every row is there, as it was written"]
        lines.append(
            f"{self.wrong.total():,} FAULTS: " + ", ".join(f"{n} {c:,}" for n, c in sorted(self.wrong.items()))
        )
        for one in self.found:
            which = f"row {one.first}" if one.first == one.last else f"rows {one.first} to {one.last}"
            lines.append(f"  {one.what}: {which}")
        if self.wrong.total() > len(self.found):
            lines.append(f"  ... only the first {MOST_LISTED:,} are named")
        return lines


def verify_log(conn: Connection[Any], *, newest: int | None = None, anchor: Anchor | None = None) -> LogReport:
    """Verify the whole log, or its newest rows, in one snapshot; needs an autocommit connection.

    Raises HiddenRowsError, and psycopg.errors.InsufficientPrivilege, for a role that may not see all of it.
    """
    began, report = time.monotonic(), LogReport()
    chain = Chain(conn, newest=newest, anchor=anchor)
    for one in chain.faults():
        report.wrong[one.what.value] += 1
        if len(report.found) < MOST_LISTED:
            report.found.append(one)
    report.rows, report.head = chain.rows, chain.head
    report.seconds = round(time.monotonic() - began, 3)
    return report
