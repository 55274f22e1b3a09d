"""Who may call, as the environment says it."""

import base64
import hashlib
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api_service import __main__ as service
from api_service.identity_settings import AuthMode, IdentitySettings, is_public
from api_service.settings import read_settings
from shared.settings import Environment

KEY = base64.b64encode(hashlib.sha256(b"of a test").digest()).decode()
OTHER = base64.b64encode(hashlib.sha384(b"of a test").digest()).decode()
ROOT = Path(__file__).resolve().parents[3]


def read(**values: str) -> tuple[IdentitySettings, list[str]]:
    """The settings, and the variables that are faulty."""
    env = Environment(values)
    settings = read_settings(env).identity
    return settings, [fault.variable for fault in env.faults]


def test_by_default_callers_say_who_they_are() -> None:
    """Nobody joins by themselves, nobody signs in, and nothing is shown to everybody."""
    settings, faults = read()

    assert faults == []
    assert (settings.mode, settings.jwt_keys, settings.jwt_lifetime_s) == (AuthMode.KEYS, (), 86_400)
    assert (settings.registration_tenant, settings.metrics_token, settings.serves_test_webhook) == (None, None, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0", "8.8.8.8", "2a00:1450::1", "100.64.0.1"])
def test_open_to_the_world_takes_a_second_switch(host: str) -> None:
    """All addresses count as public: nobody knows what the machine has."""
    assert is_public(host)
    assert read(AUTH_MODE="open", BIND_HOST=host)[1] == ["AUTH_MODE"]
    assert read(AUTH_MODE="open", BIND_HOST=host, AUTH_OPEN_ON_ALL_ADDRESSES="yes")[1] == []
    assert read(AUTH_MODE="open", BIND_HOST=host, AUTH_OPEN_ON_ALL_ADDRESSES="no")[1] == ["AUTH_MODE"]
    assert read(AUTH_MODE="keys", BIND_HOST=host)[1] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "10.1.2.3", "192.168.0.9", "fd00::1", "169.254.1.1"])
def test_open_to_a_closed_network_is_possible(host: str) -> None:
    """This machine, or a private address."""
    settings, faults = read(AUTH_MODE="Open", BIND_HOST=host)

    assert (settings.mode, faults) == (AuthMode.OPEN, [])


def test_open_is_said_loudly(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """To people and to the log, with the address; and that keys made meanwhile outlast it."""
    settings = read_settings(Environment({"AUTH_MODE": "open", "BIND_HOST": "127.0.0.1"}))

    service.tell_that_it_is_open(settings)

    said = capsys.readouterr().err
    assert "AUTH_MODE=open" in said
    assert "notify-admin list keys --tenant default" in said
    [line] = [record for record in caplog.records if record.message == "auth_mode_open"]
    assert (line.levelname, line.__dict__["bind_host"]) == ("WARNING", "127.0.0.1")


@pytest.mark.parametrize(
    ("values", "served"),
    [
        ({}, False),
        ({"AUTH_MODE": "open", "BIND_HOST": "::1"}, True),
        ({"TEST_WEBHOOK": "on"}, True),
        ({"AUTH_MODE": "open", "BIND_HOST": "::1", "TEST_WEBHOOK": "off"}, False),
    ],
)
def test_the_test_receiver_is_served_where_nobody_is_asked(values: dict[str, str], served: bool) -> None:
    """It shows everybody what all tenants got."""
    assert read(**values)[0].serves_test_webhook is served


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({"JWT_EXPIRES_IN": "3600"}, 3600),
        ({"JWT_EXPIRES_IN": "15m"}, 900),
        ({"JWT_EXPIRES_IN": "12h"}, 43_200),
        ({"JWT_EXPIRATION": "7d"}, 7 * 86_400),
        ({"JWT_EXPIRES_IN": "1h", "JWT_EXPIRATION": "7d"}, 3600),
    ],
)
def test_how_long_tokens_last(values: dict[str, str], seconds: int) -> None:
    """In seconds, or with a unit; under its older name too."""
    settings, faults = read(**values)

    assert (settings.jwt_lifetime_s, faults) == (seconds, [])


