"""Small stories that end well if the product keeps its promises, and badly for the mutant that breaks one.

Each asks for a few dozen notifications, does one harm, and leaves everything running. What it can see on the way it
reports as a finding; whatever is left over at rest is the checker's to find.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import pstdev

import psycopg

from api_service import accept, schemas
from tests.chaos.asking import after
from tests.chaos.crash_points import BY_NAME
from tests.chaos.faults.connections import KAFKA, POSTGRES, STATEMENTS
from tests.chaos.ledger import now
from tests.chaos.proxy import Rule
from tests.chaos.relaying import relay_gone, relay_stopped, relays_hand_over
from tests.chaos.stage import LADDER_S, LEASE_S, RELAYS, NotSeenError, Stage

_BEGUN = "SELECT count(*) FROM delivery_attempts WHERE outcome = 'begun'"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story; `nets`: with the sweeper and the look for missed rows."""

    name: str
    says: str
    play: Callable[[Stage], None]
    nets: bool = False


def broker_frozen(stage: Stage) -> None:
    """While Kafka answers nothing, outbox rows stay, and relays that die lose none of them."""
    kafka = stage.topology.kafka.process
    kafka.pause()
    try:
        ids = stage.sender.send(stage.asking.hooks(40))
        time.sleep(2.0)
        query = "SELECT count(DISTINCT notification_id) FROM outbox WHERE notification_id = ANY(%s::uuid[])"
        rows = stage.count(query, ids)
        if rows < len(ids):
            stage.finding("outbox_row_gone_before_the_ack", accepted=len(ids), rows=rows)
        stage.kill(*RELAYS)
    finally:
        kafka.resume()
    stage.back()


def late_commits(stage: Stage) -> None:
    """Applications accept inside transactions of their own, which commit late, while Kafka's ack is under way."""
    proxy, rng, until = stage.topology.proxies[KAFKA], Random(7), now() + 4.0
    proxy.tell(Rule("delay", delay_s=0.02))
    threads = [threading.Thread(target=_late, args=(stage, Random(n), until), daemon=True) for n in range(12)]
    for thread in threads:
        thread.start()
    while now() < until:
        stage.sender.send(stage.asking.hooks(rng.randint(1, 5)), key=False)
    for thread in threads:
        thread.join(30)
    proxy.heal()


def _late(stage: Stage, rng: Random, until: float) -> None:
    sender = stage.new_sender()
    with psycopg.connect(stage.topology.database_url_for("api")) as conn:
        while now() < until:
            item, began = stage.asking.hook(), now()
            request = schemas.load(item.body, default_webhook_url=None)
            new = accept.accept(conn, request, topics=stage.topology.topics)
            time.sleep(rng.uniform(0.0, 0.25))
            conn.commit()
            sender.note_accepted(item, str(new.id), began)


def records_lost(stage: Stage) -> None:
    """Kafka forgets records nobody has read; the sweeper publishes them again."""
    stage.kill("delivery-1")
    ids = stage.sender.send(stage.asking.hooks(30))
    stage.wait_relayed()
    time.sleep(0.3)
    with stage.noted("records_dropped"):
        lost = stage.carrier.drop_records(stage.carrier.delivery_topics())
    stage.back()
    if lost < len(ids):
        raise NotSeenError(f"only {lost} unread records were there to be dropped")


def offsets_lost(stage: Stage) -> None:
    """The group's offsets are lost: some records wait, some are cancelled, some are of an earlier attempt."""
    asking = stage.asking
    stage.sender.send(asking.hooks(20))
    stage.process("dlq-1").pause()
    failing = stage.sender.send(asking.hooks(6, "http_503") + asking.hooks(6, "dead"))
    stage.wait(lambda: stage.counts(failing).get("failed", 0) >= 6, "attempts that failed")
    stage.process("delivery-1").terminate()
    waiting = stage.sender.send(asking.hooks(20))
    for notification_id in waiting[:8]:
        stage.sender.cancel(notification_id)
    stage.process("dlq-1").resume()
    query = "SELECT count(*) FROM notifications WHERE id = ANY(%s::uuid[]) AND attempt = 2 AND status = 'pending'"
    stage.wait(lambda: stage.count(query, failing) >= 6, "retries that wait")
    stage.wait_relayed()
    stage.wait(lambda: stage.carrier.reset_offsets("gone"), "a group without members")
    stage.back()


