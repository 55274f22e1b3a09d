"""The end of a run: whether everything it counted is one sum."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from loadtest import closing
from loadtest.closing import accounted_for, ledger_sums, reconcile
from loadtest.errors import RunError
from loadtest.measuring import Measured
from loadtest.reconcile import Reconciled, Verdict
from loadtest.running import Found
from tests.unit.loadtest.test_reconcile import write


@pytest.mark.parametrize(
    ("counts", "in_books", "held"),
    [
        ({"asked": 9, "accepted": 5, "refused": 3, "unanswered": 1}, 5, True),
        ({"asked": 9, "accepted": 5, "refused": 3}, 5, False),  # an exchange vanished
        ({"asked": 5, "accepted": 5}, 4, False),  # a file is short, or an id was given twice
    ],
)
def test_everything_asked_for_has_an_outcome(counts: dict[str, int], in_books: int, *, held: bool) -> None:
    """Insurance against bugs of the tool itself."""
    assert accounted_for(Counter(counts), Reconciled(accepted=in_books)).held is held


@pytest.mark.parametrize(
    ("accepted", "sent", "held"),
    [
        (7, 7, [True, True]),
        (7, 6, [True, False]),  # delivered, and the row says something else
        (6, 6, [False, False]),  # delivered, and no row was ever there
        (9, 7, [False, True]),  # a row that nobody was told of
    ],
)
def test_the_pipelines_ledger_and_ours_are_of_the_same(accepted: int, sent: int, held: list[bool]) -> None:
    """Five accepted and received, and two of which nobody said so."""
    books = Reconciled(accepted=5, received=5, unanswered_received=2)

    sums = ledger_sums(Verdict(True, "", accepted, sent), books, doubtful=3)

    assert [one.held for one in sums] == held


class Run:
    """A run that has ended; what is still on its way arrives when the receivers are asked for the last time."""

    def __init__(self, directory: Path, *, arrives: UUID | None = None, broken: bool = False) -> None:
        self.ledgers = self.directory = directory
        self.measured, self.found = Measured(), Found()
        self.target = SimpleNamespace(database_url="postgresql://x", stack=None)
        self.crew = self
        self._arrives, self._broken = arrives, broken

    def event(self, text: str) -> None: ...

    def stop_asking(self) -> None:
        if self._broken:
            raise RunError("the generator is gone")

    def look(self, *, last: bool) -> None:
        assert last

    def take(self) -> None:
        if self._arrives is not None:
            write(self.ledgers, "received", (self._arrives, 1))


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says of everything that it was sent."""
    monkeypatch.setattr(closing, "LEAD_S", 0)
    monkeypatch.setattr(closing, "whereabouts", lambda _, ids: (Counter(), list(ids)))
    monkeypatch.setattr(closing, "verify", lambda *_, within_s: Verdict(True, f"within {within_s:.0f} s"))


@pytest.mark.usefixtures("no_database")
def test_what_arrives_while_ledgers_are_compared_is_late_and_not_lost(tmp_path: Path) -> None:
    """The database says `sent`, the comparison had not seen it: lost is the one word that must never be wrong."""
    late, lost = uuid4(), uuid4()
    write(tmp_path, "accepted-0", (late, 1), (lost, 2))
    running: Any = Run(tmp_path, arrives=late)

    reconcile(running)

    assert (running.found.counts["on_their_way"], running.found.counts["lost"]) == (1, 1)
    assert running.found.ledger.words == "within 300 s"


@pytest.mark.usefixtures("no_database")
def test_a_run_that_broke_is_reconciled_as_far_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be looked up is lost, and a note says why."""

    def gone(*_: Any) -> Any:
        raise psycopg.OperationalError("gone")

    monkeypatch.setattr(closing, "whereabouts", gone)
    write(tmp_path, "accepted-0", (uuid4(), 1))
    running: Any = Run(tmp_path, broken=True)

    reconcile(running)

    assert running.found.counts["lost"] == 1
    notes = " ".join(running.found.notes)
    assert "the generator is gone" in notes
    assert "OperationalError" in notes
