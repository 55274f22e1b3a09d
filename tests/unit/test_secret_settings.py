"""Row 56, the part of settings: what is secret is in no repr, of any service's settings or what is made from them."""

import base64
import hashlib
import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from delivery_consumer.providers.email import EmailProvider
from delivery_consumer.providers.webhook import WebhookProvider
from shared.secrets import Keyring
from shared.settings import Environment
from tests.dockerfiles import EXTRAS, REPOSITORY


def key(name: str) -> bytes:
    """Bytes that nobody else has."""
    return hashlib.sha256(name.encode()).digest()


def word(name: str) -> str:
    """The same as text."""
    return key(name).hex()


def encoded(name: str) -> str:
    """The same as keys are written."""
    return base64.b64encode(key(name)).decode()


VALUES = {
    "DATABASE_URL": f"postgresql://notify:{word('DATABASE_URL')}@db/notifications",
    "DB_PASS": word("DB_PASS"),
    "KAFKA_SASL_PASS": word("KAFKA_SASL_PASS"),
    "KAFKA_KEY_PASS": word("KAFKA_KEY_PASS"),
    "REDIS_URL": f"rediss://:{word('REDIS_URL')}@cache:6379/0",
    "SECRETS_KEYS": f"k1:{encoded('SECRETS_KEYS')}",
    "SMTP_PASS": word("SMTP_PASS"),
    "WEBHOOK_SECRETS": f"whsec_{encoded('WEBHOOK_SECRETS')}",
    "JWT_KEYS": f"k1:{encoded('JWT_KEYS')}",
    "JWT_SECRET": word("JWT_SECRET"),
    "METRICS_TOKEN": word("METRICS_TOKEN"),
    "NOTIFICATION_WEBHOOK_URL": f"https://example.org/{word('NOTIFICATION_WEBHOOK_URL')}",
}
NEEDED = {"SMTP_HOST": "mail", "SMTP_FROM": "shop@example.org", "SMTP_USER": "shop"}


def spellings(name: str) -> set[str]:
    """How a secret may be written."""
    return {word(name), encoded(name), repr(key(name))[2:-1]}


def test_every_variable_that_is_a_secret_is_tried_here() -> None:
    """A new one has to be added above; what docker-compose.yml alone reads reaches no service of ours."""
    example = (REPOSITORY / ".env.example").read_text()
    marked = set(re.findall(r"(?m)^# \[(?!compose)[a-z, ]+; secret\].*\n(?:# .*\n)*#(\w+)=", example))

    assert marked <= VALUES.keys()


def shown(settings: Any) -> Iterator[str]:
    """Every way in which settings, and their parts, might be printed."""
    yield repr(settings)
    yield str(settings)
    yield f"{settings}"
    for name in getattr(settings, "__slots__", ()):
        part = getattr(settings, name)
        if hasattr(part, "__dataclass_fields__"):
            yield from shown(part)


@pytest.mark.parametrize("service", EXTRAS)
def test_row_56_no_setting_that_is_secret_is_shown(service: str) -> None:
    """By repr, str or format of the whole or of a part."""
    env = Environment(VALUES | NEEDED)
    settings = importlib.import_module(f"{service}.settings").read_settings(env)
    env.check()

    text = " ".join(shown(settings))

    assert {name for name in VALUES for spelling in spellings(name) if spelling in text} == set()


def test_row_56_nothing_made_from_settings_shows_them() -> None:
    """Providers and the ring, whose repr may stand in an error's words."""
    env = Environment(VALUES | NEEDED)
    settings = importlib.import_module("delivery_consumer.settings").read_settings(env)

    text = repr([WebhookProvider(settings.webhook), EmailProvider(settings.email), Keyring(settings.secrets_keys)])

    assert {name for name in VALUES for spelling in spellings(name) if spelling in text} == set()


def test_row_56_a_fault_shows_no_secret() -> None:
    """Where each is wrong in some way: too short, too long, of no form."""
    for bad in ("\x7f{}", "{}{}", "{}:", "http://{}"):
        values = {name: bad.replace("{}", word(name)) for name in VALUES}
        for service in EXTRAS:
            env = Environment(values | NEEDED)
            importlib.import_module(f"{service}.settings").read_settings(env)
            assert {name for name in VALUES if word(name) in str(env.faults)} == set()
