"""Providers: what sends a record to a recipient. One per channel; `build_providers` names them all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from delivery_consumer.destinations import Limits
from delivery_consumer.settings import Settings
from shared.model import Channel
from shared.records import Record


@dataclass(frozen=True, slots=True)
class Attempt:
    """What differs between the attempts of one notification; the content never does."""

    number: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A provider's yes, in its own words."""

    text: str


class Provider(Protocol):
    """Sends one record per call. Calls may run side by side; each ends within `timeout_s` of its beginning."""

    name: str
    timeout_s: float
    limits: Limits

    def destination(self, record: Record) -> str:
        """Name whom a record would be sent to: scheme, host and port, no user data.

        Raises PermanentDeliveryError for a recipient nothing can be sent to.
        """
        ...

    async def send(self, record: Record, attempt: Attempt) -> Receipt:
        """Send; return the receipt or raise one of the three delivery errors, and nothing else."""
        ...

    async def aclose(self) -> None:
        """Close idle connections."""
        ...


def build_providers(settings: Settings) -> dict[Channel, Provider]:
    """Return the provider of each channel this process serves. Call it inside the event loop."""
    from delivery_consumer.providers.email import EmailProvider  # noqa: PLC0415 - providers import this package
    from delivery_consumer.providers.webhook import WebhookProvider  # noqa: PLC0415

    builders: dict[Channel, Callable[[], Provider]] = {
        Channel.EMAIL: lambda: EmailProvider(settings.email),
        Channel.WEBHOOK: lambda: WebhookProvider(settings.webhook),
    }
    return {channel: builders[channel]() for channel in settings.channels}
