"""The parsers under test, and what has to hold of each whatever it is given. A finding is any other error, or a lie."""

import email.policy
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.parser import BytesParser
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import pytest
from hypothesis import strategies as st

from api_service import paging, strict_json, tracing
from api_service.addresses import checked_email, checked_url
from api_service.faults import FaultyValueError
from delivery_consumer.errors import DeliveryError, PermanentDeliveryError
from delivery_consumer.providers import Attempt
from delivery_consumer.providers.email import EmailProvider, envelope_address
from delivery_consumer.providers.http1 import BadResponseError, HeadReader, body_end
from delivery_consumer.providers.mime import build_message
from delivery_consumer.providers.webhook import MAX_RETRY_AFTER_S, WebhookProvider, retry_after_s
from delivery_consumer.settings import EmailSettings, SmtpTls, WebhookSettings
from delivery_consumer.tenants import Tenants
from delivery_consumer.work import Received, Source, job_of
from dlq_consumer.letters import Place, read_letter
from shared.key_rings import NamedKey, parse_named_key
from shared.model import Channel
from shared.records import Record, UndecodableRecordError, attempt_of, decode_headers, decode_record, encode_record
from shared.secrets import Keyring, SecretError
from shared.webhook_addresses import is_forbidden
from tests.fuzz.inputs import json_bytes, json_values, near, near_bytes, records

NOW: Final = 1_800_000_000.0


@dataclass(frozen=True)
class Target:
    """A parser, and what it is given."""

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]


class PostedError(Exception):
    """A request got as far as the connection."""


class Ending:
    """A transport where every request ends, so that what makes requests needs no event loop."""

    async def post(self, *_args: object, **_options: object) -> Any:
        """Take a request."""
        raise PostedError

    async def aclose(self) -> None:
        """Do nothing."""


_WEBHOOK: Final = WebhookProvider(WebhookSettings((bytes(range(32)),), 1.0, (), 1), transport=Ending())
_TENANTS: Final = Tenants()
_MAIL: Final = EmailProvider(EmailSettings("mail", 25, None, None, "Shop", "shop@example.org", SmtpTls.OFF, 1.0, 1))


def origin_of(url: str) -> str:
    """Where a webhook with this URL goes, as delivery reads it. Raises PermanentDeliveryError."""
    place = _WEBHOOK.place(record_to(url))
    assert place is not None, "no look-up is needed for a URL"
    return place.destination


def record_to(recipient: str, channel: Channel = Channel.WEBHOOK) -> Record:
    """A record to some recipient."""
    return Record("01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00", "t", channel, recipient, "m", "2026-01-02T03:04:05Z")


def strict_json_is_what_it_says(body: bytes) -> None:
    """What is accepted reads the same for everybody, and can be stored and written again."""
    try:
        value = strict_json.loads(body)
    except strict_json.JsonError:
        return
    pairs: list[list[tuple[str, Any]]] = []

    def members(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs.append(found)
        return dict(found)

    assert json.loads(body, object_pairs_hook=members) == value
    assert all(len(dict(found)) == len(found) for found in pairs), "a repeated name"
    assert "\0" not in orjson.dumps(value).decode().replace("\\u0000", "\0"), "NUL"
    body.decode("utf-8")


def a_record_decodes_or_is_poison(value: bytes) -> None:
    """What decodes can be encoded again, and each provider can render it or refuses it for good."""
    try:
        record = decode_record(value)
    except UndecodableRecordError:
        return
    with suppress(orjson.JSONEncodeError):  # nested deeper than what can be written
        encoded = encode_record(record)
        assert encode_record(decode_record(encoded)) == encoded
    with suppress(DeliveryError):
        _MAIL.message(record, "reader@example.org")
    with suppress(DeliveryError, PostedError):
        _WEBHOOK.send(record, Attempt(1)).send(None)


def a_kafka_message_is_a_job_or_poison(message: tuple[bytes | None, list[tuple[str, bytes | None]]]) -> None:
    """Whatever its headers hold."""
    value, headers = message
    received = Received("notifications.webhook", 0, 0, b"k", value, [*headers])
    try:
        job = job_of(received, Source("notifications.webhook", 0, high=False), frozenset(Channel), _TENANTS)
    except UndecodableRecordError:
        return
    assert 1 <= job.ticket.attempt <= 32767


def a_dead_letter_is_read(message: tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]) -> None:
    """Nothing fails there: what cannot be read is poison."""
    key, value, headers = message
    letter = read_letter(key, value, decode_headers(headers), Place("notifications.dlq", 1, 2))
    assert letter.notification_id is None or isinstance(letter.notification_id, UUID)
    assert letter.retry_after_s is None or letter.retry_after_s > 0
    assert "\0" not in letter.error_message + letter.reason


def an_attempt_is_a_small_number(text: str) -> None:
    """Or the record is poison."""
    try:
        assert 1 <= attempt_of(text) <= 32767
    except UndecodableRecordError:
        return


