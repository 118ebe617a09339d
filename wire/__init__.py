"""WebSocket streams without a task for each message. Knows nothing of what they carry."""
