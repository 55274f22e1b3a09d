"""Mail that would carry what nobody wrote, at the door and on the wire; rows of the list of hostile inputs by number.

Every mail is tried twice: as a request, and as a record that came in by another way. What the door refuses must not get
through behind it either; what is on the wire is read as a mail server reads it, line by line.
"""

import email
import email.header
import re
from collections import Counter
from typing import Any

import pytest

from api_service import schemas
from api_service.addresses import checked_email
from api_service.look_alikes import warning_of
from delivery_consumer.errors import PermanentDeliveryError
from tests.integration.delivery_consumer.parts import SmtpScript
from tests.integration.delivery_consumer.test_email_provider import SETTINGS, a_mail, send

OURS = Counter(
    ("Date", "From", "To", "Message-ID", "X-Notification-Id", "Subject", "MIME-Version", "Content-Type",
     "Content-Transfer-Encoding")
)  # fmt: skip
BREAKS = ["\r", "\n", "\r\n", "\x0b", "\x0c", "\x00", "\x1c", "\x85", "\u2028", "\u2029"]
SMUGGLED = ["x=?UTF-8?Q?=0A?=Bcc: e@x.example", "=?UTF-8?Q?=0D=0A=0D=0A?=other text", "=?utf-8?b?DQpCY2M6IGVAeA==?=",
            "=?us-ascii*en?q?=0ABcc:_e?=", "a =?ISO-8859-1?q?=0A?= b"]  # fmt: skip


def refused(**fields: Any) -> bool:
    """Say whether the door refuses a mail."""
    body = {"channel": "email", "recipient": "reader@example.org", "message": "Hi", "subject": "Hi"} | fields
    try:
        schemas.load(body)
    except schemas.InvalidRequestError:
        return True
    return False


def names_on_the_wire(script: SmtpScript) -> Counter[str]:
    """The names of all headers of the one message that came, as a server sees them."""
    (message,) = script.messages
    head = message.partition(b"\r\n\r\n")[0].decode("ascii")
    lines = re.split(r"\r\n|\r|\n", head)
    return Counter(line.partition(":")[0] for line in lines if not line.startswith((" ", "\t")))


def recipients_on_the_wire(script: SmtpScript) -> list[bytes]:
    """What followed RCPT TO, in any session."""
    return [line[8:] for line in script.commands if line.upper().startswith(b"RCPT TO:")]


def as_read(value: str) -> str:
    """A header as a person reads it: encoded words decoded."""
    return str(email.header.make_header(email.header.decode_header(value)))


@pytest.mark.parametrize("bad", BREAKS, ids=ascii)
async def test_row_34_line_breaks_by_any_name(bad: str) -> None:
    """In subject, names and reply-to: refused; behind the door no message leaves."""
    text = f"a{bad}Bcc: e@x.example"
    assert refused(subject=text)
    assert refused(headers={"X-Name": text})
    assert refused(headers={"Reply-To": text})
    assert refused(reply_to=text, sender_name=text)

    script = SmtpScript()
    mails = [a_mail(subject=text), a_mail(headers={"X-Name": text}), a_mail(headers={"Reply-To": text})]
    results = await send(script, *mails)

    assert [(type(error), str(error)) for error in results] == [(PermanentDeliveryError, "bad_header")] * 3
    assert (script.messages, recipients_on_the_wire(script)) == ([], [])


@pytest.mark.parametrize("text", SMUGGLED)
async def test_row_35_encoded_words_that_decode_into_line_breaks(text: str) -> None:
    """Refused; behind the door they are text like any other, and the wire has exactly the expected headers."""
    assert refused(subject=text)
    assert refused(headers={"X-Name": text})

    script = SmtpScript()
    named = SETTINGS.__class__(**{name: getattr(SETTINGS, name) for name in SETTINGS.__slots__} | {"sender_name": text})
    results = await send(script, a_mail(subject=text, headers={"X-Name": text}), settings=named)

    assert results == ["250 kept"]
    assert names_on_the_wire(script) == OURS + Counter(["X-Name"])
    read = email.message_from_bytes(script.messages[0])
    assert [as_read(read[name]) for name in ("Subject", "X-Name")] == [text, text]
    assert recipients_on_the_wire(script) == [b"<reader@example.org>"]


