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
    from .group_descriptions import GroupDescription, GroupList, GroupMember, GroupPartition, OffsetChange
    from .group_options import GroupOptions
    from .group_protocol import ListedGroup
    from .one_reader import ConsumerBusy
    from .outgoing import OutgoingRecord
    from .partitioner import murmur2, partition_for_key
    from .pattern_consumer import PatternConsumer
    from .producer import Producer, RecordMetadata
    from .producer_options import ProducerOptions
    from .reader import BadInterceptor
    from .reading import ConsumerOptions, LogTruncated, NotAssigned
    from .records import ConsumerRecord
    from .serializers import Codec, UndecodableRecord, UnencodableRecord

__all__ = [
    "Admin",
    "AuthenticationFailed",
    "BadInterceptor",
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
    "ConsumerBusy",
    "ConsumerOptions",
    "ConsumerRecord",
    "CorruptBatchError",
    "DeliveryTimeout",
    "ErrorCode",
    "Fenced",
    "GroupConsumer",
    "GroupDescription",
    "GroupList",
    "GroupMember",
    "GroupOptions",
    "GroupPartition",
    "ListedGroup",
    "LogTruncated",
    "NodeDescription",
    "NotAssigned",
    "NotEnoughReplicas",
    "OffsetChange",
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
    "BadInterceptor": "reader",
    "CallbackFailed": "callbacks",
    "Client": "client",
    "ClusterDescription": "admin",
    "Codec": "serializers",
    "CommitFailed": "commits",
    "ConnectionLost": "connection",
    "Consumer": "consumer",
    "ConsumerBusy": "one_reader",
    "ConsumerOptions": "reading",
    "ConsumerRecord": "records",
    "ErrorCode": "error_codes",
    "GroupConsumer": "group_consumer",
    "GroupDescription": "group_descriptions",
    "GroupList": "group_descriptions",
    "GroupMember": "group_descriptions",
    "GroupPartition": "group_descriptions",
    "OffsetChange": "group_descriptions",
    "PatternConsumer": "pattern_consumer",
    "GroupOptions": "group_options",
    "ListedGroup": "group_protocol",
    "LogTruncated": "reading",
    "NodeDescription": "admin",
    "NotAssigned": "reading",
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
