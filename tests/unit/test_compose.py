"""docker-compose.yml agrees with the images, the settings and the other files it names."""

import importlib
import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.lifecycle import DRAIN_S
from shared.settings import Environment
from tests.dockerfiles import EXTRAS, REPOSITORY, dockerfile_of

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PUBLISHED_BY = {"api_service": "gateway"}
PORTS = {"api_service": 8080, "outbox_relay": 8081, "delivery_consumer": 8082, "dlq_consumer": 8083}


def read_by(service: str, values: dict[str, str]) -> Environment:
    """Read a service's settings from the given variables."""
    env = Environment(values)
    importlib.import_module(f"{service}.settings").read_settings(env)
    return env


def unset(value: str) -> str:
    """What ${NAME:-default} and ${NAME-default} become where NAME is not set."""
    return re.sub(r"\$\{[A-Z_]+:?-([^}]*)\}", r"\1", value)


def environment(name: str) -> dict[str, str]:
    """The variables of a container where the environment and .env set nothing."""
    return {variable: unset(value) for variable, value in SERVICES[name]["environment"].items()}


@pytest.mark.parametrize("service", EXTRAS)
def test_each_service_is_built_from_its_own_dockerfile(service: str) -> None:
    """With the repository as context."""
    build = SERVICES[service]["build"]

    assert build == {"context": ".", "dockerfile": f"{service}/Dockerfile"}
    assert (REPOSITORY / build["dockerfile"]).is_file()


@pytest.mark.parametrize("service", EXTRAS)
def test_ports_are_the_defaults_of_the_settings(service: str) -> None:
    """In the settings, in the image, in the health check, and at the published port; the API's is its gateway's."""
    env = read_by(service, {})
    port = str(PORTS[service])

    assert env.variables[f"{EXTRAS[service].upper()}_PORT"] == port
    assert dockerfile_of(service).final("EXPOSE") == [port]
    assert f"127.0.0.1:{port}/health/ready" in SERVICES[service]["healthcheck"]["test"][-1]
    published = SERVICES[PUBLISHED_BY.get(service, service)]["ports"]
    assert [unset(one) for one in published] == [f"127.0.0.1:{port}:{port}"]


@pytest.mark.parametrize("service", EXTRAS)
def test_its_variables_are_read_and_start_the_service(service: str) -> None:
    """No misspelt name, and no setting missing: `docker compose up` works without an .env file."""
    given = environment(service)

    env = read_by(service, given)

    assert env.faults == []
    assert given.keys() - env.variables.keys() == set()


@pytest.mark.parametrize("service", EXTRAS)
def test_what_env_can_set_reaches_the_container(service: str) -> None:
    """Every variable the service reads is passed on, unless compose has its own word on it."""
    fixed = {"DATABASE_URL", "BIND_HOST", "PORT", "KAFKA_BROKER", f"{EXTRAS[service].upper()}_PORT"}
    read = read_by(service, {}).variables.keys()
    # Its own PostgreSQL and Kafka are within the containers' network, in clear.
    fixed |= {name for name in read if re.match(r"DB_SSL|KAFKA_(SECURITY|SASL|CA|CERT|KEY)_", name)}

    assert read - environment(service).keys() == fixed & read


def test_every_variable_is_in_the_example() -> None:
    """Whatever ${NAME} the file asks for, .env.example explains."""
    asked = set(re.findall(r"\$\{([A-Z_]+)", (REPOSITORY / "docker-compose.yml").read_text()))
    explained = set(re.findall(r"(?m)^#([A-Z][A-Z0-9_]*)=", (REPOSITORY / ".env.example").read_text()))

    assert asked - explained - {"NAME"} == set()


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_bounded_hardened_and_reachable_from_this_machine_alone(name: str) -> None:
    """Memory and CPU have limits, capabilities are dropped, ports are published on loopback; a command ends."""
    container = SERVICES[name]
    is_command = container.get("profiles") == ["admin"]

    assert container["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["restart"] == ("no" if is_command else "unless-stopped")
    assert all(published.startswith("127.0.0.1:") for published in container.get("ports", ()))


@pytest.mark.parametrize("service", EXTRAS)
def test_our_containers_write_to_nothing_but_a_tmpfs(service: str) -> None:
    """And have an init process that reaps what they leave."""
    container = SERVICES[service]

    assert (container["read_only"], container["tmpfs"], container["init"]) == (True, ["/tmp"], True)


@pytest.mark.parametrize("service", EXTRAS)
def test_a_service_has_longer_to_stop_than_it_needs(service: str) -> None:
    """SIGKILL comes after the drain, not in the middle of it."""
    assert int(SERVICES[service]["stop_grace_period"].removesuffix("s")) > DRAIN_S


@pytest.mark.parametrize("name", SERVICES)
def test_the_order_of_starting_is_gated_by_health(name: str) -> None:
    """Whatever is waited for has a health check with a time to start in."""
    for awaited, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] == "service_healthy"
        assert SERVICES[awaited]["healthcheck"]["start_period"]


