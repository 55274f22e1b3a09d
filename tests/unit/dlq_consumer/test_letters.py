"""What a message on the DLQ topic is read as; nothing makes the reader fail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlq_consumer.letters import Place, read_letter
from shared.model import Channel, FailureClass, OnUnknown, uuid7
from shared.records import Record, decode_headers, encode_record

HERE = Place("notifications.dlq", 1, 99)
ID = uuid7()
VALUE = encode_record(
    Record(str(ID), "acme", Channel.WEBHOOK, "http://x", "hi", "2026-01-01T00:00:00Z", on_unknown=OnUnknown.HOLD)
)
HEADERS = {
    "attempt": "3",
    "error-class": "unknown",
    "error-reason": "timeout",
    "retry-after-s": "12.5",
    "original-topic": "notifications.webhook",
    "original-partition": "2",
    "original-offset": "41",
}


def test_dead_letter_names_its_notification_and_where_the_record_stood() -> None:
    """The headers say how it failed, the bytes what it was."""
    letter = read_letter(b"k", VALUE, HEADERS, HERE)

    assert (letter.notification_id, letter.attempt, letter.failure_class) == (ID, 3, FailureClass.UNKNOWN)
    assert (letter.reason, letter.retry_after_s, letter.on_unknown) == ("timeout", 12.5, OnUnknown.HOLD)
    assert letter.place == Place("notifications.webhook", 2, 41)
    assert letter.value == VALUE


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"\xff\xfe", HEADERS),
        (None, HEADERS),
        (b"[]", HEADERS),
        (VALUE.replace(str(ID).encode(), b"x" * 36), HEADERS),
        (VALUE, {**HEADERS, "attempt": "none"}),
        (VALUE, {**HEADERS, "error-class": "odd"}),
        (VALUE, {**HEADERS, "error-class": "poison"}),
        (VALUE, {}),
    ],
)
def test_what_cannot_be_read_is_poison_with_its_bytes_unchanged(value: bytes | None, headers: dict[str, str]) -> None:
    """I15: set aside by its place, never tied to a notification it may not be."""
    letter = read_letter(b"k", value, headers, HERE)

    assert letter.failure_class is FailureClass.POISON
    assert letter.notification_id is None
    assert letter.value == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "-5", "0", "soon"])
def test_unusable_retry_after_is_no_retry_after(text: str) -> None:
    """A bad value neither fails the letter nor parks it."""
    assert read_letter(b"", VALUE, {**HEADERS, "retry-after-s": text}, HERE).retry_after_s is None


@given(
    value=st.none() | st.binary(max_size=200),
    headers=st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=40)), max_size=8),
)
def test_no_bytes_make_the_reader_fail(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    """Anything may stand on a topic; it is read as something PostgreSQL can store."""
    letter = read_letter(None, value, decode_headers(headers), HERE)

    assert letter.place
    assert "\0" not in letter.reason + letter.error_message
