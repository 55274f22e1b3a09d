"""Accepts notifications through the API's own functions, a thousand at a time and without HTTP: to prepare a round."""

import os

import click
import orjson

from api_service import accept, schemas
from loadtest.bench.bodies import items
from shared.conninfo import read_conninfo
from shared.db import connect
from shared.records import Topics
from shared.settings import Environment, read_topic_prefix

_CHUNK = 1_000


@click.command()
@click.option("--count", type=int, required=True)
@click.option("--channel", required=True)
@click.option("--url")
@click.option("--seed", type=int, required=True)
@click.option("--item-bytes", type=int, required=True)
def main(*, count: int, channel: str, url: str | None, seed: int, item_bytes: int) -> None:
    """Accept so many."""
    env = Environment(os.environ)
    topics = Topics(read_topic_prefix(env))
    with connect(read_conninfo(env), application_name="bench feed", settings=("SET synchronous_commit = off",)) as conn:
        for start in range(0, count, _CHUNK):
            wanted = items(seed + start, min(_CHUNK, count - start), channels=(channel,), url=url, size=item_bytes)
            requests = [schemas.load(item) for item in wanted]
            origin = accept.Origin()
            accept.write(conn, [accept.prepare(request, topics=topics, origin=origin) for request in requests])
    print("BENCH " + orjson.dumps({"work": count}).decode(), flush=True)


if __name__ == "__main__":
    main()
