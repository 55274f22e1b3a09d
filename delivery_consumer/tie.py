"""What ties a delivery process to its parent: a number, a socket, and a directory for what it counts.

Over the socket the process says every second how it is. The socket's end says to each that the other one is gone,
however it went, without a signal and on every system.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import orjson
from prometheus_client import values

from shared.telemetry import Checks, run_checks

log = logging.getLogger(__name__)

SERVICE: Final = "delivery_consumer"
SAY_EVERY_S: Final = 1.0
_VARIABLE: Final = "NOTIFY_DELIVERY_TIE"


@dataclass(frozen=True, slots=True)
class Tie:
    """The process's side."""

    number: int  # from 1; whoever replaces a process gets its number
    socket_fd: int
    counts: Path

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Self | None:
        """Return what a parent has put into the environment, and take it out; None without a parent."""
        if (text := environ.pop(_VARIABLE, None)) is None:
            return None
        number, socket_fd, counts = text.split(":", 2)
        return cls(int(number), int(socket_fd), Path(counts))

    def environ(self) -> dict[str, str]:
        """Return the variable by which a process learns of it."""
        return {_VARIABLE: f"{self.number}:{self.socket_fd}:{self.counts}"}

    def hold(self, checks: Checks, stop: threading.Event) -> None:
        """Say every second how this process is, on a thread of its own; once the parent is gone, set `stop`."""
        own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=self.socket_fd)
        threading.Thread(target=_hold, args=(own, checks, stop), name="tie", daemon=True).start()


def _hold(own: socket.socket, checks: Checks, stop: threading.Event) -> None:
    own.settimeout(SAY_EVERY_S)
    with own, contextlib.suppress(OSError):
        here = True
        while here:
            with contextlib.suppress(TimeoutError):  # the parent is stopped: it hears the next ones
                own.sendall(orjson.dumps(run_checks(checks)) + b"\n")
            with contextlib.suppress(TimeoutError):
                here = bool(own.recv(1))
    stop.set()  # before the line, which may have to wait for whoever reads our log
    log.warning("parent_gone")


def share_counts(counts: Path, number: int) -> None:
    """Have what this process counts add up with the others' in a directory. Call it before any series is made.

    Its files are named after its number, not its process id: one that is replaced leaves no file behind, and its
    successor counts on from where it ended.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counts)
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
