"""Interleaved rounds: each contender once in each round, the order turned from round to round."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from loadtest.bench.figures import Promise, Sample

if TYPE_CHECKING:
    from loadtest.bench.rig import Rig

T = TypeVar("T")


class BenchError(Exception):
    """A contender could not do its work; what it gave until then is kept."""


class ContenderUnavailableError(BenchError):
    """A contender cannot run here, such as a peer that is not installed: it is left out, and the result says so."""


class Contender(Protocol):
    """One of those that are compared. Between its rounds none of its processes runs."""

    name: str
    what: str  # one line for people: what runs, with which settings

    def setup(self) -> None:
        """Prepare what all rounds need."""
        ...

    def round(self) -> Sample:
        """Start what is measured, warm it up, measure, end it."""
        ...

    def teardown(self) -> None:
        """Remove what setup made; harmless when that failed."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    quick: bool  # tiny sizes that show whether everything runs; their figures mean nothing
    seed: int

    def pick(self, full: T, quick: T) -> T:
        """Return the size of this run."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing that is measured: who competes, and what is promised."""

    name: str
    title: str
    build: "Callable[[Rig, Plan], Sequence[Contender]]"
    promises: tuple[Promise, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What the frame says while it runs: who begins, and what a round gave."""

    began: Callable[[str, int], None]
    ended: Callable[[str, int, Sample], None]
    left_out: Callable[[str, str], None]


def run_rounds(contenders: Sequence[Contender], plan: Plan, told: Told, samples: dict[str, list[Sample]]) -> None:
    """Run all rounds into `samples`, which holds what there is also when this raises.

    The seed says who begins the first round.
    """
    with ExitStack() as done:
        present: list[Contender] = []
        for contender in contenders:
            done.callback(contender.teardown)
            try:
                contender.setup()
            except ContenderUnavailableError as error:
                told.left_out(contender.name, str(error))
            else:
                present.append(contender)
        for number in range(plan.rounds):
            for contender in turned(present, plan.seed + number):
                told.began(contender.name, number)
                sample = contender.round()
                samples.setdefault(contender.name, []).append(sample)
                told.ended(contender.name, number, sample)


def turned(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Return the order of a round: begun `number` places later, and backwards every other time.

    So each is the first in turn, and follows now one of its neighbours, now the other. Neighbours stay neighbours: a
    stage puts those that are compared beside each other.
    """
    start = number % len(contenders) if contenders else 0
    order = [*contenders[start:], *contenders[:start]]
    return order[::-1] if number % 2 else order
