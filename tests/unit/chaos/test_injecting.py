"""Injecting: a fault that another one stands in the way of is missed, a broken one breaks the run, both are healed."""

import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.chaos import injecting
from tests.chaos.faults import Bites, Kind, Planned
from tests.chaos.injecting import Injector
from tests.chaos.ledger import Ledger, now, read
from tests.chaos.world import World


class Scripted:
    """A fault that does as it is told."""

    def __init__(self, inject: Exception | None = None, heal: list[Exception | None] | None = None) -> None:
        self._inject, self._heal = inject, heal or [None]
        self.heals = 0

    def inject(self, world: World) -> None:
        if self._inject:
            raise self._inject

    def heal(self, world: World) -> None:
        self.heals += 1
        error = self._heal.pop(0) if self._heal else None
        if error:
            raise error

    def bites(self, world: World) -> Bites:
        return Bites(1)


def injected(fault: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Injector, list[dict[str, Any]]]:
    """Carry out a plan of this one fault."""
    monkeypatch.setattr(injecting, "KINDS", {"scripted": Kind("scripted", ("it",), lambda _: fault)})
    monkeypatch.setattr(time, "sleep", lambda _: None)
    unused: Any = None
    with Ledger(tmp_path / "faults.jsonl") as ledger:
        world = World(unused, unused, ledger, tmp_path, now())
        injector = Injector(world, [Planned(0, "scripted", "it", 0.0, 0.0, 1)], ends_at=now() + 60)
        injector.run()
        injector.judge()
    return injector, list(read(tmp_path / "faults.jsonl"))


def events(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["e"] for entry in entries]


def test_a_fault_is_injected_healed_and_asked_whether_it_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    injector, entries = injected(Scripted(), tmp_path, monkeypatch)

    assert events(entries) == ["injecting", "injected", "healed", "bites"]
    assert injector.errors == []


def test_a_fault_in_an_outage_of_another_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Scripted(inject=psycopg.OperationalError("away"))
    injector, entries = injected(fault, tmp_path, monkeypatch)

    assert events(entries) == ["injecting", "missed"]
    assert fault.heals == 1
    assert injector.errors == []


def test_healing_is_repeated_while_another_fault_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Scripted(heal=[psycopg.OperationalError("away"), None])
    injector, entries = injected(fault, tmp_path, monkeypatch)

    assert events(entries)[-2:] == ["healed", "bites"]
    assert fault.heals == 2
    assert injector.errors == []


def test_a_broken_fault_breaks_the_run_and_is_healed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Scripted(inject=RuntimeError("a bug of ours"))
    injector, entries = injected(fault, tmp_path, monkeypatch)

    assert events(entries) == ["injecting", "harness_error"]
    assert fault.heals == 1
    assert len(injector.errors) == 1
