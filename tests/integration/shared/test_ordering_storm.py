"""I12 and I13 under everything at once: records lost and shuffled, attempts given back, cancels, several consumers."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from shared import db
from shared.db import accepting, notifications, sweeping
from shared.db.accepting import NewNotification
from shared.db.notifications import Ended, Ticket
from shared.model import Outcome
from tests.integration.notifications import TOPICS
from tests.integration.shared.conftest import Conn
from tests.integration.shared.steps import LEASE_S, rows
from tests.servers import Database

KEYS = 6


@dataclass
class Storm:
    """A Kafka that keeps no order, and consumers that read from it until `done`."""

    dsn: str
    records: list[UUID]
    lock: threading.Lock = field(default_factory=threading.Lock)
    done: threading.Event = field(default_factory=threading.Event)
    errors: list[BaseException] = field(default_factory=list)
    began: list[UUID] = field(default_factory=list)

    def consume(self, seed: int) -> None:
        """Claim a few random records at a time; give some back, deliver the others."""
        rng, owner = random.Random(seed), uuid4()
        conn = db.connect(self.dsn, application_name="test_consumer")
        try:
            while not self.done.is_set():
                with self.lock:
                    taken = [self.records.pop(rng.randrange(len(self.records))) for _ in self.records[:8]]
                told = notifications.claim(conn, [Ticket(id_, 1) for id_ in taken], owner=owner, lease_s=LEASE_S)
                with self.lock:
                    self.records += [row.id for row in told if row.state == "busy"]
                self._work(conn, rng, owner, [row.id for row in told if row.state == "claimed"])
        except BaseException as error:  # noqa: BLE001 - the test raises it again
            self.errors.append(error)
        finally:
            conn.close()

    def _work(self, conn: Conn, rng: random.Random, owner: UUID, ids: list[UUID]) -> None:
        back = [id_ for id_ in ids if rng.random() < 0.2]
        notifications.release(conn, [Ticket(id_, 1) for id_ in back], owner=owner, republish=True)
        sent = [id_ for id_ in ids if id_ not in back]
        self.began += sent
        outcomes = [Ended(id_, 1, Outcome.ACCEPTED, "ok") for id_ in sent]
        notifications.write_back(conn, outcomes, owner=owner, dlq_topic=TOPICS.dlq)


def relay(conn: Conn, storm: Storm, batch: list[NewNotification]) -> list[UUID]:
    """Carry what is published, cancel now and then, sweep now and then; return what was cancelled."""
    cancelled: list[UUID] = []
    for turn in range(3000):
        taken = rows(conn, "WITH o AS (DELETE FROM outbox RETURNING *) SELECT notification_id FROM o ORDER BY seq")
        with storm.lock:
            storm.records += [id_ for (id_,) in taken]
        victim = batch[turn * 7 % len(batch)].id
        if turn % 5 == 0 and victim not in storm.began and notifications.cancel(conn, victim, tenant_id="default"):
            cancelled.append(victim)
        if turn % 40 == 39:
            waiting = [id_ for (id_,) in rows(conn, "SELECT id FROM notifications WHERE status = 'pending'")]
            sweeping.publish_again(conn, waiting, dlq_topic=TOPICS.dlq)
            if not rows(conn, "SELECT FROM notifications WHERE status IN ('pending', 'processing')"):
                return cancelled
        storm.done.wait(0.01)
    return cancelled


def test_order_holds_whatever_consumers_do_and_kafka_forgets(
    conn: Conn, database: Database, new: Callable[..., NewNotification]
) -> None:
    """Four consumers: each key in order and one at a time, nothing cancelled is sent, nothing is left behind."""
    batch = [new(ordering_key=f"k{n % KEYS}") for n in range(240)]
    accepting.insert_many(conn, batch)
    conn.execute("DELETE FROM outbox")
    storm = Storm(database.dsn, [one.id for n, one in enumerate(batch) if n % 3])  # a third of the records is lost
    threads = [threading.Thread(target=storm.consume, args=(seed,)) for seed in range(4)]

    for thread in threads:
        thread.start()
    cancelled = relay(conn, storm, batch)
    storm.done.set()
    for thread in threads:
        thread.join()

    assert storm.errors == []
    assert dict(rows(conn, "SELECT status, count(*) FROM notifications GROUP BY 1")) == {
        "sent": 240 - len(cancelled), "cancelled": len(cancelled),
    }  # fmt: skip
    assert cancelled
    assert rows(conn, "SELECT (SELECT count(*) FROM ordering_queue), (SELECT count(*) FROM ordering_turns)") == [(0, 0)]
    assert sorted(storm.began) == sorted({one.id for one in batch} - set(cancelled))
    for key in range(KEYS):
        wanted = [one.id for one in batch[key::KEYS] if one.id not in cancelled]
        assert [id_ for id_ in storm.began if id_ in set(wanted)] == wanted
