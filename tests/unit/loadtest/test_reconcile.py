"""Sent = received, by id."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from loadtest.books import Book
from loadtest.reconcile import audit_s, compare, named, received_since, verify


def write(directory: Path, name: str, *lines: tuple[UUID, int]) -> None:
    book = Book(directory, name)
    for id_, number in lines:
        book.add(id_.bytes, number, 1)
    book.flush()


def test_both_ledgers_agree(tmp_path: Path) -> None:
    """Whoever accepted it, in whatever order it came, in however many pieces it was written."""
    ids = [uuid4() for _ in range(500)]
    write(tmp_path, "accepted-0", *((one, n) for n, one in enumerate(ids[:200])))
    write(tmp_path, "accepted-1", *((one, n) for n, one in enumerate(ids[200:])))
    write(tmp_path, "received", *((one, n) for n, one in enumerate(reversed(ids[:300]))))
    write(tmp_path, "received", *((one, n) for n, one in enumerate(ids[300:])))

    found = compare(tmp_path, [])

    assert (found.accepted, found.received, found.doubled) == (500, 500, 0)
    assert (found.missing, found.unexplained) == ([], [])


def test_each_way_of_being_wrong_is_told_apart(tmp_path: Path) -> None:
    """Lost, doubled, from nowhere; and received though nobody had said that it was accepted."""
    fine, lost, doubled, nowhere, unanswered = (uuid4() for _ in range(5))
    write(tmp_path, "accepted-0", (fine, 0), (lost, 1), (doubled, 2))
    write(tmp_path, "received", (fine, 0), (doubled, 2), (doubled, 2), (nowhere, 90), (unanswered, 12))

    found = compare(tmp_path, [(10, 5)])

    assert (found.accepted, found.received, found.doubled, found.unanswered_received) == (3, 2, 1, 1)
    assert (found.missing, found.unexplained) == ([lost.bytes], [nowhere.bytes])
    assert named(found.missing) == str(lost)


def test_a_message_under_the_id_of_another_is_noticed(tmp_path: Path) -> None:
    """The ids alone would agree: each accepted id is received once, with the body of the next one."""
    ids = [uuid4() for _ in range(100)]
    write(tmp_path, "accepted-0", *((one, n) for n, one in enumerate(ids)))
    write(tmp_path, "received", *((one, (n + 1) % 100) for n, one in enumerate(ids)))

    found = compare(tmp_path, [])

    assert (found.received, found.missing, found.doubled) == (100, [], 0)
    assert found.misplaced == 100


def test_a_second_delivery_with_another_message_is_misplaced_as_well(tmp_path: Path) -> None:
    """Whichever came first."""
    one = uuid4()
    write(tmp_path, "accepted-0", (one, 1))
    write(tmp_path, "received", (one, 1), (one, 2))

    found = compare(tmp_path, [])
    assert (found.doubled, found.misplaced) == (1, 1)


def test_what_arrives_after_the_comparison_is_found(tmp_path: Path) -> None:
    """It was late, not lost."""
    late, lost = uuid4().bytes, uuid4().bytes
    write(tmp_path, "received", (UUID(bytes=late), 1))

    assert received_since(tmp_path, [late, lost]) == {late}
    assert received_since(tmp_path, []) == set()


def test_the_audit_of_an_hour_may_take_longer_than_that_of_a_minute() -> None:
    """610 s were measured for 10.3 million rows on a busy machine."""
    assert audit_s(4_000) == 300
    assert audit_s(10_300_000) > 2 * 610


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    """A process that was killed while it wrote leaves one."""
    write(tmp_path, "received", (uuid4(), 1))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b"half")

    assert len(compare(tmp_path, []).unexplained) == 1


def test_nothing_was_written(tmp_path: Path) -> None:
    """A run that broke before its load."""
    assert compare(tmp_path, []).accepted == 0


@pytest.mark.parametrize(
    ("code", "out", "clean", "words"),
    [
        (0, '{"accepted": 7, "ended": {"sent": 6}, "broken": {}}', True, "7 accepted, each with its cause"),
        (1, '{"accepted": 7, "ended": {}, "broken": {"no_cause": 2, "other": 0}}', False, "offenders: no_cause 2"),
        (3, "", None, "notify-audit verify ended with 3: out of reach"),
    ],
)
def test_the_ledgers_verdict_is_its_own_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, code: int, out: str, clean: bool | None, words: str
) -> None:
    """Its exit code decides; what could not be said is no yes."""

    def run(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(returncode=code, stdout=out, stderr="out of reach\n")

    monkeypatch.setattr(subprocess, "run", run)

    verdict = verify("postgresql://x", tmp_path, within_s=1)
    assert (verdict.clean, verdict.words) == (clean, words)
    assert (verdict.accepted, verdict.sent) == {0: (7, 6), 1: (7, 0), 3: (0, 0)}[code]


def test_a_verdict_that_takes_too_long_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has to end."""

    def run(*_: Any, **__: Any) -> Any:
        raise subprocess.TimeoutExpired("notify-audit", 300)

    monkeypatch.setattr(subprocess, "run", run)

    assert verify("postgresql://x", tmp_path, within_s=1).clean is None