@pytest.mark.parametrize("text", ["0", "59", "31d", "1y", "-1", "forever", "1 h", "99999999d"])
def test_a_lifetime_that_is_none_is_a_fault(text: str) -> None:
    """A minute to thirty days."""
    assert read(JWT_EXPIRES_IN=text)[1] == ["JWT_EXPIRES_IN"]
    assert read(JWT_EXPIRATION=text)[1] == ["JWT_EXPIRATION"]


def test_the_first_key_signs_and_an_older_name_is_read() -> None:
    """JWT_SECRET stands for one key where JWT_KEYS is not set."""
    both, faults = read(JWT_KEYS=f"b:{KEY},a:{OTHER}", JWT_SECRET=secrets.token_hex(32))
    older, _ = read(JWT_SECRET="0123456789-abcdefghijklmnopqrstuvwxyz")

    assert faults == []
    assert [one.kid for one in both.jwt_keys] == ["b", "a"]
    assert [(one.kid, one.key) for one in older.jwt_keys] == [("secret", b"0123456789-abcdefghijklmnopqrstuvwxyz")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_KEYS", "a:" + base64.b64encode(bytes(range(31))).decode()),
        ("JWT_KEYS", KEY),
        ("JWT_KEYS", f"a:{KEY},a:{OTHER}"),
        ("JWT_KEYS", "a b:" + KEY),
        ("JWT_KEYS", "a:not base64 at all"),
        ("JWT_KEYS", "example:ZXZlcnlib2R5IGtub3dzIHRoaXMgc2lnbmluZyBrZXk="),
        ("JWT_KEYS", "2030:" + base64.b64encode(b"changeme" * 4).decode()),
        ("METRICS_TOKEN", "for-these-containers-alone-everybody-knows-it"),
        ("JWT_SECRET", "thirty-one characters are short"),
        ("JWT_SECRET", "changeme"),
        ("METRICS_TOKEN", "thirty-one characters are short"),
    ],
)
def test_row_25_a_weak_secret_is_refused_at_the_start(name: str, value: str) -> None:
    """And is not shown."""
    env = Environment({name: value})
    read_settings(env)

    [fault] = env.faults
    assert fault.variable == name
    assert value not in str(fault)


def test_row_25_the_process_exits_with_2() -> None:
    """Before it listens anywhere."""
    environ = {"PATH": "/usr/bin", "PYTHONPATH": str(ROOT), "JWT_SECRET": "changeme", "API_PORT": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "api_service"], env=environ, capture_output=True, text=True, timeout=30, check=False
    )

    assert ended.returncode == 2
    assert "JWT_SECRET: '(hidden)'" in ended.stderr


def test_a_tenant_to_join_has_the_form_of_one() -> None:
    """Whether there is one shows when somebody joins."""
    assert read(REGISTRATION_TENANT="shop")[0].registration_tenant == "shop"
    assert read(REGISTRATION_TENANT="No Tenant")[1] == ["REGISTRATION_TENANT"]


def test_settings_show_no_secret() -> None:
    """They may end up in a log."""
    settings, _ = read(JWT_KEYS=f"a:{KEY}", METRICS_TOKEN=OTHER)

    assert KEY not in repr(settings)
    assert OTHER not in repr(settings)
    assert secret_bytes(settings) not in repr(settings)


def secret_bytes(settings: IdentitySettings) -> str:
    """The key as it would be printed."""
    return repr(settings.jwt_keys[0].key)


def test_reading_settings_does_not_start_the_metrics() -> None:
    """prometheus_client decides at import whether processes count together; __main__ sets that up afterwards."""
    code = "import sys, api_service.settings; sys.exit('prometheus_client' in sys.modules)"
    environ: dict[str, Any] = {"PATH": "/usr/bin", "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environ, timeout=30, check=False).returncode == 0
