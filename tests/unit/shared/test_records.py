"""Records, topics and headers."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model import Channel, OnUnknown, Priority, bucket_of
from shared.records import (
    Record,
    Topics,
    UndecodableRecordError,
    attempt_of,
    decode_headers,
    decode_record,
    encode_record,
    record_key,
)

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.dictionaries(TEXT, TEXT | st.integers(-(2**53), 2**53) | st.booleans(), max_size=4)


@given(
    record=st.builds(
        Record,
        id=st.uuids().map(str),
        tenant_id=TEXT.filter(lambda text: "\0" not in text),
        channel=st.sampled_from(Channel),
        recipient=TEXT,
        message=TEXT,
        created_at=TEXT,
        subject=st.none() | st.text(min_size=1, max_size=5, alphabet="ab"),
        payload=st.none() | JSON.filter(bool),
        headers=st.dictionaries(TEXT, TEXT, max_size=3),
        metadata=JSON,
        ordering_key=st.none() | st.text(min_size=1, max_size=5, alphabet="ab"),
        priority=st.sampled_from(Priority),
        on_unknown=st.sampled_from(OnUnknown),
    )
)
def test_record_survives_its_journey(record: Record) -> None:
    """What is encoded is decoded the same."""
    assert decode_record(encode_record(record)) == record


@given(value=st.none() | st.binary(max_size=300))
def test_bytes_are_a_record_or_refused_with_a_reason(value: bytes | None) -> None:
    """Nothing else comes out of decoding, whatever goes in."""
    try:
        decode_record(value)
    except UndecodableRecordError as error:
        assert error.reason in ("no_value", "not_json", "not_an_object", "bad_field")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 7),
        ("tenant_id", None),
        ("tenant_id", "a\0b"),
        ("recipient", None),
        ("message", []),
        ("channel", "pigeon"),
        ("headers", []),
        ("headers", {"X-A": 5}),
        ("payload", "x"),
        ("id", "x"),
    ],
)
def test_field_of_the_wrong_kind_is_refused(field: str, value: object) -> None:
    """A record must be what its consumers rely on."""
    body = orjson.loads(encode_record(Record("0" * 36, "t", Channel.EMAIL, "r", "m", "2026")))
    with pytest.raises(UndecodableRecordError, match="bad_field"):
        decode_record(orjson.dumps(body | {field: value}))


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", "40000", "one", "٣", "9" * 5000])
def test_attempt_header_that_is_no_number_from_1_is_refused(text: str) -> None:
    """A record without a usable attempt cannot be claimed."""
    with pytest.raises(UndecodableRecordError, match="bad_attempt"):
        attempt_of(text)


def test_high_priority_takes_the_high_lane_unless_ordered() -> None:
    """An ordering key keeps to one lane, since two lanes have no common order."""
    topics = Topics("n")

    assert topics.of(Channel.EMAIL, Priority.URGENT, ordered=False) == "n.email.high"
    assert topics.of(Channel.EMAIL, Priority.URGENT, ordered=True) == "n.email"
    assert topics.of(Channel.EMAIL, Priority.LOW, ordered=False) == "n.email"


def test_two_tenants_never_share_an_ordering_key() -> None:
    """The tenant is part of the Kafka key, so one tenant's slow key holds up no other's."""
    assert record_key("a", "id", "k") != record_key("b", "id", "k")
    assert record_key("a", "id", None) == b"id"


def test_bucket_of_a_key_never_changes() -> None:
    """Stored rows and running relays of two releases must agree: these values are fixed for ever."""
    assert [bucket_of(key) for key in (b"", b"a", b"default/k")] == [0, 3, 12]


@pytest.mark.parametrize("headers", [{"a": b"\xff\x00"}, [("a", b"x"), ("a", b"\xff\x00")]])
def test_headers_become_text_postgres_can_store(headers: object) -> None:
    """Bytes that are no UTF-8, and NUL, are replaced; the last of a repeated name counts."""
    assert decode_headers(headers) == {"a": "\ufffd\ufffd"}  # type: ignore[arg-type]
