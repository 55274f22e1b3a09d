"""Outbox rows to Kafka, in order, deleted only after the broker's delivery report; and the upkeep of what waits."""
