"""The delivery consumer with a stock httpx.AsyncClient under its webhooks; all else is the consumer's own.

BENCH_STOCK_CONNECTIONS is the client's connection limit; 0 leaves httpx's defaults (100, of which 20 are kept).
"""

import os
from collections.abc import Sequence

import httpx
from httpx._config import DEFAULT_LIMITS

from delivery_consumer import __main__, service
from delivery_consumer.providers import Provider
from delivery_consumer.providers.connecting import NoAnswerError, NotSentError
from delivery_consumer.providers.transport import Answer, Target
from delivery_consumer.providers.webhook import WebhookProvider
from delivery_consumer.settings import Settings
from shared.model import Channel


class StockTransport:
    """Hands each request to one AsyncClient."""

    def __init__(self, *, timeout_s: float, connections: int) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        # No proxies of the environment: looking for one would only slow it down.
        self._client = httpx.AsyncClient(
            timeout=timeout_s, trust_env=False, limits=limits if connections else DEFAULT_LIMITS
        )

    async def post(
        self,
        target: Target,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        tenant_id: str = "",  # noqa: ARG002 - Transport's
        timeout_s: float | None = None,  # noqa: ARG002 - Transport's
    ) -> Answer:
        """Send one request."""
        scheme, host, port = target.origin
        url = httpx.URL(scheme=scheme, host=host, port=port, raw_path=target.path)
        try:
            response = await self._client.post(url, headers=list(headers), content=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotSentError("connect_failed") from error
        except httpx.HTTPError as error:
            raise NoAnswerError("no_answer") from error
        return Answer(response.status_code, response.headers.raw, response.content)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()


def _build(settings: Settings, *_: object, **__: object) -> dict[Channel, Provider]:
    connections = int(os.environ.get("BENCH_STOCK_CONNECTIONS", "0"))
    transport = StockTransport(timeout_s=settings.webhook.timeout_s, connections=connections)
    return {Channel.WEBHOOK: WebhookProvider(settings.webhook, transport=transport)}


def main() -> None:
    """Run the consumer until SIGTERM."""
    service.build_providers = _build  # type: ignore[attr-defined]  # the name it was imported by
    __main__.main()


if __name__ == "__main__":
    main()
