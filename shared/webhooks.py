"""What no webhook may be told: ports that do not speak HTTP, and headers that are not its author's to set.

The door refuses them with a word for the client; the delivery side holds to them whatever came in by another way.
"""

from typing import Final

PORTS_WITHOUT_HTTP: Final = frozenset(
    {1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
     111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
     540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1433, 1521, 2049, 2379, 3306, 3389, 5432, 6379, 9042,
     9092, 9200, 11211, 27017}
)  # fmt: skip
"""The WHATWG Fetch standard's list and the usual databases."""

_OURS: Final = frozenset(
    (
        *("host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "via", "date"),
        *("content-length", "content-type", "content-encoding", "accept-encoding", "user-agent", "cookie", "cookie2"),
        *("forwarded", "notification-attempt", "traceparent", "tracestate"),
    )
)
_OUR_PREFIXES: Final = ("webhook-", "proxy-", "sec-", "x-forwarded-")


def is_header_of_ours(name: str) -> bool:
    """Say whether a header, its name in lower case, is set by the sender or by the connection and by nobody else."""
    return name in _OURS or name.startswith(_OUR_PREFIXES)
