"""Traps: what counts the calls of a crash point while it is armed, and kills at the one that was asked for."""

import functools
import inspect
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.crash_points import BY_NAME, CrashPoint
from tests.chaos.rewriting import Place, Wrap


@dataclass(frozen=True, slots=True)
class Armed:
    """A point and the call that is the last: `POINT:HIT`, counted from 1 over all processes of the service.

    `only`: the calls of one process alone, by the name it was started under, and of those below it. `along`: processes
    that die in the same instant.
    """

    point: CrashPoint
    hit: int
    only: str | None = None
    along: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Armed":
        """Read POINT:HIT. Raises ValueError that says what is wrong."""
        name, _, hit = text.partition(":")
        if name not in BY_NAME:
            raise ValueError(f"there is no crash point {name!r}; there are {', '.join(BY_NAME)}")
        if not (hit.isascii() and hit.isdigit() and int(hit) > 0):
            raise ValueError(f"{text!r}: expected POINT:HIT with a hit from 1")
        return cls(BY_NAME[name], int(hit))

    def __str__(self) -> str:
        return f"{self.point.name}:{self.hit}"


class Trap:
    """Counts the calls of a point while it is armed, and kills at the one that was asked for.

    A directory holds what several processes must agree on, since an API has workers and there are two relays:
    `<point>` is there while the point is armed and says at which call of whom, `<point>.calls` is as long as there were
    calls, `<point>.fired` says when and who died.
    """

    def __init__(self, point: CrashPoint, directory: Path, name: str | None = None) -> None:
        self._point, self._armed, self._name = point, directory / point.name, name

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same, and may be the last thing its process does."""
        if inspect.iscoroutinefunction(function):
            return self._wrap_async(function)

        @functools.wraps(function)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self._before(arguments)
            result = function(*arguments, **named)
            self._after(arguments, result)
            return result

        return wrapped

    def _wrap_async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapped(*arguments: Any, **named: Any) -> Any:
            self._before(arguments)
            result = await function(*arguments, **named)
            self._after(arguments, result)
            return result

        return wrapped

    def _before(self, arguments: tuple[Any, ...]) -> None:
        if self._point.when == "before" and self._point.counts(arguments, None):
            self._count()

    def _after(self, arguments: tuple[Any, ...], result: Any) -> None:
        if self._point.when == "after" and self._point.counts(arguments, result):
            self._count()

    def _count(self) -> None:
        try:
            order = json.loads(self._armed.read_text())
        except FileNotFoundError:
            return
        if order["only"] not in (None, self._name):
            return
        calls = os.open(_calls(self._armed), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(calls, b".")
            count = os.lseek(calls, 0, os.SEEK_CUR)  # behind what this process has just appended
        finally:
            os.close(calls)
        if count == order["hit"]:
            self._fire(order["along"])

    def _fire(self, along: list[int]) -> None:
        last = os.getpid() if self._point.of == "itself" else os.getppid()
        victims = [*(pid for pid in along if pid != last), last]
        said = json.dumps({"point": self._point.name, "pids": victims, "at": time.monotonic()})
        fired = _fired(self._armed)
        fired.with_suffix(".new").write_text(said)
        fired.with_suffix(".new").replace(fired)
        self._armed.unlink()
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)


def arm(armed: Armed, directory: Path) -> None:
    """Have a point kill at its n-th call from now on, in whatever process was started with traps in that directory."""
    place = directory / armed.point.name
    for old in (place, _calls(place), _fired(place)):
        old.unlink(missing_ok=True)
    order = {"hit": armed.hit, "only": armed.only, "along": armed.along}
    place.with_suffix(".new").write_text(json.dumps(order))
    place.with_suffix(".new").replace(place)


def disarm(point: CrashPoint, directory: Path) -> None:
    """Have it kill no more."""
    (directory / point.name).unlink(missing_ok=True)


def killed(point: CrashPoint, directory: Path) -> list[int]:
    """The processes it killed since it was armed, none if it has not fired."""
    fired = _fired(directory / point.name)
    return list(json.loads(fired.read_text())["pids"]) if fired.exists() else []


def calls(point: CrashPoint, directory: Path) -> int:
    """How often it was passed while armed."""
    counted = _calls(directory / point.name)
    return counted.stat().st_size if counted.exists() else 0


def traps_of(points: Iterable[CrashPoint], directory: Path, name: str | None) -> list[tuple[Place, Wrap]]:
    """What has to be wrapped for these points in the process of this name."""
    return [(place, Trap(point, directory, name).wrap) for point in points for place in point.places]


def _calls(armed: Path) -> Path:
    return armed.with_suffix(".calls")


def _fired(armed: Path) -> Path:
    return armed.with_suffix(".fired")
