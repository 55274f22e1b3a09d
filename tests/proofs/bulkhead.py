"""Half of the destinations hang: how the other half fares, in the same run.

`--destinations` origins get `--per-s` notifications a second in turn. After a warm-up and a calm phase every second
origin accepts requests and never answers. Compared are the other ones, before and after: the time from accept (the
instant in the id) to arrival, and how many arrived of what was accepted for them within each phase.
"""

from time import sleep, time

from tests.arguments import at_least, more_than_0
from tests.proofs.lab import Lab, Sampler, bounded, lab, parser, rss_mib, say
from tests.proofs.load import Load
from tests.proofs.phases import ARRIVE_WITHIN_S, Phase, compare, phase
from tests.proofs.report import Report


def overdue(running: Lab, timeout_s: float) -> tuple[float, int, float]:
    """Return the longest attempt begun to ended, how many timed out, and the longest a receiver was waited for."""
    query = """SELECT max(extract(epoch FROM ended_at - began_at))::float8,
                      count(*) FILTER (WHERE outcome <> 'accepted' AND tries > 0)
                 FROM delivery_attempts WHERE ended_at IS NOT NULL AND reason <> 'lease_over'"""
    longest_s, timed_out = running.rows(query)[0]
    held = [row.ended_at - row.received_at for row in running.ledger() if row.answer == "hang" and row.ended_at]
    return float(longest_s or 0), int(timed_out), max(held, default=0.0)


def judge(report: Report, running: Lab, calm: Phase, hanging: Phase, *, rss: Sampler, timeout_s: float) -> None:
    """Compare the phases."""
    compare(report, calm, hanging, name="hanging")
    base = max(rss.between(calm.begin, calm.end), default=0.0)
    grown = max(rss.between(hanging.begin, hanging.end + ARRIVE_WITHIN_S), default=float("inf")) - base
    report.figure("delivery_consumer MiB, calm", base)
    report.promise("MiB more while they hang", grown, "<= 16", held=grown <= 16)
    longest_s, timed_out, held_s = overdue(running, timeout_s)
    limit_s = 1.1 * timeout_s
    report.figure("attempts that were called and not accepted", timed_out)
    report.promise("longest attempt, begun to ended, s", longest_s, f"<= {limit_s:g}", held=longest_s <= limit_s)
    report.promise("longest a hanging receiver was waited for, s", held_s, f"<= {limit_s:g}", held=held_s <= limit_s)
    if not timed_out:
        report.promise("attempts that timed out", 0, ">= 1", held=False)
    reasons = running.rows("SELECT reason, count(*) FROM delivery_attempts GROUP BY reason ORDER BY 2 DESC")
    report.note("attempts by reason: " + ", ".join(f"{reason} {count}" for reason, count in reasons))


def main(argv: list[str]) -> int:
    """Measure the bulkhead."""
    options = parser(__doc__, limit_s=1800)
    options.add_argument("--destinations", type=at_least(2), default=200, help="(%(default)s)")
    options.add_argument("--per-s", type=more_than_0, default=100.0, help="in all (%(default)s)")
    options.add_argument("--warm-s", type=more_than_0, default=45.0, help="before the calm phase (%(default)s)")
    options.add_argument("--calm-s", type=more_than_0, default=60.0, help="(%(default)s)")
    options.add_argument("--hang-s", type=more_than_0, default=180.0, help="(%(default)s)")
    options.add_argument("--timeout-s", type=more_than_0, default=15.0, help="WEBHOOK_TIMEOUT_S (%(default)s)")
    chosen = options.parse_args(argv)
    count = chosen.destinations

    def run() -> int:
        names = ("destinations", "per_s", "warm_s", "calm_s", "hang_s", "timeout_s", "seed")
        report = Report("bulkhead", {name: getattr(chosen, name) for name in names})
        environ = {"API_WORKERS": "2", "KAFKA_TOPIC_PARTITIONS": "4", "WEBHOOK_TIMEOUT_S": str(chosen.timeout_s)}
        with lab(environ, origins=count, keep_logs=chosen.keep_logs) as running:
            calm, hanging, rss = phases(
                running, warm_s=chosen.warm_s, calm_s=chosen.calm_s, hang_s=chosen.hang_s, per_s=chosen.per_s
            )
            judge(report, running, calm, hanging, rss=rss, timeout_s=chosen.timeout_s)
            return report.finish(postgres=running.server_version(), json_file=chosen.json)

    return bounded(run, limit_s=chosen.limit_s)


def phases(running: Lab, *, warm_s: float, calm_s: float, hang_s: float, per_s: float) -> tuple[Phase, Phase, Sampler]:
    """Run the load through its phases."""
    count = len(running.hosts)
    healthy = set(range(0, count, 2))

    def make(n: int) -> dict[str, object]:
        return {"channel": "webhook", "recipient": running.url(n), "message": "x" * 200}

    pid = running.stack.services["delivery_consumer"].pid
    with Sampler(lambda: rss_mib(pid)) as rss, Load(running.entrance, make, per_s=per_s) as load:
        sleep(warm_s)
        calm_at = time()
        say("calm")
        sleep(calm_s)
        hang_at = time()
        running.behave("hang", hosts=[host for number, host in enumerate(running.hosts) if number not in healthy])
        say("half of them hang")
        sleep(hang_s)
        end_at = time()
        sleep(ARRIVE_WITHIN_S)
    rows = running.ledger()
    watched = [one.id for one in load.accepted if one.n % count in healthy]
    calm = phase(watched, rows, begin=calm_at, end=hang_at - 1)
    return calm, phase(watched, rows, begin=hang_at, end=end_at), rss
