"""The gap set, over a table and snapshots made by hand."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox_relay.reader import LOOK_BACK, Reader
from shared.db import outbox
from shared.db.outbox import OutboxRow, Page


class Table:
    """An outbox whose transactions commit when told to: seq → (xid, visible)."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[int, bool]] = {}
        self.next_xid, self.open_xids = 100, set[int]()

    def ask(self, conn: Any, *, after: int, also: Sequence[int], limit: int) -> Page:
        """What is visible by then; `take` returns it as it is."""
        visible = sorted(seq for seq, (_, seen) in self.rows.items() if seen)
        wanted = [seq for seq in visible if seq in also] + [seq for seq in visible if seq > after][:limit]
        return Page(
            [OutboxRow(seq, 0, "t", b"", b"", []) for seq in wanted], min(self.open_xids, default=self.next_xid)
        )

    def xid(self, conn: Any = None) -> int:
        self.next_xid += 1
        return self.next_xid - 1


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table()
    monkeypatch.setattr(outbox, "ask", made.ask)
    monkeypatch.setattr(outbox, "take", lambda page: page)
    monkeypatch.setattr(outbox, "fresh_xid", made.xid)
    return made


def seqs(reader: Reader, limit: int = 100) -> list[int]:
    """Read, and return the numbers."""
    return [row.seq for row in reader.take(reader.ask(None, limit=limit)).rows]  # type: ignore[arg-type]


def test_row_that_commits_late_is_read_when_it_appears(table: Table) -> None:
    """A number passed over is asked for again until it comes."""
    table.open_xids = {7}
    table.rows = {1: (5, True), 2: (7, False), 3: (8, True)}
    reader = Reader()

    first = seqs(reader)
    reader.note_xid(table.xid())
    second = seqs(reader)
    table.rows[2] = (7, True)
    table.open_xids.clear()

    assert (first, second, seqs(reader)) == ([1, 3], [], [2])
    assert reader.gap_count == 0


def test_gap_is_given_up_when_no_transaction_can_own_it(table: Table) -> None:
    """A rollback leaves a hole; it is forgotten once every transaction older than its bound has ended."""
    table.open_xids = {7}
    table.rows = {1: (5, True), 3: (8, True)}
    reader = Reader()
    seqs(reader)
    reader.note_xid(table.xid())

    still_open = (seqs(reader), reader.gap_count)
    table.open_xids.clear()
    ended = (seqs(reader), reader.gap_count)

    assert (still_open, ended) == (([], 1), ([], 0))


def test_gap_without_a_bound_is_kept(table: Table) -> None:
    """Until an xid younger than the gap is known nothing can be said about its owner."""
    table.rows = {1: (5, True), 3: (8, True)}
    reader = Reader()

    seqs(reader)
    seqs(reader)

    assert reader.gap_count == 1


def test_rows_below_the_first_visible_one_count_as_gaps_after_a_start(table: Table) -> None:
    """A new relay does not know what committed before: lower numbers may still be open."""
    table.open_xids = {7}
    table.rows = {4: (7, False), 5: (8, True)}
    reader = Reader()

    first = seqs(reader)
    table.rows[4] = (7, True)

    assert (first, seqs(reader)) == ([5], [4])


def test_leap_of_the_sequence_opens_no_more_gaps_than_the_look_back(table: Table) -> None:
    """I19: two rows twelve million numbers apart cost a bounded number of gaps, not twelve million."""
    table.rows = {1: (5, True), 12_000_000: (8, True)}
    reader = Reader()

    assert seqs(reader) == [1, 12_000_000]
    assert reader.gap_count == LOOK_BACK


def test_gap_that_did_not_fit_on_a_page_is_not_given_up(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that was full in bytes proves nothing about what it does not hold."""
    table.rows = {1: (5, True), 3: (8, True)}
    reader = Reader()
    seqs(reader)
    reader.note_xid(table.xid())

    monkeypatch.setattr(outbox, "ask", lambda *_, **__: Page([], table.next_xid, cut=True))
    seqs(reader)

    assert reader.gap_count == 1


@given(
    commits=st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=40, unique_by=lambda c: c[0]),
    limit=st.integers(1, 7),
)
def test_every_committed_row_is_read_exactly_once(commits: list[tuple[int, bool]], limit: int) -> None:
    """Whatever the order of commits and rollbacks, and however small the reads."""
    table = Table()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "ask", table.ask)
        patch.setattr(outbox, "take", lambda page: page)
        patch.setattr(outbox, "fresh_xid", table.xid)
        reader, got = Reader(), list[int]()
        owner = {seq: table.xid() for seq, _ in commits}
        table.open_xids = set(owner.values())
        for seq, committed in commits:
            table.open_xids.discard(owner[seq])
            if committed:
                table.rows[seq] = (owner[seq], True)
            got += seqs(reader, limit)
            reader.bound_gaps(None)  # type: ignore[arg-type]
        while more := seqs(reader, limit):
            got += more

    assert sorted(got) == sorted(seq for seq, committed in commits if committed)
