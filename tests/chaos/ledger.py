"""Append-only ledgers: a JSON value a line, one writer each, instants of CLOCK_MONOTONIC, which all processes share."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

FLUSH_EVERY_S = 0.1


def now() -> float:
    """The one clock of all ledgers."""
    return time.monotonic()


class Ledger:
    """One file that is only ever appended to. A line is in the kernel when `write` returns, unless `buffered`."""

    def __init__(self, path: Path, *, buffered: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=1 << 20 if buffered else 0)
        self._lock = threading.Lock()

    def write(self, entry: Any) -> None:
        """Append one line."""
        line = orjson.dumps(entry) + b"\n"
        with self._lock:
            self._file.write(line)

    def flush(self) -> None:
        """Hand everything to the kernel."""
        with self._lock:
            self._file.flush()

    def close(self) -> None:
        """Flush and close; harmless to repeat."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path) -> Iterator[Any]:
    """The entries of a ledger; a last line that was cut off is left out, a missing file is empty."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield orjson.loads(line)


def read_all(directory: Path, pattern: str) -> Iterator[Any]:
    """The entries of all ledgers whose names match, file by file."""
    for path in sorted(directory.glob(pattern)):
        yield from read(path)
