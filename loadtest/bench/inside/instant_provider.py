"""The delivery consumer with a provider that answers at once: what consuming, claiming and writing back cost."""

from typing import Final

from delivery_consumer import __main__, service
from delivery_consumer.destinations import Limits
from delivery_consumer.providers import Attempt, Place, Provider, Receipt
from delivery_consumer.settings import Settings
from shared.model import Channel
from shared.records import Record

_PLACE: Final = Place("instant:1")


class InstantProvider:
    """Says yes."""

    name = "instant"
    directory = None
    timeout_s = 15.0
    limits = Limits(slots=1_000, first_slots=1_000, waiting=None)

    def place(self, record: Record, *, looked_up: bool = False) -> Place:  # noqa: ARG002 - Provider's
        """Return the one destination there is."""
        return _PLACE

    async def send(self, record: Record, attempt: Attempt) -> Receipt:  # noqa: ARG002 - Provider's
        """Accept."""
        return Receipt("at once")

    async def aclose(self) -> None:
        """Nothing is open."""


def _build(settings: Settings, *_: object, **__: object) -> dict[Channel, Provider]:
    return {channel: InstantProvider() for channel in settings.channels}


def main() -> None:
    """Run the consumer until SIGTERM."""
    service.build_providers = _build  # type: ignore[attr-defined]  # the name it was imported by
    __main__.main()


if __name__ == "__main__":
    main()
