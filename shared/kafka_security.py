"""How connections to Kafka are protected: TLS, SASL, and librdkafka's names for them."""

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.settings import Environment


class SecurityProtocol(StrEnum):
    """Kafka's own names: whether the connection is encrypted, and whether clients log in by SASL."""

    PLAINTEXT = "plaintext"
    SSL = "ssl"
    SASL_PLAINTEXT = "sasl_plaintext"
    SASL_SSL = "sasl_ssl"

    @property
    def encrypts(self) -> bool:
        """Say whether what is sent is encrypted."""
        return self in (SecurityProtocol.SSL, SecurityProtocol.SASL_SSL)

    @property
    def logs_in(self) -> bool:
        """Say whether name and password are asked for."""
        return self in (SecurityProtocol.SASL_PLAINTEXT, SecurityProtocol.SASL_SSL)


class SaslMechanism(StrEnum):
    """How name and password are proven."""

    PLAIN = "plain"
    SCRAM_SHA_256 = "scram-sha-256"
    SCRAM_SHA_512 = "scram-sha-512"


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """What protects the connections to Kafka; by default nothing, which is for brokers on one machine."""

    protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT  # KAFKA_SECURITY_PROTOCOL
    mechanism: SaslMechanism = SaslMechanism.SCRAM_SHA_512  # KAFKA_SASL_MECHANISM
    user: str | None = None  # KAFKA_SASL_USER
    password: str | None = field(default=None, repr=False)  # KAFKA_SASL_PASS
    ca_file: str | None = None  # KAFKA_CA_FILE: who vouches for the brokers; the system's authorities by default
    cert_file: str | None = None  # KAFKA_CERT_FILE: what this client shows, where brokers ask for a certificate
    key_file: str | None = None  # KAFKA_KEY_FILE: the key of that certificate
    key_password: str | None = field(default=None, repr=False)  # KAFKA_KEY_PASS

    def properties(self) -> dict[str, Any]:
        """Return librdkafka's properties. The broker's certificate has to name the host, always."""
        found: dict[str, Any] = {}
        if self.protocol is not SecurityProtocol.PLAINTEXT:
            found["security.protocol"] = self.protocol.value
        if self.protocol.encrypts:
            found["enable.ssl.certificate.verification"] = True
            found["ssl.endpoint.identification.algorithm"] = "https"
            files = {
                "ssl.ca.location": self.ca_file,
                "ssl.certificate.location": self.cert_file,
                "ssl.key.location": self.key_file,
                "ssl.key.password": self.key_password,
            }
            found |= {name: value for name, value in files.items() if value is not None}
        if self.protocol.logs_in:
            found["sasl.mechanism"] = self.mechanism.value.upper()
            found |= {"sasl.username": self.user, "sasl.password": self.password}
        return found


def read_kafka_security(env: "Environment") -> KafkaSecurity:
    """Read KAFKA_SECURITY_PROTOCOL and what belongs to it; faults stay with `env`.

    The mechanism plain sends the password itself, so it is refused where nothing encrypts it.
    """
    security = KafkaSecurity(
        protocol=env.choice("KAFKA_SECURITY_PROTOCOL", SecurityProtocol.PLAINTEXT, SecurityProtocol),
        mechanism=env.choice("KAFKA_SASL_MECHANISM", SaslMechanism.SCRAM_SHA_512, SaslMechanism),
        user=env.optional_text("KAFKA_SASL_USER"),
        password=env.secret("KAFKA_SASL_PASS", user=env.optional_text("KAFKA_SASL_USER")),
        ca_file=env.ca_file("KAFKA_CA_FILE"),
        cert_file=env.optional_text("KAFKA_CERT_FILE"),
        key_file=env.optional_text("KAFKA_KEY_FILE"),
        key_password=env.secret("KAFKA_KEY_PASS"),
    )
    if security.protocol.logs_in:
        for name, value in (("KAFKA_SASL_USER", security.user), ("KAFKA_SASL_PASS", security.password)):
            if value is None:
                env.refuse(name, None, f"a value, since KAFKA_SECURITY_PROTOCOL is {security.protocol}")
        if security.mechanism is SaslMechanism.PLAIN and not security.protocol.encrypts:
            env.refuse("KAFKA_SASL_MECHANISM", "plain", "scram-sha-512, or sasl_ssl: plain sends the password as it is")
    if not _is_a_pair(security):
        env.refuse("KAFKA_CERT_FILE", security.cert_file, "a PEM file, with its key in KAFKA_KEY_FILE")
    return security


def _is_a_pair(security: KafkaSecurity) -> bool:
    if security.cert_file is None:
        return security.key_file is None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(security.cert_file, security.key_file, security.key_password or "")
    except (OSError, ssl.SSLError, ValueError):
        return False
    return True
