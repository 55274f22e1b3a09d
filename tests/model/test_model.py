"""The pipeline as a state machine: whatever happens, in whatever order, every promise holds after every step.

This is the short run; `make model STEPS=50000 SEED=1` is the long one.
"""

from collections.abc import Iterator

import pytest

from tests.model.consumer import PromiseBrokenError
from tests.model.mutants import MUTANTS, Mutant
from tests.model.run import Bench, bench
from tests.servers import Database

SEEDS = range(1, 31)
EXAMPLES = 8
"""Of each seed: Hypothesis varies what it has made, and the examples of one seed are soon much like each other."""


@pytest.fixture
def model(database: Database) -> Iterator[Bench]:
    """The machine on a database of this test's own."""
    with bench(database.dsn) as ready:
        yield ready


@pytest.mark.timeout(600)
def test_every_promise_holds_whatever_happens_in_whatever_order(model: Bench) -> None:
    """A few hundred steps, the same ones each time; crashes, losses and late answers among them."""
    model.run(examples=8, shrink=False)

    assert model.counted.steps > 200


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_model_notices_a_wrong_turn(mutant: Mutant, model: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each small mistake in the product breaks a promise within a few examples."""
    mutant(monkeypatch)

    with pytest.raises(PromiseBrokenError):
        for seed in SEEDS:
            model.run(examples=EXAMPLES, seed=seed, shrink=False)
