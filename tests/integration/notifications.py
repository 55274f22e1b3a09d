"""Notifications ready to be accepted."""

from datetime import UTC, datetime
from typing import Any

from shared.db.accepting import NewNotification
from shared.model import Channel, OnUnknown, Priority, bucket_of, uuid7
from shared.records import Record, Topics, encode_record, record_headers, record_key

TOPICS = Topics()


def new_notification(**fields: Any) -> NewNotification:
    """Make one; keywords replace its fields."""
    id_ = uuid7()
    ordering_key = fields.get("ordering_key")
    key = record_key("default", str(id_), ordering_key)
    record = Record(
        str(id_), "default", Channel.EMAIL, "a@example.org", "hello", "2026-01-01T00:00:00Z", ordering_key=ordering_key
    )
    values: dict[str, Any] = {
        "id": id_,
        "tenant_id": "default",
        "channel": Channel.EMAIL,
        "recipient": "a@example.org",
        "priority": Priority.NORMAL,
        "on_unknown": OnUnknown.RETRY,
        "created_at": datetime.now(UTC),
        "bucket": bucket_of(key),
        "topic": TOPICS.lanes(Channel.EMAIL)[0],
        "key": key,
        "record": encode_record(record),
        "headers": record_headers(attempt=1),
    }
    return NewNotification(**values | fields)
