"""What a rate needs: the arithmetic with round figures, reading results, and the page the tables go into."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtest.capacity import costs, sizing
from loadtest.capacity.command import assumptions, command
from loadtest.capacity.costs import Costs, NotMeasuredError, Scaled
from loadtest.capacity.sizing import Assumptions, DoesNotFitError, needed, relays_for
from loadtest.results import RunResult, Series, save

CPU_US = {
    "accept_single": {"api": 500.0, "postgres": 300.0},
    "accept_batch": {"api": 10.0, "postgres": 20.0},
    "relay": {"relay": 20.0, "postgres": 10.0, "kafka": 5.0},
    "webhook": {"delivery": 200.0, "postgres": 50.0, "kafka": 5.0},
    "email": {"delivery": 300.0, "postgres": 50.0, "kafka": 5.0},
}
WAL_BYTES = {
    "accept_single": 4_000.0,
    "accept_batch": 1_500.0,
    "relay": 200.0,
    "deliver": 1_000.0,
    "deliver, after a checkpoint": 3_000.0,
}
RELAYS = {
    1: Scaled(40_000.0, {"relay": 20.0, "postgres": 10.0}),
    4: Scaled(30_000.0, {"relay": 35.0, "postgres": 16.0}),
}


def some_costs(**others: object) -> Costs:
    """Costs whose sums can be done in the head."""
    counted = {"full_page_images": 0.01, "transactions": 0.1, "dead_rows": 1.0}
    known: dict[str, object] = {
        "cpu_us": CPU_US,
        "written": {step: {"wal_bytes": wal, **counted} for step, wal in WAL_BYTES.items()},
        "kafka_bytes": 800.0,
        "stored_bytes": 1_200.0,
        "stored_in_indexes_bytes": 200.0,
        "stored_loose_bytes": 2_000.0,
        "connections": {"api_service": 4.0, "outbox_relay": 2.0, "delivery_consumer": 3.0, "dlq_consumer": 1.0},
        "scaling": {},
    }
    return Costs(**{**known, **others})  # type: ignore[arg-type]


def test_cpu_of_the_mix_is_summed_by_who_takes_it() -> None:
    """A tenth is accepted one by one, half are e-mails: 0.1 × 500 + 0.9 × 10 µs of the API, and so on."""
    mixed = sizing.cpu_us(some_costs(), Assumptions())

    expected = {"api_service": 59, "outbox_relay": 20, "delivery_consumer": 250, "postgres": 108, "kafka": 10}
    assert mixed == pytest.approx(expected)


def test_a_rate_is_doubled_for_the_peak_and_again_for_the_half_of_a_core_that_may_be_used() -> None:
    """10,000 a second are 20,000 at the peak; 250 µs each are 5 cores of delivery: ten are needed."""
    need = needed(10_000, some_costs(), Assumptions(cell_disk_gb=40_000))

    assert (need.cells, need.limits) == (1, ())
    assert need.cores["delivery_consumer"] == pytest.approx(10.0)
    assert need.cores["api_service"] == pytest.approx(2.36)
    assert need.cores["postgres"] == pytest.approx(4.32)
    assert need.processes == {"api_service": 3, "outbox_relay": 2, "delivery_consumer": 10, "dlq_consumer": 2}
    assert need.connections == 3 * 4 + 2 * 2 + 10 * 3 + 2 * 1


def test_bytes_a_second_are_of_the_peak_and_bytes_a_day_of_the_average() -> None:
    """0.1 × 4,000 + 0.9 × 1,500 + 200 + 1,000 = 2,950 bytes of WAL; 1.2 × 1,200 bytes stay."""
    need = needed(10_000, some_costs(), Assumptions(cell_disk_gb=40_000))

    assert need.wal_mb_per_s == pytest.approx(59.0)
    assert need.wal_gb_per_day == pytest.approx(2_548.8)
    assert need.kafka_mb_per_s == pytest.approx(16.0)
    assert need.kafka_gb == pytest.approx(2_073.6)
    assert need.disk_gb == pytest.approx({1: 1_244.16, 30: 37_324.8, 90: 111_974.4})
    assert (need.transactions_per_s, need.dead_rows_per_s) == pytest.approx((6_000.0, 60_000.0))


def test_a_small_rate_still_has_two_of_each() -> None:
    """So that one may end."""
    need = needed(100, some_costs(), Assumptions())

    assert set(need.processes.values()) == {2}
    assert need.cores["postgres"] == pytest.approx(0.0432)


def test_what_one_postgresql_cannot_write_takes_several_cells() -> None:
    """590 MB/s of WAL where one writes 200: three cells, each with relays of its own for a third of the rows."""
    need = needed(100_000, some_costs(), Assumptions(cell_disk_gb=1e9))

    assert (need.cells, need.limits) == (3, ("WAL",))
    assert need.wal_mb_per_s == pytest.approx(590.0)
    assert need.processes["outbox_relay"] == 9  # 66,667 × 20 µs in a cell, half of a core each
    assert need.processes["delivery_consumer"] == 102  # 33.3 in a cell, none half
    assert need.disk_gb[1] == pytest.approx(12_441.6)


def test_what_one_disk_cannot_hold_takes_several_cells() -> None:
    """37,325 GB in 30 days where one holds 20,000; kept for 10 days it is one."""
    assert needed(10_000, some_costs(), Assumptions()).limits == ("disk for 30 days",)
    assert needed(10_000, some_costs(), Assumptions()).cells == 2
    assert needed(10_000, some_costs(), Assumptions(cell_retention_days=10)).cells == 1


def test_what_relays_cannot_read_takes_several_cells() -> None:
    """With 5 µs to read a row, 100,000 at the peak make any number of relays half busy."""
    relays = some_costs(scaling={"relay": RELAYS})

    assert "relays" in needed(50_000, relays, Assumptions(cell_disk_gb=1e9)).limits


def test_what_fits_into_no_cell_is_refused() -> None:
    """However small the share."""
    with pytest.raises(DoesNotFitError, match="WAL"):
        needed(100, some_costs(), Assumptions(cell_wal_mb_per_s=1e-9))


@pytest.mark.parametrize(
    ("peak_per_s", "relays"),
    [(1_000, 1), (20_000, 1), (40_000, 2), (80_000, 12), (99_000, None), (100_000, None)],
)
def test_relays_share_what_they_move_and_not_what_they_read(peak_per_s: float, relays: int | None) -> None:
    """15 µs are shared, 5 µs each takes for every row: at 100,000/s reading alone makes all of them half busy."""
    assert relays_for(peak_per_s, own_us=15.0, read_us=5.0, utilisation=0.5) == relays


def test_each_further_relay_costs_what_it_reads() -> None:
    """Four relays take 15 µs a row more than one: 5 each, and 2 of PostgreSQL; two are there, so one is further."""
    costs_of = some_costs(scaling={"relay": RELAYS})
    need = needed(1_000, costs_of, Assumptions())

    assert (costs_of.read_again_us("relay"), costs_of.read_again_us("postgres")) == (5.0, 2.0)
    assert need.cores["outbox_relay"] == pytest.approx(2_000 * 25e-6 / 0.5)
    assert need.cores["postgres"] == pytest.approx(2_000 * 110e-6 / 0.5)


def test_two_relays_that_cost_less_than_one_read_for_nothing() -> None:
    """Noise never makes a cost negative."""
    relays = {1: Scaled(1.0, {"relay": 20.0, "postgres": 9.0}), 4: Scaled(1.0, {"relay": 19.0, "postgres": 9.0})}

    assert some_costs(scaling={"relay": relays}).read_again_us("relay") == 0.0


def a_run(started_at: str, *, scale: float = 1.0, only: str = "", profile: str = "full") -> RunResult:
    """A result of the bench with everything that is needed, or what begins with `only`."""
    figures = {
        f"{costs.CPU[step][0]} {process}": us * scale for step, used in CPU_US.items() for process, us in used.items()
    }
    figures |= {f"{contender} {figure}": 1.0 for contender in costs.WRITTEN.values() for figure in costs.COUNTED}
    figures |= {f"{contender} {figure}": 2.0 for contender, figure in costs.SERVICES.values()}
    figures |= {"footprint/relay kafka_bytes": 800.0, "footprint/deliver stored_bytes": 1_200.0}
    figures |= {f"footprint/deliver {name}_bytes": 200.0 for name in ("stored_in_indexes", "stored_loose")}
    figures |= {f"scaling/relay × {count}": one.per_s for count, one in RELAYS.items()}
    figures |= {
        f"scaling/relay × {count} {process}": us for count, one in RELAYS.items() for process, us in one.cpu_us.items()
    }
    series = [
        Series(name, "µs", "cpu", [0.0, 1.0, 2.0], [value, value * 9, None])
        for name, value in figures.items()
        if name.startswith(only)
    ]
    return RunResult("bench", profile, 1, "bench", started_at, 1.0, {"commit": "abc"}, {"cores": 2}, series=series)


def test_each_figure_is_the_median_of_the_newest_run_that_has_it() -> None:
    """A newer run of one stage replaces that stage alone."""
    old, new = a_run("2030-01-01T00:00:00Z"), a_run("2030-01-02T00:00:00Z", scale=2.0, only="relay/")
    found = costs.read([new, old])

    assert found.cpu_us["relay"] == {"relay": 200.0, "postgres": 100.0, "kafka": 50.0}  # the median of 2 × and 18 ×
    assert found.cpu_us["webhook"]["delivery"] == 1_000.0
    assert found.scaling["relay"][4].cpu_us == {"relay": 175.0, "postgres": 80.0}
    assert [run.started_at for run in found.used] == [old.started_at, new.started_at]
    assert found.whole_us is None


def test_what_was_not_measured_is_named_by_its_stage() -> None:
    """All of it at once; without `scaling` relays are taken to share everything."""
    with pytest.raises(NotMeasuredError) as caught:
        costs.read([a_run("2030-01-01T00:00:00Z", only="accept")])

    assert caught.value.stages == ["relay", "webhook", "email", "footprint"]


def test_the_command_prints_tables_or_puts_them_into_a_page(tmp_path: Path) -> None:
    """Of all runs but quick ones; what stood between the marks is replaced, twice over too."""
    save(a_run("2030-01-01T00:00:00Z"), tmp_path)
    save(a_run("2030-01-03T00:00:00Z", scale=100.0, profile="quick"), tmp_path)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- capacity: begin -->\nold\n<!-- capacity: end -->\nafter\n")

    printed = CliRunner().invoke(command, ["--directory", str(tmp_path), "--rate", "1000"])
    for _ in range(2):
        put = CliRunner().invoke(command, ["--directory", str(tmp_path), "--rate", "1000", "--into", str(page)])

    assert printed.exit_code == put.exit_code == 0, printed.output + put.output
    assert "| notifications a second, on average | 1,000 |" in printed.output
    assert "| relay | 100 | 50 | 25 | 175 |" in printed.output
    assert "quick" not in printed.output
    assert page.read_text() == (
        f"before\n<!-- capacity: begin -->\n\n{printed.output}\n<!-- capacity: end -->\nafter\n"
    )


def test_the_command_names_what_is_to_be_measured(tmp_path: Path) -> None:
    """And exits 2."""
    save(a_run("2030-01-01T00:00:00Z", only="accept"), tmp_path)

    done = CliRunner().invoke(command, ["--directory", str(tmp_path)])

    assert done.exit_code == 2
    assert "bench --only relay --only webhook --only email --only footprint" in done.output


def test_an_assumption_can_be_another() -> None:
    """Whatever its type; one that does not exist is refused."""
    assert assumptions(("retention_days=7,365", "kafka_replicas=2")) == Assumptions(
        retention_days=(7, 365), kafka_replicas=2
    )
    with pytest.raises(ValueError, match="peak_factor"):
        assumptions(("peek_factor=3",))


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("single_share=abc", "single_share: 'abc'; expected a number from 0 to 1"),
        ("single_share", "single_share: ''; expected a number from 0 to 1"),
        ("email_share=nan", "email_share: 'nan'; expected a number from 0 to 1"),
        ("utilisation=0", "utilisation: '0'; expected a number from 0.01 to 1"),
        ("peak_factor=inf", "peak_factor: 'inf'; expected a number from 0 to 1,000,000,000"),
        ("kafka_replicas=2.5", "kafka_replicas: '2.5'; expected a whole number from 0 to 1,000,000,000"),
        ("retention_days=7,x", "retention_days: '7,x'; expected a whole number from 0 to 1,000,000,000, or several"),
    ],
)
def test_an_assumption_that_makes_no_sense_is_named_with_what_is_expected(given: str, fault: str) -> None:
    """Not in the words of float()."""
    ended = CliRunner().invoke(command, ["--assume", given])

    assert ended.exit_code == 2
    assert f"Error: {fault}" in ended.output
