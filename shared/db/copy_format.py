"""Fields in the binary format of COPY, written by hand: psycopg asks a dumper for each value, which takes longer.

The format is that of https://www.postgresql.org/docs/current/sql-copy.html: a signature, rows, a trailer; a row is the
number of its fields and the fields; a field is its length, -1 for NULL, and its value, in network byte order.
"""

from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Final

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
length: Final = Struct(">i").pack
"""Write the length of a field."""

_NULL: Final = length(-1)
_int2: Final = Struct(">ih").pack
_timestamptz: Final = Struct(">iq").pack
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def row(fields: int) -> bytes:
    """Return how a row of so many fields begins."""
    return fields.to_bytes(2, "big")


def field(value: bytes) -> bytes:
    """Return a field of type bytea, or of any other whose binary form this is."""
    return length(len(value)) + value


class Fields(dict[str | int | datetime | None, bytes]):
    """The fields of values that many rows share, each made when first asked for: text, int2, timestamptz or NULL."""

    def __missing__(self, value: str | int | datetime | None) -> bytes:
        """Make the field of a value."""
        match value:
            case None:
                made = _NULL
            case str():
                made = field(value.encode())
            case int():
                made = _int2(2, value)
            case datetime():
                made = _timestamptz(8, (value - _EPOCH) // _MICROSECOND)
        self[value] = made
        return made
