"""The programs that run a service with one part exchanged: what they exchange is there, under the name they use."""

import importlib
import re

import pytest

from loadtest.bench.inside.api import _EXCHANGES
from tests.dockerfiles import REPOSITORY


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("api_service.accept", "write"),
        ("api_service.app", "Direct"),
        ("outbox_relay.relay", "ensure_topics"),
        ("delivery_consumer.service", "build_providers"),
    ],
)
def test_what_is_exchanged_is_there(module: str, name: str) -> None:
    """Where a refactoring moved it, a benchmark would compare the service with itself."""
    assert hasattr(importlib.import_module(module), name)


def test_stages_ask_for_exchanges_that_exist() -> None:
    """By their names."""
    stage = (REPOSITORY / "loadtest/bench/stages/accept.py").read_text()
    asked = set(re.findall(r'"(two-inserts|behind-flask)"', stage))

    assert asked == set(_EXCHANGES)
