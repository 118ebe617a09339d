"""The `ottla` command: the composition root."""
