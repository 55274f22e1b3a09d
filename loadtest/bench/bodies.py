"""What is sent: notifications of about 600 bytes as JSON, drawn by a seed."""

import random
from typing import Any, Final

import orjson

ITEM_BYTES: Final = 600
_WORDS: Final = (
    "your order has been shipped and will arrive on Thursday between nine and twelve; track it with the link below, "
    "keep the invoice for your records, and thank you for the trust you place in our small shop"
)


def items(
    seed: int, count: int, *, channels: tuple[str, ...], url: str | None = None, size: int = ITEM_BYTES
) -> list[dict[str, Any]]:
    """Return notifications, the channels in turn; webhooks go to `url`, or each to one of a thousand hosts."""
    rng = random.Random(seed)  # noqa: S311 - bodies, no secret
    return [_item(rng, channels[number % len(channels)], url, size) for number in range(count)]


def _item(rng: random.Random, channel: str, url: str | None, size: int) -> dict[str, Any]:
    user = rng.randrange(100_000)
    item: dict[str, Any] = {"channel": channel, "metadata": {"order": rng.randrange(10**9), "lang": "en"}}
    if channel == "email":
        item |= {"recipient": f"user-{user}@example.com", "subject": f"Your order {user} has shipped"}
    else:
        item |= {
            "recipient": url or f"https://hooks-{user % 1000}.example.com/orders",
            "payload": {"order_id": user, "items": ["book", "lamp"], "total": round(rng.random() * 100, 2)},
        }
    item["message"] = ""
    item["message"] = text(rng, size - len(orjson.dumps(item)))
    return item


def text(rng: random.Random, size: int) -> str:
    """Return words of so many characters in all."""
    words = _WORDS.split()
    drawn = " ".join(rng.choice(words) for _ in range(size // 2))
    return drawn[: size - 1].rstrip().ljust(size - 1, ".") + "."


def batches(seed: int, *, count: int, size: int, channels: tuple[str, ...], url: str | None = None) -> list[bytes]:
    """Return the JSON of several different batches."""
    return [orjson.dumps(items(seed * 1000 + n, size, channels=channels, url=url)) for n in range(count)]
