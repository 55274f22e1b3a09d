"""The two ledgers of a run on disk: what was accepted, as its sender knows, and what was received.

A record is the notification's id, its number and an instant. Each writer has files of its own, one per part of the ids,
so that an hour's ledger can be compared part by part.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

PARTS: Final = 16
_FORM: Final = struct.Struct("<16sQQ")


class Entry(NamedTuple):
    """A line of a ledger."""

    id: bytes
    number: int
    at_us: int  # answered, or received


class Book:
    """One writer's ledger, such as `accepted-0`; what is added is on disk after `flush`."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._paths = [directory / f"{name}.{part:02}" for part in range(PARTS)]
        self._parts = [bytearray() for _ in range(PARTS)]
        self._pack = _FORM.pack

    def add(self, id_: bytes, number: int, at_us: int) -> None:
        """Add a line; the last byte of a UUIDv7 is random, so parts fill evenly."""
        self._parts[id_[15] % PARTS] += self._pack(id_, number, at_us)

    def flush(self) -> None:
        """Append what was added to the files."""
        for path, part in zip(self._paths, self._parts, strict=True):
            if part:
                with path.open("ab") as file:
                    file.write(part)
                part.clear()


def entries(directory: Path, name: str, part: int) -> Iterator[Entry]:
    """Read a part of all ledgers whose name begins with `name`; half a line at the end of one is left out."""
    for path in sorted(directory.glob(f"{name}*.{part:02}")):
        content = path.read_bytes()
        whole = len(content) - len(content) % _FORM.size
        yield from map(Entry._make, _FORM.iter_unpack(memoryview(content)[:whole]))
