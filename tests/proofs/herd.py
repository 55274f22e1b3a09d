"""5,000 notifications fail in the same second: how evenly their retries come, and how often a dead origin is asked.

All are made due at one instant, at `--origins` origins that answer 503 from then on. They climb the ladder; after
`--heal-after` retries of all the origins answer again. Each rung's retries are the attempts of one number, by the
instant they began; judged are those that all met dead origins.

    peak/mean      retries of the fullest (sliding) second, to the mean over the shortest interval with 98 % of the rung
    probes         requests that reach one origin in any second while its breaker is open: from a second after the first
                   attempt that was refused by the breaker, until the origins answer again
    at the return  what arrives in the fullest second once they answer again, to the rate at which the rung that is then
                   under way spreads them (all of them over its length)
"""

import random
import time
from collections import defaultdict
from datetime import UTC, datetime

from tests.arguments import at_least, more_than_0
from tests.proofs.figures import busiest, spread
from tests.proofs.lab import Lab, RunError, bounded, lab, parser, say, until
from tests.proofs.load import Api
from tests.proofs.report import Report

_BATCH = 500
_PATIENCE_S = 900.0


def warm(running: Lab, api: Api) -> None:
    """Let every origin prove itself: 60 successes where there are few, else 2 each."""
    origins = len(running.hosts)
    wanted = max(60, 2 * origins)
    items = [{"channel": "webhook", "recipient": running.url(n), "message": "warm"} for n in range(wanted)]
    for first in range(0, wanted, _BATCH):
        api.accept(items[first : first + _BATCH], give_up_at=time.time() + 60)
    if running.wait_ended(timeout_s=60) == float("inf"):
        raise RunError("the warm-up did not end")


def fail_together(running: Lab, api: Api, count: int, rng: random.Random) -> float:
    """Have `count` fall due at one instant, with every origin refusing; return the instant."""
    due_at = time.time() + 5 + count / 1000
    due = datetime.fromtimestamp(due_at, UTC)
    numbers = list(range(count))
    rng.shuffle(numbers)
    items = [
        {"channel": "webhook", "recipient": running.url(n), "message": str(n), "scheduled_for": due.isoformat()}
        for n in numbers
    ]
    for first in range(0, count, _BATCH):
        api.accept(items[first : first + _BATCH], give_up_at=due_at)
    running.behave(503)
    time.sleep(max(0.0, due_at - time.time()))
    return due_at


def begun(running: Lab) -> dict[int, list[float]]:
    """When attempts of each number began."""
    query = """SELECT a.attempt, extract(epoch FROM a.began_at)::float8
                 FROM delivery_attempts a JOIN notifications n ON n.id = a.notification_id
                WHERE n.scheduled_for IS NOT NULL"""
    found: dict[int, list[float]] = defaultdict(list)
    for attempt, began_at in running.rows(query):
        found[attempt].append(began_at)
    return found


def wait_for_rung(running: Lab, attempt: int, count: int) -> None:
    """Return once attempts up to this number have ended."""
    query = """SELECT count(*) FROM delivery_attempts a JOIN notifications n ON n.id = a.notification_id
                WHERE n.scheduled_for IS NOT NULL AND a.attempt = %s AND a.ended_at IS NOT NULL"""
    done = until(lambda: running.rows(query, attempt)[0][0] >= count, timeout_s=_PATIENCE_S, poll_s=0.5)
    if not done:
        raise RunError(f"attempt {attempt} was not made of all")
    say(f"attempt {attempt} of all {count} has ended")


def probes(running: Lab, *, healed_at: float) -> tuple[int, int]:
    """Return the most requests one origin saw within a second with its breaker open, and how many there were."""
    query = """SELECT destination, extract(epoch FROM min(ended_at))::float8 FROM delivery_attempts
                WHERE reason = 'breaker_open' GROUP BY destination"""
    opened = {destination.split("//")[1].split(":")[0]: at for destination, at in running.rows(query)}
    asked: dict[str, list[float]] = defaultdict(list)
    for row in running.ledger():
        if row.host in opened and opened[row.host] + 1 < row.received_at < healed_at:
            asked[row.host].append(row.received_at)
    return max((busiest(instants, 1.0) for instants in asked.values()), default=0), sum(map(len, asked.values()))


