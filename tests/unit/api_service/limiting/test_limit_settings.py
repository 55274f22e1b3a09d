"""What the settings say about how much is too much."""

import pytest

from api_service.limiting.policies import INTERACTIVE, STEADY, Texts
from api_service.limiting.settings import read_limits, read_redis_url
from shared.settings import Environment


def test_by_default_people_have_the_tiers_of_a_screen() -> None:
    """All other limits are those of Texts, as documented."""
    env = Environment({})

    assert read_limits(env) == Texts()
    assert Texts().users == INTERACTIVE
    assert read_redis_url(env) is None
    assert env.faults == []


def test_limits_are_set_by_name_or_as_they_are_written() -> None:
    """The two usual sets have names."""
    env = Environment(
        {"RATE_LIMIT_USERS": "steady", "RATE_LIMIT_KEYS": "9/second;99/day", "ENABLE_RATE_LIMITING": "false"}
    )

    texts = read_limits(env)

    assert (texts.users, texts.keys, texts.enabled) == (STEADY, "9/second;99/day", False)


def test_what_cannot_be_limits_is_named() -> None:
    """Each, with what was expected."""
    env = Environment({"RATE_LIMIT_KEYS": "many", "RATE_LIMIT_TENANTS": "0/second", "ENABLE_RATE_LIMITING": "perhaps"})

    read_limits(env)

    assert {fault.variable for fault in env.faults} == {"RATE_LIMIT_KEYS", "RATE_LIMIT_TENANTS", "ENABLE_RATE_LIMITING"}


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "rediss://user:4kJ1nQ9x@redis.example:6380/1?ssl_ca_certs=/ca.pem",
        "valkey://valkey:6379/0",
        "valkeys://:4kJ1nQ9x@valkey/0",
    ],
)
def test_a_redis_or_valkey_may_be_named(url: str) -> None:
    """With and without TLS."""
    env = Environment({"REDIS_URL": url})

    assert (read_redis_url(env), env.faults) == (url, [])


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:6379", "http://127.0.0.1", "redis://", "redis:///0", "memory://"),
        *("redis://[::1", "redis://valkey:many", "redis://valkey:66000", "redis://valkey:0"),
        *("rediss://:changeme@valkey:6379", "rediss://notifier:notifier@valkey:6379"),
    ],
)
def test_anything_else_is_refused_and_not_shown(url: str) -> None:
    """It may hold a password; one that everybody knows is refused as well."""
    env = Environment({"REDIS_URL": url})

    read_redis_url(env)

    assert [(fault.variable, fault.value) for fault in env.faults] == [("REDIS_URL", "(hidden)")]
