"""What each stage costs with millions of ended notifications stored, beside an empty database."""

import time
from typing import Final

import orjson

from loadtest.bench.bodies import batches, items
from loadtest.bench.figures import CPU_US, Promise, Sample
from loadtest.bench.frame import Contender, Plan, Stage
from loadtest.bench.http_client import post
from loadtest.bench.rig import Installation, Rig
from loadtest.bench.stages.accept import BATCH_CONNECTIONS, BATCH_ITEMS, CHANNELS, CONNECTIONS, PATH, HttpServer
from loadtest.bench.stages.deliver import Delivery
from loadtest.bench.stages.relay import Relays

ROWS: Final = 10_000_000
_CHUNK: Final = 100_000
_FILL: Final = """
    WITH made AS (
        INSERT INTO notifications (id, tenant_id, channel, recipient, priority, on_unknown, status, created_at,
                                   updated_at, bucket, topic, record)
        SELECT uuidv7(interval '-1 day'), 'default', 'webhook', 'https://hooks-' || n %% 1000 || '.example.com/o',
               'normal', 'retry', 'sent', now() - interval '1 day', now() - interval '1 day', (n %% 64)::smallint,
               'bench.webhook', convert_to(repeat(md5(n::text), 18), 'UTF8')
          FROM generate_series(%(start)s::bigint, %(start)s::bigint + %(count)s - 1) AS n
        RETURNING id
    )
    INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, owner, lease_until, began_at, ended_at,
                                   outcome, provider, destination, reason, receipt, tries)
    SELECT id, 1, 'default', gen_random_uuid(), now() - interval '1 day', now() - interval '1 day',
           now() - interval '1 day', 'accepted', 'webhook', 'https://hooks.example.com:443', 'accepted', 'http_200', 1
      FROM made
"""


class Stored:
    """A contender on a database that already holds `rows` ended notifications; it keeps what it adds."""

    def __init__(self, inner: Contender, installation: Installation, *, rows: int) -> None:
        self.name, self.what = inner.name, f"{inner.what}; {rows:,} stored"
        self._inner, self._installation, self._rows = inner, installation, rows

    def setup(self) -> None:
        """Fill the database, unless another contender on it has."""
        with self._installation.connect() as conn:
            if not conn.execute("SELECT EXISTS (SELECT FROM notifications)").fetchall()[0][0]:
                for start in range(0, self._rows, _CHUNK):
                    conn.execute(_FILL, {"start": start, "count": min(_CHUNK, self._rows - start)})
                conn.execute("VACUUM ANALYZE")
                conn.execute("CHECKPOINT")
                time.sleep(1.0)
        self._inner.setup()

    def round(self) -> Sample:
        """Measure."""
        return self._inner.round()

    def teardown(self) -> None:
        """The database goes with the server."""
        self._inner.teardown()


NAMES: Final = ("accept", "batch", "relay", "deliver")


def _contender(stage: str, installation: Installation, plan: Plan, *, which: str) -> Contender:
    """Return a stage on a database that is empty at each round, or that is `stored` and keeps what it has."""
    name, keep = f"{stage}, {which}", which == "stored"
    if stage == "relay":
        return Relays(installation, name, "relaying", rows=plan.pick(200_000, 1_000), keep=keep)
    if stage == "deliver":
        return Delivery(
            installation,
            name,
            "a provider that answers at once",
            count=plan.pick(50_000, 500),
            channel="webhook",
            module="loadtest.bench.inside.instant_provider",
            receiving=False,
            keep=keep,
        )
    if stage == "batch":
        size, connections, path = BATCH_ITEMS, BATCH_CONNECTIONS, f"{PATH}/batch"
        bodies = batches(plan.seed, count=4, size=BATCH_ITEMS, channels=CHANNELS)
    else:
        size, connections, path = 1, CONNECTIONS, PATH
        bodies = [orjson.dumps(item) for item in items(plan.seed, 500, channels=CHANNELS)]
    return HttpServer(
        installation,
        name,
        f"POST {path}",
        [post(path, body, api_key=installation.rig.api_key) for body in bodies],
        connections=connections,
        seconds=plan.pick(8.0, 0.5),
        work_per_answer=size,
        keep=keep,
    )


def _build(rig: Rig, plan: Plan) -> list[Contender]:
    """Return each stage twice; topics of their own keep one's records from another's consumer."""
    full, rows = rig.installation("stored"), plan.pick(ROWS, 5_000)
    made: list[Contender] = []
    for stage in NAMES:
        made.append(_contender(stage, rig.installation(f"empty_{stage}"), plan, which="empty"))
        there = rig.installation(f"stored_{stage}", database=full.database)
        made.append(Stored(_contender(stage, there, plan, which="stored"), there, rows=rows))
    return made


STAGE = Stage(
    "stored",
    f"Each stage with {ROWS:,} notifications stored, beside an empty database",
    _build,
    tuple(
        Promise(
            f"CPU of {name} with {ROWS:,} stored",
            f"{name}, stored",
            CPU_US + "all",
            at_most=1.1,
            beside=(f"{name}, empty",),
        )
        for name in NAMES
    ),
)
