"""What the API reads from its environment."""

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import Final

from api_service.addresses import checked_url
from api_service.door_settings import DoorSettings, read_door
from api_service.faults import FaultyValueError
from api_service.identity_settings import IdentitySettings, read_identity
from api_service.limiting.policies import Texts
from api_service.limiting.settings import read_limits, read_redis_url
from shared.key_rings import NamedKey
from shared.settings import (
    Environment,
    Fault,
    ServiceSettings,
    read_secrets_keys,
    read_service,
    read_topic_prefix,
)
from shared.webhook_addresses import Network

_SERVER: Final = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """How this API runs."""

    service: ServiceSettings
    topic_prefix: str  # TOPIC_PREFIX: records are routed to topics under this prefix
    workers: int  # API_WORKERS: processes; one per core unless set
    threads: int  # API_THREADS: requests one process serves at once, each with a connection of its own
    identity: IdentitySettings
    default_webhook_url: str | None = field(repr=False)  # NOTIFICATION_WEBHOOK_URL: for webhooks without recipient
    secrets_keys: tuple[NamedKey, ...] = field(default=(), repr=False)  # SECRETS_KEYS: the first seals, all open
    allowed_networks: tuple[Network, ...] = ()  # WEBHOOK_ALLOWED_NETWORKS: an endpoint may be in these, though private
    door: DoorSettings = field(default_factory=DoorSettings)
    limits: Texts = field(default_factory=Texts)
    redis_url: str | None = field(default=None, repr=False)  # REDIS_URL: where requests are counted together
    dns_servers: tuple[tuple[str, int], ...] = ()  # DNS_SERVERS: who is asked about sender domains; else the host's


def read_settings(env: Environment) -> ApiSettings:
    """Read the settings; PORT is accepted where API_PORT is not set."""
    service = read_service(env, port_variable="API_PORT", port=env.integer("PORT", 8080, low=1, high=65535))
    return ApiSettings(
        service=service,
        topic_prefix=read_topic_prefix(env),
        workers=env.integer("API_WORKERS", len(os.sched_getaffinity(0)), low=1, high=64),
        threads=env.integer("API_THREADS", 4, low=1, high=64),
        identity=read_identity(env, bind_host=service.bind_host),
        default_webhook_url=_read_default_url(env),
        secrets_keys=read_secrets_keys(env),
        allowed_networks=env.networks("WEBHOOK_ALLOWED_NETWORKS"),
        door=read_door(env),
        limits=read_limits(env),
        redis_url=read_redis_url(env),
        dns_servers=env.listed("DNS_SERVERS", "", "addresses such as 10.0.0.2 or 10.0.0.2:53", _server),
    )


def _server(text: str) -> tuple[str, int]:
    """Return address and port of a name server. Raises ValueError."""
    found = _SERVER.fullmatch(text)
    address = (found[1] or found[2]) if found else text
    port = int(found[3] or 53) if found else 53
    if not 1 <= port <= 65_535:
        raise ValueError(text)
    return str(ipaddress.ip_address(address)), port


def _read_default_url(env: Environment) -> str | None:
    url = env.optional_text("NOTIFICATION_WEBHOOK_URL")
    if url is None:
        return None
    try:
        return checked_url(url)
    except FaultyValueError as error:
        env.faults.append(Fault("NOTIFICATION_WEBHOOK_URL", "(hidden)", f"an absolute URL: {error.fault}"))
        return None
