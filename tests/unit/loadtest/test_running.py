"""A run under way without processes: how long its start and the rest may take, and how it is ended early."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest import profiles, running
from loadtest.errors import RunError
from loadtest.running import Running, within
from tests.unit.loadtest.test_measuring import asked, received


class Crew:
    """A generator that asked for three, and a sink that has received one of them more at each look."""

    def __init__(self) -> None:
        self.stopped, self._taken = False, 0

    def take(self) -> Any:
        self._taken += 1
        first = self._taken == 1
        ask = asked(asked=3, accepted=3) if first else asked()
        return [ask], received(received={"webhook": 1} if self._taken <= 3 else {})

    def stop_asking(self) -> None:
        self.stopped = True

    def close(self) -> None: ...


@pytest.fixture
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A run of smoke, whose clock can be set on; its limit is 58 s."""
    monkeypatch.setattr(running, "_LOOK_S", 0.001)
    target = SimpleNamespace(
        supervisor=SimpleNamespace(log_dir=tmp_path / "logs"), stack=None, check=lambda: None, stop=lambda: None
    )
    view: Any = SimpleNamespace(phase=lambda _: None, show=lambda *_: None)
    make: Any = lambda *_: target  # noqa: E731
    monkeypatch.setattr(Running, "_start", lambda _: None)
    with Running(profiles.load("smoke"), overrides=(), seed=1, directory=tmp_path / "runs", view=view,
                 make_target=make) as run:  # fmt: skip
        any_run: Any = run
        any_run.crew = Crew()
        yield any_run


def test_a_start_that_takes_too_long_is_ended_and_named() -> None:
    """Whatever it waits for; one that was in time is never ended later."""
    with pytest.raises(RunError, match=r"the start took more than 0\.05 s \(start_s\)"), within(0.05):
        time.sleep(10)

    with within(0.05):
        pass
    time.sleep(0.1)


def test_the_limit_counts_from_the_instant_at_which_everything_is_ready(a_run: Any) -> None:
    """A machine on which starting takes a minute still has all of limit_s."""
    a_run._began -= 60  # so long the start took
    a_run.start()
    assert 57 < a_run.left_s <= 58
    a_run.look()

    a_run._began -= 59
    with pytest.raises(RunError, match=r"not done after 58 s \(limit_s\)"):
        a_run.look()


def test_a_run_whose_time_is_up_still_waits_for_what_is_on_its_way(a_run: Any) -> None:
    """Nothing more is asked for, and its looks are not refused for the limit that ended it."""
    a_run.start()
    a_run._began -= 59

    assert a_run.wind_down() is True
    assert a_run.crew.stopped
    assert a_run.measured.counts["received"] == 3
