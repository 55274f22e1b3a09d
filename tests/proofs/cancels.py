"""Cancels race the claims, with kill -9 on the way: nothing is sent after a cancel's 200.

`--count` notifications are accepted in batches, half of them scheduled within 2 s; each is cancelled once, by one of
many clients, between 0 and 2 s after its accept, or, to make the race close, within 60 ms of the instant it falls due.
A cancel that gets no answer (its API was killed) is repeated until it gets one. Meanwhile relay, API and delivery
consumer are killed in turn. At rest:

    answered 200   the status is cancelled, no attempt began after the answer, nothing arrived after it
    answered 409   the notification has ended otherwise: sent

Both answers must be given to at least 15 %, or the run proves nothing.
"""

import heapq
import itertools
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.arguments import at_least, more_than_0
from tests.proofs.lab import Entrance, Lab, RunError, bounded, lab, parser, say
from tests.proofs.load import NOTIFICATIONS, Api, NoAnswerError, RefusedError
from tests.proofs.report import Report

_BATCH = 100
_CLIENTS = 24
_WITHIN_S = 2.0
_CLOSE_S = 0.06
_LAG_S = 0.05
_FREQUENT = 0.15


@dataclass(frozen=True, slots=True)
class Answer:
    """What a cancel was told; instants are Unix seconds."""

    status: int
    asked_at: float  # when the request that was answered left
    answered_at: float
    mode: str


@dataclass(slots=True)
class Race:
    """Cancels that wait for their instant, and what was answered to those that were sent."""

    entrance: Entrance
    give_up_at: float
    waiting: list[tuple[float, int, str, str]] = field(default_factory=list)  # when, number, id, mode
    answers: dict[str, Answer] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False

    def plan(self, at: float, id_: str, mode: str) -> None:
        """Have an id cancelled at an instant."""
        with self._changed:
            heapq.heappush(self.waiting, (at, next(self._numbers), id_, mode))
            self._changed.notify()

    def close(self) -> None:
        """Nothing more will be planned."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def lag_s(self) -> float:
        """How long the most overdue cancel has waited for a client."""
        with self._changed:
            return max(0.0, time.time() - self.waiting[0][0]) if self.waiting else 0.0

    def work(self) -> None:
        """One client: cancel what is due until nothing is left."""
        api = Api(self.entrance)
        while (due := self._next()) is not None:
            at, id_, mode = due
            self.late_s.append(time.time() - at)
            try:
                path = f"{NOTIFICATIONS}/{id_}/cancel"
                status, _, asked_at, answered_at = api.insist("POST", path, give_up_at=self.give_up_at)
                self.answers[id_] = Answer(status, asked_at, answered_at, mode)
            except NoAnswerError:
                self.unanswered.append(id_)
        api.close()

    def _next(self) -> tuple[float, str, str] | None:
        with self._changed:
            while True:
                if self.waiting:
                    wait_s = self.waiting[0][0] - time.time()
                    if wait_s <= 0:
                        at, _, id_, mode = heapq.heappop(self.waiting)
                        return at, id_, mode
                    self._changed.wait(min(wait_s, 0.05))
                elif self._closed:
                    return None
                else:
                    self._changed.wait(0.05)


def accept_batches(running: Lab, race: Race, *, count: int, per_s: float, rng: random.Random) -> None:
    """Accept at a steady rate, or as fast as cancels can be sent in time, and plan each one's cancel."""
    api, next_at = Api(running.entrance), time.time()
    for first in range(0, count, _BATCH):
        time.sleep(max(0.0, next_at - time.time()))
        while race.lag_s() > _LAG_S and time.time() < race.give_up_at:
            time.sleep(0.02)
        next_at = max(next_at, time.time() - 1) + _BATCH / per_s
        for id_, due_at in accept_one_batch(running, api, first, give_up_at=race.give_up_at, rng=rng):
            plan_one(race, id_, due_at, now=time.time(), rng=rng)


def accept_one_batch(
    running: Lab, api: Api, first: int, *, give_up_at: float, rng: random.Random
) -> list[tuple[str, float | None]]:
    """Have a batch accepted; return ids, and when each falls due.

    With the API away for a moment the instants may have passed meanwhile: then it refuses, and gets later ones.
    """
    while True:
        now = time.time()
        due = [now + rng.uniform(0.1, _WITHIN_S) if n % 2 else None for n in range(_BATCH)]
        items = []
        for n, due_at in enumerate(due):
            item = {"channel": "webhook", "recipient": running.url(first + n), "message": "cancel me"}
            if due_at is not None:
                item["scheduled_for"] = datetime.fromtimestamp(due_at, UTC).isoformat()
            items.append(item)
        try:
            return list(zip(api.accept(items, give_up_at=give_up_at), due, strict=True))
        except RefusedError:
            if time.time() > give_up_at:
                raise


def plan_one(race: Race, id_: str, due_at: float | None, *, now: float, rng: random.Random) -> None:
    """Draw the instant of one cancel."""
    if due_at is None:
        close = rng.random() < 0.5  # else most of these would be sent long before
        race.plan(now + rng.uniform(0, 4 * _CLOSE_S if close else _WITHIN_S), id_, "at once")
    elif rng.random() < 0.5:
        race.plan(due_at + rng.uniform(-_CLOSE_S, 2 * _CLOSE_S), id_, "close to due")
    else:
        race.plan(now + rng.uniform(0, _WITHIN_S), id_, "scheduled")