def refusing_receiver(stage: Stage) -> None:
    """Receivers that always refuse: the ladder is climbed with jitter, to its end, and no further."""
    ids = stage.sender.send(stage.asking.hooks(24, "dead"))
    query = """
        SELECT d.notification_id, d.retry_count, extract(epoch FROM d.retry_at - d.last_failed_at)::float8
          FROM dlq_messages d JOIN delivery_attempts a ON a.notification_id = d.notification_id
                              AND a.attempt = d.attempt AND a.reason = 'http_503'
         WHERE d.notification_id = ANY(%s::uuid[]) AND d.retry_at IS NOT NULL
    """
    delays: dict[tuple[str, int], float] = {}
    until = now() + 45.0
    tried = "SELECT max(attempt) FROM notifications WHERE id = ANY(%s::uuid[])"
    open_ = "SELECT count(*) FROM dlq_messages WHERE notification_id = ANY(%s::uuid[]) AND rest_reason IS NOT NULL"
    while now() < until and stage.count(tried, ids) <= len(LADDER_S) + 1 and stage.count(open_, ids) < len(ids):
        delays |= {(str(id_), count): delay for id_, count, delay in stage.world.rows(query, ids)}
        time.sleep(0.1)
    if (attempts := stage.count(tried, ids)) > len(LADDER_S) + 1:
        stage.finding("retried_without_end", attempts=attempts, ladder=len(LADDER_S))
        stage.kill("dlq-1")  # or there would be no rest
    shares = [delay / LADDER_S[count] for (_, count), delay in delays.items() if count < len(LADDER_S)]
    if len(shares) < 10:
        raise NotSeenError(f"only {len(shares)} planned retries were seen")
    if pstdev(shares) < 0.1:
        stage.finding("retries_without_jitter", seen=len(shares), spread=round(pstdev(shares), 4))


def silent_receiver(stage: Stage) -> None:
    """Receivers that take a request and say nothing, for notifications that may be repeated and such that may not."""
    asking = stage.asking
    stage.sender.send(asking.hooks(12, "ambiguous") + asking.hooks(12, "ambiguous", on_unknown="hold"))
    stage.sender.send(asking.hooks(2, "hang") + asking.hooks(2, "hang", on_unknown="hold"))
    stage.sender.send([asking.mail("cut") for _ in range(3)] + [asking.mail("cut", on_unknown="hold")])


def scheduled(stage: Stage) -> None:
    """Scheduled ones come due while the relays are away."""
    stage.sender.send([stage.asking.hook(scheduled_for=after(1.0 + 0.1 * n)) for n in range(20)])
    time.sleep(0.6)
    stage.kill(*RELAYS)
    stage.back()


def expired(stage: Stage) -> None:
    """Time passes while there is no consumer: what has expired is not sent."""
    stage.kill("delivery-1")
    stage.sender.send(stage.asking.hooks(12, expires_in=1) + stage.asking.hooks(6, expires_in=60))
    stage.wait_relayed()
    time.sleep(1.2)
    stage.back()


def cancels(stage: Stage) -> None:
    """Cancels before, during and after the claim."""
    asking = stage.asking
    ids = stage.sender.send(asking.hooks(24, "slow") + asking.hooks(6, scheduled_for=after(1.5)))
    for notification_id in ids[::2]:
        stage.sender.cancel(notification_id)
    stage.wait(lambda: stage.counts(ids).get("sent", 0) >= 4, "some that were sent")
    for notification_id in ids[1::2]:
        stage.sender.cancel(notification_id)


def repeated_keys(stage: Stage) -> None:
    """Requests repeated under their key, at once and when all is over."""
    for count in (1, 3, 1, 8):
        stage.sender.send(stage.asking.hooks(count), repeats=2)


def ordered(stage: Stage) -> None:
    """Keys whose receivers take their time, while the consumer dies and comes back."""
    asking, hosts = stage.asking, stage.hosts["slow"]
    for round_ in range(2):
        items = [asking.hook("slow", host=hosts[n % 3], ordering_key=f"key-{n % 3}") for n in range(24)]
        stage.sender.send(items)
        stage.wait(lambda: stage.count(_BEGUN) > 0, "a claim")
        if round_ == 0:
            time.sleep(0.5)
            stage.kill("delivery-1")
            stage.back()


