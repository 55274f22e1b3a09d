"""Small pure parts: dead letters of undecodable records, envelope addresses, metric labels."""

from datetime import UTC, datetime

import pytest

from delivery_consumer.errors import PermanentDeliveryError
from delivery_consumer.metrics import reason_label
from delivery_consumer.poison import poison_headers
from delivery_consumer.providers.email import envelope_address
from delivery_consumer.work import Received


def test_poison_keeps_the_record_s_own_headers_and_says_where_it_stood() -> None:
    """Ours come after them."""
    received = Received("t", 3, 42, b"k", b"{", [("attempt", b"1"), ("x", None)])

    headers = poison_headers(received, "not_json", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))

    assert headers[:2] == [("attempt", b"1"), ("x", None)]
    assert dict(headers[2:]) == {
        "error-class": b"poison",
        "error-reason": b"not_json",
        "error-message": b"no record of this pipeline: not json",
        "original-topic": b"t",
        "original-partition": b"3",
        "original-offset": b"42",
        "failed-at": b"2026-01-02T03:04:05.000006Z",
    }


@pytest.mark.parametrize(
    "recipient",
    ["", "a", "a@", "@x.org", "a@x, b@x", "G: a@x, b@x;", '"a\r\nRCPT TO:<e@x>"@x.org', "b@x.org> NOTIFY=NEVER",
     "a@[127.0.0.1]", "a" * 65 + "@x.org", "a@" + "x" * 300, "a@b@x.org", "a b@x.org", "Name <a@x.org>", "<a@x.org>",
     "a@x.org\n", "\na@x.org", "a.@x.org", ".a@x.org", "a..b@x.org", "ä@x.org", "a@-x.org", "a@x..org", "a\x00@x.org",
     "a@x\u2028.org"],
)  # fmt: skip
def test_only_one_plain_address_gets_into_the_envelope(recipient: str) -> None:
    """Anything else is refused for good."""
    with pytest.raises(PermanentDeliveryError, match="bad_recipient"):
        envelope_address(recipient)


@pytest.mark.parametrize(
    ("recipient", "address"),
    [("a@x.org", "a@x.org"), ("a.b+c'd@Mail.Example.ORG", "a.b+c'd@Mail.Example.ORG"), ("a@localhost", "a@localhost"),
     ("a@bücher.example", "a@xn--bcher-kva.example")],
)  # fmt: skip
def test_plain_addresses_go_as_they_are(recipient: str, address: str) -> None:
    """The domain in ASCII."""
    assert envelope_address(recipient) == address


@pytest.mark.parametrize(
    ("reason", "label"),
    [("http_503", "http_503"), ("http_599", "http_5xx"), ("http_418", "http_4xx"), ("smtp_599", "smtp_5xx"),
     ("answer_timeout", "answer_timeout")],
)  # fmt: skip
def test_labels_are_a_closed_set(reason: str, label: str) -> None:
    """A receiver that invents codes invents no series."""
    assert reason_label(reason) == label
