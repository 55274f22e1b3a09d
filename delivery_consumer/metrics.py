"""The consumer's series. Names are stable; labels come from small closed sets."""

import contextlib
import re
from functools import lru_cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, values

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60)
_STATEMENT_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)

DELIVERIES = Counter("deliveries", "Attempts that ended, by outcome and reason.", ["channel", "outcome", "reason"])
DELIVERY_SECONDS = Histogram("delivery_duration_seconds", "One attempt, quick repeats included.", ["channel"],
                             buckets=_SECONDS)  # fmt: skip
CLAIM_SECONDS = Histogram("delivery_claim_seconds", "One claim statement.", buckets=_STATEMENT_SECONDS)
WRITE_BACK_SECONDS = Histogram("delivery_write_back_seconds", "One write-back.", buckets=_STATEMENT_SECONDS)
RECORDS_CONSUMED = Counter("delivery_records_consumed", "Records read from Kafka.", ["topic"])
RECORDS_DROPPED = Counter(
    "delivery_records_dropped",
    "Records that began no attempt: not_pending (sent, claimed, cancelled), expired, suppressed, early, taken_over.",
    ["reason"],
)  # fmt: skip
RECORDS_PUT_OFF = Counter(
    "delivery_records_put_off",
    "Records left to PostgreSQL until they are due: their tenant's share, or their endpoint's rate, is used up.",
    ["reason"],
)  # fmt: skip
RECORDS_POISONED = Counter("delivery_records_poisoned", "Undecodable records set aside unchanged.", ["reason"])
JOBS_RELEASED = Counter("delivery_jobs_released", "Claimed attempts given back before the first byte.", ["reason"])
LEASES_TAKEN_OVER = Counter("delivery_leases_taken_over", "Attempts that ended elsewhere because our lease was over.")
IN_FLIGHT = Gauge("delivery_in_flight", "Records read and not yet ended.", ["topic"], multiprocess_mode="livesum")
CALLS_UNDER_WAY = Gauge(
    "delivery_calls_under_way", "Provider calls under way.", ["channel"], multiprocess_mode="livesum"
)
BREAKERS_OPEN = Gauge(
    "delivery_breakers_open",
    "Destinations whose breaker is not closed; each process has its own breakers.",
    multiprocess_mode="livesum",
)
CONSUMER_LAG = Gauge(
    "kafka_consumer_lag", "Records behind the end of a partition.", ["topic", "partition"], multiprocess_mode="livesum"
)
CONSUMERS_STALLED = Counter(
    "delivery_consumers_stalled", "Kafka clients replaced because a partition with records gave them none."
)
PARTITIONS = Gauge("delivery_partitions", "Partitions assigned.", multiprocess_mode="livesum")
PROCESSES_REPLACED = Counter(
    "delivery_processes_replaced", "Delivery processes that ended unasked, where DELIVERY_PROCESSES is above 1."
)

_KNOWN_CODES: Final = frozenset(
    {"200", "201", "202", "204", "301", "302", "303", "307", "308", "400", "401", "403", "404", "405", "408", "409",
     "410", "413", "422", "425", "429", "500", "502", "503", "504", "421", "450", "451", "452", "454", "530", "535",
     "550", "551", "552", "553", "554"}
)  # fmt: skip


@lru_cache(maxsize=1_000)
def deliveries(channel: str, outcome: str, reason: str) -> Counter:
    """Return the counter of attempts that ended so."""
    return DELIVERIES.labels(channel, outcome, reason_label(reason))


def reason_label(reason: str) -> str:
    """Return a reason as a label: receivers choose their codes, so rare ones share http_5xx and the like."""
    match = re.fullmatch(r"(http|smtp)_(\d)(\d\d)", reason)
    if match is None or match[2] + match[3] in _KNOWN_CODES:
        return reason
    return f"{match[1]}_{match[2]}xx"


def forget_lag(topic: str, partition: int) -> None:
    """Say nothing more of a partition that is somebody else's now."""
    if values.ValueClass is values.MutexValue:
        with contextlib.suppress(KeyError):
            CONSUMER_LAG.remove(topic, partition)
    else:  # what processes share cannot be taken out of the sum, but be nothing in it
        CONSUMER_LAG.labels(topic, partition).set(0)
