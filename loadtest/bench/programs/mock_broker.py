"""A cluster of librdkafka's mock brokers: prints its address and serves until it is ended.

It is made by the property `test.mock.num.brokers` of an ordinary client, which then knows its address as its broker.
"""

import threading

from confluent_kafka.admin import AdminClient


def main() -> None:
    """Serve."""
    client = AdminClient({"bootstrap.servers": "unused:0", "test.mock.num.brokers": 1, "log_level": 0})
    broker = next(iter(client.list_topics(timeout=10).brokers.values()))
    print(f"BOOTSTRAP {broker.host}:{broker.port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
