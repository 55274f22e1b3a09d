"""The relay's series. Names are stable; labels come from small closed sets."""

from prometheus_client import Counter, Gauge, Histogram

ROWS_PUBLISHED = Counter("outbox_relay_rows_published", "Outbox rows acknowledged by Kafka and deleted.")
ROWS_REFUSED = Counter("outbox_relay_rows_refused", "Outbox rows Kafka refused for good, now in outbox_dead.")
STARTS_OVER = Counter(
    "outbox_relay_starts_over", "Times the relay dropped its state and read from the start.", ["reason"]
)
BATCH_SECONDS = Histogram(
    "outbox_relay_batch_seconds",
    "From producing a batch to its last delivery report.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)
ROWS_IN_FLIGHT = Gauge("outbox_relay_rows_in_flight", "Outbox rows produced and not yet acknowledged.")
BUCKETS_HELD = Gauge("outbox_relay_buckets_held", "How many of the 64 buckets this relay publishes.")
GAPS = Gauge("outbox_relay_gaps", "Numbers passed over that an open transaction may still own.")
OUTBOX_DEPTH = Gauge(
    "outbox_depth_rows", "Outbox rows not yet acknowledged, as an upper bound: numbers handed out, less those passed."
)
OUTBOX_OLDEST_AGE = Gauge("outbox_oldest_age_seconds", "Age of the oldest outbox row.")
UPKEEP_ROWS = Counter("outbox_upkeep_rows", "Rows the upkeep moved.", ["task"])
UPKEEP_LEADER = Gauge("outbox_upkeep_leader", "1 while this relay does the upkeep.")
