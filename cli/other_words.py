"""What other tools call our commands: who comes from them is told ours."""

from typing import Any

WORDS = {
    "show": ("describe", "desc", "info", "get", "view", "inspect", "lag"),
    "ls": ("list",),
    "rm": ("delete", "del", "remove", "drop"),
    "create": ("add", "new", "make"),
    "set": ("alter", "alter-config", "edit", "update", "configure"),
    "unset": ("delete", "remove"),
    "grow": ("add-partitions",),
    "trim": ("purge", "truncate", "trim-prefix", "delete-records"),
    "seek": ("reset", "reset-offsets", "offsets"),
    "forget": ("delete-offsets", "offset-delete"),
    "move": ("reassign", "move-partitions"),
    "elect": ("leader-election", "transfer-leadership", "step-down"),
    "drain": ("maintenance",),
    "decommission": ("remove", "rm"),
    "produce": ("publish", "pub", "producer", "console-producer", "send"),
    "consume": ("subscribe", "sub", "consumer", "console-consumer", "read", "tail"),
    "start": ("run", "serve", "server", "broker"),
    "group": ("groups", "consumer-group", "consumer-groups"),
    "topic": ("topics", "stream", "streams"),
    "node": ("nodes", "brokers"),
    "config": ("configs", "settings"),
    "partition": ("partitions",),
    "status": ("cluster", "info"),
    "bench": ("perf", "benchmark"),
}
"""Of kafka-*.sh, rpk and nats, by ours."""


def ours_for(word: str, group: Any) -> str | None:
    """The command of ``group`` (of click's, or typer's) that means the same; None where there is none."""
    commands = getattr(group, "commands", {})
    return next((ours for ours, others in WORDS.items() if ours in commands and word.lower() in others), None)
