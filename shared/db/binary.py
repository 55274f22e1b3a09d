"""Arrays in PostgreSQL's binary format, written by hand: psycopg asks a dumper for each element, ten times as dear.

An array is its number of dimensions, whether it has NULLs, the type of its elements, its size and lower bound, and the
elements; an element is its length, -1 for NULL, and its value in binary form. All numbers are in network byte order.
Source: array_recv in PostgreSQL's src/backend/utils/adt/arrayfuncs.c.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any, Final
from uuid import UUID

_HEAD: Final = Struct(">iiIii").pack
_length: Final = Struct(">i").pack
_int2: Final = Struct(">ih").pack
_int8: Final = Struct(">iq").pack
_float8: Final = Struct(">id").pack
_NULL: Final = _length(-1)
_UUID: Final = _length(16)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# As in PostgreSQL's pg_type.
_BYTEA: Final = 17
_INT2: Final = 21
_TEXT: Final = 25
_FLOAT8: Final = 701
_TIMESTAMPTZ: Final = 1184
_UUID_TYPE: Final = 2950


class Binary(bytes):
    """A parameter in binary form whose type the statement says, as in `%(ids)s::uuid[]`."""

    __slots__ = ()


class _Elements(dict[Any, bytes]):
    """Elements of text, numbers and instants that many rows share, each made when first asked for."""

    def __missing__(self, value: Any) -> bytes:
        match value:
            case None:
                made = _NULL
            case str():
                text = value.encode()
                made = _length(len(text)) + text
            case datetime():
                made = _int8(8, (value - _EPOCH) // _MICROSECOND)
            case float():
                made = _float8(8, value)
            case _:
                made = _int2(2, value)
        self[value] = made
        return made


def uuids(values: Sequence[UUID]) -> Binary:
    """Return a uuid[]."""
    return _array(_UUID_TYPE, len(values), b"".join([_UUID + value.bytes for value in values]))


def byteas(values: Sequence[bytes]) -> Binary:
    """Return a bytea[]."""
    pieces: list[bytes] = []
    for value in values:
        pieces += (_length(len(value)), value)
    return _array(_BYTEA, len(values), b"".join(pieces))


def texts(values: Sequence[str | None]) -> Binary | None:
    """Return a text[], None where it would hold nothing but NULL."""
    return _shared(_TEXT, values)


def int2s(values: Sequence[int]) -> Binary | None:
    """Return a smallint[]."""
    return _shared(_INT2, values)


def float8s(values: Sequence[float | None]) -> Binary | None:
    """Return a float8[], None where it would hold nothing but NULL."""
    return _shared(_FLOAT8, values)


def instants(values: Sequence[datetime | None]) -> Binary | None:
    """Return a timestamptz[], None where it would hold nothing but NULL."""
    return _shared(_TIMESTAMPTZ, values)


def _shared(kind: int, values: Sequence[Any]) -> Binary | None:
    elements = _Elements()
    content = b"".join(map(elements.__getitem__, values))
    return None if len(elements) == 1 and None in elements else _array(kind, len(values), content)


def _array(kind: int, size: int, content: bytes) -> Binary:
    return Binary(_HEAD(1, 1, kind, size, 1) + content)
