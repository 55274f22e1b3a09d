"""Apache Kafka's jars: pinned by a lock file, fetched once per user, checked before they are run.

`kafka.lock.json` names each jar by its Maven coordinates, size and sha256, and names no host: what is fetched from a
mirror must be the same bytes. After changing a version below, `python -m infra.local.kafka_jars` writes it anew.
"""

import fcntl
import hashlib
import json
import os
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.local.errors import LocalStackError

KAFKA_VERSION = "4.3.0"
# The second endpoint has the broker's log lines go somewhere; without a binding SLF4J drops them all.
_ENDPOINTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4")
LOCK_FILE = Path(__file__).with_name("kafka.lock.json")
# A Maven repository to fetch from in place of the central one, as `https://…/maven2`.
MIRROR_VARIABLE = "MAVEN_MIRROR_URL"
_CHECKED = "checked.json"  # size and mtime of each jar when its sha256 was last found right
_DOWNLOADS_AT_ONCE = 6
_TRIES = 3


@dataclass(frozen=True)
class Jar:
    """One line of the lock file."""

    coordinates: str  # group:artifact:version
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        """The name the jar has in the cache and on the class path."""
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.jar"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the jars of this Kafka version are kept, shared by all clones of a user."""
    base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "notification-pipeline" / f"kafka-{KAFKA_VERSION}"


def read_lock(path: Path = LOCK_FILE) -> list[Jar]:
    """Read the lock file; the order is that of the class path."""
    return [Jar(**entry) for entry in json.loads(path.read_text())["jars"]]


def ensure_jars(directory: Path | None = None, *, lock: Sequence[Jar] | None = None) -> list[Path]:
    """Return the jars' paths in class path order, fetching those that are missing or not what the lock names.

    Safe to call from several processes at once: one fetches, the others wait for it. A download that was cut off
    leaves nothing behind that a later call would take for a jar. Raises LocalStackError.
    """
    directory = directory or cache_dir()
    jars = read_lock() if lock is None else list(lock)
    directory.mkdir(parents=True, exist_ok=True)
    with exclusive(directory / "lock"):
        wrong = unverified(directory, jars)
        if wrong:
            _fetch(directory, wrong)
        _note_checked(directory, jars)
    return [directory / jar.file_name for jar in jars]


def unverified(directory: Path, jars: Sequence[Jar]) -> list[Jar]:
    """Return the jars that are missing or whose bytes differ from the lock.

    A jar is hashed once; afterwards its size and modification time stand for its bytes.
    """
    try:
        checked = json.loads((directory / _CHECKED).read_text())
    except (OSError, ValueError):
        checked = {}
    return [jar for jar in jars if not _is_right(directory / jar.file_name, jar, checked.get(jar.file_name))]


def _is_right(path: Path, jar: Jar, checked: object) -> bool:
    try:
        mark = _mark(path, jar)
    except FileNotFoundError:
        return False
    return mark == checked or sha256_of(path) == jar.sha256


def _mark(path: Path, jar: Jar) -> list[int | str]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, jar.sha256]


def _note_checked(directory: Path, jars: Sequence[Jar]) -> None:
    marks = json.dumps({jar.file_name: _mark(directory / jar.file_name, jar) for jar in jars})
    path = directory / _CHECKED
    if not path.exists() or path.read_text() != marks:
        replacement = path.with_suffix(".new")
        replacement.write_text(marks)
        replacement.replace(path)


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an advisory lock on a file; the kernel lets go of it when its holder dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(directory: Path, jars: Sequence[Jar]) -> None:
    """Download jars beside the cache, compare them with the lock, and only then move them into place."""
    print(f"Fetching {len(jars)} jars of Apache Kafka {KAFKA_VERSION} into {directory} (once)", file=sys.stderr)
    for abandoned in directory.glob("fetch-*"):  # by a start that was killed; the lock is ours
        shutil.rmtree(abandoned, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(dir=directory, prefix="fetch-") as scratch,
        ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool,
    ):
        for jar, path in zip(jars, pool.map(lambda jar: _download(jar, Path(scratch)), jars), strict=True):
            found = sha256_of(path)
            if found != jar.sha256:
                raise LocalStackError(
                    f"{jar.coordinates} is not what the lock file names: sha256 {found}, expected {jar.sha256}."
                )
            path.replace(directory / jar.file_name)


def _download(jar: Jar, repository: Path) -> Path:
    import requests  # noqa: PLC0415 - 0.3 s that only the first start needs to spend
    from jgo.maven import MavenContext  # noqa: PLC0415

    _trust_the_systems_certificates()
    group, artifact, version = jar.coordinates.split(":")
    context = MavenContext(repo_cache=repository, remote_repos=_mirror(), timeout=60)
    wanted = context.project(group, artifact).at_version(version).artifact()
    for tries_left in reversed(range(_TRIES)):
        try:
            return wanted.resolve()
        except (requests.RequestException, RuntimeError) as error:
            # jgo leaves what it got so far under the final name, and would return that the next time.
            (repository / wanted.component.path_prefix / wanted.filename).unlink(missing_ok=True)
            if not tries_left:
                raise LocalStackError(
                    f"{jar.coordinates} could not be fetched ({error}); {MIRROR_VARIABLE} may name a Maven mirror, "
                    "KAFKA_BOOTSTRAP_SERVERS a broker that exists already."
                ) from error
            time.sleep(1.0)
    raise AssertionError("unreachable: the last try returns or raises")


def _mirror() -> dict[str, str] | None:
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    return {"central": mirror} if mirror else None


def _trust_the_systems_certificates() -> None:
    """Point requests at the system's CA bundle: its own (certifi) knows no proxy's certificate authority."""
    if not os.environ.get("REQUESTS_CA_BUNDLE"):
        bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
        if bundle and Path(bundle).is_file():
            os.environ["REQUESTS_CA_BUNDLE"] = bundle


def write_lock(path: Path = LOCK_FILE) -> None:
    """Resolve the endpoints' dependency graphs and write the lock file anew."""
    import jgo  # noqa: PLC0415

    _trust_the_systems_certificates()
    jars: dict[str, Jar] = {}
    for endpoint in _ENDPOINTS:
        for artifact in jgo.resolve(endpoint, repositories=_mirror()):
            file = artifact.resolve()
            coordinates = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            jars.setdefault(coordinates, Jar(coordinates, sha256_of(file), file.stat().st_size))
    content = {"endpoints": _ENDPOINTS, "jars": [asdict(jar) for jar in jars.values()]}
    path.write_text(json.dumps(content, indent=2) + "\n")


def remove(directory: Path | None = None) -> None:
    """Delete the cached jars of this version; the next start fetches them again."""
    shutil.rmtree(directory or cache_dir(), ignore_errors=True)


if __name__ == "__main__":
    write_lock()
