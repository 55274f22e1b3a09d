"""What the delivery consumer reads from the environment."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from shared.key_rings import NamedKey
from shared.model import Channel
from shared.settings import (
    Environment,
    Fault,
    KafkaSettings,
    ServiceSettings,
    read_kafka,
    read_secrets_keys,
    read_service,
)
from shared.weak_secrets import is_guessable

_SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret begins, not one
_SECRET_FORM = "one or two secrets, whsec_ and the base64 of 24 to 64 random bytes"  # noqa: S105 - words for a person
_MAILBOX = re.compile(r'"?([^"<>]*?)"?\s*<([^<>]+)>|([^<>]+)')
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")


class SmtpTls(StrEnum):
    """How the connection to the SMTP host is protected; `off` is for a sink on one machine."""

    STARTTLS = "starttls"
    TLS = "tls"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Settings of the webhook provider."""

    secrets: tuple[bytes, ...] = field(repr=False)  # WEBHOOK_SECRETS: the keys that sign; two while rotating
    timeout_s: float  # WEBHOOK_TIMEOUT_S: connecting, sending and the answer together
    allowed_networks: tuple[IPv4Network | IPv6Network, ...]  # WEBHOOK_ALLOWED_NETWORKS: exempt from the deny list
    concurrency: int  # DESTINATION_CONCURRENCY: calls under way per origin


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """Settings of the e-mail provider."""

    host: str  # SMTP_HOST
    port: int  # SMTP_PORT
    user: str | None  # SMTP_USER
    password: str | None = field(repr=False)  # SMTP_PASS
    sender_name: str  # SMTP_FROM: "Name <address>" or the address alone
    sender: str
    tls: SmtpTls  # SMTP_TLS
    timeout_s: float  # SMTP_TIMEOUT_S: one message, connecting included
    connections: int  # SMTP_CONNECTIONS: how many are kept at most
    ca_file: str | None = None  # SMTP_CA_FILE: who vouches for the host; the system's authorities by default


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the delivery consumer; each comment names the variable and its effect."""

    service: ServiceSettings
    kafka: KafkaSettings
    channels: frozenset[Channel]  # DELIVERY_CHANNELS: which topics this process serves
    concurrency: int  # DELIVERY_CONCURRENCY: attempts under way in this process
    lease_s: float  # DELIVERY_LEASE_S: how long a claim lasts unless renewed; after it others end the attempt
    webhook: WebhookSettings
    email: EmailSettings
    processes: int = 1  # DELIVERY_PROCESSES: how many deliver, each with the limits above for itself
    secrets_keys: tuple[NamedKey, ...] = field(default=(), repr=False)  # SECRETS_KEYS: open endpoints' secrets
    in_flight: int = 4_000  # records per topic read and not ended; its partitions pause beyond


def read_settings(env: Environment) -> Settings:
    """Read the consumer's settings; faults stay with `env`."""
    channels = frozenset(env.listed("DELIVERY_CHANNELS", "email,webhook", "email, webhook or both", Channel))
    if not channels:
        env.faults.append(Fault("DELIVERY_CHANNELS", env.raw("DELIVERY_CHANNELS"), "email, webhook or both"))
    return Settings(
        service=read_service(env, port_variable="DELIVERY_PORT", port=8082),
        kafka=read_kafka(env),
        channels=channels,
        concurrency=env.integer("DELIVERY_CONCURRENCY", 200, low=1, high=10_000),
        lease_s=env.seconds("DELIVERY_LEASE_S", 10, low=5, high=3600),
        webhook=_read_webhook(env, needed=Channel.WEBHOOK in channels),
        email=_read_email(env, needed=Channel.EMAIL in channels),
        processes=env.integer("DELIVERY_PROCESSES", 1, low=1, high=64),
        secrets_keys=read_secrets_keys(env),
    )


def _read_webhook(env: Environment, *, needed: bool) -> WebhookSettings:
    secrets = env.listed("WEBHOOK_SECRETS", "", _SECRET_FORM, _secret, secret=True)
    if env.raw("WEBHOOK_SECRETS") is None and needed:
        env.faults.append(Fault("WEBHOOK_SECRETS", None, _SECRET_FORM))
    elif len(secrets) > 2:
        env.faults.append(Fault("WEBHOOK_SECRETS", "(hidden)", _SECRET_FORM))
    return WebhookSettings(
        secrets=secrets,
        timeout_s=env.seconds("WEBHOOK_TIMEOUT_S", 15, low=0.1, high=120),
        allowed_networks=env.networks("WEBHOOK_ALLOWED_NETWORKS"),
        concurrency=env.integer("DESTINATION_CONCURRENCY", 50, low=1, high=1000),
    )


def _read_email(env: Environment, *, needed: bool) -> EmailSettings:
    host, name_and_address = env.optional_text("SMTP_HOST"), env.optional_text("SMTP_FROM")
    if host is None and needed:
        env.faults.append(Fault("SMTP_HOST", None, "the name of the SMTP host"))
    match = _MAILBOX.fullmatch(name_and_address or "")
    sender_name, sender = (match[1] or "", match[2] or match[3]) if match else ("", "")
    if (name_and_address is not None or needed) and not (_ADDRESS.fullmatch(sender) and sender_name.isprintable()):
        env.faults.append(Fault("SMTP_FROM", name_and_address, "an address, or Name <address>"))
    tls = env.choice("SMTP_TLS", SmtpTls.STARTTLS, SmtpTls)
    user = env.optional_text("SMTP_USER")
    if user is not None and tls is SmtpTls.OFF:
        env.refuse(
            "SMTP_TLS", tls.value, "starttls or tls, since there is an SMTP_USER: off would send its password in clear"
        )
    return EmailSettings(
        host=host or "",
        port=env.integer("SMTP_PORT", 465 if tls is SmtpTls.TLS else 587, low=1, high=65535),
        user=user,
        password=env.secret("SMTP_PASS", user=user),
        sender_name=sender_name,
        sender=sender,
        tls=tls,
        timeout_s=env.seconds("SMTP_TIMEOUT_S", 30, low=1, high=900),
        connections=env.integer("SMTP_CONNECTIONS", 20, low=1, high=200),
        ca_file=env.ca_file("SMTP_CA_FILE"),
    )


def _secret(text: str) -> bytes:
    try:
        key = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None  # the error it had could quote the secret
    if not text.startswith(_SECRET_PREFIX) or not 24 <= len(key) <= 64 or is_guessable(key):
        raise ValueError("size, or not random")
    return key
