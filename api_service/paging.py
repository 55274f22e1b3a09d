"""Cursors: opaque to clients, small, and refused where they are not ours, of another list, or of another tenant's."""

import base64
import binascii
import hashlib
import struct
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from api_service.faults import FaultyValueError

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 250
_CHECK_BYTES: Final = 8
_ID: Final = struct.Struct(">16s")
_INSTANT: Final = struct.Struct(">q16s")
_NUMBER: Final = struct.Struct(">q")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Cursors:
    """Writes and reads the cursors of one list of one tenant.

    A cursor carries a place and a sum over it, its list and its tenant. That is no signature: whoever puts one together
    by hand gets a page of what is theirs anyway. It keeps a cursor that was copied from elsewhere from looking right.
    """

    def __init__(self, kind: str, tenant_id: str) -> None:
        self._kind, self._tenant_id = kind.encode(), tenant_id.encode()

    def of_id(self, before: UUID) -> str:
        """Return the cursor of the page that begins before an id."""
        return self._encode(_ID.pack(before.bytes))

    def read_id(self, cursor: str) -> UUID:
        """Return the id in a cursor. Raises FaultyValueError."""
        return UUID(bytes=self._decode(cursor, _ID)[0])

    def of_instant(self, before: tuple[datetime, UUID]) -> str:
        """Return the cursor of the page that begins before an instant, to the microsecond, and an id."""
        return self._encode(_INSTANT.pack((before[0] - _EPOCH) // _MICROSECOND, before[1].bytes))

    def read_instant(self, cursor: str) -> tuple[datetime, UUID]:
        """Return the instant and the id in a cursor. Raises FaultyValueError."""
        micros, before = self._decode(cursor, _INSTANT)
        try:
            return _EPOCH + timedelta(microseconds=micros), UUID(bytes=before)
        except OverflowError as error:
            raise _invalid() from error

    def of_number(self, before: int) -> str:
        """Return the cursor of the page that begins before a number."""
        return self._encode(_NUMBER.pack(before))

    def read_number(self, cursor: str) -> int:
        """Return the number in a cursor. Raises FaultyValueError."""
        return int(self._decode(cursor, _NUMBER)[0])

    def of_text(self, after: str) -> str:
        """Return the cursor of the page that begins after a text."""
        return self._encode(after.encode())

    def read_text(self, cursor: str) -> str:
        """Return the text in a cursor. Raises FaultyValueError."""
        try:
            after = self._checked(cursor).decode()
        except UnicodeDecodeError as error:
            raise _invalid() from error
        if not after or "\x00" in after:  # PostgreSQL's text holds none
            raise _invalid()
        return after

    def _encode(self, place: bytes) -> str:
        return base64.urlsafe_b64encode(place + self._sum(place)).rstrip(b"=").decode()

    def _decode(self, cursor: str, layout: struct.Struct) -> tuple[Any, ...]:
        place = self._checked(cursor)
        try:
            return layout.unpack(place)
        except struct.error as error:
            raise _invalid() from error

    def _checked(self, cursor: str) -> bytes:
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise _invalid() from error
        place, given = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
        if given != self._sum(place):
            raise _invalid()
        return place

    def _sum(self, place: bytes) -> bytes:
        return hashlib.blake2b(place, key=self._tenant_id, person=self._kind, digest_size=_CHECK_BYTES).digest()


def _invalid() -> FaultyValueError:
    return FaultyValueError("invalid_cursor", "use next_cursor of the page before, unchanged")
