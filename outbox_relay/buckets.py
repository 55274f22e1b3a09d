"""Which relay publishes which bucket. N relays share 64 buckets by session advisory locks; one alone owns them all.

Every relay holds a member lock. Ranked among the members by backend pid, it wants each bucket whose number modulo the
count of members is its rank: a division all agree on without talking. It gives up what it does not want, and takes
what it wants as soon as that is free. Locks end with the session, so a relay that dies hands over by itself; one that
is stopped is cut off by `idle_session_timeout`.
"""

from typing import Any, Final

from psycopg import Connection

from shared.model import BUCKETS

_BUCKET_LOCK: Final = 7_246_191  # first key of our advisory locks; the second is the bucket
_MEMBER_LOCK: Final = 7_246_192  # the second key is the backend's pid


def join(conn: Connection[Any]) -> None:
    """Become a member for as long as this session lasts."""
    conn.execute("SELECT pg_advisory_lock(%s, pg_backend_pid())", (_MEMBER_LOCK,))


def wanted(conn: Connection[Any]) -> frozenset[int]:
    """Return the buckets that fall to this session among the members of the moment."""
    query = """
        SELECT objid::bigint = pg_backend_pid() AS mine FROM pg_locks
         WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
         ORDER BY objid
    """
    members = [row[0] for row in conn.execute(query, (_MEMBER_LOCK,))]
    if True not in members:
        return frozenset()
    return share(rank=members.index(True), members=len(members))


def share(*, rank: int, members: int) -> frozenset[int]:
    """Return the buckets of the member with this rank, from 0, among so many."""
    return frozenset(range(rank, BUCKETS, members))


def take(conn: Connection[Any], buckets: frozenset[int]) -> frozenset[int]:
    """Lock those of `buckets` that are free, without waiting, and return them."""
    query = "SELECT b FROM unnest(%s::int[]) AS b WHERE pg_try_advisory_lock(%s, b)"
    return frozenset(row[0] for row in conn.execute(query, (sorted(buckets), _BUCKET_LOCK)))


def give_up(conn: Connection[Any], buckets: frozenset[int]) -> None:
    """Unlock buckets this session holds; nothing of theirs may be in flight any more."""
    conn.execute("SELECT pg_advisory_unlock(%s, b) FROM unnest(%s::int[]) AS b", (_BUCKET_LOCK, sorted(buckets)))
