"""Kafka loses what it was given: topics, records, offsets. Every accepted notification still ends.

Load runs all the time. One after the other, each with unread records on the way so that it bites:

    topics    all topics are deleted
    records   at least --mib of every partition of one topic are deleted unread (large bodies, consumer stopped)
    skipped   the groups' committed offsets are moved past what is unread (consumers stopped)
    reread    they are moved back to the beginning: everything is read again, and nothing may be sent again
    forgotten the groups are deleted

"noticed" is the first republication by the relay's sweeper, "ended" when everything accepted before had ended; both
in seconds from the loss, with SWEEP_AFTER_S at --sweep-after-s.
"""

import base64
import os
import random
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.local.kafka import admin_client
from tests.arguments import more_than_0
from tests.proofs.lab import Lab, RunError, Sampler, bounded, lab, parser, say, until
from tests.proofs.load import Api, Load
from tests.proofs.report import Report

_PARTITIONS = 4
_BODY_BYTES = 200_000  # random, base64: lz4 makes little of it
_FAILING = "127.0.1.1"
_CONSUMERS = ("delivery_consumer", "dlq_consumer")
_WAIT_S = 30.0


class Loss:
    """One kind of loss after the other, on a running stack under load."""

    def __init__(self, running: Lab, load: Load, *, mib: float, sweep_after_s: float, rng: random.Random) -> None:
        self.lab, self.load, self.mib, self.sweep_after_s, self.rng = running, load, mib, sweep_after_s, rng
        self.admin: AdminClient = admin_client(running.stack.bootstrap_servers)
        self.topics = running.stack.topics.all()
        self.bulk: list[str] = []
        self.smallest_mib = 0.0
        self.read_again = 0

    def delete_topics(self) -> None:
        """With records unread: the consumer is held for a moment before."""
        for name in _CONSUMERS:
            self.lab.stack.services[name].pause()
        time.sleep(3)  # less than a session: nobody takes its partitions
        _all(self.admin.delete_topics(self.topics, operation_timeout=_WAIT_S).values())
        for name in _CONSUMERS:
            self.lab.stack.services[name].resume()

    def delete_records(self) -> None:
        """More than a few caches' worth, of every partition of the webhook topic."""
        topic = next(topic for topic in self.topics if topic.endswith(".webhook"))
        with self._stopped():
            api = Api(self.lab.entrance)
            began = time.monotonic()
            while min(sizes_mib(self.lab, topic)) < self.mib:
                if time.monotonic() - began > 300:
                    raise RunError(f"{self.mib} MiB per partition were not reached")
                items = [
                    {"channel": "webhook", "recipient": self.lab.url(1 + n % 9), "message": self._body()}
                    for n in range(20)
                ]
                self.bulk += api.accept(items, give_up_at=time.time() + 60)
                time.sleep(0.2)
            self.smallest_mib = min(sizes_mib(self.lab, topic))
            ends = self._ends([topic])
            _all(self.admin.delete_records(ends, operation_timeout=_WAIT_S).values())

    def skip(self) -> None:
        """Offsets past what is unread."""
        with self._stopped():
            time.sleep(3)
            self._alter(self._ends(self.topics))

    def reread(self) -> None:
        """Offsets at the beginning."""
        with self._stopped():
            ends = self._ends(self.topics)
            self.read_again = sum(end.offset for end in ends)
            self._alter([TopicPartition(end.topic, end.partition, 0) for end in ends])

    def forget(self) -> None:
        """No offsets at all."""
        with self._stopped():
            time.sleep(3)
            _all(self.admin.delete_consumer_groups(self._groups(), request_timeout=_WAIT_S).values())

    def _groups(self) -> list[str]:
        prefix = self.lab.stack.topics.prefix
        return [f"{prefix}-delivery", f"{prefix}-dlq"]

    def _alter(self, offsets: list[TopicPartition]) -> None:
        delivery, dlq = self._groups()
        mine = {delivery: [o for o in offsets if not o.topic.endswith(".dlq")]}
        mine[dlq] = [o for o in offsets if o.topic.endswith(".dlq")]
        for group, wanted in mine.items():  # one group a call is all the client takes
            asked = [ConsumerGroupTopicPartitions(group, wanted)]
            _all(self.admin.alter_consumer_group_offsets(asked, request_timeout=_WAIT_S).values())

    def _ends(self, topics: list[str]) -> list[TopicPartition]:
        asked = [TopicPartition(topic, n) for topic in topics for n in range(_PARTITIONS)]
        looker = Consumer({"bootstrap.servers": self.lab.stack.bootstrap_servers, "group.id": "proof", "log_level": 0})
        try:
            ends = [looker.get_watermark_offsets(at, timeout=_WAIT_S) for at in asked]
        finally:
            looker.close()
        return [TopicPartition(at.topic, at.partition, end[1]) for at, end in zip(asked, ends, strict=True) if end]

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        """Both consumers ended in order, and started again afterwards."""
        for name in _CONSUMERS:
            self.lab.stack.services[name].terminate()
        yield
        for name in _CONSUMERS:
            self.lab.stack.services[name].start()

    def _body(self) -> str:
        return base64.b64encode(self.rng.randbytes(_BODY_BYTES * 3 // 4)).decode()


def _all(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        try:
            future.result(_WAIT_S)
        except KafkaException as error:
            raise RunError(f"Kafka refused the loss: {error}") from error


def sizes_mib(running: Lab, topic: str) -> list[float]:
    """Bytes on disk of each partition."""
    assert running.stack.kafka is not None
    directory = running.stack.kafka.data_dir / "log"
    sizes = [sum(file.stat().st_size for file in _segments(directory / f"{topic}-{n}")) for n in range(_PARTITIONS)]
    return [size / 1024 / 1024 for size in sizes]


def _segments(directory: Path) -> list[Path]:
    return [Path(entry.path) for entry in os.scandir(directory) if entry.name.endswith(".log")]


def republished(running: Lab) -> float:
    """How many rows the sweeper has published again. Raises OSError while the relay does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(running.stack.urls["relay"] + "/metrics", timeout=2) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith('outbox_upkeep_rows_total{task="sweep"}'):
                return float(line.split()[1])
    return 0.0


def measure(report: Report, loss: Loss, name: str, lose: Callable[[], None], *, must_bite: bool) -> None:
    """Lose something, and see everything accepted before it end."""
    running = loss.lab
    before = republished(running)
    lose()
    lost_at = time.time()
    say(f"{name}: lost")
    limit_s = 6 * loss.sweep_after_s + 90
    with Sampler(lambda: republished(running)) as swept:
        ended = until(lambda: running.unended(accepted_before=lost_at) == 0, timeout_s=limit_s, poll_s=0.5)
        took_s = time.time() - lost_at
        if must_bite:
            until(lambda: any(value > before for _, value in swept.samples), timeout_s=2, poll_s=0.2)
    noticed = [at - lost_at for at, value in swept.samples if value > before]
    again = max((value for _, value in swept.samples), default=before) - before
    report.figure(f"{name}: published again", int(again))
    if must_bite:
        report.promise(f"{name}: bit (something had to be published again)", int(again), ">= 1", held=again >= 1)
        report.figure(f"{name}: noticed after s", noticed[0] if noticed else float("inf"))
    open_ = 0 if ended else running.unended(accepted_before=lost_at)
    report.promise(f"{name}: not ended after {limit_s:.0f} s", open_, "0", held=ended)
    report.figure(f"{name}: ended after s", took_s)
    say(f"{name}: {int(again)} published again, all ended after {took_s:.1f} s")
    time.sleep(3)


def judge(report: Report, running: Lab, loss: Loss) -> None:
    """At rest: nothing lost, nothing doubled without an attempt that may have arrived."""
    running.wait_ended(timeout_s=180)
    ids = [*(one.id for one in loss.load.accepted), *loss.bulk]
    arrivals = Counter(row.id for row in running.ledger())
    query: LiteralString = "SELECT notification_id::text FROM delivery_attempts WHERE outcome = 'unknown'"
    unknown = {row[0] for row in running.rows(query)}
    stood = running.counts()
    lost = [id_ for id_ in ids if not arrivals[id_]]
    doubled = [id_ for id_, times in arrivals.items() if times > 1]
    unexplained = [id_ for id_ in doubled if id_ not in unknown]
    report.figure("accepted", len(ids))
    report.figure("smallest partition when its records were deleted, MiB", loss.smallest_mib)
    report.figure("records that were read again", loss.read_again)
    report.promise("accepted and never arrived", len(lost), "0", held=not lost)
    refused = {one.id for one in loss.load.accepted if one.n % 20 == 0}
    query = "SELECT notification_id::text FROM dlq_messages WHERE status = 'failed' AND rest_reason = 'permanent'"
    resting = {row[0] for row in running.rows(query)}
    wrong = sum(stood.values()) - stood.get("sent", 0) - len(resting) + len(resting ^ refused)
    report.figure("refused with 404, dead letters at rest", len(resting))
    report.promise("neither sent nor a dead letter at rest", wrong, "0", held=not wrong)
    report.figure("arrived twice", len(doubled))
    report.promise("of them without an unknown attempt", len(unexplained), "0", held=not unexplained)
    report.note("statuses: " + ", ".join(f"{status} {count}" for status, count in stood.items()))


def main(argv: list[str]) -> int:
    """Measure the losses."""
    options = parser(__doc__, limit_s=2400)
    options.add_argument("--per-s", type=more_than_0, default=30.0, help="notifications per second (%(default)s)")
    options.add_argument("--mib", type=more_than_0, default=12.0, help="deleted per partition, at least (%(default)s)")
    options.add_argument("--sweep-after-s", type=more_than_0, default=15.0, help="SWEEP_AFTER_S (%(default)s)")
    chosen = options.parse_args(argv)

    def run() -> int:
        names = ("per_s", "mib", "sweep_after_s", "seed")
        report = Report("loss", {name: getattr(chosen, name) for name in names})
        environ = {"API_WORKERS": "2", "KAFKA_TOPIC_PARTITIONS": str(_PARTITIONS), "RETRY_LADDER_S": "5,10,20,60"}
        environ["SWEEP_AFTER_S"] = str(chosen.sweep_after_s)
        with lab(environ, origins=10, keep_logs=chosen.keep_logs) as running:
            loss = run_losses(
                report,
                running,
                per_s=chosen.per_s,
                mib=chosen.mib,
                sweep_after_s=chosen.sweep_after_s,
                seed=chosen.seed,
            )
            judge(report, running, loss)
            return report.finish(postgres=running.server_version(), json_file=chosen.json)

    return bounded(run, limit_s=chosen.limit_s)


def run_losses(report: Report, running: Lab, *, per_s: float, mib: float, sweep_after_s: float, seed: int) -> Loss:
    """Lose everything there is to lose, under load."""

    def make(n: int) -> dict[str, object]:
        return {"channel": "webhook", "recipient": running.url(0 if n % 20 == 0 else 1 + n % 9), "message": str(n)}

    running.behave(404, hosts=[_FAILING])
    with Load(running.entrance, make, per_s=per_s) as load:
        loss = Loss(running, load, mib=mib, sweep_after_s=sweep_after_s, rng=random.Random(seed))
        time.sleep(5)
        measure(report, loss, "topics", loss.delete_topics, must_bite=True)
        measure(report, loss, "records", loss.delete_records, must_bite=True)
        measure(report, loss, "skipped", loss.skip, must_bite=True)
        measure(report, loss, "reread", loss.reread, must_bite=False)
        measure(report, loss, "forgotten", loss.forget, must_bite=False)
    return loss
