"""Metadata: the door's most frequent question after produce and fetch, encoded by hand and remembered.

    response   | throttle ms: i32 (3+) | brokers: array of | id: i32 | host: string | port: i32 | rack: string (1+) | |
                 cluster id: string (2+) | controller: i32 (1+) | topics: array of
                 | error: i16 | name: string | id: 16 bytes (10+) | internal: i8 (1+) | partitions: array of
                   | error: i16 | index: i32 | leader: i32 | leader epoch: i32 (7+) | replicas | isr | offline (5+) |
                   operations: i32 (8+) | operations: i32 (8-10) | error: i16 (13+) |

An answer holds as long as the image and the quorum's leader do: what was asked and answered then is answered again
from memory.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from ottla.client.error_codes import ErrorCode
from ottla.client.group_names import INTERNAL_TOPICS
from ottla.client.protocol import MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata
from ottla.log.model import BrokerId

from ..replica import Refused
from .aside import LARGE_ANSWER_ELEMENTS, LARGE_REQUEST_BYTES, RunAside
from .caller import Caller
from .metadata_request import AskedMetadata, decode_metadata
from .versions import ApiKey, is_flexible
from .view import Address, BrokerView
from .wire import INT16, INT32, NO_TAGS, NO_TOPIC_ID, count, int32s, nullable_string, string, topic_id_bytes

REMEMBERED_BYTES_MAX = 8 << 20
"""Of answers, and the requests they are known by."""
UNKNOWN_OPERATIONS = -(2**31)
ALL_TOPIC_OPERATIONS = sum(1 << operation for operation in (3, 4, 5, 6, 7, 8, 10, 11))
ALL_CLUSTER_OPERATIONS = sum(1 << operation for operation in (5, 7, 8, 9, 10, 11, 12))
"""Bit sets of Kafka's AclOperation: everybody may do everything, as long as there is no access control."""
LISTENER_NOT_FOUND = 72


class _State(NamedTuple):
    """What an answer is made of. A node may lose sight of the leader, and find it again, at one and the same index."""

    metadata_index: int
    quorum_leader: int | None


class _Key(NamedTuple):
    version: int
    local_host: str
    asked: bytes


class MetadataAnswers:
    """Answers of one door."""

    def __init__(self, view: BrokerView) -> None:
        self._view = view
        self._remembered: dict[_Key, tuple[_State, bytes]] = {}
        self._bytes = 0

    async def answer(self, caller: Caller, version: int, frame: memoryview, body_at: int, run_aside: RunAside) -> bytes:
        """The response's body. The request's bytes are what its answer is remembered by. Raises Malformed."""
        key = _Key(version, caller.local_host, bytes(frame[body_at:]))
        remembered = self._remembered.get(key)
        if remembered is not None and remembered[0] == _State(self._view.image.index, self._view.quorum_leader):
            return remembered[1]
        read = partial(decode_metadata, frame, body_at, version)
        asked = read() if len(frame) <= LARGE_REQUEST_BYTES else await run_aside(read)
        body, state = await self._make(caller, version, asked, run_aside)
        if state is not None:
            self._remember(key, state, body)
        return body

    def _remember(self, key: _Key, state: _State, body: bytes) -> None:
        size = len(body) + len(key.asked)
        if size > REMEMBERED_BYTES_MAX // 4:
            return
        self._bytes += size  # what is replaced counts on, until all is forgotten
        if self._bytes > REMEMBERED_BYTES_MAX:
            self._remembered.clear()
            self._bytes = size
        self._remembered[key] = (state, body)

    async def _make(
        self, caller: Caller, version: int, asked: AskedMetadata, run_aside: RunAside
    ) -> tuple[bytes, _State | None]:
        names, unknown = _topics(self._view, asked)
        try:
            response = await self._view.ask(MetadataRequest(names, asked.allow_auto_creation), MetadataResponse)
        except Refused as refused:
            return _encode_refusal(version, refused), None
        addresses = self._view.addresses(caller)
        wanted = Operations(asked.topic_operations, asked.cluster_operations)
        write = partial(encode_metadata, version, response, addresses, unknown, wanted)
        elements = sum(1 + len(topic.partitions) for topic in response.topics)
        body = await run_aside(write) if elements > LARGE_ANSWER_ELEMENTS else write()
        whole = all(topic.error is ErrorCode.NONE for topic in response.topics) and not unknown
        return body, _State(response.metadata_index, response.quorum_leader) if whole else None


class Operations(NamedTuple):
    """Whether the client asks what it may do."""

    topics: bool
    cluster: bool


