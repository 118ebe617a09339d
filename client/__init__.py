"""The Python SDK. ``async with ottla.client.connect("127.0.0.1:7080") as client: ...``

Names load when first used: a command that only needs an error's code must not pay for the network stack.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .admin import Admin, ClusterDescription, NodeDescription, PartitionDescription, TopicDescription
    from .callbacks import CallbackFailed
    from .client import Client, connect
    from .commits import CommitFailed
    from .connection import ConnectionLost
    from .consumer import Consumer
    from .error_codes import ErrorCode
    from .errors import (
        AuthenticationFailed,
        BufferFull,
        ConfigError,
        ConnectFailed,
        CorruptBatchError,
        DeliveryTimeout,
        Fenced,
        NotEnoughReplicas,
        OttlaError,
        RecordTooLarge,
        RequestFailed,
        TopicExists,
        TopicNotFound,
    )
    from .group_consumer import GroupConsumer
    from .group_options import GroupOptions
    from .outgoing import OutgoingRecord
    from .partitioner import murmur2, partition_for_key
    from .pattern_consumer import PatternConsumer
    from .producer import Producer, RecordMetadata
    from .producer_options import ProducerOptions
    from .reading import ConsumerOptions, LogTruncated
    from .records import ConsumerRecord
    from .serializers import Codec, UndecodableRecord, UnencodableRecord

__all__ = [
    "Admin",
    "AuthenticationFailed",
    "BufferFull",
    "CallbackFailed",
    "Client",
    "ClusterDescription",
    "Codec",
    "CommitFailed",
    "ConfigError",
    "ConnectFailed",
    "ConnectionLost",
    "Consumer",
    "ConsumerOptions",
    "ConsumerRecord",
    "CorruptBatchError",
    "DeliveryTimeout",
    "ErrorCode",
    "Fenced",
    "GroupConsumer",
    "GroupOptions",
    "LogTruncated",
    "NodeDescription",
    "NotEnoughReplicas",
    "OttlaError",
    "OutgoingRecord",
    "PartitionDescription",
    "PatternConsumer",
    "Producer",
    "ProducerOptions",
    "RecordMetadata",
    "RecordTooLarge",
    "RequestFailed",
    "TopicDescription",
    "TopicExists",
    "TopicNotFound",
    "UndecodableRecord",
    "UnencodableRecord",
    "connect",
    "murmur2",
    "partition_for_key",
]

_ELSEWHERE = {
    "Admin": "admin",
    "CallbackFailed": "callbacks",
    "Client": "client",
    "ClusterDescription": "admin",
    "Codec": "serializers",
    "CommitFailed": "commits",
    "ConnectionLost": "connection",
    "Consumer": "consumer",
    "ConsumerOptions": "reading",
    "ConsumerRecord": "records",
    "ErrorCode": "error_codes",
    "GroupConsumer": "group_consumer",
    "PatternConsumer": "pattern_consumer",
    "GroupOptions": "group_options",
    "LogTruncated": "reading",
    "NodeDescription": "admin",
    "OutgoingRecord": "outgoing",
    "PartitionDescription": "admin",
    "Producer": "producer",
    "ProducerOptions": "producer_options",
    "RecordMetadata": "producer",
    "TopicDescription": "admin",
    "UndecodableRecord": "serializers",
    "UnencodableRecord": "serializers",
    "connect": "client",
    "murmur2": "partitioner",
    "partition_for_key": "partitioner",
}
"""The module of each name; the others are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_ELSEWHERE.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
