"""Celery with Redis: its task, and the API in front of it."""

import os

from celery import Celery

from loadtest.peers.programs import tasks
from loadtest.peers.settings import CELERY_CONFIG, of

app = Celery("bench", broker=os.environ["BENCH_REDIS"])
app.conf.update(CELERY_CONFIG, worker_prefetch_multiplier=of("Celery")["prefetch"])


@app.task(max_retries=5)
def deliver(id_: str) -> None:
    """Deliver one."""
    tasks.deliver(id_)


def enqueue(ids: list[str]) -> None:
    """Queue a task for each, all through one producer."""
    with app.producer_pool.acquire(block=True) as producer:
        for id_ in ids:
            deliver.apply_async((id_,), producer=producer)


def api() -> "tasks.Flask":
    """Return the API; gunicorn calls this in each worker, after the fork."""
    return tasks.create_api(enqueue)