def _topics(view: BrokerView, asked: AskedMetadata) -> tuple[tuple[str, ...] | None, list[bytes]]:
    """Names asked for, None for all; and the ids that no topic has."""
    if asked.topics is None:
        return None, []
    names: list[str] = []
    unknown: list[bytes] = []
    for name, topic_id in asked.topics:
        if topic_id is None:
            names.append(name or "")
            continue
        known = view.image.topic_by_id(topic_id)  # whatever the name: the Java client's is empty
        if known is not None:
            names.append(known.name)
        else:
            unknown.append(topic_id_bytes(topic_id))
    return tuple(dict.fromkeys(names)), unknown


def encode_metadata(
    version: int,
    response: MetadataResponse,
    addresses: Mapping[BrokerId, Address],
    unknown: list[bytes],
    wanted: Operations,
) -> bytes:
    """The response's body. ``addresses``: of the brokers that the client can reach."""
    flexible = is_flexible(ApiKey.METADATA, version)
    tags = NO_TAGS if flexible else b""
    racks = {broker.broker_id: broker.rack for broker in response.brokers}
    pieces = [INT32.pack(0) if version >= 3 else b"", count(len(addresses), flexible)]
    for broker_id, address in addresses.items():
        pieces += (INT32.pack(broker_id), string(address.host, flexible), INT32.pack(address.port))
        pieces.append((nullable_string(racks.get(broker_id), flexible) if version >= 1 else b"") + tags)
    if version >= 2:
        pieces.append(nullable_string(response.cluster_id, flexible))
    if version >= 1:
        leader = response.quorum_leader
        pieces.append(INT32.pack(leader if leader is not None and leader in addresses else -1))
    pieces.append(count(len(response.topics) + len(unknown), flexible))
    operations = ALL_TOPIC_OPERATIONS if wanted.topics else UNKNOWN_OPERATIONS
    pieces += (_topic(version, flexible, topic, addresses, operations) for topic in response.topics)
    pieces += (_unknown_topic(version, topic_id) for topic_id in unknown)
    if 8 <= version <= 10:
        pieces.append(INT32.pack(ALL_CLUSTER_OPERATIONS if wanted.cluster else UNKNOWN_OPERATIONS))
    if version >= 13:
        pieces.append(INT16.pack(ErrorCode.NONE))
    pieces.append(tags)
    return b"".join(pieces)


def _topic(
    version: int, flexible: bool, topic: TopicMetadata, addresses: Mapping[BrokerId, Address], operations: int
) -> bytes:
    tags = NO_TAGS if flexible else b""
    pieces = [INT16.pack(topic.error), string(topic.name, flexible)]
    if version >= 10:
        pieces.append(NO_TOPIC_ID if topic.topic_id is None else topic_id_bytes(topic.topic_id))
    if version >= 1:
        pieces.append(b"\x01" if topic.name in INTERNAL_TOPICS else b"\x00")
    pieces.append(count(len(topic.partitions), flexible))
    pieces += (_partition(version, flexible, partition, addresses) for partition in topic.partitions)
    if version >= 8:
        pieces.append(INT32.pack(operations))
    pieces.append(tags)
    return b"".join(pieces)


def _partition(
    version: int, flexible: bool, partition: PartitionMetadata, addresses: Mapping[BrokerId, Address]
) -> bytes:
    leader = partition.leader
    error, shown = int(ErrorCode.NONE), -1 if leader is None else int(leader)
    if leader is None:
        error = ErrorCode.LEADER_NOT_AVAILABLE
    elif leader not in addresses:
        error, shown = LISTENER_NOT_FOUND if version >= 6 else ErrorCode.LEADER_NOT_AVAILABLE, -1
    pieces = [INT16.pack(error), INT32.pack(partition.partition), INT32.pack(shown)]
    if version >= 7:
        pieces.append(INT32.pack(partition.leader_epoch))
    pieces += (int32s(partition.replicas, flexible), int32s(partition.isr, flexible))
    if version >= 5:
        offline = tuple(replica for replica in partition.replicas if replica not in addresses)
        pieces.append(int32s(offline, flexible))
    pieces.append(NO_TAGS if flexible else b"")
    return b"".join(pieces)


def _unknown_topic(version: int, topic_id: bytes) -> bytes:
    """Ids are asked for in flexible versions only."""
    name = nullable_string(None, True) if version >= 12 else string("", True)
    head = INT16.pack(ErrorCode.UNKNOWN_TOPIC_ID) + name + topic_id
    return head + b"\x00" + count(0, True) + INT32.pack(UNKNOWN_OPERATIONS) + NO_TAGS


def _encode_refusal(version: int, refused: Refused) -> bytes:
    """There is no place for an error before version 13: no brokers at all, and clients ask again, or elsewhere."""
    nobody = MetadataResponse("", 0, BrokerId(0), None, 0, (), ())
    body = encode_metadata(version, nobody, {}, [], Operations(False, False))
    if version < 13:
        return body
    return body[:-3] + INT16.pack(refused.error) + NO_TAGS
