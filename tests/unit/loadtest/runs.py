"""Results of runs that never were, for the tests of the report."""

import math
from typing import Any

from loadtest.results import Event, Group, Latency, Limit, RunResult, Series

HOSTILE = """</script><script>alert(1)</script><img src=x onerror=alert(1)> & "quotes" 'too' <!-- """


def a_run(**changed: Any) -> RunResult:
    """A run of 120 seconds with lines in every group: a rate in two steps, and a receiver that was slow for a while."""
    fields: dict[str, Any] = {
        "kind": "load",
        "profile": "load",
        "seed": 7,
        "command": "python -m loadtest run load --seed 7",
        "started_at": "2030-01-31T09:00:00+00:00",
        "took_s": 121.5,
        "versions": {"python": "3.11.7", "postgresql": "18.4", "kafka": "4.3.0"},
        "machine": {"cores": 2, "memory_gib": 23.4, "cpu": "some processor", "load_at_start": 0.25},
        "settings": {"rate_per_s": "400", "mix": "webhook 80, email 20", "delivery processes": "1"},
        "limits": [
            Limit("lost", "0", "0", held=True),
            Limit("accept to receiver, p99", "<= 250 ms", "412 ms", held=False),
        ],
        "latencies": [
            Latency("accept", 40000, 3.1, 5.2, 11.4, 35.0, 80.5),
            Latency("accept_to_receiver", 40000, 9.8, 30.1, 412.0, 800.0, 1250.0),
        ],
        "series": lines(),
        "counts": {"asked": 40000, "accepted": 40000, "refused": 0, "received": 40001, "doubled": 1, "lost": 0},
        "events": [
            Event(5.0, "the measured time begins"),
            Event(60.0, "the rate doubles"),
            Event(80.0, "receiver slow"),
        ],
        "notes": ["A note of the run."],
    }
    return RunResult(**{**fields, **changed})


def lines(seconds: int = 120) -> list[Series]:
    """Make up something plausible for every group."""
    at_s = [float(second) for second in range(seconds)]
    rate = [400.0 if at < seconds / 2 else 800.0 for at in at_s]
    slow = [max(0.0, 1 - abs(at - seconds * 0.7) / (seconds * 0.1)) for at in at_s]
    wave = [1 + 0.05 * math.sin(at * 1.7) for at in at_s]

    def series(name: str, unit: str, group: Group, values: list[float]) -> Series:
        return Series(name, unit, group, at_s, list(values))

    received = [r * w - 300 * s for r, w, s in zip(rate, wave, slow, strict=True)]
    made = [
        series("asked", "1/s", "throughput", rate),
        series("accepted", "1/s", "throughput", [r * w for r, w in zip(rate, wave, strict=True)]),
        series("received", "1/s", "throughput", received),
        *(
            series(
                f"accept to receiver {name}",
                "ms",
                "latency",
                [base * w + up * s for w, s in zip(wave, slow, strict=True)],
            )
            for name, base, up in (("p50", 9.0, 200), ("p90", 20.0, 600), ("p99", 60.0, 1200))
        ),
        series(
            "not yet delivered",
            "notifications",
            "backlog",
            [10 * w + 4000 * s for w, s in zip(wave, slow, strict=True)],
        ),
        series("outbox", "rows", "backlog", [20 * w for w in wave]),
        series("notifications.webhook", "records", "lag", [5 * w + 3000 * s for w, s in zip(wave, slow, strict=True)]),
        series("commits", "1/s", "database", [r * 3 for r in rate]),
        series("dead rows", "rows", "database", [at % 30 * 200 for at in at_s]),
        series("retries", "1/s", "retries", [40 * s for s in slow]),
    ]
    for number, process in enumerate(
        ("api_service", "outbox_relay", "delivery_consumer", "dlq_consumer", "postgres", "kafka")
    ):
        made.append(
            series(process, "cores", "cpu", [w * r / 400 * 0.1 * (number + 1) for w, r in zip(wave, rate, strict=True)])
        )
        made.append(series(process, "MiB", "memory", [60 + 10 * number + at * 0.02 for at in at_s]))
    backlog = made[6].values
    backlog[30] = backlog[31] = None  # not read for two seconds
    return made