def test_the_gateway_is_started_again_with_the_api() -> None:
    """nginx looks its name up once, at the start: a new container may have another address."""
    assert SERVICES["gateway"]["depends_on"]["api_service"]["restart"] is True


def test_the_api_does_not_wait_for_kafka() -> None:
    """Accepting needs PostgreSQL alone."""
    assert SERVICES["api_service"]["depends_on"].keys() == {"postgres"}


def test_mounted_files_and_volumes_exist() -> None:
    """A path that is missing would become an empty directory, a volume an error at start."""
    mounts = [mount.split(":") for container in SERVICES.values() for mount in container.get("volumes", [])]

    assert [source for source, *_ in mounts if source.startswith(".") and not (REPOSITORY / source).exists()] == []
    assert {source for source, *_ in mounts if not source.startswith(".")} == COMPOSE["volumes"].keys()
    assert all(options == ["ro"] for source, _, *options in mounts if source.startswith("."))


def test_prometheus_scrapes_the_four_services() -> None:
    """At the ports they listen on; the job is the service's name."""
    scraped = yaml.safe_load((REPOSITORY / "infra/prometheus/prometheus.yml").read_text())["scrape_configs"]

    assert {job["job_name"]: job["static_configs"] for job in scraped} == {
        service: [{"targets": [f"{service}:{port}"]}] for service, port in PORTS.items()
    }


def test_the_api_believes_its_gateway_alone() -> None:
    """The gateway has one address, outside of those that are handed out, and nobody else is a proxy."""
    network = COMPOSE["networks"]["default"]["ipam"]["config"][0]
    address = ipaddress.ip_address(SERVICES["gateway"]["networks"]["default"]["ipv4_address"])

    assert environment("api_service")["TRUSTED_PROXIES"] == f"{address}/32"
    assert address in ipaddress.ip_network(network["subnet"])
    assert address not in ipaddress.ip_network(network["ip_range"])
    assert "ports" not in SERVICES["api_service"]


def test_the_gateway_writes_to_nothing_but_a_tmpfs_that_holds_what_it_lets_in() -> None:
    """Bodies that have not arrived wait there, as many as may be under way at once."""
    gateway = SERVICES["gateway"]
    text = (REPOSITORY / "infra/nginx/nginx.conf").read_text()
    at_once = {zone: int(count) for zone, count in re.findall(r"limit_conn (of_\w+) (\d+);", text)}

    assert gateway["read_only"]
    assert gateway["user"] == "101:101"
    [(size, *_)] = [re.findall(r"/tmp:size=(\d+)m", mount) for mount in gateway["tmpfs"]]
    assert int(size) >= at_once["of_all"] + 16 * at_once["of_batches"]
    assert re.findall(r"_temp_path (\S+);", text) == list(re.findall(r"_temp_path (/tmp/\S+);", text))


def test_prometheus_has_the_token_of_the_api() -> None:
    """In the file that its configuration names."""
    scraped = yaml.safe_load((REPOSITORY / "infra/prometheus/prometheus.yml").read_text())["scrape_configs"]
    [named] = [job["authorization"]["credentials_file"] for job in scraped if "authorization" in job]
    [mounted] = SERVICES["prometheus"]["configs"]

    assert mounted["target"] == named
    assert unset(COMPOSE["configs"][mounted["source"]]["content"]) == environment("api_service")["METRICS_TOKEN"]


def test_the_command_reaches_the_database_of_the_services() -> None:
    """It runs from the API's image, as the role that owns the database."""
    given, server = environment("notify_admin"), environment("postgres")

    assert SERVICES["notify_admin"]["image"] == SERVICES["api_service"]["image"]
    assert (given["DB_USER"], given["DB_PASS"]) == (server["POSTGRES_USER"], server["POSTGRES_PASSWORD"])
    assert given["DB_NAME"] == server["POSTGRES_DB"]
    assert given["SECRETS_KEYS"] == environment("api_service")["SECRETS_KEYS"]


def test_webhooks_may_go_to_the_network_of_the_containers_alone() -> None:
    """The guard's exemption is that very network."""
    subnet = COMPOSE["networks"]["default"]["ipam"]["config"][0]["subnet"]

    for service in ("api_service", "delivery_consumer"):
        assert environment(service)["WEBHOOK_ALLOWED_NETWORKS"] == subnet
        given = SERVICES[service]["environment"]["WEBHOOK_ALLOWED_NETWORKS"]
        assert given == f"${{WEBHOOK_ALLOWED_NETWORKS-{subnet}}}"  # with a colon, nothing would be the default too


def test_what_goes_into_a_build_is_listed() -> None:
    """The context holds what the Dockerfiles copy; everything else is kept out by the first line."""
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    sources = {source for service in EXTRAS for source, _ in dockerfile_of(service).copied}

    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == sources | {"locks/"}
    assert all(Path(REPOSITORY / source).is_dir() for source in sources)
