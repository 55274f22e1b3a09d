"""kill -9 of each part while calm load runs: how soon the pipeline goes on.

Each part is killed and started again at once, as a supervisor would, --times times; between two kills the pipeline
comes to rest. Seconds are counted from the kill, for PostgreSQL from its first answered query, to the first success
of something *begun* after that instant:

    api, api_worker  the first 2xx to a request sent after it (all of gunicorn killed, or one worker)
    relay, delivery  the first arrival at a receiver of a notification accepted after it
    dlq_consumer     the first dead letter tracked after it
    postgres         the first 2xx, and the first arrival of a notification accepted after it (immediate shutdown)
"""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from infra.local import watchdog
from tests.arguments import at_least, more_than_0
from tests.proofs.figures import accepted_at
from tests.proofs.lab import Lab, RunError, bounded, lab, parser, say, until
from tests.proofs.load import Load
from tests.proofs.report import Report

FAILING = "127.0.1.1"  # the first of the receiver's addresses: what goes there becomes a dead letter
_PATIENCE_S = 60.0
TARGETS_S = {
    "api": 3.0,
    "api_worker": 3.0,
    "relay": 3.0,
    "delivery": 12.0,
    "dlq_consumer": 12.0,
    "postgres: first 2xx": 5.0,
    "postgres: first send": 5.0,
}


@dataclass(slots=True)
class Trials:
    """What one part's kills took, seconds."""

    lab: Lab
    load: Load
    took_s: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, seconds: float) -> None:
        """Remember one measurement."""
        self.took_s.setdefault(name, []).append(seconds)

    def first_2xx(self, since: float) -> float:
        """Seconds from `since` to the first answer to a request sent after it."""
        found: list[float] = []

        def look() -> bool:
            found[:] = [one.answered_at for one in self.load.accepted[-400:] if one.asked_at > since]
            return bool(found)

        return min(found) - since if until(look, timeout_s=_PATIENCE_S, poll_s=0.01) else float("inf")

    def first_send(self, since: float, *, seen: int) -> float:
        """Seconds from `since` to the first arrival of something accepted after it; `seen` rows are known."""
        found: list[float] = []

        def look() -> bool:
            rows = self.lab.ledger(since=seen)
            found[:] = [row.received_at for row in rows if row.host != FAILING and accepted_at(row.id) > since]
            return bool(found)

        return min(found) - since if until(look, timeout_s=_PATIENCE_S) else float("inf")

    def first_tracked(self, since: float) -> float:
        """Seconds from `since` to the first dead letter written after it."""
        query = """SELECT min(extract(epoch FROM last_failed_at))::float8 FROM dlq_messages
                    WHERE last_failed_at > to_timestamp(%s)"""
        found: list[float] = []

        def look() -> bool:
            found[:] = [row[0] for row in self.lab.rows(query, since) if row[0] is not None]
            return bool(found)

        return min(found) - since if until(look, timeout_s=_PATIENCE_S) else float("inf")


def kill_service(trials: Trials, service: str, measure: Callable[[float, int], None]) -> None:
    """Kill a service with all below it, start it again at once, measure."""
    process, seen = trials.lab.stack.services[service], len(trials.lab.ledger())
    at = time.time()
    process.kill()
    process.start()
    measure(at, seen)


def kill_api(trials: Trials) -> None:
    """gunicorn's master and workers."""
    kill_service(trials, "api_service", lambda at, _: trials.note("api", trials.first_2xx(at)))


def kill_api_worker(trials: Trials) -> None:
    """One worker; its master makes another."""
    workers = watchdog.descendants(trials.lab.stack.services["api_service"].pid)
    at = time.time()
    os.kill(workers[0], signal.SIGKILL)
    trials.note("api_worker", trials.first_2xx(at))


def kill_relay(trials: Trials) -> None:
    """The relay."""
    kill_service(trials, "outbox_relay", lambda at, seen: trials.note("relay", trials.first_send(at, seen=seen)))


def kill_delivery(trials: Trials) -> None:
    """The delivery consumer."""
    kill_service(
        trials, "delivery_consumer", lambda at, seen: trials.note("delivery", trials.first_send(at, seen=seen))
    )


def kill_dlq(trials: Trials) -> None:
    """The dead letter consumer."""
    kill_service(trials, "dlq_consumer", lambda at, _: trials.note("dlq_consumer", trials.first_tracked(at)))


def kill_postgres(trials: Trials) -> None:
    """PostgreSQL, which comes back with crash recovery."""
    seen = len(trials.lab.ledger())
    trials.lab.stack.postgres.stop(immediate=True)
    trials.lab.stack.postgres.start()
    ready_at = time.time()
    trials.note("postgres: first 2xx", trials.first_2xx(ready_at))
    trials.note("postgres: first send", trials.first_send(ready_at, seen=seen))


