"""The broker: replication, the listeners and the node that holds them together."""
