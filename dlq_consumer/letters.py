"""From a Kafka message on the DLQ topic to the dead letter it is. Nothing here fails: what cannot be read is poison."""

import math
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.model import FailureClass, OnUnknown
from shared.records import HEADER_ATTEMPT, Record, UndecodableRecordError, attempt_of, decode_record

UNOWNED_TENANT: Final = "default"
"""Who sees dead letters whose bytes name no tenant."""

_MAX_TEXT: Final = 500


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands in Kafka."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it was read; `record` is None where the bytes are no record of ours."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, str]
    place: Place  # where the failed record stood; for a lease that ended, the dead letter itself
    record: Record | None
    attempt: int
    failure_class: FailureClass
    reason: str

    @property
    def notification_id(self) -> UUID | None:
        """Return the notification this is about, None where nobody can tell."""
        return UUID(self.record.id) if self.record else None

    @property
    def on_unknown(self) -> OnUnknown:
        """Return what its sender wants done after an attempt that may have arrived."""
        return self.record.on_unknown if self.record else OnUnknown.RETRY

    @property
    def retry_after_s(self) -> float | None:
        """Return how long the receiver asked to be left alone, None where it named nothing usable."""
        try:
            seconds = float(self.headers.get("retry-after-s", ""))
        except ValueError:
            return None
        return seconds if math.isfinite(seconds) and seconds > 0 else None

    @property
    def error_message(self) -> str:
        """Return one line for a person."""
        return (self.headers.get("error-message") or self.reason)[:_MAX_TEXT]


def read_letter(key: bytes | None, value: bytes | None, headers: dict[str, str], here: Place) -> Letter:
    """Return the dead letter in a message of the DLQ topic that stands `here`."""
    reason = headers.get("error-reason", "unnamed")[:_MAX_TEXT]
    record, attempt = None, 0
    try:
        record, attempt = decode_record(value), attempt_of(headers.get(HEADER_ATTEMPT, ""))
        UUID(record.id)
        failure_class = FailureClass(headers.get("error-class", ""))
    except UndecodableRecordError as error:
        failure_class, record = FailureClass.POISON, None
        reason = headers.get("error-reason", error.reason)[:_MAX_TEXT]
    except ValueError:  # an id that is no UUID, a class we do not know
        failure_class, record = FailureClass.POISON, None
    if failure_class is FailureClass.POISON:
        record = None  # set aside as bytes, known by their place
    return Letter(key, value, headers, _original_place(headers) or here, record, attempt, failure_class, reason)


def _original_place(headers: dict[str, str]) -> Place | None:
    topic = headers.get("original-topic")
    partition, offset = headers.get("original-partition", ""), headers.get("original-offset", "")
    if not (topic and partition.isdecimal() and offset.isdecimal() and len(partition) < 10 and len(offset) < 19):
        return None
    return Place(topic, int(partition), int(offset))
