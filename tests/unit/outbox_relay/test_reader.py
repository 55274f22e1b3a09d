"""The gap set, over a table and snapshots made by hand."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outbox_relay.reader import LOOK_BACK, Reader
from shared.db import outbox
from shared.db.outbox import OutboxRow, Page


class Table:
    """An outbox whose transactions commit when told to: seq → (xid, visible). Even numbers are in bucket 0."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[int, bool]] = {}
        self.next_xid, self.open_xids = 100, set[int]()

        self.last_number = 0

    def ask(
        self, conn: Any, *, after: int, also: Sequence[int], limit: int, share: frozenset[int] | None, settled: int
    ) -> Page:
        """What is visible by then; `take` returns it as it is."""
        visible = sorted(seq for seq, (_, seen) in self.rows.items() if seen)
        window = [seq for seq in visible if seq > after][:limit]
        looked = [seq for seq in visible if seq in also] + window
        mine = [seq for seq in looked if share is None or seq % 2 in share]
        others = [seq for seq in looked if seq not in mine and (seq > settled or seq <= after)]
        return Page(
            [OutboxRow(seq, seq % 2, "t", b"", b"", []) for seq in mine],
            min(self.open_xids, default=self.next_xid),
            max(self.last_number, *self.rows, 0, 0),
            passed=looked[-1] if looked else 0,
            others=others,
            full=len(window) == limit,
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


def seqs(reader: Reader, limit: int = 100, share: frozenset[int] | None = None) -> list[int]:
    """Read, and return the numbers."""
    page = reader.take(reader.ask(None, limit=limit, share=share))  # type: ignore[arg-type]
    return [row.seq for row in page.rows]


EVEN, ODD = frozenset({0}), frozenset({1})


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


def test_what_another_relay_deleted_of_a_backlog_is_no_gap(table: Table) -> None:
    """Once every transaction has ended that was under way at an earlier look, a number that is not there is gone."""
    table.rows = dict.fromkeys(range(1, 101), (5, True))
    reader = Reader()
    seqs(reader, 10, EVEN)
    reader.note_xid(table.xid())
    for seq in range(11, 100, 2):
        del table.rows[seq]

    read = seqs(reader, 40, EVEN)

    assert (read, reader.gap_count) == (list(range(12, 91, 2)), 0)


def test_a_number_handed_out_since_the_last_look_is_a_gap(table: Table) -> None:
    """Whoever has it may be about to commit."""
    table.rows = {2: (5, True)}
    reader = Reader()
    seqs(reader, 10, EVEN)
    reader.note_xid(table.xid())
    table.rows |= {4: (8, False), 5: (8, False), 6: (9, True)}
    table.open_xids = {8}
    seen = seqs(reader, 10, EVEN)
    gaps = reader.gap_count

    table.rows |= {4: (8, True), 5: (8, True)}
    table.open_xids.clear()

    assert (seen, gaps, seqs(reader, 10, EVEN), reader.gap_count) == ([6], 4, [4], 1)  # 3 may still be somebody's


def test_a_number_whose_owner_is_still_there_is_never_settled(table: Table) -> None:
    """Handed out before a look that did not come that far, not committed at the next: it is waited for."""
    table.rows, table.last_number, table.open_xids = {1: (5, True)}, 2, {7}
    reader = Reader()
    seqs(reader, 10, EVEN)
    reader.note_xid(table.xid())
    table.rows[4] = (8, True)
    seen = seqs(reader, 10, EVEN)

    table.rows[2] = (7, True)
    table.open_xids.clear()

    assert (seen, seqs(reader, 10, EVEN)) == ([4], [2])


def test_numbers_that_can_be_nobodys_any_more_are_passed(table: Table) -> None:
    """After a start before an empty table, so that dead rows are gone over once and not at each look."""
    table.last_number, table.open_xids = 12_000_000, {7}
    reader = Reader()

    for _ in range(2):
        seqs(reader)
        reader.bound_gaps(None)  # type: ignore[arg-type]
    while_one_is_open = seqs(reader), reader.cursor
    table.open_xids.clear()
    table.rows[7] = (7, True)

    assert while_one_is_open == ([], 0)
    assert (seqs(reader), reader.cursor, reader.gap_count) == ([7], 12_000_000, 0)


def test_a_few_numbers_are_not_worth_a_transaction(table: Table) -> None:
    """Beside a relay that is busy with other buckets each look would take one."""
    table.last_number = LOOK_BACK
    reader = Reader()

    for _ in range(3):
        seqs(reader)
        reader.bound_gaps(None)  # type: ignore[arg-type]

    assert (table.next_xid, reader.cursor) == (100, 0)


def test_the_front_is_where_the_table_begins(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the last look over all of it; before there was one, and after a start over, nobody knows."""
    reader = Reader()
    table.rows = {5: (5, True), 7: (5, True)}
    monkeypatch.setattr(
        outbox, "read", lambda *_, **__: Page([OutboxRow(seq, 0, "t", b"", b"", []) for seq in table.rows], 9)
    )
    fronts = [reader.front]
    seqs(reader)

    for _ in range(2):
        reader.read_missed(None, limit=10)  # type: ignore[arg-type]
        fronts.append(reader.front)
        table.rows.clear()
    reader.start_over()

    assert [*fronts, reader.front] == [0, 5, 7, 0]


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


EVEN, ODD = frozenset({0}), frozenset({1})


EVENTS = st.one_of(
    st.tuples(st.just("begin"), st.just(0), st.just(0)),
    st.tuples(st.sampled_from(["number", "commit", "abort"]), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 1), st.integers(1, 6)),
)


class Story:
    """Transactions and two relays, an event at a time."""

    def __init__(self, table: Table) -> None:
        self.table, self.readers = table, (Reader(), Reader())
        self.owned: dict[int, list[int]] = {}  # the numbers of each open transaction
        self.wanted, self.got = set[int](), list[int]()

    def happens(self, what: str, which: int, limit: int) -> None:
        """Let one thing happen, if it can."""
        if what == "begin":
            xid = self.table.xid()
            self.table.open_xids.add(xid)
            self.owned[xid] = []
        elif what == "read":
            self.read(which, limit)
        elif which < len(self.owned):
            self.goes_on(sorted(self.owned)[which], what)

    def goes_on(self, xid: int, what: str) -> None:
        """Give a transaction a number, or end it."""
        if what == "number":
            self.table.last_number += 1
            self.owned[xid].append(self.table.last_number)
            return
        self.table.open_xids.discard(xid)
        numbers = self.owned.pop(xid)
        if what == "commit":
            self.table.rows |= dict.fromkeys(numbers, (xid, True))
            self.wanted |= set(numbers)

    def read(self, which: int, limit: int) -> int:
        """Have a relay read a page, and delete its own; 0 at the end."""
        reader = self.readers[which]
        page = reader.take(reader.ask(None, limit=limit, share=(EVEN, ODD)[which]))  # type: ignore[arg-type]
        found = [row.seq for row in page.rows]
        self.got += found
        for seq in found:
            del self.table.rows[seq]
        reader.note_xid(self.table.xid())
        return len(found) + page.full


@settings(max_examples=200)
@given(events=st.lists(EVENTS, min_size=30, max_size=80))
def test_relays_that_share_the_table_read_each_row_once(events: list[tuple[str, int, int]]) -> None:
    """Each its own, whatever the other has deleted meanwhile, and though one of them may be far behind."""
    with pytest.MonkeyPatch.context() as patch:
        story = Story(Table())
        patch.setattr(outbox, "ask", story.table.ask)
        patch.setattr(outbox, "take", lambda page: page)

        for event in events:
            story.happens(*event)
        for xid in sorted(story.owned):
            story.goes_on(xid, "commit")
        for which in (0, 1, 0, 1):
            while story.read(which, 5):
                pass

    assert sorted(story.got) == sorted(story.wanted)
