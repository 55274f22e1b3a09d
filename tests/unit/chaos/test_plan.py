"""Plans: the same for the same seed, never two faults on one thing, every kind once before any comes often."""

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.faults.catalogue import KINDS
from tests.chaos.plan import AT_ONCE, CALM_S, DESTINATIONS, Plan, draw


def plan_of(seed: int, *, load_s: float = 180) -> Plan:
    return draw(seed, KINDS, load_s=load_s, rate=100, producers=2)


def test_a_seed_is_a_plan() -> None:
    assert plan_of(7) == plan_of(7)
    assert plan_of(7).faults != plan_of(8).faults


@pytest.mark.parametrize("seed", range(5))
def test_faults_of_one_target_never_overlap_and_few_are_under_way(seed: int) -> None:
    faults = plan_of(seed).faults

    assert faults[0].at_s == CALM_S
    for fault in faults:
        under_way = [other for other in faults if other.at_s <= fault.at_s < other.at_s + other.for_s]
        assert len(under_way) <= AT_ONCE
        resources = [{other.target, *KINDS[other.kind].holds} for other in under_way]
        assert max(Counter(name for names in resources for name in names).values(), default=0) <= 1
        assert fault.at_s + fault.for_s <= 180.01


@pytest.mark.parametrize("seed", range(5))
def test_three_minutes_have_every_kind(seed: int) -> None:
    assert plan_of(seed).kinds_left_out == ()


def test_a_plan_is_kept_and_run_again(tmp_path: Path) -> None:
    plan = plan_of(3)
    plan.save(tmp_path / "plan.json")

    assert Plan.load(tmp_path / "plan.json") == plan


def test_destinations_misbehave_by_their_shares() -> None:
    behaviours = Counter(destination.behaviour for destination in plan_of(1).destinations)

    assert sum(behaviours.values()) == DESTINATIONS
    assert (behaviours["hang"], behaviours["http_503"], behaviours["http_429"], behaviours["ambiguous"]) == (
        10,
        10,
        4,
        2,
    )
    assert len({destination.host for destination in plan_of(1).destinations}) == DESTINATIONS