KILLS: dict[str, Callable[[Trials], None]] = {
    "api": kill_api,
    "api_worker": kill_api_worker,
    "relay": kill_relay,
    "delivery": kill_delivery,
    "dlq_consumer": kill_dlq,
    "postgres": kill_postgres,
}


def leases_over(running: Lab) -> list[float]:
    """How long attempts under way at a kill stayed open before they were ended as unknown."""
    query = """SELECT extract(epoch FROM ended_at - began_at)::float8 FROM delivery_attempts
                WHERE reason = 'lease_over'"""
    return [row[0] for row in running.rows(query)]


def rest(trials: Trials, rng: random.Random) -> None:
    """Wait until nothing is late any more, then for a moment drawn by lot."""
    query = """SELECT count(*) FROM notifications WHERE status IN ('pending', 'processing') AND attempt = 1
                AND created_at < now() - interval '1 second' AND created_at > now() - interval '9 seconds'"""
    if not until(lambda: trials.lab.rows(query)[0][0] == 0, timeout_s=_PATIENCE_S, poll_s=0.2):
        raise RunError("the pipeline did not come to rest between two kills")
    time.sleep(1 + rng.random())


def run_trials(running: Lab, parts: list[str], *, times: int, per_s: float, seed: int) -> Trials:
    """Kill each part `times` times under load."""
    rng = random.Random(seed)
    running.behave(200, delay_s=0.3)  # so that a kill meets some under way
    running.behave(404, hosts=[FAILING])

    def make(n: int) -> dict[str, object]:
        return {"channel": "webhook", "recipient": running.url(0 if n % 10 == 0 else 1 + n % 19), "message": str(n)}

    with Load(running.entrance, make, per_s=per_s) as load:
        trials = Trials(running, load)
        time.sleep(5)
        for part in parts:
            for _ in range(times):
                rest(trials, rng)
                KILLS[part](trials)
            figures = {name: values for name, values in trials.took_s.items() if name.split(":")[0] == part}
            for name, values in figures.items():
                say(f"{name}: median {median(values):.2f} s, max {max(values):.2f} s of {len(values)}")
    return trials


def judge(report: Report, running: Lab, trials: Trials) -> None:
    """Compare with the targets, and with what was accepted."""
    for name, values in trials.took_s.items():
        report.figure(f"{name}: median s of {len(values)}", median(values))
        target = TARGETS_S[name]
        report.promise(f"{name}: longest s", max(values), f"<= {target:g}", held=max(values) <= target)
    waited_s = running.wait_ended(timeout_s=240)
    arrived = {row.id for row in running.ledger()}
    lost = [one.id for one in trials.load.accepted if one.id not in arrived]
    report.figure("accepted", len(trials.load.accepted))
    report.figure("requests repeated by their key", trials.load.repeats)
    report.promise("accepted and never arrived", len(lost), "0", held=not lost)
    report.promise("s until all had ended", waited_s, "<= 240", held=waited_s <= 240)
    if open_s := leases_over(running):
        report.figure("attempts under way at a kill", len(open_s))
        report.figure("s until ended as unknown, longest", max(open_s))


def main(argv: list[str]) -> int:
    """Measure recovery."""
    options = parser(__doc__, limit_s=3600)
    options.add_argument("--times", type=at_least(1), default=20, help="kills of each part (%(default)s)")
    options.add_argument("--per-s", type=more_than_0, default=30.0, help="notifications per second (%(default)s)")
    options.add_argument("--parts", default=",".join(KILLS), help="which, separated by commas (%(default)s)")
    chosen = options.parse_args(argv)
    parts = chosen.parts.split(",")
    if unknown := set(parts) - set(KILLS):
        options.error(f"--parts: there is no {', '.join(sorted(map(repr, unknown)))}; there are {', '.join(KILLS)}")

    def run() -> int:
        report = Report("recovery", {"times": chosen.times, "per_s": chosen.per_s, "seed": chosen.seed})
        environ = {"API_WORKERS": "2", "KAFKA_TOPIC_PARTITIONS": "4", "RETRY_LADDER_S": "5,10,20,60"}
        with lab(environ, origins=20, keep_logs=chosen.keep_logs) as running:
            trials = run_trials(running, parts, times=chosen.times, per_s=chosen.per_s, seed=chosen.seed)
            judge(report, running, trials)
            return report.finish(postgres=running.server_version(), json_file=chosen.json)

    return bounded(run, limit_s=chosen.limit_s)
