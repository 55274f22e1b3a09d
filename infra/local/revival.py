"""Starting processes again that have ended, without a storm of starts when one cannot live."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_DELAY_S = 30.0
STEADY_S = 60.0  # a process that ran this long is in order again: its next end is a first one


class Restartable(Protocol):
    """What is looked after; a ManagedProcess is one."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def is_running(self) -> bool:
        """Whether it runs now."""

    @property
    def returncode(self) -> int | None:
        """How it ended."""

    def start(self) -> object:
        """Start it and return at once."""


@dataclass(slots=True)
class _Kept:
    process: Restartable
    starts: int = 0  # since it last ran steadily
    started_at: float = 0.0
    due_at: float | None = None  # when it is started again; None: it runs, as far as we know


class Revival:
    """Starts what has ended: at once the first time, then after 1, 2, 4 … 30 s, as long as it takes."""

    def __init__(
        self,
        processes: Sequence[Restartable],
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept = [_Kept(process) for process in processes]
        self._say = say
        self._clock = clock

    def run_once(self) -> int:
        """Look at each process, start what is due, and return how many that were."""
        return sum(self._look_after(kept, self._clock()) for kept in self._kept)

    def _look_after(self, kept: _Kept, now: float) -> bool:
        if kept.process.is_running:
            if now - kept.started_at >= STEADY_S:
                kept.starts = 0
            return False
        if kept.due_at is None:
            delay_s = min(MAX_DELAY_S, 2.0 ** (kept.starts - 1)) if kept.starts else 0.0
            kept.due_at = now + delay_s
            when = f"in {delay_s:.0f} s" if delay_s else "now"
            self._say(f"{kept.process.name} ended with code {kept.process.returncode}; it is started again {when}")
        if now < kept.due_at:
            return False
        kept.starts, kept.started_at, kept.due_at = kept.starts + 1, now, None
        try:
            kept.process.start()
        except OSError as error:  # its program is gone for the moment: an installation under way
            self._say(f"{kept.process.name} could not be started: {error}")
        return True
