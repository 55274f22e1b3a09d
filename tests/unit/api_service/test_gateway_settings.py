"""infra/nginx/nginx.conf says of limits, problems and headers what the API says."""

import re
from http import HTTPStatus

from api_service import bodies, refusals, security_headers, server, worker
from api_service.problems import PROBLEMS
from tests.dockerfiles import REPOSITORY

TEXT = (REPOSITORY / "infra/nginx/nginx.conf").read_text()
CONF = re.sub(r"#.*", "", TEXT)


def mapped(variable: str) -> dict[str, str]:
    """What a variable is for each status."""
    [body] = re.findall(rf"map \$status \${variable} \{{([^}}]*)\}}", CONF)
    return {status: value.strip('"') for status, value in re.findall(r'(\w+) ("[^"]*"|\S+);', body)}


def value(name: str) -> str:
    """What a directive that is given once says."""
    [found] = re.findall(rf"(?m)^\s*{name} ([^;]+);", CONF)
    return str(found)


def seconds(name: str) -> float:
    """A time of nginx's."""
    return float(value(name).removesuffix("s"))


def test_its_problems_are_ours() -> None:
    """Codes and titles; each status it refuses with has one."""
    codes, titles = mapped("code"), mapped("title")
    refused = {status for statuses in re.findall(r"error_page ([\d =]+) /problem", CONF) for status in statuses.split()}

    for status, code in codes.items():
        assert titles[status] == PROBLEMS[code][1]
        if status not in ("default", "411"):  # a length that is missing is a bad request here
            assert PROBLEMS[code][0] == int(status)
    assert {status for status in refused if "=" not in status} - {"494", "500", "502", "504"} == codes.keys() - {
        "default"
    }
    assert {status for status in refused if "=" in status} == {"=431", "=503"}
    assert all(HTTPStatus(PROBLEMS[code][0]) for code in codes.values())


def test_its_refusals_have_the_headers_of_our_answers() -> None:
    """To the letter."""
    added = {name: said.strip('"') for name, said in re.findall(r"add_header (\S+) (.+?) always;", CONF)}

    assert added.keys() == {name for name, _ in security_headers.TLS} | {"X-Request-ID", "Retry-After"}
    assert {name: added[name] for name, _ in security_headers.PLAIN} == dict(security_headers.PLAIN)
    hsts = dict(security_headers.TLS)["Strict-Transport-Security"]
    assert f'on "{hsts}";' in CONF


def test_it_lets_in_what_we_take() -> None:
    """And no more: what it buffers is bounded by what would be refused behind it."""
    assert re.findall(r"client_max_body_size (\S+);", CONF) == ["1m", "16m"]
    assert (bodies.MAX_BODY_BYTES, bodies.MAX_BATCH_BYTES) == (2**20, 2**24)
    assert value("large_client_header_buffers") == "8 8k"
    [batches] = re.findall(r"location ~ (\S+) \{\s*client_max_body_size 16m", CONF)
    for path, is_batch in (
        ("/api/v1/notifications/batch", True),
        ("/api/notifications/batch", True),
        ("/api/v1/notifications", False),
        ("/api/v1/notifications/batch/x", False),
    ):
        assert bool(re.search(batches, path)) is is_batch


def test_its_times_go_with_ours() -> None:
    """A head has as long as with us alone; answers are waited for as long as we take; what is idle ends here first."""
    assert seconds("client_header_timeout") == worker.READ_WITHIN_S
    assert seconds("proxy_read_timeout") > worker.SERVE_WITHIN_S
    assert server.KEEPALIVE_S > 60  # nginx's own time for those it keeps to us
    assert value("proxy_next_upstream") == "off"
    assert (value("proxy_request_buffering"), value("proxy_buffering")) == ("on", "on")


def test_row_18_it_says_itself_who_the_client_is() -> None:
    """Nothing that a client says of this passes, and nothing is added to it."""
    set_to = dict(re.findall(r'proxy_set_header (\S+) ("[^"]*"|\S+);', CONF))

    assert set_to["X-Forwarded-For"] == "$remote_addr"
    assert set_to["X-Forwarded-Proto"] == "$scheme"
    forgotten = {name for name, value in set_to.items() if value == '""'}
    assert forgotten >= {
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Real-IP",
        "Forwarded",
        "Proxy",
    }
    assert "proxy_add_x_forwarded_for" not in CONF
    assert value("underscores_in_headers") == "off"


def test_metrics_are_not_for_the_outside() -> None:
    """Whatever comes behind the name."""
    assert re.search(r"location \^~ /metrics \{\s*return 404;", CONF)


def test_no_query_string_is_logged() -> None:
    """Somebody may have put a secret into one."""
    [line] = re.findall(r"log_format line escape=json([^;]+);", CONF)

    assert not {"$request", "$request_uri", "$args", "$query_string"} & set(re.findall(r"\$\w+", line))
    assert refusals.ROUTE == "unparsed"
