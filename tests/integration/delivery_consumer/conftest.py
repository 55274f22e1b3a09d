"""Fixtures of the delivery consumer's integration tests."""

import inspect
from collections.abc import Iterator

import pytest
import uvloop

from tests.integration.delivery_consumer.parts import Desk, Receiver, receiver
from tests.servers import Database, FreshTopics


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests on the loop the service runs on."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    uvloop.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture
def desk(database: Database, topics: FreshTopics) -> Iterator[Desk]:
    """Where notifications are accepted."""
    made = Desk(database, topics)
    yield made
    made.close()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    """A webhook receiver."""
    with receiver() as made:
        yield made