def _killed_at(name: str, target: str = "ok") -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        stage.arm(BY_NAME[name], 1)
        stage.sender.send(stage.asking.hooks(25, target))
        if stage.wait_fired([BY_NAME[name]], timeout_s=20):
            raise NotSeenError(f"{name} never fired")
        stage.back()

    return play


def killed_with_backlog(stage: Stage) -> None:
    """A consumer with a long queue in hand dies after its commits have had time to run ahead."""
    stage.sender.send(stage.asking.hooks(160, "slow"))
    stage.wait(lambda: stage.count(_BEGUN) > 0, "a claim")
    time.sleep(1.6)
    stage.kill("delivery-1")
    stage.back()


def zombie(stage: Stage) -> None:
    """A consumer is stopped with calls under way until its lease is over and another has sent again; then it wakes."""
    ids = stage.sender.send(stage.asking.hooks(12, "slow"))
    stage.wait(lambda: stage.count(_BEGUN) >= 4, "calls under way")
    process = stage.process("delivery-1")
    process.pause()
    try:
        stage.start("delivery-2")
        stage.wait(
            lambda: stage.counts(ids).get("sent", 0) == len(ids) and stage.count(_BEGUN) == 0,
            "everything sent by the other", timeout_s=LEASE_S + 25,
        )  # fmt: skip
    finally:
        process.resume()
    time.sleep(1.5)
    stage.process("delivery-2").terminate()
    stage.back()


def answers_lost(stage: Stage) -> None:
    """Connections to PostgreSQL are cut after a statement was done and before anybody heard of it, one kind a time."""
    unkeyed = [f"accept {count}" for count in (1, 40) if not _lose_answers(stage, "accept", count, key=False)]
    others = ("accept", "claim", "end", "delete", "track", "requeue")
    if silent := [*unkeyed, *(name for name in others if not _lose_answers(stage, name, 8))]:
        raise NotSeenError(f"no answer was lost of {', '.join(silent)}")


def _lose_answers(stage: Stage, name: str, count: int, *, key: bool = True) -> bool:
    """Ask for `count` to good receivers and half as many to others; say whether an answer to the statement was lost."""
    proxy, lost = stage.topology.proxies[POSTGRES], 0
    times = 2 if key else 1  # without a key nobody asks a third time: what the API writes a second time is heard of
    for _ in range(2):  # a second time on connections made anew
        proxy.tell(Rule("cut_after", (STATEMENTS[name],), times=times))
        stage.sender.send(stage.asking.hooks(count) + stage.asking.hooks(count // 2, "http_503"), key=key)
        deadline = now() + 10
        while proxy.counts().get("answers_swallowed", 0) < times and now() < deadline:
            time.sleep(0.05)
        if lost := proxy.counts().get("answers_swallowed", 0):
            break
        proxy.tell(Rule("refuse"))
        time.sleep(0.5)
    proxy.heal()
    return lost > 0


def postgres_crashes(stage: Stage) -> None:
    """PostgreSQL is killed under load, and what was answered is there."""
    sender = stage.new_sender()
    asked = threading.Thread(target=lambda: [sender.send(stage.asking.hooks(4)) for _ in range(15)], daemon=True)
    asked.start()
    time.sleep(0.5)
    stage.topology.postgres.kill()
    time.sleep(0.5)
    stage.topology.postgres.start()
    asked.join(60)


SCENARIOS: tuple[Scenario, ...] = (
    *(
        Scenario(play.__name__, (play.__doc__ or "").partition("\n")[0], play)
        for play in (
            broker_frozen, late_commits, offsets_lost, refusing_receiver, silent_receiver, scheduled, expired, cancels,
            repeated_keys, ordered, killed_with_backlog, zombie, answers_lost, postgres_crashes, relays_hand_over,
            relay_gone, relay_stopped,
        )
    ),
    Scenario("killed_after_yes", "A consumer dies when a receiver has said yes.", _killed_at("delivery_after_yes")),
    Scenario("killed_before_send", "A consumer dies when it is about to send.", _killed_at("delivery_before_send")),
    Scenario("killed_before_track", "The DLQ consumer dies with dead letters in hand.",
             _killed_at("dlq_before_track", "dead")),
    Scenario("records_lost", (records_lost.__doc__ or ""), records_lost, nets=True),
)  # fmt: skip
BY_SCENARIO = {scenario.name: scenario for scenario in SCENARIOS}
