"""Settings: good ones are read, bad ones are all named, secrets are not shown."""

import base64
from typing import Any

import pytest

from delivery_consumer.settings import SmtpTls, read_settings
from shared.model import Channel
from shared.settings import Environment

KEY = bytes(range(32))
GOOD = {
    "SMTP_HOST": "mail.example.org",
    "SMTP_FROM": "Shop <shop@example.org>",
    "WEBHOOK_SECRETS": "whsec_" + base64.b64encode(KEY).decode(),
}


def faults(**changes: str) -> dict[str, str]:
    """The faults of an environment, by variable."""
    env = Environment(GOOD | changes)
    read_settings(env)
    return {fault.variable: str(fault) for fault in env.faults}


def test_the_defaults_are_safe() -> None:
    """TLS on, nothing exempt from the deny list, both channels."""
    env = Environment(GOOD)
    settings = read_settings(env)

    env.check()
    assert settings.channels == set(Channel)
    assert settings.email.tls is SmtpTls.STARTTLS
    assert (settings.email.port, settings.email.sender, settings.email.sender_name) == (587, "shop@example.org", "Shop")
    assert settings.webhook.allowed_networks == ()
    assert settings.webhook.secrets == (KEY,)


def test_secrets_are_not_in_the_repr() -> None:
    """Neither key nor password."""
    text = repr(read_settings(Environment(GOOD | {"SMTP_PASS": "hunter2"})))

    assert "hunter2" not in text
    assert repr(KEY)[2:-1] not in text


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "secret", "whsec_!!!", "whsec_" + base64.b64encode(KEY[:23]).decode(),
     "whsec_" + base64.b64encode(KEY * 2 + b"x").decode(), base64.b64encode(KEY).decode(),
     "whsec_" + base64.b64encode(b"kkkkk" * 6).decode(), "whsec_" + base64.b64encode(b"my secret " + KEY).decode(),
     ",".join([GOOD["WEBHOOK_SECRETS"]] * 3)],
)  # fmt: skip
def test_weak_or_missing_secrets_are_refused_and_not_shown(secret: str) -> None:
    """24 to 64 random bytes, one or two."""
    found = faults(WEBHOOK_SECRETS=secret)

    assert set(found) == {"WEBHOOK_SECRETS"}
    assert len(secret) < 10 or secret not in found["WEBHOOK_SECRETS"]


@pytest.mark.parametrize("sender", ["", "shop", "a@b, c@d", "shop@exa mple.org", "Sh\u2028op <shop@example.org>"])
def test_a_sender_is_one_plain_address(sender: str) -> None:
    """With or without a name."""
    assert set(faults(SMTP_FROM=sender)) == {"SMTP_FROM"}


@pytest.mark.parametrize("processes", ["0", "65", "-1", "auto", "1.5"])
def test_the_number_of_processes_is_a_number(processes: str) -> None:
    """From 1 to 64: what a container's cores are is for whoever gave them to it to say."""
    assert set(faults(DELIVERY_PROCESSES=processes)) == {"DELIVERY_PROCESSES"}
    assert faults(DELIVERY_PROCESSES="64") == {}


def test_a_password_is_not_sent_to_the_mail_server_in_clear() -> None:
    """With a login there is TLS; off is for a sink that asks for none."""
    in_clear = faults(SMTP_USER="shop", SMTP_TLS="off")
    assert set(in_clear) == {"SMTP_TLS"}
    assert in_clear["SMTP_TLS"].startswith("SMTP_TLS: 'off'; expected starttls or tls")
    assert faults(SMTP_USER="shop", SMTP_PASS="9f8a7b") == {}
    assert set(faults(SMTP_USER="shop", SMTP_PASS="shop")) == {"SMTP_PASS"}


def test_a_channel_that_is_not_served_needs_no_settings() -> None:
    """E-mail alone needs no secret, webhooks alone no SMTP host."""
    only: dict[str, Any] = {"SMTP_HOST": "", "SMTP_FROM": ""}

    assert faults(DELIVERY_CHANNELS="webhook", **only) == {}
    assert faults(DELIVERY_CHANNELS="email", WEBHOOK_SECRETS="") == {}
    assert set(faults(DELIVERY_CHANNELS="pigeon")) == {"DELIVERY_CHANNELS"}
    assert set(faults(DELIVERY_CHANNELS=",")) == {"DELIVERY_CHANNELS"}
