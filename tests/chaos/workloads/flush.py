"""The queue's workload on topics whose records count once they are durable: then every node may lose its power at once,
again and again, and nothing that was acknowledged may be gone."""

from typing import ClassVar

from .queue import QueueWorkload


class FlushWorkload(QueueWorkload):
    name = "flush"
    durable = True
    topic_config: ClassVar[dict[str, object]] = {"flush": "ack"}
