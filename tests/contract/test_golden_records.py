"""Golden records: what an earlier release wrote must be read by this one, and this one's must be readable there."""

import json
from pathlib import Path

import pytest

from shared.model import Channel, OnUnknown, Priority
from shared.records import Record, decode_record, encode_record, record_headers

GOLDEN = Path(__file__).parent / "golden"

FULL = Record(
    id="01900000-0000-7000-8000-000000000001",
    tenant_id="default",
    channel=Channel.WEBHOOK,
    recipient="https://example.org/hook",
    message="hello",
    created_at="2026-01-01T00:00:00.000Z",
    payload={"order": 7},
    headers={"X-Shop": "one"},
    metadata={"source": "test"},
    ordering_key="order-7",
    priority=Priority.HIGH,
    on_unknown=OnUnknown.HOLD,
)
LEAST = Record(
    id="01900000-0000-7000-8000-000000000002",
    tenant_id="default",
    channel=Channel.EMAIL,
    recipient="a@example.org",
    message="hello",
    created_at="2026-01-01T00:00:00.000Z",
)


@pytest.mark.parametrize(("name", "record"), [("v1_full.json", FULL), ("v1_least.json", LEAST)])
def test_record_is_written_and_read_as_the_golden_one(name: str, record: Record) -> None:
    """Field names and values of schema version 1 are fixed."""
    golden = (GOLDEN / name).read_bytes()

    assert decode_record(golden) == record
    assert json.loads(encode_record(record)) == json.loads(golden)


def test_field_of_a_later_release_is_ignored() -> None:
    """Readers tolerate what they do not know: a release can be rolled back while newer records are on the way."""
    golden = json.loads((GOLDEN / "v1_least.json").read_bytes())

    assert decode_record(json.dumps({**golden, "colour": "blue", "v2": {"a": 1}}).encode()) == LEAST


def test_headers_of_a_record_are_the_golden_ones() -> None:
    """What the relay, the consumer and receivers of dead letters rely on."""
    assert record_headers(attempt=2, traceparent="00-a-b-01", correlation_id="c") == {
        "attempt": "2",
        "content-type": "application/json",
        "schema-version": "1",
        "traceparent": "00-a-b-01",
        "correlation-id": "c",
    }
