"""Signatures, against the reference library and against a fixed vector."""

import base64
import time

import pytest
import standardwebhooks

from delivery_consumer.providers.signing import signature

BODY = b'{"test": 2432232314}'
KEY = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def test_the_published_vector() -> None:
    """The example that the reference implementations share."""
    signed = signature([KEY], webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=BODY)

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_rotating_both_secrets_verify() -> None:
    """A receiver with either secret accepts."""
    now = int(time.time())
    keys = [b"n" * 24, b"o" * 64]

    signed = signature(keys, webhook_id="a", timestamp=now, body=BODY)

    headers = {"webhook-id": "a", "webhook-timestamp": str(now), "webhook-signature": signed}
    for key in keys:
        assert standardwebhooks.Webhook(key).verify(BODY, headers) == {"test": 2432232314}
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(b"x" * 24).verify(BODY, headers)


def test_an_id_with_a_dot_is_refused() -> None:
    """The dot separates what is signed."""
    with pytest.raises(ValueError, match="dot"):
        signature([KEY], webhook_id="a.b", timestamp=1, body=BODY)
