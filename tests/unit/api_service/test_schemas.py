"""What may be asked for, and how each fault is named."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from api_service import endpoint_schemas, schemas
from api_service.schemas import InvalidRequestError
from shared.model import Channel, OnUnknown, Priority

EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}
WEBHOOK = {"channel": "webhook", "recipient": "https://example.com/hook", "message": "hello"}


def ahead(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def faults(body: Any) -> dict[str, str]:
    """The code of each fault by its pointer."""
    with pytest.raises(InvalidRequestError) as caught:
        schemas.load(body)
    return {fault.pointer: fault.fault.code for fault in caught.value.faults}


def test_a_request_with_every_field_is_understood() -> None:
    """Names of channels, priorities and options are read in any case; medium is normal."""
    due, end = ahead(hours=1), ahead(hours=2)

    request = schemas.load(
        WEBHOOK
        | {
            "channel": "WEBHOOK",
            "priority": "Medium",
            "on_unknown": "HOLD",
            "payload": {"a": [1]},
            "metadata": {"k": 1},
        }
        | {"headers": {"Authorization": "Bearer x"}, "ordering_key": "order-1", "scheduled_for": due, "expires_at": end}
    )

    assert (request.channel, request.priority, request.on_unknown) == (Channel.WEBHOOK, Priority.NORMAL, OnUnknown.HOLD)
    assert (request.payload, request.metadata) == ({"a": [1]}, {"k": 1})
    assert request.scheduled_for == datetime.fromisoformat(due)
    assert request.expires_at == datetime.fromisoformat(end)
    assert (request.ordering_key, request.headers) == ("order-1", {"Authorization": "Bearer x"})


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"channel": "sms"}, "/channel", "unknown_value"),
        ({"channel": None}, "/channel", "null"),
        ({"channel": 1}, "/channel", "unknown_value"),
        ({"recipient": ""}, "/recipient", "invalid_email"),
        ({"recipient": "a" * 65 + "@example.com"}, "/recipient", "invalid_email"),  # no mail server would take it
        ({"recipient": None}, "/recipient", "null"),
        ({"recipient": ["a@example.com"]}, "/recipient", "not_a_string"),
        ({"recipient": "ada@example.com, bob@example.com"}, "/recipient", "invalid_email"),
        ({"recipient": "Ada <ada@example.com>"}, "/recipient", "invalid_email"),
        ({"recipient": '"a\r\nRCPT TO:<e@x.com>"@example.com'}, "/recipient", "invalid_email"),
        ({"recipient": "ada@example.com\n"}, "/recipient", "invalid_email"),
        ({"recipient": "ada@[127.0.0.1]"}, "/recipient", "invalid_email"),
        ({"recipient": "ädä@example.com"}, "/recipient", "invalid_email"),
        ({"recipient": "a@b@example.com"}, "/recipient", "invalid_email"),
        ({"recipient": "a" * 300 + "@example.com"}, "/recipient", "too_long"),
        ({"message": ""}, "/message", "empty"),
        ({"message": " \n"}, "/message", "empty"),
        ({"message": 5}, "/message", "not_a_string"),
        ({"message": "ä" * (128 * 1024 + 1)}, "/message", "too_long"),
        ({"message": "\x01" * (43 * 1024)}, "/message", "too_long"),
        ({"subject": "a\r\nBcc: e@x"}, "/subject", "control_character"),
        ({"subject": "a\u2028b"}, "/subject", "control_character"),
        ({"subject": "a\x85b"}, "/subject", "control_character"),
        ({"subject": "x=?UTF-8?Q?=0A?=Bcc: e@x"}, "/subject", "encoded_word"),
        ({"subject": "=?UTF-8?Q?=0D=0A=0D=0A?="}, "/subject", "encoded_word"),
        ({"subject": "a" * 999}, "/subject", "too_long"),
        ({"payload": {}}, "/payload", "not_for_this_channel"),
        ({"headers": {"Bcc": "e@x"}}, "/headers/Bcc", "header_not_allowed"),
        ({"headers": {"X-A\r\nBcc": "e@x"}}, "/headers/X-A\r\nBcc", "invalid_header_name"),
        ({"headers": {"X-A": "b\r\nBcc: e@x"}}, "/headers/X-A", "invalid_header_value"),
        ({"headers": {"X-A": "=?x?q?=0a?="}}, "/headers/X-A", "encoded_word"),
        ({"headers": {"X-A": 1}}, "/headers/X-A", "not_a_string"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "/headers/x-a", "repeated_name"),
        ({"headers": {"X-Notification-Id": "1"}}, "/headers/X-Notification-Id", "header_not_allowed"),
        ({"headers": {f"X-{n}": "1" for n in range(33)}}, "/headers", "too_many"),
        ({"headers": ["X-A"]}, "/headers", "not_an_object"),
        ({"ordering_key": ""}, "/ordering_key", "invalid_ordering_key"),
        ({"ordering_key": "a\nb"}, "/ordering_key", "invalid_ordering_key"),
        ({"ordering_key": "a" * 201}, "/ordering_key", "invalid_ordering_key"),
        ({"scheduled_for": "tomorrow"}, "/scheduled_for", "invalid_instant"),
        ({"scheduled_for": "2030-01-31T09:00:00"}, "/scheduled_for", "invalid_instant"),
        ({"scheduled_for": "2030-02-31T09:00:00Z"}, "/scheduled_for", "invalid_instant"),
        ({"scheduled_for": 1893456000}, "/scheduled_for", "invalid_instant"),
        ({"scheduled_for": "0001-01-01T00:00:00+23:59"}, "/scheduled_for", "invalid_instant"),
        ({"scheduled_for": ahead(seconds=-6)}, "/scheduled_for", "in_the_past"),
        ({"scheduled_for": ahead(days=367)}, "/scheduled_for", "too_far_ahead"),
        ({"expires_at": ahead(seconds=-1)}, "/expires_at", "in_the_past"),
        ({"expires_at": ahead(hours=1), "expires_in": 60}, "/expires_in", "exclusive"),
        ({"expires_in": 0}, "/expires_in", "out_of_range"),
        ({"expires_in": -5}, "/expires_in", "out_of_range"),
        ({"expires_in": True}, "/expires_in", "out_of_range"),
        ({"expires_in": "60"}, "/expires_in", "out_of_range"),
        ({"expires_in": 10**12}, "/expires_in", "out_of_range"),
        ({"scheduled_for": ahead(hours=2), "expires_at": ahead(hours=1)}, "/expires_at", "before_schedule"),
        ({"scheduled_for": ahead(hours=2), "expires_in": 3600}, "/expires_in", "before_schedule"),
        ({"priority": "asap"}, "/priority", "unknown_value"),
        ({"on_unknown": "explode"}, "/on_unknown", "unknown_value"),
        ({"metadata": []}, "/metadata", "not_an_object"),
        ({"metadata": {"k": "v" * 16_400}}, "/metadata", "too_large"),
        ({"metadata": json.loads('{"a":' * 65 + "1" + "}" * 65)}, "/metadata", "nested_too_deep"),
        ({"id": "01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00"}, "/id", "unknown_field"),
        ({"tenant_id": "other"}, "/tenant_id", "unknown_field"),
        ({"status": "sent"}, "/status", "unknown_field"),
        ({"a/b~c": 1}, "/a~1b~0c", "unknown_field"),
    ],
)
def test_a_bad_email_field_is_named(change: dict[str, Any], pointer: str, code: str) -> None:
    """Each fault has the JSON pointer of its field and a code of its own."""
    assert faults(EMAIL | change) == {pointer: code}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "//example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http:example.com",
        "http:///hook",
        "https://user:secret@example.com/",
        "https://example.com@evil.example/",
        "https://example.com/#part",
        "https://example.com/a#",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://example.com:/",
        "https://example.com:80a/",
        "https://exa mple.com/",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://example.com/\x00",
        "https://127\u30020.0.1/",
        "https://ex\u00e4mple.com/",
        "https://example.com\\@evil.example/",
        "https://[::1/",
        "https://[fe80::1%25lo]/",
        "https://[zz]/",
        "https://-/",
        "https://a..b/",
        "https://" + "a" * 64 + ".com/",
        "https://example.com/" + "a" * 2048,
    ],
)
def test_a_url_that_is_no_plain_absolute_http_url_is_refused(url: str) -> None:
    """Nothing that two parsers could read in two ways is stored as a recipient."""
    assert list(faults(WEBHOOK | {"recipient": url})) == ["/recipient"]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "http://example.com:8080/a/b?c=d&e=%20#".removesuffix("#"),
        "HTTPS://EXAMPLE.COM/Hook",
        "http://127.0.0.1:9000/",
        "http://[2001:db8::1]:8080/x",
        "https://xn--exmple-cua.com/",
        "http://localhost/",
        "http://internal_service:80/",
    ],
)
def test_a_plain_url_is_stored_unchanged(url: str) -> None:
    """Where it may lead is decided when it is connected to, not here."""
    assert schemas.load(WEBHOOK | {"recipient": url}).recipient == url


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "content-length", "Transfer-Encoding", "Connection", "webhook-id", "Webhook-Signature", "TE"),
        *("Content-Type", "notification-attempt", "traceparent", "Cookie", "Proxy-Authorization", "X-Forwarded-For"),
    ],
)
def test_a_webhook_header_that_is_not_the_clients_is_refused(name: str) -> None:
    """Framing, routing and signing belong to the sender."""
    assert faults(WEBHOOK | {"headers": {name: "x"}}) == {f"/headers/{name}": "header_not_allowed"}


def test_a_subject_is_for_emails() -> None:
    """A webhook has a payload instead."""
    assert faults(WEBHOOK | {"subject": "hello"}) == {"/subject": "not_for_this_channel"}


def test_a_question_in_a_subject_is_no_encoded_word() -> None:
    """Only what a mail reader would decode is refused."""
    assert schemas.load(EMAIL | {"subject": "2+2=? Really?"}).subject == "2+2=? Really?"


def test_every_fault_is_named_at_once() -> None:
    """Nobody mends a request one field at a time."""
    body = {"channel": "email", "recipient": "x", "priority": "asap", "color": "red", "scheduled_for": "2001-01-01"}

    assert faults(body) == {
        "/recipient": "invalid_email",
        "/message": "required",
        "/priority": "unknown_value",
        "/color": "unknown_field",
        "/scheduled_for": "invalid_instant",
    }


def test_an_unknown_channel_does_not_hide_other_faults() -> None:
    """What all channels share is checked all the same."""
    assert faults({"channel": "fax", "message": ""}) == {"/channel": "unknown_value", "/message": "empty"}


@pytest.mark.parametrize("body", [None, [], "text", 5, True])
def test_a_body_that_is_no_object_is_one_fault(body: Any) -> None:
    """It has no fields that could be named."""
    assert faults(body) == {"": "not_an_object"}


def test_a_webhook_without_recipient_goes_to_the_default_url() -> None:
    """Where the service has none, the recipient is required."""
    body = {"channel": "webhook", "message": "hello"}

    assert schemas.load(body, default_webhook_url="https://example.com/x").recipient == "https://example.com/x"
    assert faults(body) == {"/recipient": "required"}


def test_an_instant_just_passed_counts_as_now() -> None:
    """A request that was on its way for a moment is not refused for it."""
    assert schemas.load(EMAIL | {"scheduled_for": ahead(seconds=-2)}).scheduled_for is not None


def test_a_schedule_with_a_lifetime_gets_an_absolute_end() -> None:
    """Both instants come from one clock, so that PostgreSQL's cannot make them contradict each other."""
    request = schemas.load(EMAIL | {"scheduled_for": ahead(hours=1), "expires_in": 7200})

    assert request.expires_at is not None
    assert request.scheduled_for is not None
    assert request.expires_at > request.scheduled_for
    assert request.expires_in_s is None


