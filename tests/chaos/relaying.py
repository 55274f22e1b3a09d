"""Stories of several relays: they join and leave under load, one dies and stays away, one is stopped and wakes."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from infra.local.ports import free_port
from outbox_relay.buckets import _BUCKET_LOCK
from shared.model import BUCKETS
from tests.chaos import published
from tests.chaos.crash_points import BY_NAME
from tests.chaos.faults.connections import KAFKA
from tests.chaos.proxy import Rule
from tests.chaos.stage import RELAYS, NotSeenError, Stage

_SETTLES_S = 0.4
_READY_S = 30.0
_TAKEN_OVER_S = 20.0  # the server ends a session that stands still for 10 s


def relays_hand_over(stage: Stage) -> None:
    """Relays join and leave in order, under load, while Kafka's ack is under way: nothing is published twice."""
    since, proxy = published.ends(stage.carrier), stage.topology.proxies[KAFKA]
    proxy.tell(Rule("delay", delay_s=0.1))
    with _load(stage) as unordered:
        for name in RELAYS:  # among three, whoever joins or leaves has all others exchange buckets
            with _third(stage):
                time.sleep(_SETTLES_S)
                stage.process(name).terminate()
                time.sleep(_SETTLES_S)
                stage.start(name)
                time.sleep(_SETTLES_S)
    proxy.heal()
    stage.wait_relayed()
    times = Counter(published.since(stage.carrier, since))
    if doubled := [one for one, count in times.items() if count > 1 and one.id in unordered]:
        stage.finding("published_twice", records=len(doubled), of=len(unordered), some=[one.id for one in doubled[:5]])


def relay_gone(stage: Stage) -> None:
    """A relay dies with rows in hand and stays away: the other publishes what was its share."""
    point = BY_NAME["relay_after_read"]
    stage.arm(point, 1, only=RELAYS[1])
    stage.sender.send(stage.asking.hooks(60))
    if stage.wait_fired([point], timeout_s=10):
        raise NotSeenError(f"{point.name} never fired")
    try:
        stage.wait_relayed()
    except NotSeenError:
        stage.finding("left_by_a_dead_relay", rows=stage.count("SELECT count(*) FROM outbox"))
    stage.back()


def relay_stopped(stage: Stage) -> None:
    """A relay is stopped with batches in flight until the other has taken its share over; then it wakes."""
    proxy, process = stage.topology.proxies[KAFKA], stage.process(RELAYS[0])
    query = "SELECT CASE count(DISTINCT pid) WHEN 1 THEN count(*) ELSE 0 END FROM pg_locks WHERE classid = %s"
    held = "SELECT pid, count(*) FROM pg_locks WHERE classid = %s GROUP BY pid"
    proxy.tell(Rule("delay", delay_s=0.1))
    with _load(stage):
        time.sleep(0.5)
        process.pause()
        proxy.heal()
        try:
            taken = "the other with all buckets"
            stage.wait(lambda: stage.count(query, _BUCKET_LOCK) == BUCKETS, taken, timeout_s=_TAKEN_OVER_S)
        except NotSeenError:
            stage.finding("kept_by_a_stopped_relay", buckets=stage.world.rows(held, _BUCKET_LOCK))
        finally:
            process.resume()
        time.sleep(1.0)


@contextmanager
def _third(stage: Stage) -> Iterator[None]:
    """One more relay, ready; it leaves in order."""
    topology, like, port = stage.topology, RELAYS[1], free_port()
    environ = topology.environ_for(like) | {"RELAY_PORT": str(port)}
    process = topology.supervisor.process("relay-3", topology.argv_for(like), env=environ, cwd=stage.run_dir).start()
    try:
        process.wait_healthy(f"http://127.0.0.1:{port}/health/ready", timeout_s=_READY_S)
        yield
    finally:
        process.terminate()


@contextmanager
def _load(stage: Stage) -> Iterator[set[str]]:
    """Some notifications after the other, some with ordering keys; yields the ids of those without."""
    unordered: set[str] = set()
    sender, over = stage.new_sender(), threading.Event()

    def send() -> None:
        while not over.is_set():
            unordered.update(sender.send(stage.asking.hooks(4)))
            sender.send(stage.asking.ordered("relayed", 4))
            over.wait(0.05)

    thread = threading.Thread(target=send, name="load", daemon=True)
    thread.start()
    try:
        yield unordered
    finally:
        over.set()
        thread.join(60)