def judge(report: Report, running: Lab, *, count: int, healed_at: float, rungs: int, next_rung_s: float) -> None:
    """Compare with the targets; `rungs` retries of all met dead origins, the next rung is `next_rung_s` long."""
    for attempt, instants in sorted(begun(running).items()):
        found = spread(instants)
        name = "first attempts" if attempt == 1 else f"retry {attempt - 1}"
        report.figure(f"{name}: how many, in s", f"{found.count} in {found.window_s:.1f}")
        text = f"{found.ratio:.2f} ({found.peak_per_s}/{found.mean_per_s:.0f})"
        if 2 < attempt <= rungs + 1:
            report.promise(f"{name}: peak/mean per s", text, "<= 2", held=found.ratio <= 2)
        else:
            report.figure(f"{name}: peak/mean per s", text)
    most, all_of_them = probes(running, healed_at=healed_at)
    report.figure("requests while breakers were open", all_of_them)
    report.promise("most of them to one origin in a second", most, "<= 1", held=most <= 1)
    returned = [row.received_at for row in running.ledger() if row.received_at >= healed_at and row.answer == "200"]
    if not returned:
        report.promise("arrivals after the return", 0, f"{count}", held=False)
        return
    peak, even = busiest(returned, 1.0), count / next_rung_s
    text = f"{peak / even:.2f} ({peak}/{even:.0f})"
    report.promise("arrivals at the return: peak/mean per s", text, "<= 2", held=peak <= 2 * even)
    query = "SELECT status, count(*) FROM notifications WHERE scheduled_for IS NOT NULL GROUP BY status"
    stood = dict(running.rows(query))
    report.promise("sent in the end", stood.get("sent", 0), str(count), held=stood == {"sent": count})
    reasons = running.rows("SELECT reason, count(*) FROM delivery_attempts GROUP BY reason ORDER BY 2 DESC")
    report.note("attempts by reason: " + ", ".join(f"{reason} {number}" for reason, number in reasons))


def main(argv: list[str]) -> int:
    """Measure the herd."""
    options = parser(__doc__, limit_s=1800)
    options.add_argument("--count", type=at_least(1), default=5000, help="how many fail (%(default)s)")
    options.add_argument("--origins", type=at_least(1), default=1, help="at how many origins (%(default)s)")
    options.add_argument("--ladder", default="10,20,40,60,60,60", help="RETRY_LADDER_S (%(default)s)")
    options.add_argument("--dlq-poll-s", type=more_than_0, default=0.2, help="DLQ_POLL_S (%(default)s)")
    options.add_argument("--heal-after", type=int, default=3, help="retries of all (%(default)s)")
    chosen = options.parse_args(argv)
    if not 2 <= chosen.heal_after < len(chosen.ladder.split(",")):
        options.error("--heal-after is at least 2, and less than the ladder has rungs")

    def run() -> int:
        names = ("count", "origins", "ladder", "dlq_poll_s", "heal_after", "seed")
        report = Report("herd", {name: getattr(chosen, name) for name in names})
        environ = {"API_WORKERS": "2", "KAFKA_TOPIC_PARTITIONS": "4", "RETRY_LADDER_S": chosen.ladder}
        environ["DLQ_POLL_S"] = str(chosen.dlq_poll_s)
        with lab(environ, origins=chosen.origins, keep_logs=chosen.keep_logs) as running:
            api = Api(running.entrance)
            warm(running, api)
            fail_together(running, api, chosen.count, random.Random(chosen.seed))
            for attempt in range(1, chosen.heal_after + 2):
                wait_for_rung(running, attempt, chosen.count)
            healed_at = time.time()
            running.behave(200)
            say("the origins answer again")
            report.figure("s from the return until all were sent", running.wait_ended(timeout_s=_PATIENCE_S))
            next_rung_s = float(chosen.ladder.split(",")[chosen.heal_after])
            judge(
                report,
                running,
                count=chosen.count,
                healed_at=healed_at,
                rungs=chosen.heal_after,
                next_rung_s=next_rung_s,
            )
            return report.finish(postgres=running.server_version(), json_file=chosen.json)

    return bounded(run, limit_s=chosen.limit_s)
