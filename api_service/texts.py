"""What a message, a subject, an ordering key and a header may be."""

import re
from typing import Final

import orjson

from api_service.faults import Fault, FaultyValueError
from shared.webhooks import is_header_of_ours

MAX_MESSAGE_BYTES: Final = 256 * 1024
MAX_SUBJECT_CHARS: Final = 998  # RFC 5322 §2.1.1
MAX_ORDERING_KEY_CHARS: Final = 200

_LINE_BREAKING: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# An encoded word decodes into whatever its sender wants, line breaks included (CVE-2024-6923), so that a subject with
# one could add headers of its own. Plain Unicode says the same without it.
_ENCODED_WORD: Final = re.compile(r"=\?[^?]*\?[^?]*\?")


def checked_message(text: str) -> str:
    """Return a message that may be sent. Raises FaultyValueError."""
    if not text or text.isspace():
        raise FaultyValueError("empty", "a message is not empty")
    # As JSON, for so it travels: a control character takes six bytes there, and Kafka takes a megabyte in all.
    if len(text) > MAX_MESSAGE_BYTES // 6 and len(orjson.dumps(text)) > MAX_MESSAGE_BYTES + 2:
        raise FaultyValueError("too_long", f"a message has at most {MAX_MESSAGE_BYTES} bytes as JSON in UTF-8")
    return text


def checked_subject(text: str) -> str:
    """Return a subject that is one plain line. Raises FaultyValueError."""
    if len(text) > MAX_SUBJECT_CHARS:
        raise FaultyValueError("too_long", f"a subject has at most {MAX_SUBJECT_CHARS} characters")
    if text.isprintable() and "=?" not in text:
        return text
    if _LINE_BREAKING.search(text):
        raise FaultyValueError("control_character", "a subject is one line without control characters")
    if _ENCODED_WORD.search(text):
        raise FaultyValueError("encoded_word", "a subject is plain text; encoded words (=?...?=) are refused")
    return text


def checked_ordering_key(text: str) -> str:
    """Return an ordering key that may be one. Raises FaultyValueError."""
    if not 1 <= len(text) <= MAX_ORDERING_KEY_CHARS or not text.isprintable():
        raise FaultyValueError("invalid_ordering_key", f"1 to {MAX_ORDERING_KEY_CHARS} printable characters")
    return text


def webhook_header_fault(name: str, _value: str) -> Fault | None:
    """Say why a webhook does not take a header, None where it does; `name` is in lower case."""
    if is_header_of_ours(name):
        return Fault("header_not_allowed", "this header is set by the sender or by the connection")
    return None


def email_header_fault(name: str, value: str) -> Fault | None:
    """Say why an e-mail does not take a header, None where it does; `name` is in lower case."""
    if not name.startswith("x-") or name == "x-notification-id":
        return Fault("header_not_allowed", "an e-mail takes custom headers that begin with X-")
    if _ENCODED_WORD.search(value):
        return Fault("encoded_word", "a header is plain text; encoded words (=?...?=) are refused")
    return None
