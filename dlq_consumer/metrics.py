"""The DLQ consumer's series. Names are stable; labels come from small closed sets."""

from prometheus_client import Counter

TRACKED = Counter("dlq_messages_tracked", "Dead letters read from Kafka and recorded.", ["failure_class", "verdict"])
REQUEUED = Counter("dlq_messages_requeued", "Dead letters taken up because their retry was due.")
COMMIT_FAILURES = Counter("dlq_offset_commit_failures", "Offset commits Kafka refused; the records are read again.")
