"""Providers: what sends a record to a recipient. One per channel; `build_providers` names them all."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from delivery_consumer.destinations import Limits
from delivery_consumer.rates import Rate
from delivery_consumer.settings import Settings
from shared.db.receivers import Found
from shared.model import Channel
from shared.records import Record
from shared.secrets import Keyring

FindReceivers = Callable[[Sequence[tuple[str, UUID]], Sequence[str]], Awaitable[Found]]
"""Finds endpoints by tenant and id, and the secrets of tenants."""

FRESH_S: Final = 4.0
"""What was looked up longer ago is looked up again before a job is lined up or claimed,"""
USABLE_S: Final = 5.0
"""and before it is sent: a claimed one may have had to wait for a slot, or for PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What differs between the attempts of one notification; the content never does."""

    number: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A provider's yes, in its own words."""

    text: str


class Place(NamedTuple):
    """Whom something would be sent to, and how fast."""

    destination: str  # scheme, host and port, no user data
    rate: Rate | None = None


class Directory(Protocol):
    """What has to be asked of PostgreSQL before anything is sent, believed for a few seconds."""

    def is_known(self, record: Record, *, within_s: float) -> bool:
        """Say whether what sending a record needs was looked up so lately."""
        ...

    async def look_up(self, records: Sequence[Record]) -> None:
        """Look up what sending these needs, in one question; an outage is waited out."""
        ...

    def check(self, record: Record) -> bool:
        """Say whether what sending a record needs is still known, however old; False: it has to be looked up again.

        Raises the delivery error that sending it would end with by what is known, if there is one.
        """
        ...


class Provider(Protocol):
    """Sends one record per call. Calls may run side by side; each ends within `timeout_s`, or an endpoint's own."""

    name: str
    timeout_s: float
    limits: Limits

    @property
    def directory(self) -> Directory | None:
        """What is asked before it can send; None where a record says everything."""
        ...

    def place(self, record: Record, *, looked_up: bool = False) -> Place | None:
        """Say whom a record would be sent to; None if its directory has to be asked first, and was not just now.

        Raises PermanentDeliveryError for a recipient nothing can be sent to.
        """
        ...

    async def send(self, record: Record, attempt: Attempt) -> Receipt:
        """Send; return the receipt or raise one of the three delivery errors, and nothing else."""
        ...

    async def aclose(self) -> None:
        """Close idle connections."""
        ...


def build_providers(settings: Settings, find: FindReceivers, processes: Callable[[], int]) -> dict[Channel, Provider]:
    """Return the provider of each channel this process serves. Call it inside the event loop.

    `processes` says how many like this one are at work, which share what an endpoint takes.
    """
    from delivery_consumer.providers.email import EmailProvider  # noqa: PLC0415
    from delivery_consumer.providers.endpoints import Endpoints  # noqa: PLC0415 - providers import this package
    from delivery_consumer.providers.webhook import WebhookProvider  # noqa: PLC0415

    endpoints = Endpoints(
        find, Keyring(settings.secrets_keys), default_keys=settings.webhook.secrets, processes=processes
    )
    builders: dict[Channel, Callable[[], Provider]] = {
        Channel.EMAIL: lambda: EmailProvider(settings.email),
        Channel.WEBHOOK: lambda: WebhookProvider(settings.webhook, directory=endpoints),
    }
    return {channel: builders[channel]() for channel in settings.channels}
