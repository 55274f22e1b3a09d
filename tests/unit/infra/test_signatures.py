"""The receiver's reading of Standard Webhooks signatures, held against the reference library."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from infra.local.webhook_receiver import check_signature, read_secrets

OLD, NEW = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"o", b"n"))
NOW = 1_800_000_000
BODY = b'{"type":"notification"}'


def signed(secret: str, body: bytes = BODY, at: int = NOW) -> dict[str, str]:
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signature}


def test_what_the_reference_library_signs_is_accepted() -> None:
    """Same bytes, same secret."""
    assert check_signature(signed(OLD), BODY, read_secrets(OLD), now=NOW) == "ok"


def test_either_secret_will_do_while_rotating() -> None:
    """On both sides: two secrets to check with, two signatures to choose from."""
    headers = signed(OLD)
    headers["webhook-signature"] = "v1,AAAA " + headers["webhook-signature"] + " v2,whatever"

    assert check_signature(headers, BODY, read_secrets(f"{NEW}, {OLD}"), now=NOW) == "ok"


@pytest.mark.parametrize(
    ("headers", "body", "verdict"),
    [
        (signed(NEW), BODY, "mismatch"),
        (signed(OLD), BODY + b" ", "mismatch"),
        ({**signed(OLD), "webhook-id": "msg_2"}, BODY, "mismatch"),
        (signed(OLD, at=NOW - 301), BODY, "stale"),
        (signed(OLD, at=NOW + 301), BODY, "stale"),
        ({}, BODY, "missing"),
        ({**signed(OLD), "webhook-timestamp": "soon"}, BODY, "missing"),
        ({**signed(OLD), "webhook-signature": "v0,xx"}, BODY, "missing"),
    ],
)
def test_anything_else_is_not(headers: dict[str, str], body: bytes, verdict: str) -> None:
    """Other secret, other body, other id, other time, or no signature at all."""
    assert check_signature(headers, body, read_secrets(OLD), now=NOW) == verdict


def test_a_secret_that_is_none_is_refused_without_being_shown() -> None:
    """An error message ends up in a log."""
    with pytest.raises(ValueError, match="secret 2 is not whsec_") as caught:
        read_secrets(f"{OLD},whsec_not*base64")

    assert "not*base64" not in str(caught.value)
