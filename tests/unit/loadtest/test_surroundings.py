"""What a run was made on."""

from typing import NamedTuple

import psutil
import pytest

from loadtest.surroundings import Stolen


class Times(NamedTuple):
    """Seconds, as psutil tells them on Linux."""

    user: float
    idle: float
    steal: float


class FewerTimes(NamedTuple):
    """As it does elsewhere."""

    user: float
    idle: float


def test_what_the_host_took_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all the time that passed meanwhile, over all cores."""
    readings = iter([Times(100.0, 100.0, 50.0), Times(105.0, 103.0, 52.0)])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(readings))

    assert Stolen().facts() == {"stolen_percent": 20.0}


def test_where_nobody_counts_it_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No zero that nobody measured."""
    monkeypatch.setattr(psutil, "cpu_times", lambda: FewerTimes(1.0, 2.0))

    assert Stolen().facts() == {}
