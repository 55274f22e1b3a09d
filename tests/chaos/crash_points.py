"""The points at which a service is killed: before or after the n-th call of a named function of the product.

A point is a name for the instant at which a promise is at risk. The product carries nothing of it: `launch.py` wraps
the function while the service is imported, in a process that was started for a test. What kills there is in traps.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.chaos.rewriting import Place

When = Literal["before", "after"]
Telling = Callable[[tuple[Any, ...], Any], bool]
"""Arguments and result of a call in, whether it is one that counts out: most loops also run when there is nothing."""


def _always(_arguments: tuple[Any, ...], _result: Any) -> bool:
    return True


def _some_result(_arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result)


def _some_rows(_arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result.rows)


def _some_argument(arguments: tuple[Any, ...], _result: Any) -> bool:
    return bool(arguments[1])  # the first is the connection, or self


def _retried(_arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result.retried)


def _without_key(arguments: tuple[Any, ...], _result: Any) -> bool:
    return len(arguments) == 2  # insert_many(conn, news)


def _acknowledged(arguments: tuple[Any, ...], _result: Any) -> bool:
    return arguments[1] is None  # Pump._on_commit(self, error, places)


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """Where a service dies, and which promise that puts at risk. `of`: the process that is killed."""

    name: str
    service: str
    when: When
    places: tuple[Place, ...]
    threatens: str
    counts: Telling = _always
    of: Literal["itself", "its master"] = "itself"


_ACCEPTING = tuple(Place("shared.db.accepting", name) for name in ("insert", "insert_many"))
_SENDING = (
    Place("delivery_consumer.providers.webhook", "WebhookProvider.send"),
    Place("delivery_consumer.providers.email", "EmailProvider.send"),
)
_NOTIFICATIONS = "shared.db.notifications"

POINTS: tuple[CrashPoint, ...] = (
    # api_service: a worker dies, or the master above it
    CrashPoint("api_before_insert", "api_service", "before", _ACCEPTING, "I1: nothing was answered, nothing is there"),
    CrashPoint(
        "api_after_insert", "api_service", "after", _ACCEPTING, "I1, I2: stored and not answered; the repeat gets it"
    ),
    CrashPoint(
        "api_after_insert_master", "api_service", "after", _ACCEPTING, "I1: the same, all workers with it",
        of="its master",
    ),
    CrashPoint(
        "api_after_direct", "api_service", "after", (Place("api_service.direct", "Direct._serve"),),
        "I1, I2: one that was served in front of Flask, stored and not answered", _some_result,
    ),
    CrashPoint(
        "api_after_batch", "api_service", "after", (Place("shared.db.accepting", "insert_many"),),
        "I1, I5: committed, not answered, and without a key nobody asks again; it is there whole", _without_key,
    ),
    CrashPoint(
        "api_after_cancel", "api_service", "after", (Place(_NOTIFICATIONS, "cancel"),),
        "I13: cancelled and not answered; nothing may start", _some_result,
    ),
    # outbox_relay
    CrashPoint(
        "relay_after_read", "outbox_relay", "after", (Place("shared.db.outbox", "take"),),
        "I9: read, not produced; the rows are still there", _some_rows,
    ),
    CrashPoint(
        "relay_after_produce", "outbox_relay", "after", (Place("outbox_relay.flight", "Flight.produce"),),
        "I9, I12: produced, not acknowledged; published again, in order",
    ),
    CrashPoint(
        "relay_before_delete", "outbox_relay", "before", (Place("shared.db.outbox", "delete"),),
        "I7, I9: acknowledged, not deleted; published twice, sent once", _some_argument,
    ),
    CrashPoint(
        "relay_after_delete", "outbox_relay", "after", (Place("shared.db.outbox", "xid"),),
        "I9: deleted, the gaps not yet bounded",
    ),
    CrashPoint(
        "relay_after_promote", "outbox_relay", "after", (Place("shared.db.outbox", "promote_due"),),
        "I14: promoted, not yet read; published once", _some_result,
    ),
    CrashPoint(
        "relay_after_end_leases", "outbox_relay", "after", (Place(_NOTIFICATIONS, "end_overdue_leases"),),
        "I4, I7: ended as unknown, its dead letter not yet published", _some_result,
    ),
    CrashPoint(
        "relay_after_sweep", "outbox_relay", "after", (Place("shared.db.sweeping", "publish_again"),),
        "I10: published again, and forgotten that it was", _some_result,
    ),
    # delivery_consumer
    CrashPoint(
        "delivery_before_claim", "delivery_consumer", "before", (Place(_NOTIFICATIONS, "claim"),),
        "I11: read, not claimed; read again",
    ),
    CrashPoint(
        "delivery_after_claim", "delivery_consumer", "after", (Place(_NOTIFICATIONS, "claim"),),
        "I5: claimed, not sent; the lease runs out", _some_result,
    ),
    CrashPoint(
        "delivery_before_send", "delivery_consumer", "before", _SENDING, "I5, I7: claimed, about to be sent"
    ),
    CrashPoint(
        "delivery_after_yes", "delivery_consumer", "after", _SENDING,
        "I7: accepted by the receiver, known to nobody; ends unknown",
    ),
    CrashPoint(
        "delivery_before_write_back", "delivery_consumer", "before", (Place(_NOTIFICATIONS, "write_back"),),
        "I4, I7: all outcomes of a batch lost",
    ),
    CrashPoint(
        "delivery_after_write_back", "delivery_consumer", "after", (Place(_NOTIFICATIONS, "write_back"),),
        "I7, I11: written, offsets not committed; read again, sent once",
    ),
    CrashPoint(
        "delivery_after_commit", "delivery_consumer", "after",
        (Place("delivery_consumer.consumer", "Pump._on_commit"),),
        "I11: offsets committed while others are under way", _acknowledged,
    ),
    CrashPoint(
        "delivery_in_give_back", "delivery_consumer", "before",
        (Place("delivery_consumer.engine", "Engine.give_back"),),
        "I5, I7: asked to stop, and killed before anything was given back",
    ),
    CrashPoint(
        "delivery_in_rebalance", "delivery_consumer", "before",
        (Place("delivery_consumer.consumer", "Pump._on_revoke"),),
        "I7, I11: partitions asked back in the middle of a batch",
    ),
    # dlq_consumer
    CrashPoint(
        "dlq_before_track", "dlq_consumer", "before", (Place("shared.db.dlq_messages", "track"),),
        "I15: read, not recorded; read again",
    ),
    CrashPoint(
        "dlq_after_track", "dlq_consumer", "after", (Place("shared.db.dlq_messages", "track"),),
        "I15, I16: recorded, offsets not committed; recorded once",
    ),
    CrashPoint(
        "dlq_after_requeue", "dlq_consumer", "after", (Place(_NOTIFICATIONS, "requeue_due"),),
        "I7, I16: requeued once, whoever looks again", _some_result,
    ),
    CrashPoint(
        "dlq_after_retry_step", "dlq_consumer", "after", (Place("shared.db.dlq_retry_steps", "send"),),
        "I7, I16: a step of a bulk retry was taken; the next executor goes on behind it", _retried,
    ),
)  # fmt: skip
BY_NAME = {point.name: point for point in POINTS}
