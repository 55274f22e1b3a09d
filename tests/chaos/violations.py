"""What an invariant says when it does not hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.history import History


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that was promised and did not hold, with what shows it."""

    invariant: str
    about: str  # an id, a key, a service
    evidence: dict[str, Any]


Invariant = Callable[[History], Iterator[Violation]]


def first(*conditions: tuple[str, bool]) -> str | None:
    """The name of the first condition that is true."""
    return next((name for name, true in conditions if true), None)
