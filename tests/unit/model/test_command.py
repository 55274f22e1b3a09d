"""The command line of the model: a run that was too short is no broken promise."""

import subprocess
import sys

import pytest

from tests.model.__main__ import ENOUGH_STEPS, what_lacks
from tests.model.machine import Pipeline

RULES = [name for name, part in vars(Pipeline).items() if hasattr(part, "hypothesis_stateful_rule")]


def test_rules_that_never_ran_are_named_with_the_steps_that_would_do() -> None:
    """However long it was: then nothing is advised."""
    assert what_lacks(RULES, steps=1) == ""
    assert f"{RULES[0]}; STEPS={ENOUGH_STEPS}" in what_lacks(RULES[1:], steps=300)
    assert RULES[0] in what_lacks(RULES[1:], steps=ENOUGH_STEPS)
    assert "STEPS=" not in what_lacks(RULES[1:], steps=ENOUGH_STEPS)


@pytest.mark.parametrize("steps", ["0", "-1", "many"])
def test_no_steps_are_refused(steps: str) -> None:
    """Before a database is started."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.model", "--steps", steps], capture_output=True, text=True, timeout=60, check=False
    )

    assert run.returncode == 2
    assert "expected a whole number from 1 on" in run.stderr
