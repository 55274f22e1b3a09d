"""The DLQ test: what it makes of where the dead letters stand."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from loadtest import profiles
from loadtest.__main__ import main
from loadtest.dlq import WAYS, Watch, destinations, is_fitting, judge
from loadtest.letters import End, Standing
from loadtest.manners import Manner
from loadtest.measuring import Lines, Measured
from loadtest.running import Found
from tests.unit.loadtest.fakes import a_look

HEALING = [way for way in WAYS if way.heals_after_s is not None]
RESOLVED = End("refused", "resolved", "sent", "transient", True, 7)
GONE = End("gone_410", "failed", "permanent", "permanent", True, 7)


class Letters:
    """Answers as a database in which everything went well would."""

    def __init__(self) -> None:
        self.now = Standing()
        self.faults = Counter[str]()
        self.ended = [RESOLVED, GONE]

    def standing(self) -> Standing:
        return self.now

    def unended(self) -> int:
        return self.faults["unended"]

    def untracked(self) -> int:
        return self.faults["untracked"]

    def miscounted(self) -> int:
        return self.faults["miscounted"]

    def ends(self) -> list[End]:
        return self.ended


class Running:
    """A run without processes."""

    def __init__(self) -> None:
        self.lines, self.found, self.events = Lines(), Found(), list[str]()
        self.profile, self.measured = profiles.load("dlq"), Measured()

    def event(self, text: str) -> None:
        self.events.append(text)


def a_watch() -> Any:
    return Watch(Running(), Letters(), began_s=0.0)  # type: ignore[arg-type]


def all_stand(**states: int) -> Standing:
    return Standing({way.name: Counter(states) for way in WAYS})


def test_each_way_of_failing_is_one_that_a_receiver_knows() -> None:
    """Six of them, one origin each."""
    assert len({way.name for way in WAYS}) == 6 == profiles.load("dlq").receivers.origins
    for way in WAYS:
        assert Manner.parse(way.manner).way != "ok"
    hooks = [f"http://127.0.0.1:{port}" for port in range(6)]
    assert destinations(hooks)["http://127.0.0.1:5"] == "gone_410"


def test_recovery_is_measured_from_healing_to_the_last_dead_letter() -> None:
    """And withdrawn if another one comes after all."""
    watch = a_watch()
    way = HEALING[0]
    assert way.heals_after_s is not None
    heals = way.heals_after_s

    for at_s, standing in (
        (heals - 1, all_stand(failed=5)),
        (heals + 1, all_stand(failed=2, resolved=3)),
        (heals + 4, all_stand(resolved=5)),
        (heals + 5, all_stand(resolved=5, retrying=1)),
        (heals + 9, all_stand(resolved=6)),
    ):
        watch.letters.now = standing
        watch.look(a_look(at_s))

    assert watch.recovered_s[way.name] == 9
    assert watch.running.events[:2] == [f"{way.name} heals", f"{way.name}: every dead letter is resolved"]


def test_the_watch_ends_only_once_everything_has_settled_for_some_looks() -> None:
    """A notification that has failed is for a moment on no list."""
    watch = a_watch()
    watch.letters.now = all_stand(resolved=3)
    for at_s in range(2):
        watch.look(a_look(float(at_s)))
    assert watch.settled_looks == 2

    watch.letters.faults["untracked"] = 1
    watch.look(a_look(3.0))
    assert watch.settled_looks == 0


def test_retries_and_states_are_plotted() -> None:
    """By way of failing, as a rate."""
    watch = a_watch()
    for at_s, retries in ((1.0, 10), (2.0, 25)):
        watch.letters.now = replace(all_stand(failed=4), retries=Counter(refused=retries), overdue_s=0.5 * at_s)
        watch.look(a_look(at_s))

    assert watch.running.lines.points("retries", "retries to refused") == [(1.0, 10.0), (2.0, 15.0)]
    assert watch.running.lines.points("backlog", "dead letters failed") == [(1.0, 24.0), (2.0, 24.0)]
    assert watch.overdue_s == 1.0


def judged(watch: Any) -> dict[str, bool]:
    judge(watch.running, watch)
    return {limit.name: limit.held for limit in watch.running.found.limits}


def a_watch_of_the_end() -> Any:
    """Everything went well, with seven retries each that the receivers saw."""
    watch = a_watch()
    watch.recovered_s = {way.name: 20.0 for way in HEALING}
    retries = Counter({way.name: 7 for way in HEALING})
    watch.letters.now = replace(all_stand(resolved=7), retries=retries)
    watch.running.measured.retries_by.update({str(n): retries[way.name] for n, way in enumerate(WAYS)} | {"0": 3})
    return watch


def test_everything_went_well() -> None:
    """Each limit held, and how many ended how is counted."""
    watch = a_watch_of_the_end()

    held = judged(watch)
    assert all(held.values())
    assert len(held) == 7 + len(HEALING)
    assert watch.running.found.counts["refused: resolved, sent"] == 7


@pytest.mark.parametrize(
    ("fault", "limit"),
    [
        ("untracked", "each failure is tracked"),
        ("miscounted", "retries are counted"),
        ("unended", "everything ended"),
    ],
)
def test_each_fault_of_the_database_is_noticed(fault: str, limit: str) -> None:
    """One is enough."""
    watch = a_watch_of_the_end()
    watch.letters.faults[fault] = 1

    assert [name for name, held in judged(watch).items() if not held] == [limit]


def test_a_receiver_that_never_failed_is_noticed() -> None:
    """Or the way that does not heal would be judged by dead letters that are not there."""
    watch = a_watch_of_the_end()
    del watch.letters.now.stands["gone_410"]

    assert [name for name, held in judged(watch).items() if not held] == ["each receiver failed"]


def test_a_retry_that_nobody_wrote_down_is_noticed() -> None:
    """Receivers may see fewer than there are, since an open breaker ends attempts without a call; never more."""
    watch = a_watch_of_the_end()
    watch.running.measured.retries_by.update({"1": 1, "2": -3})

    assert [name for name, held in judged(watch).items() if not held] == ["each retry is an attempt"]


def test_a_receiver_that_never_recovered_did_not_hold() -> None:
    """Nor did one that took too long, or a retry that came late."""
    watch = a_watch_of_the_end()
    watch.recovered_s = {way.name: 20.0 for way in HEALING[1:]} | {HEALING[1].name: 1e6}
    watch.overdue_s = 60.0

    assert [name for name, held in judged(watch).items() if not held] == [
        "overdue_s",
        f"recovery_s {HEALING[0].name}",
        f"recovery_s {HEALING[1].name}",
    ]


@pytest.mark.parametrize(
    ("end", "fits"),
    [
        (RESOLVED, True),
        (GONE, True),
        (replace(RESOLVED, why="discarded"), False),
        (replace(RESOLVED, status="failed", why="retries_used_up"), False),
        (replace(GONE, status="resolved", why="sent"), False),
        (replace(GONE, why="retries_used_up"), False),
        (replace(GONE, is_due_never=False), False),
    ],
)
def test_a_dead_letter_ends_for_its_own_reason(end: End, fits: bool) -> None:
    """Resolved by being sent; or, told that it is gone, at rest."""
    assert is_fitting(end) is fits


def test_its_configuration_is_checked_first() -> None:
    """Exit 2; and it is no profile of `run`."""
    ended = CliRunner().invoke(main, ["dlq", "--set", "receivers.origins=3"], env={"TARGET_URL": ""})
    assert (ended.exit_code, "expected 6, one per way" in ended.output) == (2, True)

    ended = CliRunner().invoke(main, ["run", "dlq"], env={"TARGET_URL": ""})
    assert (ended.exit_code, "python -m loadtest dlq" in ended.output) == (2, True)
