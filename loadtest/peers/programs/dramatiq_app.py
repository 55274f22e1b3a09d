"""dramatiq with Redis: its actor, and the API in front of it."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from loadtest.peers.programs import tasks

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))


@dramatiq.actor(max_retries=5)
def deliver(id_: str) -> None:
    """Deliver one."""
    tasks.deliver(id_)


def enqueue(ids: list[str]) -> None:
    """Queue a task for each."""
    for id_ in ids:
        deliver.send(id_)


def api() -> "tasks.Flask":
    """Return the API; gunicorn calls this in each worker, after the fork."""
    return tasks.create_api(enqueue)
