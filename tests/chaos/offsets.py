"""Changes the offsets of a consumer group: `python -m tests.chaos.offsets BROKERS GROUP start|end|gone TOPIC...`.

A process of its own, since librdkafka's calls for groups were seen to abort theirs when a broker went away under them.
Exit 0: done; 1: the group has members, or the broker is away.
"""

import sys
from collections.abc import Sequence

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.local.kafka import admin_client

_WAIT_S = 8.0


def change(brokers: str, group: str, to: str, topics: Sequence[str]) -> bool:
    """Have the group begin at the start or the end, or have nothing committed. Raises KafkaException."""
    admin = admin_client(brokers)
    if to == "gone":
        admin.delete_consumer_groups([group], request_timeout=_WAIT_S)[group].result(2 * _WAIT_S)
        return True
    known = admin.list_topics(timeout=_WAIT_S).topics
    there = [TopicPartition(name, number) for name in topics if name in known for number in known[name].partitions]
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "chaos-looking", "log_level": 0})
    try:
        return all(_moved(admin, consumer, group, place, to) for place in there)
    finally:
        consumer.close()


def _moved(admin: AdminClient, consumer: Consumer, group: str, place: TopicPartition, to: str) -> bool:
    low_high = consumer.get_watermark_offsets(place, timeout=_WAIT_S)
    if low_high is None:
        return False
    place.offset = low_high[0 if to == "start" else 1]
    futures = admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group, [place])], request_timeout=_WAIT_S
    )
    return not any(one.error for one in futures[group].result(2 * _WAIT_S).topic_partitions or [])


def main() -> int:
    """Change what the command line names."""
    brokers, group, to, *topics = sys.argv[1:]
    try:
        return 0 if change(brokers, group, to, topics) else 1
    except KafkaException:
        return 1


if __name__ == "__main__":
    sys.exit(main())
