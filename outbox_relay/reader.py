"""Which outbox rows come next: a cursor and a set of gaps. No Kafka in here.

Numbers are handed out before transactions commit, so a row may become visible after higher ones were read. The cursor
runs on regardless; numbers it passed without seeing are kept as gaps and asked for by number in every later read. A gap
is given up when every transaction that could own it has ended. Where that is known of a number beforehand, it is none:
the rows that another relay has deleted in a backlog are passed without a thought. Nothing is locked, nobody is waited
for.
Source: docs/decisions/0002-cursor-and-gap-set-relay.md
"""

from typing import Any, Final

from psycopg import Connection

from shared.db import outbox
from shared.db.outbox import OutboxRow, Page, Question

LOOK_BACK: Final = 10_000
"""A read opens no more gaps than this, the youngest: after a start that many numbers below the first visible row count
as gaps, since their owners may be about to commit, and a leap of the sequence costs no memory. Whatever an older number
turns out to be is found by `read_missed`."""

MAX_GAPS: Final = 20_000
"""More than this, and reading from the start again is cheaper than asking for each."""


class Reader:
    """Reads the outbox in order on one connection's snapshots. For one thread.

    Its state is a hint: after `start_over`, or in a new process, the table itself says what is left. Rows still in
    flight must be settled before a start over, or they are returned a second time.
    """

    def __init__(self) -> None:
        self.cursor = 0  # every number up to here was looked at once, or can be nobody's any more
        self.front = 0  # below it there was no row at the last look over the whole table
        self._gaps: dict[int, int] = {}  # number → xid that bounds its owner's; 0 = not known yet
        self._unbounded: list[int] = []
        self._settled = 0  # whoever could own a number up to here has ended
        self._latest = 0  # the highest number that had been handed out at the last look
        self._bound: tuple[int, int] | None = None  # what will be settled, and the xid it waits for

    @property
    def gap_count(self) -> int:
        """Return how many numbers are being waited for."""
        return len(self._gaps)

    def start_over(self) -> None:
        """Forget everything; the next read begins at the first row there is."""
        self.cursor = 0
        self._gaps.clear()
        self._unbounded.clear()
        self._settled, self._latest, self._bound = 0, 0, None
        self.front = 0

    def has_more(self, conn: Connection[Any]) -> bool:
        """Say whether a page would be worth asking for: there is a row beyond the cursor, or a gap may have closed."""
        return bool(self._gaps) or outbox.has_beyond(conn, self.cursor)

    def ask(self, conn: Connection[Any], *, limit: int, share: frozenset[int] | None = None) -> Question:
        """Ask for up to `limit` new rows, preceded by gaps that have become visible, in order of seq.

        Of those outside `share`, a set of buckets, nothing but their numbers is read; None: all buckets are ours.

        The answer has to be taken before the next page is asked for. Raises psycopg.OperationalError when PostgreSQL is
        out of reach: start over then.
        """
        return outbox.ask(
            conn, after=self.cursor, also=list(self._gaps), limit=limit, share=share, settled=self._settled
        )

    def take(self, question: Question) -> Page:
        """Take the rows asked for, after the xid of what was sent before them has been noted."""
        page = outbox.take(question)
        if self._bound and self._bound[1] <= page.oldest_xid:
            self._settled, self._bound = self._bound[0], None
        self._latest = page.last_number
        self._close_gaps(page)
        if page.passed > self.cursor:
            self._open_gaps(page)
            self.cursor = page.passed
        if not page.full and not page.cut:  # what was settled, and is not on it, is gone: dead rows cost a look at each
            self.cursor = max(self.cursor, self._settled)
        return page

    def read_missed(self, conn: Connection[Any], *, limit: int) -> list[OutboxRow]:
        """Return rows at the front of the table that the cursor has passed; the caller knows which are in flight.

        The table is the truth: this finds a row whose gap was given up or forgotten, such as one whose transaction
        stayed open across a restart of the relay.
        """
        rows = outbox.read(conn, after=0, also=(), limit=limit).rows
        self.front = rows[0].seq if rows else self.cursor
        return [row for row in rows if row.seq <= self.cursor and row.seq not in self._gaps]

    def note_xid(self, xid: int) -> None:
        """Bound the gaps found so far by `xid`, which was assigned after they were seen; and all numbers of then.

        The xid of the relay's own DELETE serves. pg_snapshot_xmax would not: it is the latest *completed* xid plus
        one, and a running transaction can be above it.
        """
        for seq in self._unbounded:
            if seq in self._gaps:
                self._gaps[seq] = xid
        self._unbounded.clear()
        if self._bound is None and self._latest > self._settled:
            self._bound = self._latest, xid

    def bound_gaps(self, conn: Connection[Any]) -> None:
        """Bound gaps by a transaction of their own, where there is nothing to delete.

        So that many numbers without a row are not gone over at each look, these too: while another session's snapshot
        keeps PostgreSQL from removing them, millions of dead rows may lie before the first that is there.
        """
        is_far_behind = self._bound is None and self._latest - max(self.cursor, self._settled) > LOOK_BACK
        if self._unbounded or is_far_behind:
            self.note_xid(outbox.fresh_xid(conn))

    def _close_gaps(self, page: Page) -> None:
        if not self._gaps:
            return
        for seq in (*(row.seq for row in page.rows), *page.others):
            if seq <= self.cursor:
                self._gaps.pop(seq, None)
        if page.cut:  # a gap that was not returned may have been among what did not fit
            return
        ended = [seq for seq, bound in self._gaps.items() if 0 < bound <= page.oldest_xid]
        for seq in ended:
            del self._gaps[seq]

    def _open_gaps(self, page: Page) -> None:
        floor = max(self.cursor, self._settled)
        if page.passed <= floor:
            return
        fresh = [row.seq for row in page.rows if row.seq > floor]
        if page.others:
            fresh = sorted([*fresh, *(seq for seq in page.others if seq > floor)])
        if len(fresh) == page.passed - floor:
            return
        missing: list[int] = []
        for before, seq in zip(reversed([floor, *fresh[:-1]]), reversed(fresh), strict=True):
            missing.extend(range(max(before + 1, seq - LOOK_BACK + len(missing)), seq))
        self._gaps.update(dict.fromkeys(missing, 0))
        self._unbounded.extend(missing)
