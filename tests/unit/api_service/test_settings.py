"""What the API reads from its environment."""

import os

import pytest

from api_service.settings import read_settings
from shared.settings import Environment, SettingsError


def test_an_empty_environment_is_enough() -> None:
    """A process per core, four threads each, port 8080."""
    settings = read_settings(Environment({}))

    assert (settings.service.port, settings.workers, settings.threads) == (8080, len(os.sched_getaffinity(0)), 4)
    assert settings.default_webhook_url is None


def test_port_is_accepted_where_api_port_is_not_set() -> None:
    """API_PORT wins where both are."""
    assert read_settings(Environment({"PORT": "9000"})).service.port == 9000
    assert read_settings(Environment({"PORT": "9000", "API_PORT": "9001"})).service.port == 9001


def test_all_faults_are_listed_and_secrets_are_not() -> None:
    """A URL may hold a token, so it is not shown."""
    values = {
        "API_WORKERS": "0",
        "API_THREADS": "many",
        "NOTIFICATION_WEBHOOK_URL": "ftp://x/secret",
        "TOPIC_PREFIX": "a b",
    }
    env = Environment(values)
    read_settings(env)

    with pytest.raises(SettingsError) as caught:
        env.check()

    named = [fault.variable for fault in caught.value.faults]
    assert sorted(named) == ["API_THREADS", "API_WORKERS", "NOTIFICATION_WEBHOOK_URL", "TOPIC_PREFIX"]
    assert "secret" not in str(caught.value)


def test_settings_do_not_print_secrets() -> None:
    """Neither the default URL nor the connection string."""
    settings = read_settings(Environment({"NOTIFICATION_WEBHOOK_URL": "https://x.example/token", "DB_PASS": "hunter2"}))

    assert "token" not in repr(settings)
    assert "hunter2" not in repr(settings)
