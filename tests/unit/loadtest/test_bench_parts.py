"""Small parts of the bench that need no server: bodies, scraping, the script of pgbench, CPU times."""

import os
import time

import orjson

from loadtest.bench.bodies import ITEM_BYTES, batches, items
from loadtest.bench.cpu import Meter
from loadtest.bench.metrics import parse
from loadtest.bench.pgbench import insert_script
from loadtest.bench.registry import STAGES


def test_items_weigh_what_they_should() -> None:
    """About 600 bytes each, whatever the channel."""
    sizes = [len(orjson.dumps(item)) for item in items(1, 200, channels=("email", "webhook"))]

    assert all(abs(size - ITEM_BYTES) < 5 for size in sizes)


def test_a_seed_draws_the_same_bodies() -> None:
    """And another one others."""
    one, same, other = (batches(seed, count=2, size=3, channels=("email",)) for seed in (1, 1, 2))

    assert one == same
    assert one != other
    assert one[0] != one[1]


def test_series_are_summed_over_labels() -> None:
    """Comments are passed over."""
    page = (
        '# HELP deliveries_total x\ndeliveries_total{channel="email"} 2.0\ndeliveries_total{channel="w b"} 3.0\nup 1\n'
    )

    assert parse(page) == {"deliveries_total": 5.0, "up": 1.0}


def test_pgbench_runs_the_statement_of_the_api() -> None:
    """All of its parameters are filled in, and nothing in it looks like a variable of pgbench."""
    script = insert_script()

    assert "INSERT INTO notifications" in script
    assert "INSERT INTO outbox" in script
    assert "%(" not in script
    assert ":" not in script.replace("::", "").replace('":"', "")


def test_a_meter_counts_the_cpu_of_a_process() -> None:
    """Of this one, while it is busy for longer than the clock's resolution."""
    meter = Meter({"self": os.getpid()})
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass

    assert 0.03 <= meter.read()["self"] < 5


def test_a_process_that_has_ended_counts_nothing() -> None:
    """Nothing breaks over it."""
    assert Meter({"gone": 2**22 + 1}).read() == {"gone": 0.0}


def test_each_promise_is_of_a_contender_that_might_be_measured() -> None:
    """Names of stages are what the command takes."""
    assert all(name == stage.name and stage.title for name, stage in STAGES.items())
