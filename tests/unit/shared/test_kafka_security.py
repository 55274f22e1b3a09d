"""What Kafka's settings make of the connections to it."""

from pathlib import Path

import pytest
import trustme

from shared.kafka import consumer_config, producer_config
from shared.settings import Environment, read_kafka

LOGIN = {"KAFKA_SASL_USER": "pipeline", "KAFKA_SASL_PASS": "9f8a7b"}


def read(**values: str) -> tuple[dict[str, object], dict[str, str]]:
    """What a producer is given, and the faults by variable."""
    env = Environment(values)
    settings = read_kafka(env)
    config = producer_config(settings, client_id="x")
    assert consumer_config(settings, client_id="x", group="g").items() >= settings.security.properties().items()
    names = {
        name: value for name, value in config.items() if name.startswith(("security", "ssl", "sasl", "enable.ssl"))
    }
    return names, {fault.variable: str(fault) for fault in env.faults}


def test_by_default_nothing_is_said_of_it() -> None:
    """A broker on this machine; and what is set for another protocol has no effect."""
    assert read() == ({}, {})
    assert read(**LOGIN) == ({}, {})


@pytest.mark.parametrize(("mechanism", "name"), [("SCRAM-SHA-256", "SCRAM-SHA-256"), ("plain", "PLAIN")])
def test_sasl_ssl_logs_in_over_a_verified_connection(mechanism: str, name: str, tmp_path: Path) -> None:
    """The broker's certificate is verified, and has to name its host."""
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca)

    properties, faults = read(
        KAFKA_SECURITY_PROTOCOL="SASL_SSL", KAFKA_SASL_MECHANISM=mechanism, KAFKA_CA_FILE=str(ca), **LOGIN
    )

    assert faults == {}
    assert properties == {
        "security.protocol": "sasl_ssl",
        "enable.ssl.certificate.verification": True,
        "ssl.endpoint.identification.algorithm": "https",
        "ssl.ca.location": str(ca),
        "sasl.mechanism": name,
        "sasl.username": "pipeline",
        "sasl.password": "9f8a7b",
    }


def test_a_client_certificate_is_shown_with_its_key(tmp_path: Path) -> None:
    """Both files, and they have to belong together."""
    one, other = (trustme.CA().issue_cert("client") for _ in range(2))
    cert, key, wrong = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "wrong.pem"))
    one.cert_chain_pems[0].write_to_path(cert)
    one.private_key_pem.write_to_path(key)
    other.private_key_pem.write_to_path(wrong)

    properties, faults = read(KAFKA_SECURITY_PROTOCOL="ssl", KAFKA_CERT_FILE=cert, KAFKA_KEY_FILE=key)

    assert faults == {}
    assert (properties["ssl.certificate.location"], properties["ssl.key.location"]) == (cert, key)
    for files in ({"KAFKA_CERT_FILE": cert, "KAFKA_KEY_FILE": wrong}, {"KAFKA_KEY_FILE": key}):
        assert set(read(KAFKA_SECURITY_PROTOCOL="ssl", **files)[1]) == {"KAFKA_CERT_FILE"}


@pytest.mark.parametrize(
    ("values", "variables"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "tls"}, {"KAFKA_SECURITY_PROTOCOL"}),
        ({"KAFKA_SECURITY_PROTOCOL": "sasl_ssl"}, {"KAFKA_SASL_USER", "KAFKA_SASL_PASS"}),
        (
            {"KAFKA_SECURITY_PROTOCOL": "sasl_plaintext", "KAFKA_SASL_MECHANISM": "plain", **LOGIN},
            {"KAFKA_SASL_MECHANISM"},
        ),
        ({"KAFKA_SASL_MECHANISM": "gssapi"}, {"KAFKA_SASL_MECHANISM"}),
        ({"KAFKA_CA_FILE": "/nowhere.pem"}, {"KAFKA_CA_FILE"}),
    ],
)
def test_what_cannot_work_or_would_send_a_password_in_clear_is_refused(
    values: dict[str, str], variables: set[str]
) -> None:
    """At the start, by the variable that is wrong; the password is in no fault."""
    _, faults = read(**values)

    assert set(faults) == variables
    assert "9f8a7b" not in str(faults)


def test_neither_password_is_shown() -> None:
    """By no repr."""
    settings = read_kafka(Environment({**LOGIN, "KAFKA_KEY_PASS": "c3d2e1"}))

    assert "9f8a7b" not in repr(settings)
    assert "c3d2e1" not in repr(settings)
