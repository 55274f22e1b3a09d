"""The DLQ consumer's series. Names are stable; labels come from small closed sets."""

from prometheus_client import Counter

from shared.model import FailureClass

TRACKED = Counter("dlq_messages_tracked", "Dead letters read from Kafka and recorded.", ["failure_class", "verdict"])
PRUNED = Counter("dlq_messages_pruned", "Dead letters read again after their notification was pruned; left out.")
REQUEUED = Counter("dlq_messages_requeued", "Dead letters taken up because their retry was due.")
COMMIT_FAILURES = Counter("dlq_offset_commit_failures", "Offset commits Kafka refused; the records are read again.")
CONSUMERS_STALLED = Counter(
    "dlq_consumers_stalled", "Kafka clients replaced because a partition with records gave them none."
)
BULK_RETRIED = Counter("dlq_bulk_retried", "Dead letters that bulk retries published again.", ["failure_class"])
BULK_RETRIES_ENDED = Counter(
    "dlq_bulk_retries_ended", "Bulk retries that were done, or stopped by a canary.", ["status"]
)

# A labelled series appears with its first count, and increase() does not see that one: each is there from the start.
for _status in ("done", "stopped"):
    BULK_RETRIES_ENDED.labels(_status)
for _failure_class in FailureClass:
    BULK_RETRIED.labels(_failure_class)
    for _verdict in ("retry", "rest"):
        TRACKED.labels(_failure_class, _verdict)
