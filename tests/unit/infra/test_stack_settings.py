"""What the local stack reads from the environment, and what it refuses."""

import pytest

from infra.local.demo import demo_environ
from infra.local.errors import LocalStackError
from infra.local.stack import topic_partitions


def test_partitions_are_ten_unless_set() -> None:
    """As in production."""
    assert (topic_partitions({}), topic_partitions({"KAFKA_TOPIC_PARTITIONS": "3"})) == (10, 3)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1001", "²"])
def test_partitions_that_make_no_sense_are_refused(value: str) -> None:
    """With the variable's name."""
    with pytest.raises(LocalStackError, match="KAFKA_TOPIC_PARTITIONS"):
        topic_partitions({"KAFKA_TOPIC_PARTITIONS": value})


def test_the_demo_keeps_to_topics_of_its_own_on_a_broker_that_is_not() -> None:
    """Somebody's records are not the demo's to read."""
    own = demo_environ({"KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092"})

    assert own["TOPIC_PREFIX"].startswith("demo-")
    assert "TOPIC_PREFIX" not in demo_environ({})
