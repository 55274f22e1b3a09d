"""A plan: everything about a run that is left to chance, drawn from one seed before it begins."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.faults import Kind, Planned

CALM_S = 18.0
EVERY_S = 1.0
AT_ONCE = 4
_SPREAD = 0.5
_TRIES = 12
_PATIENCE = 8

# Share of destinations per behaviour, and the weight of one of them against a good one: what never answers well gets
# little traffic, or the run's end would wait for its ladders. tests/chaos/hooks.py knows what each does.
DESTINATIONS = 200
_BEHAVIOURS: Mapping[str, tuple[float, float]] = {
    "hang": (0.05, 0.08),
    "http_503": (0.05, 0.3),
    "http_429": (0.02, 0.3),
    "ambiguous": (0.01, 0.5),
    "drip": (0.01, 0.3),
    "garbage": (0.01, 0.3),
    "redirect": (0.01, 0.3),
    "gone": (0.01, 0.3),
    "slow": (0.03, 0.5),
}


@dataclass(frozen=True, slots=True)
class Destination:
    """A webhook origin of its own."""

    host: str
    behaviour: str
    weight: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, to be printed, kept and run again."""

    seed: int
    load_s: float
    rate: float  # notifications a second asked for, all producers together
    producers: int
    faults: tuple[Planned, ...]
    destinations: tuple[Destination, ...]
    kinds_left_out: tuple[str, ...] = field(default=())

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read what `save` wrote, perhaps with faults left out by hand."""
        fields: dict[str, Any] = json.loads(path.read_text())
        fields["faults"] = tuple(Planned(**fault) for fault in fields["faults"])
        fields["destinations"] = tuple(Destination(**one) for one in fields["destinations"])
        fields["kinds_left_out"] = tuple(fields["kinds_left_out"])
        return cls(**fields)


def draw(
    seed: int, kinds: Mapping[str, Kind], *, load_s: float, rate: float, producers: int, calm: bool = False
) -> Plan:
    """Draw a plan; `calm` leaves all faults out."""
    rng = Random(seed)
    destinations = draw_destinations(rng)
    faults = () if calm else tuple(draw_faults(rng, kinds, begin_s=CALM_S, end_s=load_s))
    missing = set(kinds) - {fault.kind for fault in faults}
    return Plan(seed, load_s, rate, producers, faults, destinations, tuple(sorted(missing)))


def draw_destinations(rng: Random) -> tuple[Destination, ...]:
    """Give each destination an address and a behaviour."""
    behaviours: list[str] = []
    for name, (share, _) in _BEHAVIOURS.items():
        behaviours += [name] * round(share * DESTINATIONS)
    behaviours += ["ok"] * (DESTINATIONS - len(behaviours))
    rng.shuffle(behaviours)
    return tuple(
        Destination(f"127.31.{n // 100}.{n % 100 + 1}", behaviour, _BEHAVIOURS.get(behaviour, (0, 1.0))[1])
        for n, behaviour in enumerate(behaviours)
    )


def draw_faults(rng: Random, kinds: Mapping[str, Kind], *, begin_s: float, end_s: float) -> list[Planned]:
    """One fault each EVERY_S, at most AT_ONCE under way, never two on the same resource.

    The first round takes each kind once, in random order, so that a run of some minutes has them all.
    """
    faults: list[Planned] = []
    busy: list[tuple[float, frozenset[str]]] = []  # until when, what
    drawer = _Drawer(rng, kinds)
    at_s = begin_s
    while at_s < end_s:
        busy = [(until, held) for until, held in busy if until > at_s]
        if len(busy) < AT_ONCE:
            found = drawer.draw(frozenset().union(*(held for _, held in busy)))
            if found is not None:
                kind, target = found
                for_s = round(min(rng.triangular(*kind.for_s, kind.for_s[0]), end_s - at_s), 2)
                faults.append(Planned(len(faults), kind.name, target, round(at_s, 2), for_s, rng.getrandbits(32)))
                busy.append((at_s + for_s + _settle_s(kind), kind.holds | {target}))
        at_s += EVERY_S * rng.uniform(1 - _SPREAD, 1 + _SPREAD)
    return faults


def _settle_s(kind: Kind) -> float:
    """How long its target is left in peace afterwards, to be up again before it is hurt again."""
    return 4.0 if {"postgres", "kafka"} & {*kind.targets, *kind.holds} else 1.5


class _Drawer:
    """Draws the next kind and its target, given what is being hurt."""

    def __init__(self, rng: Random, kinds: Mapping[str, Kind]) -> None:
        self._rng, self._kinds = rng, kinds
        self._names = sorted(kinds)
        self._weights = [kinds[name].weight for name in self._names]
        self._first = list(self._names)
        rng.shuffle(self._first)
        self._passed_over = dict.fromkeys(self._names, 0)

    def draw(self, held: frozenset[str]) -> tuple[Kind, str] | None:
        """Take the next of the first round that can be had now, or any by weight; None if nothing fits."""
        starving = next((name for name in self._first if self._passed_over[name] > _PATIENCE), None)
        if starving is not None:  # what it needs is kept free for it
            if found := self._fits(starving, held):
                self._first.remove(starving)
                return found
            held |= self._kinds[starving].holds | {self._kinds[starving].targets[0]}
        for name in self._first:
            if found := self._fits(name, held):
                self._first.remove(name)
                return found
            self._passed_over[name] += 1
        for _ in range(_TRIES):
            if found := self._fits(self._rng.choices(self._names, self._weights)[0], held):
                return found
        return None

    def _fits(self, name: str, held: frozenset[str]) -> tuple[Kind, str] | None:
        kind = self._kinds[name]
        targets = [target for target in kind.targets if target not in held]
        return (kind, self._rng.choice(targets)) if targets and not kind.holds & held else None
