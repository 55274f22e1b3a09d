"""K6 itself reads the scripts, where it is installed."""

import json
import os
import shutil
import subprocess
from typing import Any

import pytest

from loadtest import profiles
from loadtest.k6 import PROFILES

K6 = os.environ.get("K6") or shutil.which("k6")
pytestmark = pytest.mark.skipif(K6 is None, reason="there is no k6 on this machine")


def inspected(name: str, **variables: str) -> dict[str, Any]:
    """What k6 makes of a script's options."""
    set_ = [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
    command = [str(K6), "inspect", "--execution-requirements", *set_, f"{PROFILES.parent / name}.js"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", profiles.names())
def test_k6_accepts_a_script(name: str) -> None:
    """Its stages, rates and thresholds are of the right form, and it asks for the profile's rate."""
    profile = profiles.load(name)

    options = inspected(name)

    per_s = {
        scenario: one["startRate"] / 1000 for scenario, one in options["scenarios"].items() if scenario != "follow"
    }
    asked = per_s.get("single", 0) + per_s.get("batch", 0) * profile.mix.batch_items
    begins = profile.search.start_per_s if profile.kind == "stress" else profile.stages[0].rate_per_s
    assert asked == pytest.approx(begins, rel=0.01)
    assert {"dropped_iterations", "notifications_refused"} <= options["thresholds"].keys()


def test_a_run_can_be_made_shorter_and_slower() -> None:
    """To try a script, or to ask for half of a capacity."""
    options = inspected("spike", RATE="20", FOR_S="6")

    single = options["scenarios"]["single"]
    assert single["timeUnit"] == "16m40s"
    assert max(stage["target"] for stage in single["stages"]) == 2_000  # in 1,000 s; a tenth of 20 a second
    assert options["scenarios"]["follow"]["duration"] == "6s"
