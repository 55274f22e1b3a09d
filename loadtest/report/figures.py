"""How figures and verdicts are worded for people."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from loadtest.results import RunResult

Verdict = Literal["held", "missed", "broken", "open"]


def number(value: float | None) -> str:
    """Write a count as it is, what was measured with three digits: 0.0123, 4.56, 78.9, 12,345."""
    if value is None or not math.isfinite(value):
        return "–"
    whole = isinstance(value, int) or value == 0 or abs(value) >= 100
    return f"{value:,.0f}" if whole else f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"


def duration(seconds: float) -> str:
    """Write a length of time: 4.2 s, 3 min 20 s, 1 h 0 min."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    return f"{hours} h {rest_min} min" if hours else f"{minutes} min {rest_s} s"


def instant(started_at: str) -> str:
    """Write an instant of ISO 8601 as `2030-01-31 09:00:00 UTC`; one without a zone is UTC."""
    at = datetime.fromisoformat(started_at)
    return f"{at.astimezone(UTC) if at.tzinfo else at:%Y-%m-%d %H:%M:%S} UTC"


def title(result: RunResult) -> str:
    """Name a run by its profile, and by its kind where that says more: `smoke`, `dlq`, `bench: accept`."""
    return result.profile if result.kind in ("load", result.profile) else f"{result.kind}: {result.profile}"


def verdict(result: RunResult) -> Verdict:
    """Sum a run up; one without limits has promised nothing and is `open`."""
    if result.broken_off is not None:
        return "broken"
    if not result.limits:
        return "open"
    return "held" if result.held else "missed"


def verdict_words(result: RunResult) -> str:
    """Say the verdict with its numbers."""
    total, missed = len(result.limits), sum(not limit.held for limit in result.limits)
    if result.broken_off is not None:
        return "broken off"
    if not total:
        return "no limits set"
    if missed:
        return f"{missed} of {total} limits not held"
    return "the limit held" if total == 1 else f"all {total} limits held"


def median(values: Sequence[float]) -> float | None:
    """Return the middle value, the lower of two; None of none."""
    return sorted(values)[(len(values) - 1) // 2] if values else None