def test_an_international_domain_is_stored_in_ascii() -> None:
    """Mail servers see the xn-- form; so do we."""
    assert schemas.load(EMAIL | {"recipient": "ada@BÜCHER.de"}).recipient == "ada@xn--bcher-kva.de"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
field_names = st.sampled_from(
    [
        *("channel", "recipient", "message", "subject", "payload", "headers", "metadata", "ordering_key"),
        *("scheduled_for", "expires_at", "expires_in", "priority", "on_unknown"),
    ]
)


@given(st.one_of(json_values, st.dictionaries(field_names, st.sampled_from(["email", "webhook"]) | json_values)))
def test_whatever_comes_in_is_understood_or_refused(body: Any) -> None:
    """No JSON value makes the check itself fail."""
    try:
        request = schemas.load(body)
    except InvalidRequestError as error:
        assert error.faults
    else:
        assert request.message


@pytest.mark.parametrize(
    ("said", "count"), [(84, 84), (84.0, 84), (84.5, None), (True, None), ("84", None), (1e300, None)]
)
def test_a_count_is_what_a_json_schema_calls_an_integer(said: Any, count: int | None) -> None:
    """JSON has one kind of number: 84.0 is one, and what the document allows is not refused."""
    if count is not None:
        assert endpoint_schemas.ROTATION.load({"overlap_s": said}) == {"overlap_s": count}
        return
    with pytest.raises(ValidationError):
        endpoint_schemas.ROTATION.load({"overlap_s": said})
