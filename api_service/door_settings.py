"""What the API reads about proxies in front of it and pages of other sites."""

from dataclasses import dataclass

from api_service import cors
from api_service.clients import Network
from shared.settings import Environment


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Whose word counts about clients, and whose pages may read answers."""

    trusted_proxies: tuple[Network, ...] = ()  # TRUSTED_PROXIES: only from them X-Forwarded-For and -Proto are believed
    cors_origins: tuple[str, ...] = ()  # CORS_ORIGINS, or CORS_ORIGIN: whose pages may read answers
    cors_credentials: bool = False  # CORS_CREDENTIALS: also with cookies, of a proxy that signs people in


def read_door(env: Environment) -> DoorSettings:
    """Read the settings; CORS_ORIGIN is accepted where CORS_ORIGINS is not set."""
    expected = "origins such as https://app.example.com, several separated by commas, or *"
    older = env.listed("CORS_ORIGIN", "", expected, cors.checked_origin)
    origins = env.listed("CORS_ORIGINS", "", expected, cors.checked_origin) or older
    credentials = env.switch("CORS_CREDENTIALS", default=False)
    if credentials and cors.ANY in origins:
        env.refuse("CORS_CREDENTIALS", "on", "off where CORS_ORIGINS is *: any page could act for its visitor")
    return DoorSettings(_trusted_proxies(env), origins, credentials)


def _trusted_proxies(env: Environment) -> tuple[Network, ...]:
    networks = env.networks("TRUSTED_PROXIES")
    if any(network.prefixlen == 0 for network in networks):
        expected = "networks of proxies alone: any client could choose its address"
        env.refuse("TRUSTED_PROXIES", "a network of all addresses", expected)
    return networks
