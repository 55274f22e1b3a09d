"""The jars that are run are the jars that the lock file names."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from infra.local import kafka_jars
from infra.local.errors import LocalStackError
from infra.local.kafka_jars import LOCK_FILE, Jar, cache_dir, ensure_jars, read_lock, unverified


def a_jar(name: str, content: bytes = b"jar") -> Jar:
    return Jar(f"org.example:{name}:1.0", hashlib.sha256(content).hexdigest(), len(content))


def fetching(contents: dict[str, bytes], fetched: list[str]) -> object:
    """A download that finds these contents and notes what was asked for."""

    def download(jar: Jar, repository: Path) -> Path:
        fetched.append(jar.file_name)
        path = repository / jar.file_name
        path.write_bytes(contents[jar.file_name])
        return path

    return download


def test_the_lock_names_every_jar_by_sum_and_no_host() -> None:
    """Whoever fetches from a mirror gets the same bytes."""
    jars = read_lock()

    assert any(jar.coordinates == f"org.apache.kafka:kafka_2.13:{kafka_jars.KAFKA_VERSION}" for jar in jars)
    assert all(len(jar.sha256) == 64 and jar.coordinates.count(":") == 2 for jar in jars)
    assert len({jar.file_name for jar in jars}) == len(jars)
    assert "://" not in LOCK_FILE.read_text()


def test_only_what_is_missing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing the second time."""
    fetched: list[str] = []
    monkeypatch.setattr(kafka_jars, "_download", fetching({"b-1.0.jar": b"jar"}, fetched))
    (tmp_path / "a-1.0.jar").write_bytes(b"jar")

    first = ensure_jars(tmp_path, lock=[a_jar("a"), a_jar("b")])
    ensure_jars(tmp_path, lock=[a_jar("a"), a_jar("b")])

    assert fetched == ["b-1.0.jar"]
    assert first == [tmp_path / "a-1.0.jar", tmp_path / "b-1.0.jar"]


def test_other_bytes_than_the_lock_names_never_reach_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tampered or cut off download is refused, and leaves nothing behind that a later start would take."""
    monkeypatch.setattr(kafka_jars, "_download", fetching({"a-1.0.jar": b"evil"}, []))

    with pytest.raises(LocalStackError, match=r"org\.example:a:1\.0 is not what the lock file names"):
        ensure_jars(tmp_path, lock=[a_jar("a")])

    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_jar_that_changed_in_the_cache_is_noticed(tmp_path: Path) -> None:
    """Its size and time are compared at each start, its bytes when those differ."""
    jar = a_jar("a")
    path = tmp_path / jar.file_name
    path.write_bytes(b"jar")
    ensure_jars(tmp_path, lock=[jar])

    path.write_bytes(b"raj")
    changed = unverified(tmp_path, [jar])
    path.write_bytes(b"jar")
    os.utime(path, (1, 1))
    touched = unverified(tmp_path, [jar])

    assert (changed, touched) == ([jar], [])


def test_marks_of_an_older_lock_prove_nothing(tmp_path: Path) -> None:
    """A jar whose sum changed in the lock is hashed again although the file is the same."""
    ensure_jars_of_old_lock = [a_jar("a")]
    (tmp_path / "a-1.0.jar").write_bytes(b"jar")
    ensure_jars(tmp_path, lock=ensure_jars_of_old_lock)

    assert unverified(tmp_path, [a_jar("a", b"new")]) == [a_jar("a", b"new")]


def test_a_broken_note_of_what_was_checked_only_costs_time(tmp_path: Path) -> None:
    """The sums are computed again."""
    (tmp_path / "a-1.0.jar").write_bytes(b"jar")
    (tmp_path / "checked.json").write_text("{")

    ensure_jars(tmp_path, lock=[a_jar("a")])

    assert json.loads((tmp_path / "checked.json").read_text()).keys() == {"a-1.0.jar"}


def test_the_cache_is_outside_the_clone_and_follows_xdg() -> None:
    """One download for all clones of a user."""
    assert cache_dir({"XDG_CACHE_HOME": "/c"}) == Path(f"/c/notification-pipeline/kafka-{kafka_jars.KAFKA_VERSION}")
