"""What telling callers apart costs: keys, limits and row-level security, beside an API that asks nobody anything."""

from typing import Final

import orjson

from infra.local import callers
from loadtest.bench.bodies import batches, items
from loadtest.bench.figures import Promise, Sample
from loadtest.bench.frame import BenchError, Contender, Plan, Stage
from loadtest.bench.http_client import post
from loadtest.bench.rig import Installation, Rig
from loadtest.bench.stages.accept import BATCH_CONNECTIONS, BATCH_ITEMS, CHANNELS, CONNECTIONS, PATH, HttpServer

OPEN, BOUND, ISOLATED = "open", "open, bound", "isolated"
KINDS: Final = ("single", "batch")
TENANT: Final = "isolation"
"""Whose key it is: not the one tenant that an API has that asks nobody."""
_OPEN_TENANT: Final = "default"


class OfTenant:
    """A contender that is accepted from as one tenant: whoever it was meant to be, or the comparison says nothing."""

    def __init__(self, inner: Contender, installation: Installation, tenant_id: str) -> None:
        self.name, self.what = inner.name, inner.what
        self._inner, self._installation, self._tenant_id = inner, installation, tenant_id

    def setup(self) -> None:
        """Prepare what is measured."""
        self._inner.setup()

    def round(self) -> Sample:
        """Measure, and look whose notifications there are."""
        sample = self._inner.round()
        with self._installation.connect() as conn:
            found = {row[0] for row in conn.execute("SELECT DISTINCT tenant_id FROM notifications")}
        if found != {self._tenant_id}:
            raise BenchError(f"notifications of {sorted(found)}; expected those of {self._tenant_id} alone")
        return sample

    def teardown(self) -> None:
        """Remove what was prepared."""
        self._inner.teardown()


def _server(installation: Installation, plan: Plan, kind: str, who: str, api_key: str) -> Contender:
    """Return the API with as much of it as `who` says; nothing else differs but the credential in the request."""
    key = api_key if who == ISOLATED else None
    if kind == "single":
        bodies, path = [orjson.dumps(item) for item in items(plan.seed, 500, channels=CHANNELS)], PATH
    else:
        bodies = batches(plan.seed, count=plan.pick(8, 2), size=BATCH_ITEMS, channels=CHANNELS)
        path = f"{PATH}/batch"
    environ = {"AUTH_MODE": "keys" if who == ISOLATED else "open"}
    if who == OPEN:
        environ["DATABASE_URL"] = installation.dsn_of(None)
    server = HttpServer(
        installation,
        f"{kind}, {who}",
        {
            OPEN: f"POST {path}, AUTH_MODE=open, as the owner of the tables, whom row-level security does not bind",
            BOUND: f"POST {path}, AUTH_MODE=open, in the role notify_api, which it binds",
            ISOLATED: f"POST {path} with a key, its limits counted, in the role notify_api",
        }[who],
        [post(path, body, api_key=key) for body in bodies],
        connections=CONNECTIONS if kind == "single" else BATCH_CONNECTIONS,
        seconds=plan.pick(8.0, 0.5),
        work_per_answer=1 if kind == "single" else BATCH_ITEMS,
        environ=environ,
    )
    return OfTenant(server, installation, TENANT if who == ISOLATED else _OPEN_TENANT)


def _build(rig: Rig, plan: Plan) -> list[Contender]:
    """Return both kinds with none, some and all of it; those that are compared stand beside each other."""
    installation = rig.installation("isolation")
    key = callers.make_key(rig.environ(DATABASE_URL=installation.dsn), rig.directory, tenant=TENANT)
    return [_server(installation, plan, kind, who, key) for kind in KINDS for who in (BOUND, OPEN, ISOLATED)]


STAGE: Final = Stage(
    "isolation",
    "Accepting with keys, limits and row-level security, beside none of them",
    _build,
    tuple(
        Promise(
            f"{kind} accept with keys, limits and row-level security beside none of them",
            f"{kind}, {ISOLATED}",
            at_least=0.85,
            beside=(f"{kind}, {OPEN}",),
        )
        for kind in KINDS
    ),
)
