"""The stage that measures what telling callers apart costs: who is compared with whom, and that it is who it says."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from infra.local import callers
from loadtest.bench.figures import Sample
from loadtest.bench.frame import BenchError, Plan
from loadtest.bench.rig import Installation, Rig
from loadtest.bench.stages.accept import HttpServer
from loadtest.bench.stages.isolation import BOUND, ISOLATED, KINDS, OPEN, STAGE, TENANT, OfTenant

KEY = "nk_live_0123456789abcdef_of-the-bench"
PLAN = Plan(rounds=1, quick=True, seed=1)


class FakeInstallation:
    """An installation that has nothing but its names."""

    def __init__(self, tenants: list[str] | None = None) -> None:
        self.rig, self._tenants = self, tenants or []
        self.dsn, self.directory = "postgresql://owner@localhost/bench", Path("nowhere")

    def installation(self, _name: str) -> "FakeInstallation":
        return self

    def environ(self, **others: str) -> dict[str, str]:
        return others

    def dsn_of(self, service: str | None) -> str:
        return self.dsn if service is None else "postgresql://somebody@localhost/bench"

    @contextmanager
    def connect(self) -> Iterator[Any]:
        yield self

    def execute(self, _query: str) -> list[tuple[str]]:
        return [(tenant,) for tenant in self._tenants]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, HttpServer]:
    """The API of each contender."""
    made: list[str] = []

    def make_key(_environ: object, _cwd: object, *, tenant: str) -> str:
        made.append(tenant)
        return KEY

    monkeypatch.setattr(callers, "make_key", make_key)
    built = STAGE.build(cast(Rig, FakeInstallation()), PLAN)
    assert made == [TENANT]
    return {one.name: cast(HttpServer, cast(OfTenant, one)._inner) for one in built}


def test_only_the_isolated_one_is_asked_with_a_key(servers: dict[str, HttpServer]) -> None:
    """And it alone asks for one."""
    for name, server in servers.items():
        is_isolated = name.endswith(f", {ISOLATED}")
        assert server._environ["AUTH_MODE"] == ("keys" if is_isolated else "open")
        assert {KEY.encode() in request for request in server._requests} == {is_isolated}


def test_only_the_open_one_is_the_owner(servers: dict[str, HttpServer]) -> None:
    """All others have the role that a service has, since nothing says otherwise."""
    owners = {name: server._environ.get("DATABASE_URL") for name, server in servers.items()}

    assert {name for name, url in owners.items() if url} == {f"{kind}, {OPEN}" for kind in KINDS}
    assert set(owners.values()) == {None, "postgresql://owner@localhost/bench"}


def test_each_kind_is_promised_beside_its_own(servers: dict[str, HttpServer]) -> None:
    """Single beside single, batch beside batch."""
    assert [(one.of, one.beside, one.at_least) for one in STAGE.promises] == [
        (f"{kind}, {ISOLATED}", (f"{kind}, {OPEN}",), 0.85) for kind in KINDS
    ]
    assert set(servers) == {f"{kind}, {who}" for kind in KINDS for who in (BOUND, OPEN, ISOLATED)}


class Measured:
    """A contender that has measured."""

    name, what = "single, isolated", "x"

    def setup(self) -> None: ...

    def round(self) -> Sample:
        return Sample(1, 1.0)

    def teardown(self) -> None: ...


@pytest.mark.parametrize("tenants", [[], ["default"], [TENANT, "default"]])
def test_notifications_of_another_tenant_are_no_measurement(tenants: list[str]) -> None:
    """An API that asked nobody would be compared with itself."""
    with pytest.raises(BenchError, match=TENANT):
        OfTenant(Measured(), cast(Installation, FakeInstallation(tenants)), TENANT).round()

    assert OfTenant(Measured(), cast(Installation, FakeInstallation([TENANT])), TENANT).round() == Sample(1, 1.0)