def retry_after_is_within_a_day(text: str) -> None:
    """Or it is nothing."""
    delay_s = retry_after_s(text, NOW)
    assert delay_s is None or 0 <= delay_s <= MAX_RETRY_AFTER_S


def an_accepted_mailbox_is_one_plain_address(text: str) -> None:
    """What the API stores is what goes into RCPT TO, unchanged, and it stores it the same a second time."""
    try:
        stored = checked_email(text)
    except FaultyValueError:
        return
    assert checked_email(stored) == stored
    assert envelope_address(stored) == stored
    assert stored.isascii()
    assert stored.isprintable()
    assert stored.count("@") == 1
    assert not set(stored) & set(' <>,;:"()[]\\')


def an_envelope_address_is_ascii_and_one(text: str) -> None:
    """Whatever a record holds."""
    try:
        address = envelope_address(text)
    except PermanentDeliveryError:
        return
    assert address.isascii()
    assert address.isprintable()
    assert not set(address) & set(' <>,;:"()[]\\')


def an_accepted_url_is_one_thing(text: str) -> None:
    """The API and delivery read the same scheme, host and port in it, or the disagreement is a way around a check."""
    try:
        url = checked_url(text)
    except FaultyValueError:
        return
    assert url == text
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    try:
        assert origin_of(url) == f"{parts.scheme}://{host}:{port}"
    except PermanentDeliveryError:
        return


def a_records_url_is_one_origin(text: str) -> None:
    """Or a permanent error: nothing else comes out of it, whatever a record holds."""
    try:
        origin = origin_of(text)
    except DeliveryError:
        return
    assert origin.startswith(("http://", "https://"))
    assert origin.isprintable()


def an_address_is_judged(asked: tuple[str, int]) -> None:
    """Text that is no address is forbidden."""
    assert is_forbidden(*asked) in (True, False)


def a_response_is_read(data: bytes) -> None:
    """In any pieces, or it is no response."""
    buffer = bytearray(data)
    try:
        head = HeadReader().take(buffer)
    except BadResponseError:
        return
    if head is not None:
        assert 101 <= head.status <= 599
        end = body_end(head, buffer)
        assert end is None or 0 <= end <= len(buffer)


def mail_has_the_headers_that_were_asked_for(fields: dict[str, str]) -> None:
    """No text becomes a header, an address or a part of the body that nobody wrote."""
    text = fields["text"]
    try:
        message = build_message(
            notification_id=fields["id"], sender_name=fields["name"], sender="shop@example.org",
            recipient="reader@example.org", subject=fields["subject"], text=text,
            created_at="2026-01-02T03:04:05Z", extra={fields["header"]: fields["value"]},
        )  # fmt: skip
    except ValueError:
        return
    parsed = BytesParser(policy=email.policy.compat32).parsebytes(message)
    wanted = ["Date", "From", "To", "Message-ID", "X-Notification-Id", "Subject"]
    after = ["MIME-Version", "Content-Type", "Content-Transfer-Encoding"]
    extra = [fields["header"]] if fields["header"] in _EXTRA else []
    assert list(parsed) == wanted + extra + after
    assert parsed["To"] == "reader@example.org"
    assert max(map(len, message.split(b"\r\n"))) <= 998
    assert message.replace(b"\r\n", b"").count(b"\n") == message.replace(b"\r\n", b"").count(b"\r") == 0
    sent = parsed.get_payload(decode=True)
    assert isinstance(sent, bytes)
    assert sent.decode().split() == text.encode("utf-8", "replace").decode().split()


_EXTRA: Final = ("X-Trace", "List-Id", "Reply-To")


def a_cursor_is_ours_or_refused(cursor: str) -> None:
    """And ours comes back as it was; one with the right sum and another content is refused like any other."""
    ways: tuple[tuple[Callable[[str], Any], Callable[[Any], str]], ...] = (
        (_LIST.read_id, _LIST.of_id),
        (_LIST.read_instant, _LIST.of_instant),
        (_LIST.read_number, _LIST.of_number),
        (_LIST.read_text, _LIST.of_text),
    )
    for read, write in ways:
        try:
            place = read(cursor)
        except FaultyValueError:
            continue
        assert read(write(place)) == place
    with pytest.raises(FaultyValueError):
        paging.Cursors("letters", "another").read_text(cursor)


_LIST: Final = paging.Cursors("letters", "default")


def ids_are_safe_to_repeat(headers: dict[str, str]) -> None:
    """In a log line, a header, a record."""
    ids = tracing.request_ids(headers)
    for one in (ids.request_id, ids.correlation_id, ids.traceparent or "x"):
        assert one.isascii()
        assert one.isprintable()
        assert 0 < len(one) <= 128


