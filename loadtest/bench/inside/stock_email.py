"""The delivery consumer with mail as a tutorial sends it: an EmailMessage, and a connection for each."""

from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

import aiosmtplib

from delivery_consumer import __main__, service
from delivery_consumer.errors import TransientDeliveryError
from delivery_consumer.providers import Attempt, Provider, Receipt
from delivery_consumer.providers.email import EmailProvider
from delivery_consumer.settings import EmailSettings, Settings
from shared.model import Channel
from shared.records import Record


class StockEmail(EmailProvider):
    """Limits and destination are the provider's own; building and sending are not."""

    def __init__(self, settings: EmailSettings) -> None:
        super().__init__(settings)
        self._mail = settings

    async def send(self, record: Record, attempt: Attempt) -> Receipt:  # noqa: ARG002 - Provider's
        """Send one message over a connection of its own."""
        message = EmailMessage()
        message["Date"] = format_datetime(datetime.fromisoformat(record.created_at))
        message["From"] = self._mail.sender
        message["To"] = record.recipient
        message["Subject"] = record.subject or ""
        message["Message-ID"] = f"<{record.id}@{self._mail.sender.rpartition('@')[2]}>"
        message["X-Notification-Id"] = record.id
        message.set_content(record.message)
        try:
            _, words = await aiosmtplib.send(
                message, hostname=self._mail.host, port=self._mail.port, start_tls=False, timeout=self._mail.timeout_s
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            raise TransientDeliveryError("smtp_failed") from error
        return Receipt(words)


def _build(settings: Settings, *_: object, **__: object) -> dict[Channel, Provider]:
    return {Channel.EMAIL: StockEmail(settings.email)}


def main() -> None:
    """Run the consumer until SIGTERM."""
    service.build_providers = _build  # type: ignore[attr-defined]  # the name it was imported by
    __main__.main()


if __name__ == "__main__":
    main()
