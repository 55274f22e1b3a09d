"""The file between a run and its report."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from loadtest.results import Event, Latency, Limit, ResultError, RunResult, Series, from_json, load, save, to_json


def a_result() -> RunResult:
    return RunResult(
        kind="load",
        profile="smoke",
        seed=7,
        command="python -m loadtest run smoke --seed 7",
        started_at="2030-01-31T09:00:00+00:00",
        took_s=41.5,
        versions={"python": "3.11.7"},
        machine={"cores": 2, "memory_gib": 23.4, "cpu": "some"},
        settings={"rate_per_s": "200"},
        limits=[Limit("lost", "0", "0", held=True)],
        latencies=[Latency("accept", 8000, 3.0, 4.5, 9.25, 12.0, 40.0)],
        series=[Series("backlog", "notifications", "backlog", [0.0, 1.0], [3.0, None])],
        counts={"asked": 8000},
        events=[Event(2.0, "the measured time begins")],
        notes=["a sentence"],
    )


def test_a_result_is_read_as_it_was_written() -> None:
    """Nothing is lost on the way to the report."""
    assert from_json(to_json(a_result())) == a_result()


def test_a_file_is_named_by_when_and_what(tmp_path: Path) -> None:
    """So that a listing is in order of time."""
    path = save(a_result(), tmp_path / "reports")

    assert path.name == "20300131T090000Z-load-smoke.json"
    assert load(path) == a_result()
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_two_that_began_in_the_same_second_are_two_files(tmp_path: Path) -> None:
    """Neither is lost; the later one is listed after the other."""
    paths = [save(replace(a_result(), seed=seed), tmp_path) for seed in (1, 2, 3)]

    assert [load(path).seed for path in sorted(tmp_path.iterdir())] == [1, 2, 3]
    assert paths == sorted(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "held"),
    [({}, True), ({"broken_off": "Ctrl-C"}, False), ({"limits": [Limit("lost", "0", "3", held=False)]}, False)],
)
def test_the_verdict_needs_every_limit_and_an_end(change: dict[str, object], held: bool) -> None:
    """What was broken off proves nothing."""
    assert replace(a_result(), **change).held is held  # type: ignore[arg-type]


def test_what_a_later_program_adds_is_ignored() -> None:
    """A field may be added within a version."""
    content = {**orjson.loads(to_json(a_result())), "colour": "red"}

    assert from_json(orjson.dumps(content)) == a_result()


def test_every_fault_is_named_with_its_place() -> None:
    """A person who wrote one by hand mends it in one go."""
    content = orjson.loads(to_json(a_result()))
    content["kind"], content["seed"], content["took_s"] = "holiday", True, "long"
    content["limits"][0]["held"] = "yes"
    del content["profile"], content["latencies"][0]["p99"]

    with pytest.raises(ResultError) as caught:
        from_json(orjson.dumps(content))

    assert caught.value.faults == [
        "kind: 'holiday'; expected Literal['load', 'stress', 'dlq', 'bench']",
        "profile: nothing; expected str",
        "seed: True; expected int",
        "took_s: 'long'; expected float",
        "limits/0/held: 'yes'; expected bool",
        "latencies/0/p99: nothing; expected float",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"started_at": "yesterday"}, "ISO 8601"),
        ({"series": [{"name": "a", "unit": "", "group": "cpu", "at_s": [1], "values": []}]}, "1 instants and 0 values"),
        ({"version": 2}, "reads version 1"),
    ],
)
def test_what_types_cannot_say_is_checked_too(change: dict[str, object], words: str) -> None:
    """Or a plot would be drawn from half a series."""
    with pytest.raises(ResultError, match=words):
        from_json(orjson.dumps({**orjson.loads(to_json(a_result())), **change}))


def test_what_is_no_json_is_refused() -> None:
    """With the parser's words."""
    with pytest.raises(ResultError, match="no JSON"):
        from_json(b"{")
    with pytest.raises(ResultError, match="version"):
        from_json(b"[]")
