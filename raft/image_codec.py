"""A MetadataImage as bytes, for snapshots: canonical, so that equal images are equal bytes on every node. Pure.

    msgpack   [format, index, cluster id, feature level, [broker ...], [topic ...], next producer id, [window ...],
              [[directory id, node id] ...], [[change id, result] ...], [[broker, {config: value ...}] ...]]
    broker, topic   maps by field name, sorted by id and by name; a topic's configs are sorted
    window    [broker id, broker epoch, highest sequence, [[sequence, result] ...]], sorted by broker, by sequence

Result windows are part of it: a request that is sent again after a snapshot must find its first answer. Node ids are
observers', sorted by directory id; changes are clients', the oldest first; brokers' configs are sorted, "" is all of
them. Format 1 ends before these three and format 2 before the last; format 4 is format 3 in which replicas come or go
or brokers are drained, format 5 one in which brokers have listeners or disk epochs. Each is written while what it lacks
is not there: a voter of the release before can take it.
"""

from collections.abc import Iterator

import msgspec

from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId

from .image import Broker, MetadataImage, ResultWindow, Topic

FEATURE_LEVEL_MAX = 1
"""The highest feature level whose state this release can hold."""

TOPICS_PER_PIECE = 500

_FORMAT = 5


class UnreadableImage(ValueError):
    """These bytes are no image that this release can hold."""


class _Window(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    broker_id: BrokerId
    broker_epoch: BrokerEpoch
    highest: int
    results: list[tuple[int, bytes]]


class _Image(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format: int
    index: int
    cluster_id: str | None
    feature_level: int
    brokers: list[Broker]
    topics: list[Topic]
    next_producer_id: int
    results: list[_Window]
    node_ids: list[tuple[DirectoryId, BrokerId]] = []
    changes: list[tuple[str, bytes]] = []
    broker_configs: list[tuple[str, dict[str, str]]] = []


_DECODER = msgspec.msgpack.Decoder(_Image)


def encode_image(image: MetadataImage) -> bytes:
    """The image's bytes."""
    return b"".join(image_pieces(image))


def image_pieces(image: MetadataImage) -> Iterator[bytes]:
    """The same bytes, in pieces that take a few milliseconds each to make: of a large image the topics are nearly
    all, and whoever waits meanwhile need not wait for all of them."""
    brokers = [broker for _, broker in sorted(image.brokers.items())]
    windows = [
        _Window(broker, window.broker_epoch, window.highest, sorted(window.results.items()))
        for broker, window in sorted(image.results.items())
    ]
    encode = msgspec.msgpack.encode
    written = _format_for(image)
    head = (written, image.index, image.cluster_id, image.feature_level, brokers)
    length = len(_Image.__struct_fields__) - {1: 3, 2: 1}.get(written, 0)
    yield _array_header(length) + b"".join(map(encode, head)) + _array_header(len(image.topics))
    names = sorted(image.topics)
    for first in range(0, len(names), TOPICS_PER_PIECE):
        yield b"".join(encode(_canonical(image.topics[name])) for name in names[first : first + TOPICS_PER_PIECE])
    tail: list[object] = [image.next_producer_id, windows]
    if written > 1:
        tail += [sorted(image.node_ids.items()), list(image.changes.items())]
    if written > 2:
        configs = sorted(image.broker_configs.items())
        tail.append([(broker, dict(sorted(texts.items()))) for broker, texts in configs])
    yield b"".join(map(encode, tail))


def _format_for(image: MetadataImage) -> int:
    if any(broker.listeners or broker.disk_epochs for broker in image.brokers.values()):
        return 5
    partitions = (partition for topic in image.topics.values() for partition in topic.partitions)
    if any(broker.drained for broker in image.brokers.values()) or any(
        partition.adding or partition.removing or partition.offline for partition in partitions
    ):
        return 4
    if image.broker_configs:
        return 3
    return 2 if image.node_ids or image.changes else 1


def _array_header(length: int) -> bytes:
    """How msgpack begins an array of ``length`` elements: in the shortest of its three forms."""
    if length < 1 << 4:
        return bytes([0x90 | length])
    return b"\xdc" + length.to_bytes(2, "big") if length < 1 << 16 else b"\xdd" + length.to_bytes(4, "big")


def decode_image(data: bytes) -> MetadataImage:
    """The image these bytes are. Raises UnreadableImage."""
    try:
        found = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableImage(str(error)) from error
    if not 1 <= found.format <= _FORMAT or found.feature_level > FEATURE_LEVEL_MAX:
        raise UnreadableImage(
            f"format {found.format} at feature level {found.feature_level}; this release knows formats up to "
            f"{_FORMAT} and levels up to {FEATURE_LEVEL_MAX}"
        )
    return MetadataImage(
        index=found.index,
        cluster_id=found.cluster_id,
        feature_level=found.feature_level,
        brokers={broker.broker_id: broker for broker in found.brokers},
        topics={topic.name: topic for topic in found.topics},
        topic_names={topic.topic_id: topic.name for topic in found.topics},
        next_producer_id=found.next_producer_id,
        results={
            window.broker_id: ResultWindow(window.broker_epoch, window.highest, dict(window.results))
            for window in found.results
        },
        node_ids=dict(found.node_ids),
        changes=dict(found.changes),
        broker_configs=dict(found.broker_configs),
    )


def _canonical(topic: Topic) -> Topic:
    return msgspec.structs.replace(topic, configs=dict(sorted(topic.configs.items())))
