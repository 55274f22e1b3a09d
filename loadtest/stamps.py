"""The stamp in each message: which one it is, and when its request was *intended* to start.

A receiver so measures from the intended instant by itself: what waited for a connection, a slow answer or a busy
machine is in the figure, whoever was slow. Instants are microseconds of the machine's monotonic clock, which all
processes of a run share.
"""

import time
from typing import Final, NamedTuple

MARK: Final = b"lt1:"
LENGTH: Final = 43
_RUN, _NUMBER, _AT = slice(4, 12), slice(13, 25), slice(26, 42)


class Stamp(NamedTuple):
    """Which message of which run, and when it was meant to be sent."""

    run: bytes
    number: int
    intended_us: int


def now_us() -> int:
    """The instant now."""
    return time.monotonic_ns() // 1000


def stamp(run: str, number: int, intended_us: int) -> bytes:
    """Return the stamp of a message; `run` is eight hexadecimal digits. It is ASCII that JSON and SMTP leave alone."""
    return b"lt1:%s:%012x:%016d." % (run.encode(), number, intended_us)


def find(content: bytes | bytearray) -> Stamp | None:
    """Return the first stamp in a message, None if it carries none."""
    at = content.find(MARK)
    text = bytes(content[at : at + LENGTH]) if at >= 0 else b""
    if len(text) < LENGTH or text[42:] != b".":
        return None
    try:
        return Stamp(text[_RUN], int(text[_NUMBER], 16), int(text[_AT]))
    except ValueError:
        return None


def number(process: int, count: int) -> int:
    """The number of a generator's message: each process counts for itself."""
    return process << 40 | count


def parts(number: int) -> tuple[int, int]:
    """The process, and its count."""
    return number >> 40, number & (1 << 40) - 1
