"""Messages: what is on the wire is what was meant, and no header but ours."""

import email
import email.policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_consumer.errors import PermanentDeliveryError
from delivery_consumer.providers.email import EmailProvider
from delivery_consumer.providers.mime import build_message, header_value
from delivery_consumer.settings import EmailSettings, SmtpTls
from shared.model import Channel
from shared.records import Record

OURS = {"Date", "From", "To", "Message-ID", "X-Notification-Id", "Subject", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding"}  # fmt: skip
SETTINGS = EmailSettings("localhost", 25, None, None, "Shop", "shop@example.org", SmtpTls.OFF, 5.0, 1)


def built(**fields: Any) -> bytes:
    """A message; keywords replace its parts."""
    parts: dict[str, Any] = {
        "notification_id": "0190b5a4-7c1e-7000-8000-000000000000",
        "sender_name": "Shop",
        "sender": "shop@example.org",
        "recipient": "reader@example.net",
        "subject": "Hello",
        "text": "Good morning",
        "created_at": "2026-01-02T03:04:05.678901Z",
        "extra": {},
    }
    return build_message(**parts | fields)


def read(message: bytes) -> email.message.Message:
    """Parse with the tolerant old parser, which shows every line that could count as a header."""
    return email.message_from_bytes(message, policy=email.policy.compat32)


def decoded(value: str) -> str:
    """A header as a person sees it."""
    return str(email.header.make_header(email.header.decode_header(value)))


def test_a_plain_message_is_plain() -> None:
    """ASCII stays readable; identity and date are the notification's own."""
    message = read(built())

    assert message["Message-ID"] == "<0190b5a4-7c1e-7000-8000-000000000000@example.org>"
    assert message["X-Notification-Id"] == "0190b5a4-7c1e-7000-8000-000000000000"
    assert message["Date"] == "Fri, 02 Jan 2026 03:04:05 +0000"
    assert message["From"] == "Shop <shop@example.org>"
    assert message["To"] == "reader@example.net"
    assert message.get_payload() == "Good morning\r\n"
    assert set(message.keys()) == OURS


def test_the_same_notification_is_the_same_message() -> None:
    """Every attempt sends the same bytes."""
    assert built() == built()


@pytest.mark.parametrize(
    "subject",
    ["x=?UTF-8?Q?=0A?=Bcc: e@x", "=?UTF-8?Q?=0D=0A=0D=0A?=body", "=?utf-8?b?Cg==?=Bcc: e@x", "a =?b", "grün",
     "日本語" * 40, "x" * 2000, "\u200b", "emoji 🎉" * 20],
)  # fmt: skip
def test_suspicious_or_foreign_text_is_encoded(subject: str) -> None:
    """Encoded words of ours only, which decode to the very text; no header appears out of it."""
    message = built(subject=subject)

    head = message.partition(b"\r\n\r\n")[0]
    assert set(read(message).keys()) == OURS
    assert decoded(read(message)["Subject"]) == subject
    assert max(map(len, head.split(b"\r\n"))) <= 210


@pytest.mark.parametrize(
    "bad", ["\r", "\n", "\r\n", "\x00", "\x0b", "\x85", "\u2028", "\u2029", "\x7f", "\t", "\ud800"]
)
@pytest.mark.parametrize("place", ["subject", "sender_name", "recipient", "notification_id"])
def test_control_characters_in_headers_are_refused(place: str, bad: str) -> None:
    """A line break by any name."""
    with pytest.raises(ValueError, match="control"):
        built(**{place: f"a{bad}Bcc: e@x"})


def test_only_harmless_extra_headers_are_added() -> None:
    """X-, List- and threading headers; nobody adds a Bcc or another sender."""
    extra = {"X-Campaign": "7", "List-Unsubscribe": "<https://example.org/u>", "Reply-To": "help@example.org",
             "Bcc": "e@x", "Sender": "e@x", "Content-Type": "text/html", "To": "e@x", "X-Notification-Id": "forged",
             "X-Bad Name": "1", "X-A: b\r\nBcc": "e@x", "DKIM-Signature": "x"}  # fmt: skip

    message = read(built(extra=extra))

    assert set(message.keys()) == OURS | {"X-Campaign", "List-Unsubscribe", "Reply-To"}
    assert message.get_all("X-Notification-Id") == ["0190b5a4-7c1e-7000-8000-000000000000"]
    assert message.get_all("To") == ["reader@example.net"]


@pytest.mark.parametrize("name", ["Grüße GmbH", "a, b <e@x>", 'quote " me', "x" * 100, "=?utf-8?q?=0A?="])
def test_sender_names_never_add_an_address(name: str) -> None:
    """Whatever the display name, the mailbox is the configured one."""
    message = read(built(sender_name=name))

    pairs = email.utils.getaddresses([message["From"]])
    assert [address for _, address in pairs] == ["shop@example.org"]
    assert decoded(pairs[0][0]) == name


@pytest.mark.parametrize(
    ("said", "name", "address"),
    [
        ("Ann <ann@shop.example>", "Ann", "ann@shop.example"),
        ("ann@shop.example", "", "ann@shop.example"),
        ("Grüße, Ann <ann@shop.example>", "Grüße, Ann", "ann@shop.example"),
        (None, "Shop", "shop@example.org"),
    ],
)
def test_a_notification_may_be_from_its_tenant(said: str | None, name: str, address: str) -> None:
    """Its From is the tenant's, its envelope the installation's: bounces come back to who can read them."""
    provider = EmailProvider(SETTINGS)
    record = Record("0190b5a4-7c1e-7000-8000-000000000000", "t", Channel.EMAIL, "reader@example.net", "hello",
                    "2030-01-31T09:00:00.000Z", sender=said)  # fmt: skip

    message = read(provider.message(record, "reader@example.net"))

    [(shown, mailbox)] = email.utils.getaddresses([message["From"]])
    assert (decoded(shown), mailbox) == (name, address)
    assert message["Message-ID"].endswith(f"@{address.partition('@')[2]}>")


def test_a_sender_that_adds_a_header_is_refused() -> None:
    """Row 34: also one that no API of ours has checked."""
    provider = EmailProvider(SETTINGS)
    record = Record("0190b5a4-7c1e-7000-8000-000000000000", "t", Channel.EMAIL, "reader@example.net", "hello",
                    "2030-01-31T09:00:00.000Z", sender="Ann\r\nBcc: e@x <ann@shop.example>")  # fmt: skip

    with pytest.raises(PermanentDeliveryError, match="bad_header"):
        provider.message(record, "reader@example.net")


@pytest.mark.parametrize("text", ["", "one", "a\nb\r\nc\rd", "ünï", "x" * 5000, ".\n.\n", "\x00\x07", "tab\there"])
def test_bodies_arrive_as_written(text: str) -> None:
    """Short ASCII as it is, all else as base64; line ends become CRLF."""
    message = built(text=text)

    lines = message.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert b"\n" not in b"".join(lines)
    payload = read(message).get_payload(decode=True)
    assert isinstance(payload, bytes)
    expected = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    assert payload.decode().replace("\r\n", "\n").removesuffix("\n") == expected


@given(st.text(max_size=300))
def test_any_text_is_refused_or_stays_one_header(text: str) -> None:
    """Whatever comes in, what goes out folds with spaces only and is ASCII."""
    try:
        value = header_value(text)
    except ValueError:
        return

    assert value.isascii()
    assert all(line.startswith(" ") for line in value.split("\r\n")[1:])
    assert "\n" not in value.replace("\r\n ", "")
    assert "\r" not in value.replace("\r\n ", "")
    if "=?" in value:
        assert decoded(value) == text
