"""The command line of the chaos test: what it cannot do is said before anything starts, with exit code 2."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.chaos import launch
from tests.chaos.__main__ import main
from tests.chaos.plan import Plan, draw


def said(*arguments: str) -> Result:
    """What the command answers."""
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("crash-test --scenario x", "zombie"),
        ("crash-test --mutant x", "range_delete"),
        ("crash-test --mutant zombie --mutant all", "range_delete"),
        ("crash-test --chaos-s -1", "0"),
        ("chaos --only nothing_*", "kill9_relay"),
        ("chaos --only kill9_relay --only nothing_*", "kill9_relay"),
        ("chaos --minutes -1", "0<x"),
        ("chaos --minutes 0", "0<x"),
        ("chaos --rate inf", "0<x"),
        ("chaos --producers 0", "x>=1"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(arguments: str, expected: str) -> None:
    """Exit code 1 is kept for a promise that did not hold."""
    result = said(*arguments.split())

    assert result.exit_code == 2, result.output
    assert expected in result.output


def test_a_directory_of_an_earlier_run_is_not_written_into(tmp_path: Path) -> None:
    """Ledgers are added to, and those of two runs prove nothing."""
    result = said("chaos", "--dir", str(tmp_path))

    assert result.exit_code == 2
    assert "there already" in result.output


def test_only_what_a_run_left_behind_is_checked_and_reported(tmp_path: Path) -> None:
    """A directory or a file of something else is no violated promise."""
    other = tmp_path / "other.json"
    other.write_text("no result")

    assert said("check", str(tmp_path)).exit_code == 2
    assert said("report", str(other)).exit_code == 2
    assert said("chaos", "--plan", str(other)).exit_code == 2


def test_a_plan_with_a_fault_that_is_none_is_refused(tmp_path: Path) -> None:
    """As one that was kept from before a kind was given another name."""
    file = tmp_path / "plan.json"
    plan = draw(1, {}, load_s=60.0, rate=1.0, producers=1, calm=True)
    plan.save(file)
    file.write_text(
        file.read_text().replace(
            '"faults": []',
            '"faults": [{"number": 0, "kind": "x", "target": "kafka", "at_s": 1, "for_s": 1, "seed": 1}]',
        )
    )
    assert Plan.load(file).faults

    result = said("chaos", "--plan", str(file))

    assert result.exit_code == 2
    assert "kill9_relay" in result.output


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--crash nope:2", "delivery_after_yes"),
        ("--crash delivery_after_yes:0", "a hit from 1"),
        ("--crash delivery_after_yes:1", "needs --traps"),
        ("--mutant nope", "range_delete"),
        ("--set nonsense", "MODULE.NAME=JSON"),
        ("--set outbox_relay.upkeep.LEASE_GRACE_S=nonsense", "MODULE.NAME=JSON"),
        ("--set outbox_relay.upkeep.NOT_THERE=1", "NOT_THERE"),
    ],
)
def test_a_service_is_not_started_with_what_is_none(options: str, expected: str) -> None:
    """Exit code 2, before anything of the product is imported."""
    result = CliRunner().invoke(launch.main, ["delivery_consumer", *options.split()])

    assert result.exit_code == 2, result.output
    assert expected in result.output