def kill_in_turn(running: Lab, stop: threading.Event, rng: random.Random, kills: Counter[str]) -> None:
    """Kill and start again, every few seconds, until told to stop."""
    for service in itertools.cycle(("outbox_relay", "delivery_consumer", "api_service", "delivery_consumer")):
        if stop.wait(rng.uniform(3, 7)):
            return
        process = running.stack.services[service]
        process.kill()
        process.start()
        kills[service] += 1


def violations(running: Lab, race: Race) -> dict[str, list[str]]:
    """What must not be, by kind, with the evidence."""
    query = """SELECT n.id::text, n.status, coalesce(max(extract(epoch FROM a.began_at))::float8, 0), count(a.*)
                 FROM notifications n LEFT JOIN delivery_attempts a ON a.notification_id = n.id
                GROUP BY n.id"""
    stood = {id_: (status, began_at, attempts) for id_, status, began_at, attempts in running.rows(query)}
    found: dict[str, list[str]] = {
        "attempts begun after a cancel's 200": [],
        "arrivals after a cancel's 200": [],
        "200 and not cancelled": [],
        "409 and not ended otherwise": [],
        "other answers": [f"{id_}: {one.status}" for id_, one in race.answers.items() if one.status not in {200, 409}],
    }
    for id_, one in race.answers.items():
        status, began_at, _ = stood.get(id_, ("absent", 0.0, 0))
        if one.status == 200 and status != "cancelled":
            found["200 and not cancelled"].append(f"{id_}: {status}")
        if one.status == 200 and began_at > one.answered_at:
            found["attempts begun after a cancel's 200"].append(f"{id_}: {began_at - one.answered_at:.3f} s after it")
        if one.status == 409 and status != "sent":
            found["409 and not ended otherwise"].append(f"{id_}: {status}")
    for row in running.ledger():
        answer = race.answers.get(row.id)
        if answer is not None and answer.status == 200 and row.received_at > answer.answered_at:
            found["arrivals after a cancel's 200"].append(
                f"{row.id}: {row.received_at - answer.answered_at:.3f} s after"
            )
    return found


def judge(report: Report, running: Lab, race: Race, kills: Counter[str], count: int) -> None:
    """Compare with the promise."""
    answered = Counter(one.status for one in race.answers.values())
    report.figure("kills", sum(kills.values()))
    report.note("kills: " + ", ".join(f"{service} {number}" for service, number in kills.items()))
    for status, name in ((200, "cancelled"), (409, "too late")):
        share = answered[status] / max(1, count)
        report.promise(f"answered {status}, {name}", answered[status], f">= {_FREQUENT:.0%}", held=share >= _FREQUENT)
    report.promise("cancels without an answer", len(race.unanswered), "0", held=not race.unanswered)
    for kind, offenders in violations(running, race).items():
        report.promise(kind, len(offenders), "0", held=not offenders)
        for offender in offenders[:5]:
            report.note(f"{kind}: {offender}")
    modes = Counter((one.mode, one.status) for one in race.answers.values())
    report.note(", ".join(f"{mode} {status}: {number}" for (mode, status), number in sorted(modes.items())))
    tried = running.rows("""SELECT count(DISTINCT n.id) FROM notifications n JOIN delivery_attempts a
                                ON a.notification_id = n.id WHERE n.status = 'cancelled'""")
    report.figure("cancelled while waiting for a retry", int(tried[0][0]))


def main(argv: list[str]) -> int:
    """Measure the cancels."""
    options = parser(__doc__, limit_s=1800)
    options.add_argument("--count", type=at_least(1), default=20_000, help="how many cancels (%(default)s)")
    options.add_argument("--per-s", type=more_than_0, default=200.0, help="accepted per second (%(default)s)")
    chosen = options.parse_args(argv)

    def run() -> int:
        report = Report("cancels", {"count": chosen.count, "per_s": chosen.per_s, "seed": chosen.seed})
        environ = {"API_WORKERS": "2", "KAFKA_TOPIC_PARTITIONS": "4", "RETRY_LADDER_S": "1,2,4,8,8,8"}
        with lab(environ, origins=10, keep_logs=chosen.keep_logs) as running:
            race, kills = run_race(running, count=chosen.count, per_s=chosen.per_s, seed=chosen.seed)
            report.figure("s until all had ended", running.wait_ended(timeout_s=180))
            judge(report, running, race, kills, chosen.count)
            return report.finish(postgres=running.server_version(), json_file=chosen.json)

    return bounded(run, limit_s=chosen.limit_s)


def run_race(running: Lab, *, count: int, per_s: float, seed: int) -> tuple[Race, Counter[str]]:
    """Accept, cancel and kill."""
    rng = random.Random(seed)
    running.behave(200, delay_s=0.05)  # so that a kill meets some under way
    race = Race(running.entrance, give_up_at=time.time() + count / per_s * 10 + 120)
    stop, kills = threading.Event(), Counter[str]()
    clients = [threading.Thread(target=race.work, daemon=True) for _ in range(_CLIENTS)]
    killer = threading.Thread(target=kill_in_turn, args=(running, stop, random.Random(seed + 1), kills), daemon=True)
    for thread in (*clients, killer):
        thread.start()
    try:
        accept_batches(running, race, count=count, per_s=per_s, rng=rng)
        say("all are accepted")
    except (NoAnswerError, RefusedError) as error:
        raise RunError(str(error)) from error
    finally:
        race.close()
        stop.set()
        for thread in (*clients, killer):
            thread.join(timeout=120)
    late = sorted(race.late_s)
    say(f"killed {sum(kills.values())} times; {len(late)} cancels left")
    say(f"they left {late[len(late) // 2] * 1000:.0f} ms late (median), {late[-1]:.1f} s at most")
    return race, kills
