"""The Kafka wire protocol: a door of its own port, over the same handlers as HTTP (docs/kafka.md)."""
