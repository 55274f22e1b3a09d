"""Cursors: opaque to clients, small, and refused when they are not ours."""

import base64
import binascii
import struct
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from api_service.faults import FaultyValueError

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 250
_NOTIFICATION: Final = struct.Struct(">1s16s")
_INSTANT: Final = struct.Struct(">1sq16s")
_RETRY: Final = _NOTIFICATION
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def notification_cursor(before: UUID) -> str:
    """Return the cursor of the page that begins before an id."""
    return _encode(_NOTIFICATION.pack(b"n", before.bytes))


def read_notification_cursor(cursor: str) -> UUID:
    """Return the id in a cursor. Raises FaultyValueError."""
    _, before = _decode(cursor, _NOTIFICATION, b"n")
    return UUID(bytes=before)


def retry_cursor(before: UUID) -> str:
    """Return the cursor of the page that begins before a bulk retry."""
    return _encode(_RETRY.pack(b"r", before.bytes))


def read_retry_cursor(cursor: str) -> UUID:
    """Return the id in a cursor. Raises FaultyValueError."""
    _, before = _decode(cursor, _RETRY, b"r")
    return UUID(bytes=before)


def dead_letter_cursor(before: tuple[datetime, UUID]) -> str:
    """Return the cursor of the page that begins before a dead letter."""
    return _encode_instant(b"d", before)


def read_dead_letter_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Return the first_failed_at and id in a cursor. Raises FaultyValueError."""
    return _decode_instant(b"d", cursor)


def suppression_cursor(before: tuple[datetime, UUID]) -> str:
    """Return the cursor of the page that begins before a suppression."""
    return _encode_instant(b"s", before)


def read_suppression_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Return the created_at and id in a cursor. Raises FaultyValueError."""
    return _decode_instant(b"s", cursor)


def _encode_instant(kind: bytes, before: tuple[datetime, UUID]) -> str:
    return _encode(_INSTANT.pack(kind, (before[0] - _EPOCH) // _MICROSECOND, before[1].bytes))


def _decode_instant(kind: bytes, cursor: str) -> tuple[datetime, UUID]:
    _, micros, before = _decode(cursor, _INSTANT, kind)
    try:
        return _EPOCH + timedelta(microseconds=micros), UUID(bytes=before)
    except OverflowError as error:
        raise _invalid() from error


def destination_cursor(after: str) -> str:
    """Return the cursor of the page that begins after a destination."""
    return _encode(b"o" + after.encode())


def read_destination_cursor(cursor: str) -> str:
    """Return the destination in a cursor. Raises FaultyValueError."""
    raw = _raw(cursor)
    try:
        after = raw[1:].decode()
    except UnicodeDecodeError as error:
        raise _invalid() from error
    if raw[:1] != b"o" or not after or "\x00" in after:
        raise _invalid()
    return after


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(cursor: str, layout: struct.Struct, kind: bytes) -> tuple[Any, ...]:
    try:
        fields = layout.unpack(_raw(cursor))
    except struct.error as error:
        raise _invalid() from error
    if fields[0] != kind:
        raise _invalid()
    return fields


def _raw(cursor: str) -> bytes:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid() from error


def _invalid() -> FaultyValueError:
    return FaultyValueError("invalid_cursor", "use next_cursor of the page before, unchanged")