@pytest.mark.parametrize(
    "name",
    ["X-A\r\nBcc", "X-A\nBcc", "X-A:", "X A", "Bcc", "bcc", "Cc", "To", "Resent-To", "Resent-Bcc", "Sender", "From",
     "Content-Type", "Content-Transfer-Encoding", "MIME-Version", "DKIM-Signature", "Message-ID", "Return-Path",
     "Received", "X-Notification-Id", "x-notification-id", ""],
)  # fmt: skip
async def test_row_36_header_names_that_are_not_the_client_s(name: str) -> None:
    """Refused; behind the door they are left out, and nobody else gets the mail."""
    assert refused(headers={name: "e@x.example"})

    script = SmtpScript()
    results = await send(script, a_mail(headers={name: "e@x.example"}))

    assert results == ["250 kept"]
    assert names_on_the_wire(script) == OURS
    assert b"e@x.example" not in script.messages[0]
    assert recipients_on_the_wire(script) == [b"<reader@example.org>"]


@pytest.mark.parametrize(
    "recipient",
    ["a@x.example, b@x.example", "G: a@x.example, b@x.example;", '"a\r\nRCPT TO:<e@x.example>"@x.example',
     "b@x.example> NOTIFY=NEVER", "<b@x.example>", "B <b@x.example>", "a@[127.0.0.1]", "a@" + "x" * 300 + ".example",
     "a" * 65 + "@x.example", "a@b@x.example", "a@x.example\r\nDATA", "a b@x.example", "a@x.example\x00", "@x.example",
     "a@x.example;b@x.example", "a@x..example", '"a b"@x.example', "a(c)@x.example"],
)  # fmt: skip
async def test_row_37_recipients_that_are_more_than_one_address(recipient: str) -> None:
    """Refused; behind the door no server is spoken to."""
    assert refused(recipient=recipient)

    script = SmtpScript()
    (error,) = await send(script, a_mail(recipient=recipient))

    assert isinstance(error, PermanentDeliveryError)
    assert (script.connections, script.messages) == (0, [])


async def test_row_37_the_one_recipient_on_the_wire_is_the_stored_one() -> None:
    """One RCPT, character for character what was checked."""
    stored = checked_email("o'Brien+tag@Bücher.Example")
    script = SmtpScript()

    await send(script, a_mail(recipient=stored))

    assert recipients_on_the_wire(script) == [f"<{stored}>".encode()]
    assert stored == "o'Brien+tag@xn--bcher-kva.example"


@pytest.mark.parametrize("end", ["\n.\n", "\r.\r", "\r\n.\r\n", "\n.\r\n", "\r\n.\n", "\r\n.\r", ".", ".."], ids=ascii)
async def test_row_38_bodies_that_end_the_message_themselves(end: str) -> None:
    """One message to one recipient, its dots stuffed, its lines ended by CRLF alone."""
    smuggled = "MAIL FROM:<e@x.example>\r\nRCPT TO:<e@x.example>\r\nDATA\r\nFrom: e@x.example\r\n\r\nboo"
    script = SmtpScript()

    results = await send(script, a_mail(f"Hello{end}{smuggled}{end}"))

    assert results == ["250 kept"]
    assert recipients_on_the_wire(script) == [b"<reader@example.org>"]
    (message,) = script.messages
    lines = message.removesuffix(b"\r\n.\r\n").split(b"\r\n")
    assert not any(b"\n" in line or b"\r" in line or line == b"." for line in lines)
    assert all(line.startswith(b"..") for line in lines if line.startswith(b"."))


@pytest.mark.parametrize(
    ("written", "warning"),
    [("a@аррӏе.com", "look_alike"), ("a@сор.com", "look_alike"), ("a@аpple.com", "mixed_script"),
     ("a@mail.раypal.com", "mixed_script"), ("a@bücher.example", None), ("a@日本語テスト.jp", None),
     ("a@παράδειγμα.gr", None), ("a@apple.com", None)],
)  # fmt: skip
async def test_row_41_domains_that_look_like_others(written: str, warning: str | None) -> None:
    """Stored, and sent to, in ASCII; flagged where scripts are mixed or every letter has a twin."""
    stored = checked_email(written)
    script = SmtpScript()

    await send(script, a_mail(recipient=stored))

    assert stored.isascii()
    assert warning_of(stored) == warning
    assert recipients_on_the_wire(script) == [f"<{stored}>".encode()]
