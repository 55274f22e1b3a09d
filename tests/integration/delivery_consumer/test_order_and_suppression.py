"""What PostgreSQL decides about records, on real Kafka: the order of keys, and recipients that are gone."""

import contextlib
import random
import threading
from collections.abc import Iterator

from shared import db
from shared.db import outbox, suppressions, sweeping
from shared.db.suppressions import Filter
from shared.model import Channel
from tests.integration.delivery_consumer.parts import OK, Desk, Receiver, running, settings_for

GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"


@contextlib.contextmanager
def relaying(desk: Desk) -> Iterator[None]:
    """Carry outbox rows to Kafka as long as the block runs, the plain way."""
    conn, stop = db.connect(desk.database.dsn, application_name="test_relay"), threading.Event()

    def run() -> None:
        while not stop.wait(0.02):
            rows = outbox.read(conn, after=0, also=[], limit=500).rows
            for row in rows:
                desk.producer.produce(row.topic, row.value, row.key, headers=row.headers)
            desk.producer.flush(10)
            outbox.delete(conn, [row.seq for row in rows])

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        conn.close()


def test_lost_and_shuffled_records_of_a_key_arrive_in_order(desk: Desk, hook: Receiver) -> None:
    """I12: a third of the records is lost and the rest out of order; two consumers and a sweep put it right."""
    keys = {key: desk.accept([hook.url] * 20, ordering_key=key, publish=False) for key in "abc"}
    everything = [one for news in keys.values() for one in news]
    kept = [one for n, one in enumerate(everything) if n % 3]
    random.Random(7).shuffle(kept)
    settings = settings_for(desk.database, desk.topics)
    desk.publish(kept)

    with relaying(desk), running(settings), running(settings):
        hook.wait_for(1)
        sweeping.publish_again(desk.conn, [one.id for one in everything], dlq_topic=desk.topics.names.dlq)
        desk.wait_for(sent=60, timeout_s=60)

    for news in keys.values():
        ids = [str(one.id) for one in news]
        assert [id_ for id_ in hook.ids() if id_ in set(ids)] == ids


def test_an_endpoint_that_is_gone_gets_nothing_until_it_is_lifted(desk: Desk, hook: Receiver) -> None:
    """After one 410 no further request goes out; what came meanwhile is held, and sent after the lift."""

    async def gone(_: dict[str, str]) -> bytes:
        return GONE

    hook.answer = gone
    with relaying(desk), running(settings_for(desk.database, desk.topics)):
        (first,) = desk.accept([hook.url])
        desk.wait_for(failed=1)
        held = desk.accept([hook.url] * 5)
        desk.wait_for(failed=1, suppressed=5)
        assert hook.ids() == [str(first.id)]

        (found,) = suppressions.list_page(desk.conn, Filter("default", active=True), limit=9)
        assert (found.channel, found.recipient, found.reason) == (Channel.WEBHOOK, hook.url, "gone")

        async def back(_: dict[str, str]) -> bytes:
            return OK

        hook.answer = back
        suppressions.lift(desk.conn, found.id, tenant_id="default", by="ann")
        assert suppressions.resume_held(desk.conn, limit=9) == 5
        desk.wait_for(failed=1, sent=5)

    assert sorted(hook.ids()[1:]) == sorted(str(one.id) for one in held)
