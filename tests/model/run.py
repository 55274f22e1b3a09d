"""Runs the machine: for a test, for a mutant, or for as long as somebody likes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import run_state_machine_as_test

from tests.model.database import Administrator, Links
from tests.model.machine import Counted, Pipeline
from tests.model.services import Stage

STEPS: Final = 120  # of one example: enough for a notification to fail, be retried, and be lost on the way


class Bench:
    """A database, and the machine on it."""

    def __init__(self, stage: Stage, administrator: Administrator) -> None:
        self._stage, self._administrator = stage, administrator
        self.counted = Counted()

    def run(self, *, examples: int, seed: int | None = None, steps: int = STEPS, shrink: bool = True) -> None:
        """Run so many examples; raises what broke a promise, in its shortest form. No seed: the same ones each time.

        PostgreSQL gives rows in an order of its own where none is asked for, so a prefix may lead elsewhere when
        Hypothesis comes by again. It ends a run then: no promise is broken, the rest of the examples is not made.
        """

        def machine() -> Any:
            return Pipeline(self._stage, self._administrator, self.counted)

        profile = settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=seed is None,
            database=None,
            deadline=None,
            print_blob=False,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(cast(Any, machine if seed is None else seeded(seed)(machine)), settings=profile)
        except FlakyStrategyDefinition:
            self.counted.torn += 1


@contextmanager
def bench(dsn: str) -> Iterator[Bench]:
    """Put the fakes in place around a database of our own."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f'ALTER DATABASE "{conn.info.dbname}" SET synchronous_commit = off')
    links, administrator = Links(dsn), Administrator(dsn)
    stage = Stage(links)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with stage.set_up():
            yield Bench(stage, administrator)
    finally:
        logging.disable(before)
        administrator.close()
        links.close()