def a_ring_key_is_read_or_refused(text: str) -> None:
    """Without quoting it."""
    try:
        parse_named_key(text, low=32, high=64)
    except ValueError as error:
        assert str(error) in ("no kid", "not base64", "size, or not random")


_RING: Final = Keyring([NamedKey("k1", bytes(range(32)))])


def sealed_bytes_open_or_do_not(sealed: bytes) -> None:
    """And only what was sealed does."""
    try:
        assert _RING.open(sealed, table="t", row_id="r", tenant_id="n") == b"plain"
    except SecretError:
        return


_headers = st.lists(
    st.tuples(
        st.sampled_from(["attempt", "traceparent", "correlation-id", "error-class", "error-reason", "error-message",
                         "retry-after-s", "original-topic", "original-partition", "original-offset", "\0"]),
        st.one_of(st.none(), near_bytes(b"1", b"32767", b"transient", b"http_503", b"60", b"-1", b"nan", b"1e309",
                                        "１".encode(), b"9" * 30, b"9" * 5000)),
    ),
    max_size=8,
)  # fmt: skip
_dates = ("Wed, 21 Oct 2026 07:28:00 GMT", "Wednesday, 21-Oct-26 07:28:00 GMT", "Wed Oct 21 07:28:00 2026", "120", "0")
_urls = ("https://example.org/hook?a=1", "http://a.b:8080", "http://[2001:db8::1]:80/x", "https://xn--bcher-kva.example/",
         "http://127.0.0.1/", "http://user:pass@h/", "http://h#f", "http://h\\@g/")  # fmt: skip
_responses = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 503 x\r\nRetry-After: 9\r\nConnection: close\r\n\r\n",
)
_cursors = (
    _LIST.of_id(UUID(int=1)),
    _LIST.of_instant((datetime.fromisoformat("2026-01-02T03:04:05+00:00"), UUID(int=3))),
    _LIST.of_number(7),
    _LIST.of_text("https://example.org:443"),
)
_documents = (
    b'{"a": [1, 2.5e3, "x", null, {"b": true}]}',
    b'{"a\\u0022:": 1, "a": 2}',
    b"[1e308, -0.0]",
    b'"\\ud83d\\ude00"',
)

TARGETS: Final = (
    Target("strict JSON", st.one_of(near_bytes(*_documents), json_values.map(json_bytes)), strict_json_is_what_it_says),
    Target("records", records, a_record_decodes_or_is_poison),
    Target("jobs", st.tuples(st.one_of(st.none(), records), _headers), a_kafka_message_is_a_job_or_poison),
    Target(
        "dead letters", st.tuples(st.none() | st.binary(), st.one_of(st.none(), records), _headers),
        a_dead_letter_is_read,
    ),
    Target("attempt numbers", near("1", "32767", "32768", "１"), an_attempt_is_a_small_number),
    Target("Retry-After", near(*_dates), retry_after_is_within_a_day),
    Target(
        "e-mail addresses", near("ada@example.org", "a.b+c@bücher.example", '"q q"@x.org'),
        an_accepted_mailbox_is_one_plain_address,
    ),
    Target("envelope addresses", near("ada@example.org", "x@[127.0.0.1]"), an_envelope_address_is_ascii_and_one),
    Target("URLs", near(*_urls), an_accepted_url_is_one_thing),
    Target("URLs of records", near(*_urls), a_records_url_is_one_origin),
    Target(
        "addresses", st.tuples(near("8.8.8.8", "::ffff:10.0.0.1", "fe80::1%lo"), st.integers(-1, 70_000)),
        an_address_is_judged,
    ),
    Target("HTTP responses", near_bytes(*_responses), a_response_is_read),
    Target(
        "mail",
        st.fixed_dictionaries({
            "id": near("01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00"), "name": near("Shop", "Müller & Co"),
            "subject": near("Hi"), "text": near("hello", ".\r\n", "\n.\nMAIL FROM:<>\n", "x" * 2000),
            "value": near("1", "a@example.org"),
            "header": st.sampled_from([*_EXTRA, "Bcc", "Resent-To", "Content-Type", "x\r\nBcc"]),
        }),
        mail_has_the_headers_that_were_asked_for,
    ),
    Target(
        "cursors", st.one_of(near(*_cursors), st.binary(max_size=40).map(_LIST._encode)), a_cursor_is_ours_or_refused,
    ),
    Target(
        "ids of requests",
        st.dictionaries(
            st.sampled_from(["HTTP_X_REQUEST_ID", "HTTP_X_CORRELATION_ID", "HTTP_TRACEPARENT"]),
            near("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "abc"),
        ),
        ids_are_safe_to_repeat,
    ),
    Target("key rings", near("k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), a_ring_key_is_read_or_refused),
    Target(
        "sealed secrets", near_bytes(_RING.seal(b"plain", table="t", row_id="r", tenant_id="n")),
        sealed_bytes_open_or_do_not,
    ),
)  # fmt: skip
