"""Every setting of every peer, in one place: whoever doubts one changes it here and measures again.

Where a project's documentation names a value for throughput, that is it, with the page it stands on. Where it leaves
the choice, `python -m loadtest bench --tune` tries the values in TRIED, and one is here that no other beats in every
round by a tenth; docs/reports/peer-settings.md has what they gave, on which machine and when.
"""

import json
import os
from collections.abc import Mapping
from typing import Any, Final

CORES: Final = len(os.sched_getaffinity(0))

# Relays and queues. Each hands every record to Kafka and waits for its delivery report.

PRODUCER: Final = {
    # As our relay's producer, but for what only an outage asks for (message.timeout.ms, queue.buffering.max.kbytes) and
    # for linger.ms, which each peer has its own: ours waits 2 ms for more, and not at all when a batch is alone.
    "enable.idempotence": True,
    "acks": "all",
    "batch.size": 1_000_000,
    "batch.num.messages": 10_000,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 200_000,
    "log_level": 0,
}

SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "txoutbox": {
        "batch_size": 5_000,  # default 50; a claim is one statement, so larger ones cost less a row
        "concurrency": 5_000,  # default 10 groups at once; its publisher waits for Kafka per message
        "strict_ordering": False,  # its README: without it no lock serialises the claims
        "delete_on_ack": True,  # as our outbox: rows go once Kafka has them
        "relays": 2,  # of one process: one claims while the other publishes
        "linger_ms": 2,
    },
    "faststream-outbox": {
        "max_workers": 32,  # default 1; its performance.md: batched deletes gain most with few of them
        "fetch_batch_size": 500,  # default 10
        "terminal_flush_batch_size": 100,  # default 1, a DELETE per row; 100 in the table of its performance.md
        "min_fetch_interval": 0.01,  # default 1 s between two fetches
        "max_fetch_interval": 0.1,
        "linger_ms": 2,
    },
    "PgQueuer": {
        "managers": 2,  # its tools/benchmark.py has 5, each with a connection of its own, in one process
        "batch_size": 100,  # default 10, in its tools/benchmark.py too; its performance-tuning.md: more for short jobs
        "durability": "balanced",  # its performance-tuning.md: "~2x"; jobs stay logged, its log and statistics do not
        "linger_ms": 2,
    },
    "procrastinate": {
        "workers": 4,  # of one process: each fetches one job per round trip
        "concurrency": 50,  # default 1
        "delete_jobs": "always",  # its docs: keeps the table small; default keeps every job
        "fetch_job_polling_interval": 0.5,
        "linger_ms": 2,
    },
    "dramatiq": {
        "processes": CORES,  # its default: one per core
        "threads": 4,  # default 8; with a request to wait for, more threads contend for the interpreter
        "prefetch": 256,  # `dramatiq_queue_prefetch`, of each process; default 0, two per thread
    },
    "Celery": {
        "pool": "solo",  # default prefork; each takes its tasks in its own process, no pipe to a child
        "workers": CORES,  # processes; prefork's default too
        "prefetch": 64,  # its optimizing.rst, short tasks: "Values like 50 or 150 might make sense"; default 4
    },
}

TRIED: Final[Mapping[str, Mapping[str, tuple[Any, ...]]]] = {
    # The values that `bench --tune` compares, one setting changed at a time.
    "txoutbox": {
        "batch_size": (200, 1_000, 5_000, 10_000),
        "concurrency": (100, 1_000, 5_000),
        "relays": (1, 2, 3),
        "linger_ms": (0, 0.5, 2),
    },
    "faststream-outbox": {
        "max_workers": (4, 8, 16, 32, 64),
        "terminal_flush_batch_size": (100, 500),
        "fetch_batch_size": (100, 500, 1_000),
        "linger_ms": (0, 0.5, 2),
    },
    "PgQueuer": {
        "managers": (1, 2, 5),
        "batch_size": (10, 100, 500),
        "durability": ("balanced", "durable"),
        "linger_ms": (0, 0.5, 2),
    },
    "procrastinate": {"workers": (1, 2, 4), "concurrency": (10, 50), "linger_ms": (0, 0.5, 2)},
    "dramatiq": {"processes": (1, CORES, 2 * CORES), "threads": (2, 4, 8), "prefetch": (0, 64, 256, 1_024)},
    "Celery": {"pool": ("solo", "prefork"), "workers": (1, CORES, 2 * CORES), "prefetch": (4, 64, 128)},
}


def of(peer: str) -> dict[str, Any]:
    """Return the settings of a peer, with the JSON object of BENCH_SETTINGS laid over them: how values are tried."""
    return {**SETTINGS[peer], **json.loads(os.environ.get("BENCH_SETTINGS", "{}"))}


# Task queues for the whole: HTTP in, durable row, task, signed webhook out, row updated.

API_WORKERS: Final = CORES  # gunicorn gthread, as our API
API_THREADS: Final = 4  # as our API
API_KEEPALIVE_S: Final = 75

REDIS: Final = ("--save", "", "--appendonly", "no")
"""Without persistence: what is queued is lost with Redis, which is as fast as Redis gets."""

CELERY_OPTIONS: Final = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "error")
CELERY_CONFIG: Final = {
    # No broker_pool_limit: its default of 10 connections is more than the threads of an API process; None has no pool.
    "task_acks_late": False,  # default and faster; a worker that is killed loses what it has taken
    "task_ignore_result": True,  # its tasks.rst: results nobody reads cost a round trip
    "task_serializer": "json",
    "accept_content": ["json"],
    "worker_disable_rate_limits": True,  # its tasks.rst: no rate limit, no bookkeeping for one
    "worker_send_task_events": False,
    "broker_connection_retry_on_startup": True,
}
