"""What a fault is to the chaos test. Each kind is drawn into the plan, injected, healed, and asked whether it bit.

A module of faults exports `KINDS`; `catalogue.py` lists the modules.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tests.chaos.world import World


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault of a plan. All that is random about it was drawn with the plan; `seed` is for what is drawn later."""

    number: int
    kind: str
    target: str  # a service such as relay-1, or postgres, kafka, ...
    at_s: float  # since the load began
    for_s: float  # healed so long after it was injected
    seed: int

    def rng(self) -> Random:
        """The same numbers each time the plan is run."""
        return Random(self.seed)


@dataclass(frozen=True, slots=True)
class Bites:
    """How often a fault was seen to hurt, and what shows it: a fault that hurts nothing proves nothing."""

    count: int
    evidence: Mapping[str, Any] = field(default_factory=dict)  # plain JSON


class Fault(Protocol):
    """One fault, on a thread of its own: inject, wait, heal; once everything is quiet, bites.

    An exception of inject or heal ends the run as broken: the harness, not the product, is wrong then. KafkaException
    and psycopg.OperationalError say that another fault was there first: such a fault is missed, and healed repeatedly.
    """

    def inject(self, world: "World") -> None:
        """Hurt something. What shows later that it hurt is measured here, or in heal, and kept."""

    def heal(self, world: "World") -> None:
        """Take the cause away and return; what has died is started again by the keeper of the topology."""

    def bites(self, world: "World") -> Bites:
        """Say whether it hurt; called once, when all is quiet."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what it may hit, how often it is drawn and how long it lasts.

    No two faults that hold the same resource overlap; the target is one always, `holds` are others. `loses_records`:
    Kafka forgets what it had acknowledged, so that the sweeper publishes again, out of order.
    """

    name: str
    targets: tuple[str, ...]
    make: Callable[[Planned], Fault]
    weight: float = 1.0
    for_s: tuple[float, float] = (0.5, 5.0)
    holds: frozenset[str] = frozenset()
    loses_records: bool = False
