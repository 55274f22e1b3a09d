"""The delivery consumer with a provider that answers at once: what consuming, claiming and writing back cost."""

from delivery_consumer import __main__, service
from delivery_consumer.destinations import Limits
from delivery_consumer.providers import Attempt, Provider, Receipt
from delivery_consumer.settings import Settings
from shared.model import Channel
from shared.records import Record


class InstantProvider:
    """Says yes."""

    name = "instant"
    timeout_s = 15.0
    limits = Limits(slots=1_000, first_slots=1_000, waiting=None)

    def destination(self, record: Record) -> str:  # noqa: ARG002 - Provider's
        """Return the one destination there is."""
        return "instant:1"

    async def send(self, record: Record, attempt: Attempt) -> Receipt:  # noqa: ARG002 - Provider's
        """Accept."""
        return Receipt("at once")

    async def aclose(self) -> None:
        """Nothing is open."""


def _build(settings: Settings) -> dict[Channel, Provider]:
    return {channel: InstantProvider() for channel in settings.channels}


def main() -> None:
    """Run the consumer until SIGTERM."""
    service.build_providers = _build  # type: ignore[attr-defined]  # the name it was imported by
    __main__.main()


if __name__ == "__main__":
    main()
