"""How a provider says no. `delivery.py` alone turns these into outcomes."""


class DeliveryError(Exception):
    """A provider did not accept. `reason` is a constant like `http_503`: label, header, search term; no user data.

    `answered` says whether the other side spoke at all: silence slows a destination down harder than a refusal.
    `suppress` says that nothing more is to be sent to the recipient: `gone` or `address_refused`.
    """

    def __init__(
        self, reason: str, *, retry_after_s: float | None = None, answered: bool = False, suppress: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s, self.answered, self.suppress = reason, retry_after_s, answered, suppress


class TransientDeliveryError(DeliveryError):
    """Another attempt may work: timeout, 408, 429, 5xx, SMTP 4yz."""


class PermanentDeliveryError(DeliveryError):
    """The same attempt would fail again: other 4xx, SMTP 5yz."""


class UnknownOutcomeError(DeliveryError):
    """It may have been accepted: reset or silence after the last byte of the request. Sending again may double it."""
