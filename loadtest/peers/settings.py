"""Every setting of every peer, in one place: whoever doubts one changes it here and measures again.

Where a project's documentation recommends a value for throughput, that is it; where it leaves the choice, several were
tried on a machine with two cores and the fastest is here. Its reason stands beside each.
"""

import os
from typing import Final

CORES: Final = os.cpu_count() or 2

# Relays and queues. Each hands every record to Kafka and waits for its delivery report.

PRODUCER: Final = {
    # What our relay's producer has, so that no difference comes from here.
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 2,
    "batch.size": 1_000_000,
    "batch.num.messages": 10_000,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 200_000,
    "log_level": 0,
}

TXOUTBOX: Final = {
    "batch_size": 1_000,  # default 50; a claim is one statement, so larger ones cost less a row
    "concurrency": 1_000,  # default 10 groups at once; its publisher waits for Kafka per message
    "strict_ordering": False,  # its docs: without it no lock serialises the claims
    "delete_on_ack": True,  # as our outbox: rows go once Kafka has them
}

FASTSTREAM_OUTBOX: Final = {
    "max_workers": 32,  # default 1
    "fetch_batch_size": 500,  # default 10
    "terminal_flush_batch_size": 100,  # default 1: a DELETE per row
    "min_fetch_interval": 0.01,  # default 1 s between two fetches
    "max_fetch_interval": 0.1,
}
FASTSTREAM_POOL: Final = 40  # connections of its SQLAlchemy engine: more than workers

PGQUEUER: Final = {
    "batch_size": 100,  # default 10; its own benchmark uses 100
    "max_concurrent_tasks": None,  # no cap
}

PROCRASTINATE: Final = {
    "concurrency": 50,  # default 1; more gained nothing
    "delete_jobs": "always",  # its docs: keeps the table small; default keeps every job
    "fetch_job_polling_interval": 0.5,
}

# Task queues for the whole: HTTP in, durable row, task, signed webhook out, row updated.

API_WORKERS: Final = CORES  # gunicorn gthread, as our API
API_THREADS: Final = 4  # as our API
API_KEEPALIVE_S: Final = 75

REDIS: Final = ("--save", "", "--appendonly", "no")
"""Without persistence: what is queued is lost with Redis, which is as fast as Redis gets."""

DRAMATIQ_PROCESSES: Final = CORES  # its default: one per core
DRAMATIQ_THREADS: Final = 4  # default 8; with a request to wait for, more threads contend for the interpreter
DRAMATIQ_PREFETCH: Final = 0  # `dramatiq_queue_prefetch`; 0 is its default, two per thread

CELERY_WORKERS: Final = 4  # processes of `-P solo`: each takes its tasks in its own process, no pipe to a child
CELERY_OPTIONS: Final = ("-P", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "error")
CELERY_CONFIG: Final = {
    "worker_prefetch_multiplier": 16,  # its optimizing guide: many short tasks want a large one
    "task_acks_late": False,  # default and faster; a worker that is killed loses what it has taken
    "task_ignore_result": True,  # its guide: results nobody reads cost a round trip
    "broker_pool_limit": None,  # its guide: no limit, no waiting for a connection
    "task_serializer": "json",
    "accept_content": ["json"],
    "worker_disable_rate_limits": True,  # its guide: no rate limit, no bookkeeping for one
    "worker_send_task_events": False,
    "broker_connection_retry_on_startup": True,
}
