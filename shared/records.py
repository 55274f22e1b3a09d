"""What Kafka carries: topics, record bodies, headers. Writers are strict, readers tolerate fields they do not know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from shared.model import Channel, OnUnknown, Priority

SCHEMA_VERSION: Final = "1"
CONTENT_TYPE: Final = "application/json"
HEADER_ATTEMPT: Final = "attempt"
HEADER_TRACEPARENT: Final = "traceparent"
HEADER_CORRELATION_ID: Final = "correlation-id"

_HIGH: Final = frozenset((Priority.HIGH, Priority.URGENT))
# A look into a dict takes a fifth of what a call of the enum takes.
_CHANNELS: Final[dict[str, Channel]] = {member.value: member for member in Channel}
_PRIORITIES: Final[dict[str, Priority]] = {member.value: member for member in Priority}
_ON_UNKNOWN: Final[dict[str, OnUnknown]] = {member.value: member for member in OnUnknown}

KafkaHeaders = Mapping[str, bytes | str | None] | Sequence[tuple[str, bytes | str | None]] | None
"""Headers as the Kafka client hands them out."""


class UndecodableRecordError(ValueError):
    """The bytes are no record of ours: a poison record, to be set aside unchanged. `reason` is a constant."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Topics:
    """Topic names under one prefix: a topic per channel and lane, so that a slow channel delays no other."""

    prefix: str = "notifications"
    _lanes: dict[Channel, tuple[str, str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the names once: they are asked for with each notification."""
        lanes = {channel: (f"{self.prefix}.{channel}", f"{self.prefix}.{channel}.high") for channel in Channel}
        object.__setattr__(self, "_lanes", lanes)

    def of(self, channel: Channel, priority: Priority, *, ordered: bool) -> str:
        """Name the topic of a notification. An ordering key keeps to the normal lane: lanes share no order."""
        return self._lanes[channel][priority in _HIGH and not ordered]

    def lanes(self, channel: Channel) -> tuple[str, str]:
        """Return the normal and the high topic of a channel."""
        return self._lanes[channel]

    @property
    def dlq(self) -> str:
        """Return the topic of dead letters."""
        return f"{self.prefix}.dlq"

    def all(self) -> list[str]:
        """Return every topic the pipeline uses."""
        return [name for channel in Channel for name in self.lanes(channel)] + [self.dlq]


@dataclass(slots=True)
class Record:
    """The content of one notification, the same bytes at every attempt; what changes per attempt is in the headers.

    Nobody changes one. It is not frozen because making a frozen one takes three times as long.
    """

    id: str
    tenant_id: str
    channel: Channel
    recipient: str
    message: str
    created_at: str  # RFC 3339, UTC
    subject: str | None = None
    payload: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    ordering_key: str | None = None
    priority: Priority = Priority.NORMAL
    on_unknown: OnUnknown = OnUnknown.RETRY
    sender: str | None = None  # who an e-mail is from, see shared.mailboxes


def encode_record(record: Record) -> bytes:
    """Return the Kafka value of a record: one JSON object, empty fields left out."""
    return encode_fields(**{name: getattr(record, name) for name in Record.__slots__})


def encode_fields(
    *,
    id: str,  # noqa: A002 - the fields of Record, by their names
    tenant_id: str,
    channel: Channel,
    recipient: str,
    message: str,
    created_at: str,
    subject: str | None,
    payload: dict[str, Any] | None,
    headers: Mapping[str, str] | None,
    metadata: Mapping[str, Any] | None,
    ordering_key: str | None,
    priority: Priority,
    on_unknown: OnUnknown,
    sender: str | None = None,
) -> bytes:
    """Return the Kafka value of the record with these fields, which nobody needs as a Record, half as dear."""
    body: dict[str, Any] = {
        "id": id,
        "tenant_id": tenant_id,
        "channel": channel,
        "recipient": recipient,
        "message": message,
        "created_at": created_at,
        "priority": priority,
        "on_unknown": on_unknown,
    }
    if subject:
        body["subject"] = subject
    if payload:
        body["payload"] = payload
    if headers:
        body["headers"] = headers
    if metadata:
        body["metadata"] = metadata
    if ordering_key:
        body["ordering_key"] = ordering_key
    if sender:
        body["sender"] = sender
    return orjson.dumps(body)


def decode_record(value: bytes | None) -> Record:
    """Return the record in a Kafka value.

    Raises UndecodableRecordError with one of the reasons no_value, not_json, not_an_object, bad_field.
    """
    if value is None:
        raise UndecodableRecordError("no_value")
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise UndecodableRecordError("not_json") from error
    if not isinstance(body, dict):
        raise UndecodableRecordError("not_an_object")
    try:
        record = Record(
            id=body["id"],
            tenant_id=body["tenant_id"],
            channel=_CHANNELS[body["channel"]],
            recipient=body["recipient"],
            message=body["message"],
            created_at=body["created_at"],
            subject=body.get("subject"),
            payload=body.get("payload"),
            headers=body.get("headers", {}),
            metadata=body.get("metadata", {}),
            ordering_key=body.get("ordering_key"),
            priority=_PRIORITIES[body.get("priority", Priority.NORMAL)],
            on_unknown=_ON_UNKNOWN[body.get("on_unknown", OnUnknown.RETRY)],
            sender=body.get("sender"),
        )
    except (KeyError, TypeError) as error:
        raise UndecodableRecordError("bad_field") from error
    if not _well_typed(record):
        raise UndecodableRecordError("bad_field")
    return record


def _well_typed(record: Record) -> bool:
    return (
        type(record.id) is str
        and len(record.id) == 36
        and type(record.tenant_id) is str
        and "\0" not in record.tenant_id  # PostgreSQL is asked by it, and would refuse the whole question
        and type(record.recipient) is str
        and type(record.message) is str
        and type(record.created_at) is str
        and (record.subject is None or type(record.subject) is str)
        and (record.ordering_key is None or type(record.ordering_key) is str)
        and (record.sender is None or type(record.sender) is str)
        and (record.payload is None or type(record.payload) is dict)
        and type(record.headers) is dict
        and all(type(value) is str for value in record.headers.values())
        and type(record.metadata) is dict
    )


def record_key(tenant_id: str, notification_id: str, ordering_key: str | None) -> bytes:
    """Return the Kafka key: the tenant's ordering key, or the id. The tenant is in it so that no two share an order."""
    return f"{tenant_id}/{ordering_key}".encode() if ordering_key else notification_id.encode()


def record_headers(
    *, attempt: int, traceparent: str | None = None, correlation_id: str | None = None
) -> dict[str, str]:
    """Return the Kafka headers of a record; shared.db.outbox builds the same ones in SQL for later attempts."""
    headers = {
        HEADER_ATTEMPT: str(attempt),
        "content-type": CONTENT_TYPE,
        "schema-version": SCHEMA_VERSION,
    }
    if traceparent:
        headers[HEADER_TRACEPARENT] = traceparent
    if correlation_id:
        headers[HEADER_CORRELATION_ID] = correlation_id
    return headers


def decode_headers(pairs: KafkaHeaders) -> dict[str, str]:
    """Return Kafka headers as text; a repeated name keeps its last value, what PostgreSQL cannot store is replaced."""
    if not pairs:
        return {}
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return {name.replace("\0", "\ufffd"): _text(value) for name, value in items}


def raw_headers(pairs: KafkaHeaders) -> dict[str, bytes | str | None]:
    """Return Kafka headers as they came, to be looked at with header_text; a repeated name keeps its last value."""
    return dict(pairs) if pairs else {}


def header_text(headers: Mapping[str, bytes | str | None], name: str) -> str:
    """Return one of the raw headers as decode_headers does; empty where there is none."""
    value = headers.get(name)
    return _text(value) if value else ""


def _text(value: bytes | str | None) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
    return text.replace("\0", "\ufffd")


def attempt_of(text: str) -> int:
    """Return the attempt that HEADER_ATTEMPT asks for, from 1. Raises UndecodableRecordError("bad_attempt")."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 32767):
        raise UndecodableRecordError("bad_attempt")
    return int(text)
