"""The page that adds up runs: it says so, and it does not call a set proven in which a kind of fault never bit."""

from typing import Any

import pytest

from tests.chaos.checker import result_of, violations
from tests.chaos.faults.catalogue import KINDS
from tests.chaos.report import page
from tests.unit.chaos.histories import good


def result(seed: int, *, bit: int = 1, **violated: int) -> dict[str, Any]:
    history = good()
    history.meta |= {
        "seed": seed,
        "command": "run it",
        "commit": "abc",
        "machine": "2 cores",
        "versions": {"python": "3"},
    }
    history.meta["quiet"] = {"reached": True, "took_s": 4.0}
    counts = {"planned": 1, "happened": 1, "bit": bit, "bites": 2 * bit}
    return result_of(history, violations(history)) | {"faults": dict.fromkeys(KINDS, counts), "violations": violated}


def test_runs_are_added_up_and_the_page_says_so() -> None:
    text, proven = page([result(2), result(1)])

    assert proven
    assert "adds up 2 runs" in text
    assert "10 notifications accepted".replace("10", "12") in text
    assert "3/N = 2.5e-01" in text
    assert text.index("| 1 | `run it`") < text.index("| 2 | `run it`")
    assert "| kill9_relay | 2 | 2 | 2 | 4 |" in text


@pytest.mark.parametrize("bad", [result(1, bit=0), result(1, lost=2), result(1) | {"faults": {}}])
def test_a_set_that_proves_nothing_or_violates_something_is_not_proven(bad: dict[str, Any]) -> None:
    assert page([bad])[1] is False


def test_one_run_makes_up_for_what_did_not_bite_in_another() -> None:
    assert page([result(1, bit=0), result(2)])[1] is True
