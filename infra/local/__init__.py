"""The whole pipeline as processes on one machine: real PostgreSQL, real Apache Kafka, receivers, the four services."""
