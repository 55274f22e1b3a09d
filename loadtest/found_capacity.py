"""Which capacity a run may take a share of: the newest one that was found here, of this, by the profile as it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from loadtest.profiles import Profile
from loadtest.results import ResultError, RunResult, load
from loadtest.surroundings import settings

_COMPARED: Final = ("target", "arrivals", "mix.", "receivers.", "generator.", "search.")
_MACHINE: Final = ("cores", "cpu")


def find(
    reports: Path, *, stress: Profile, target: str, machine: Mapping[str, str | int | float]
) -> tuple[int | None, list[str]]:
    """Return the capacity of the newest stress run that can be trusted, None if there is none; and what to say of it.

    `stress` is the profile that should have found it, `target` what is loaded, `machine` what this one is.
    """
    passed_over = []
    for path in sorted(reports.glob("*-stress-*.json"), reverse=True):
        try:
            result = load(path)
        except (ResultError, OSError) as error:
            passed_over.append(f"{path.name} was passed over: it cannot be read ({type(error).__name__}).")
            continue
        why = fault(result, settings(stress, target=target), machine)
        if not why:
            commit, capacity = result.versions.get("commit", "unknown"), result.counts["capacity_per_s"]
            known = f"The capacity found is {capacity:,}/s: {path.name}, commit {commit}, {result.started_at}."
            return capacity, [known, *passed_over]
        passed_over.append(f"{path.name} was passed over: {why}.")
    return None, ["No stress run has left a capacity that can be trusted.", *passed_over]


def fault(result: RunResult, asked: Mapping[str, str], machine: Mapping[str, str | int | float]) -> str:
    """Say why the capacity of a run is not this one's; nothing if it is."""
    if result.broken_off is not None:
        return "it was broken off"
    if result.counts.get("capacity_per_s", 0) <= 0:
        return "it found none"
    if failed := [limit.name for limit in result.limits if not limit.held and limit.name != "capacity_per_s"]:
        return f"it did not hold {', '.join(failed)}"
    if other := [name for name in _MACHINE if result.machine.get(name) != machine.get(name)]:
        return f"another machine: {', '.join(other)}"
    names = sorted(name for name in {*asked, *result.settings} if name.startswith(_COMPARED))
    if other := [name for name in names if result.settings.get(name) != asked.get(name)]:
        return f"other settings: {', '.join(other)}"
    return ""
