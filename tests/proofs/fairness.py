"""Two tenants send ten times their share: how a third one fares that keeps to its own.

What there is to share is small on purpose, so that slots are short and not the machine: `--concurrency` attempts at a
time, of receivers that all take `--takes-s`. A tenant's limit is a third of what these come to. In the calm phase each
sends half of its limit. Then the first one floods, and so does the second, whose receivers do not answer any more.
Compared is the third before and after: from accept (the instant in the id) to arrival, and how many arrived of what was
accepted within each phase.

Notifications are accepted by the library, into the same tables as the API's: what the door does against floods is not
measured here.
"""

import itertools
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from api_service.accept import NotificationRequest, Origin, prepare_many, write
from infra.local.stack import DATABASE
from shared import db
from shared.model import Channel
from shared.records import Topics
from tests.arguments import at_least, more_than_0
from tests.proofs.figures import accepted_at
from tests.proofs.lab import Lab, bounded, lab, parser, say
from tests.proofs.phases import ARRIVE_WITHIN_S, Phase, compare, phase
from tests.proofs.receiver import Row
from tests.proofs.report import Report

FLOODS, HANGS, CALM = TENANTS = ("floods", "hangs", "calm")
_HOSTS = 40  # of each of the two whose receivers answer
_TIMES = 10
_TICK_S = 0.05


class Sender:
    """One tenant's notifications at a rate that may be changed, on a connection of its own."""

    def __init__(self, running: Lab, tenant: str, origins: range, *, per_s: float) -> None:
        self._running, self.tenant, self._origins = running, tenant, itertools.cycle(origins)
        self.per_s = per_s
        self.accepted: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        conn = db.connect(self._running.stack.postgres.dsn(DATABASE), application_name="fairness")
        owed, at = 0.0, time.monotonic()
        while not self._stop.wait(_TICK_S):
            now = time.monotonic()
            owed, at = owed + (now - at) * self.per_s, now
            if count := int(owed):
                owed -= count
                requests = [self._request() for _ in range(count)]
                news = prepare_many(requests, topics=Topics(), origin=Origin(self.tenant))
                write(conn, news)
                self.accepted += [str(new.id) for new in news]
        conn.close()

    def _request(self) -> NotificationRequest:
        return NotificationRequest(Channel.WEBHOOK, self._running.url(next(self._origins)), "x" * 200)


def accepted_per_s(sender: Sender, during: Phase) -> float:
    """Return how many a sender had accepted per second of a phase."""
    count = sum(during.begin <= accepted_at(id_) < during.end for id_ in sender.accepted)
    return count / (during.end - during.begin)


def judge(report: Report, running: Lab, calm: Phase, flooded: Phase) -> None:
    """Compare the third tenant's phases, and say what became of the others'."""
    compare(report, calm, flooded, name="flooded")
    query = "SELECT tenant_id, status, count(*) FROM notifications GROUP BY 1, 2 ORDER BY 1, 2"
    report.note("notifications: " + ", ".join(f"{one} {status} {count}" for one, status, count in running.rows(query)))
    [(waiting,)] = running.rows("SELECT count(*) FROM outbox_due")
    report.figure("put off and not yet due", waiting)


def others(
    report: Report, rows: Sequence[Row], senders: Sequence[Sender], flooded: Phase, *, limit_per_s: float
) -> None:
    """Hold that the other two sent what they should, and that what the third one leaves is theirs."""
    for sender in senders:
        ids = set(sender.accepted)
        calls = sum(row.id in ids and flooded.begin <= row.received_at < flooded.end for row in rows)
        asked, called = accepted_per_s(sender, flooded), calls / (flooded.end - flooded.begin)
        least = 0.9 * _TIMES * limit_per_s
        what = f"flooded: of the one that {sender.tenant}"
        report.promise(f"{what}, accepted per s", asked, f">= {least:g}", held=asked >= least)
        report.promise(f"{what}, calls per s", called, "> 0", held=calls > 0)


def phases(
    running: Lab, *, limit_per_s: float, takes_s: float, warm_s: float, calm_s: float, flood_s: float
) -> tuple[Phase, Phase, list[Row], list[Sender]]:
    """Run the load through its phases."""
    count = len(running.hosts)
    origins = {FLOODS: range(_HOSTS), CALM: range(_HOSTS, 2 * _HOSTS), HANGS: range(2 * _HOSTS, count)}
    running.behave(200, delay_s=takes_s)
    floods, hangs, calm = (Sender(running, one, origins[one], per_s=limit_per_s / 2) for one in TENANTS)
    with floods, hangs, calm:
        time.sleep(warm_s)
        calm_at = time.time()
        say("calm")
        time.sleep(calm_s)
        flood_at = time.time()
        running.behave("hang", hosts=[running.hosts[number] for number in origins[HANGS]])
        floods.per_s = hangs.per_s = _TIMES * limit_per_s
        say(f"two of them send {_TIMES} times their limit, one of these to what hangs")
        time.sleep(flood_s)
        end_at = time.time()
        floods.per_s = hangs.per_s = 0
        time.sleep(ARRIVE_WITHIN_S)
    rows = running.ledger()
    before = phase(calm.accepted, rows, begin=calm_at, end=flood_at - 1)
    return before, phase(calm.accepted, rows, begin=flood_at, end=end_at), rows, [floods, hangs]


def main(argv: list[str]) -> int:
    """Measure fairness between tenants."""
    options = parser(__doc__, limit_s=1800)
    options.add_argument("--concurrency", type=at_least(3), default=20, help="DELIVERY_CONCURRENCY (%(default)s)")
    options.add_argument("--hanging", type=at_least(1), default=400, help="origins that hang (%(default)s)")
    options.add_argument("--takes-s", type=more_than_0, default=0.5, help="of receivers that answer (%(default)s)")
    options.add_argument("--warm-s", type=more_than_0, default=20.0, help="before the calm phase (%(default)s)")
    options.add_argument("--calm-s", type=more_than_0, default=60.0, help="(%(default)s)")
    options.add_argument("--flood-s", type=more_than_0, default=120.0, help="(%(default)s)")
    chosen = options.parse_args(argv)
    limit_per_s = chosen.concurrency / chosen.takes_s / len(TENANTS)

    def run() -> int:
        names = ("concurrency", "hanging", "takes_s", "warm_s", "calm_s", "flood_s", "seed")
        sizes = {name: getattr(chosen, name) for name in names} | {"limit_per_s": round(limit_per_s, 1)}
        report = Report("fairness", sizes)
        environ = {"KAFKA_TOPIC_PARTITIONS": "4", "DELIVERY_CONCURRENCY": str(chosen.concurrency)}
        with lab(environ, origins=2 * _HOSTS + chosen.hanging, keep_logs=chosen.keep_logs) as running:
            calm, flooded, rows, senders = phases(
                running,
                limit_per_s=limit_per_s,
                takes_s=chosen.takes_s,
                warm_s=chosen.warm_s,
                calm_s=chosen.calm_s,
                flood_s=chosen.flood_s,
            )
            judge(report, running, calm, flooded)
            others(report, rows, senders, flooded, limit_per_s=limit_per_s)
            return report.finish(postgres=running.server_version(), json_file=chosen.json)

    return bounded(run, limit_s=chosen.limit_s)
