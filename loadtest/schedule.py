"""What is asked for when: drawn from a seed before anything is sent, and never moved by an answer.

Each process of the generator draws its own share: the Poisson arrivals of several processes add up to Poisson arrivals
of their common rate; even ones interleave.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from loadtest.profiles import Mix, Stage
from shared.model import Channel


@dataclass(frozen=True, slots=True)
class Kind:
    """What a notification can be."""

    channel: Channel
    message_bytes: int
    ordered: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: when it is to start (seconds from the stage's beginning), and what it carries."""

    at_s: float
    first: int  # its first notification is this process' so-many-th
    kinds: tuple[int, ...]  # each an index into `kinds_of`
    single: bool
    keyed: bool


@dataclass(frozen=True, slots=True)
class Share:
    """Which of several processes draws."""

    seed: int
    process: int
    processes: int


def kinds_of(mix: Mix) -> list[Kind]:
    """Every kind a mix can draw, in a fixed order."""
    return [kind for kind, _ in _weighed(mix)]


def _weighed(mix: Mix) -> list[tuple[Kind, float]]:
    ordered = [(False, 1 - mix.ordered_share), (True, mix.ordered_share)]
    every = itertools.product(mix.channels.items(), mix.message_bytes.items(), ordered)
    return [
        (Kind(channel, size, with_key), share * size_share * key_share)
        for (channel, share), (size, size_share), (with_key, key_share) in every
        if key_share > 0
    ]


class Draw:
    """Draws requests, stage after stage; the same seed, share and stages give the same requests."""

    def __init__(self, mix: Mix, share: Share, *, poisson: bool) -> None:
        self._mix, self._share, self._poisson = mix, share, poisson
        self._rng = Random(f"{share.seed}/{share.process}/{share.processes}")  # noqa: S311 - a schedule, no secret
        self._kinds = range(len(_weighed(mix)))
        self._weights = list(itertools.accumulate(weight for _, weight in _weighed(mix)))
        self._count = 0

    def stage(self, stage: Stage) -> Iterator[Ask]:
        """Draw the requests of a stage, in order of time."""
        singles = self._mix.single_share
        batches = (1 - singles) / self._mix.batch_items
        per_notification = singles + batches  # requests
        scale = per_notification / self._share.processes
        for at_s in self._instants(Stage(stage.for_s, stage.rate_per_s * scale, stage.to_per_s * scale)):
            yield self._ask(at_s, single=self._rng.random() * per_notification < singles)

    def _ask(self, at_s: float, *, single: bool) -> Ask:
        items = 1 if single else self._mix.batch_items
        kinds = self._rng.choices(self._kinds, cum_weights=self._weights, k=items)
        first, self._count = self._count, self._count + items
        return Ask(at_s, first, tuple(kinds), single, keyed=self._rng.random() < self._mix.keyed_share)

    def _instants(self, stage: Stage) -> Iterator[float]:
        """Instants at which one more is due: where the integral of the rate passes each of a row of gaps."""
        due = self._rng.expovariate(1.0) if self._poisson else (self._share.process + 0.5) / self._share.processes
        while (at_s := instant(stage, due)) < stage.for_s:
            yield at_s
            due += self._rng.expovariate(1.0) if self._poisson else 1.0


def instant(stage: Stage, due: float) -> float:
    """When so many requests are due in a stage whose rate goes evenly from one to the other; infinity: never.

    Solves rate * t + slope * t² / 2 = due for the first t.
    """
    slope = (stage.to_per_s - stage.rate_per_s) / stage.for_s
    if abs(slope) < 1e-12:
        return due / stage.rate_per_s if stage.rate_per_s > 0 else math.inf
    under_root = stage.rate_per_s**2 + 2 * slope * due
    if under_root < 0:
        return math.inf  # the rate has fallen to nothing before so many were due
    return 2 * due / (stage.rate_per_s + math.sqrt(under_root))
