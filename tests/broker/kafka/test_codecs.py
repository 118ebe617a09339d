"""What is encoded and decoded by hand is what kio, whose classes are made from Kafka's schemas, reads and writes."""

import contextlib
from dataclasses import fields
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from kio.schema.errors import ErrorCode as KioError

from ottla.broker.kafka.api_versions import FEATURES, encode_api_versions
from ottla.broker.kafka.entities import decode, duration, milliseconds
from ottla.broker.kafka.fetch import encode_fetch
from ottla.broker.kafka.fetch_request import decode_fetch
from ottla.broker.kafka.metadata import Operations, _encode_refusal, encode_metadata
from ottla.broker.kafka.metadata_request import decode_metadata
from ottla.broker.kafka.produce import decode_produce, encode_produce
from ottla.broker.kafka.versions import SERVED, ApiKey, is_flexible
from ottla.broker.kafka.view import Address
from ottla.broker.kafka.wire import (
    NO_TAGS,
    Cursor,
    Malformed,
    nullable_string,
    string,
    topic_id_bytes,
    topic_id_of,
)
from ottla.broker.replica import Refused
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    BrokerEndpoint,
    DivergingEpoch,
    FetchResponse,
    FetchResult,
    MetadataResponse,
    PartitionMetadata,
    ProduceResult,
    TopicMetadata,
)
from ottla.log.model import BrokerId, LeaderEpoch, Offset, PartitionEpoch, TopicId

from .kio_bytes import body_of, every_version, read_response, request_class

KNOWN = sorted({int(code) for code in KioError} & {int(code) for code in ErrorCode})
ERRORS = st.sampled_from([ErrorCode(code) for code in KNOWN])
NAMES = st.text(max_size=20)
INT32 = st.integers(min_value=-(2**31), max_value=2**31 - 1)
OFFSETS = st.none() | st.integers(min_value=0, max_value=2**63 - 1).map(Offset)
UUIDS = st.binary(min_size=16, max_size=16).filter(any)


def versions(key: ApiKey) -> range:
    return range(SERVED[key].oldest, SERVED[key].newest + 1)


def inner(schema: Any, name: str) -> Any:
    """The class of an array's elements."""
    [field] = [each for each in fields(schema) if each.name == name]
    annotation = field.type
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    nested = [arg for each in candidates for arg in (each, *getattr(each, "__args__", ()))]
    return next(each for each in nested if hasattr(each, "__dataclass_fields__"))


@pytest.mark.parametrize("version", versions(ApiKey.PRODUCE))
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_produce_requests_are_read_as_kio_writes_them(version: int, data: st.DataObject) -> None:
    schema = request_class(ApiKey.PRODUCE, version)
    topic_class = inner(schema, "topic_data")
    partition_class = inner(topic_class, "partition_data")
    partitions = st.lists(st.tuples(INT32, st.none() | st.binary(max_size=100)), max_size=4)
    topics = data.draw(st.lists(st.tuples(NAMES, partitions), max_size=4))
    transactional_id = data.draw(st.none() | NAMES)
    acks, timeout_ms = data.draw(st.integers(min_value=-1, max_value=1)), data.draw(st.integers(0, 10**6))
    entity = schema(
        transactional_id=transactional_id,
        acks=acks,
        timeout=duration(timeout_ms),
        topic_data=tuple(
            topic_class(name=name, partition_data=tuple(partition_class(index=i, records=r) for i, r in of_topic))
            for name, of_topic in topics
        ),
    )
    found = decode_produce(memoryview(b"head" + body_of(entity)), 4, version)
    assert (found.transactional_id, found.acks, found.timeout_ms) == (transactional_id, acks, timeout_ms)
    expected = [(name, index, records) for name, of_topic in topics for index, records in of_topic]
    assert [
        (p.topic, p.partition, None if p.records is None else bytes(p.records)) for p in found.partitions
    ] == expected


@pytest.mark.parametrize("version", versions(ApiKey.PRODUCE))
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_produce_responses_are_written_as_kio_reads_them(version: int, data: st.DataObject) -> None:
    results = data.draw(
        st.lists(
            st.builds(
                lambda name, partition, error, base, start, time, text, leader: (
                    name,
                    ProduceResult(TopicId("t"), partition, error, base, start, text, leader, LeaderEpoch(3), time),
                ),
                st.sampled_from(["a", "b", "ü"]),
                st.integers(0, 9),
                ERRORS,
                OFFSETS,
                OFFSETS,
                st.none() | st.integers(0, 2**40),
                NAMES,
                st.none() | st.integers(1, 9).map(BrokerId),
            ),
            max_size=5,
        )
    )
    found = read_response(ApiKey.PRODUCE, version, encode_produce(results, version, NO_TAGS))
    by_name: dict[str, list[ProduceResult]] = {}
    for name, result in results:
        by_name.setdefault(name, []).append(result)
    assert [topic.name for topic in found.responses] == list(by_name)
    for topic in found.responses:
        for read, result in zip(topic.partition_responses, by_name[topic.name], strict=True):
            assert (read.index, read.error_code) == (result.partition, result.error)
            assert read.base_offset == (-1 if result.base_offset is None else result.base_offset)
            time_ms = None if read.log_append_time is None else round(read.log_append_time.timestamp() * 1000)
            assert time_ms == result.log_append_time_ms
            if version >= 5:
                assert read.log_start_offset == (-1 if result.log_start_offset is None else result.log_start_offset)
            if version >= 8:
                assert read.error_message == (result.message or None)
            if version >= 10 and result.error is ErrorCode.NOT_LEADER_OR_FOLLOWER and result.leader is not None:
                assert (read.current_leader.leader_id, read.current_leader.leader_epoch) == (result.leader, 3)


@pytest.mark.parametrize("version", versions(ApiKey.FETCH))
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_fetch_requests_are_read_as_kio_writes_them(version: int, data: st.DataObject) -> None:
    entity = data.draw(values_for(request_class(ApiKey.FETCH, version)))
    topics = [topic for topic in entity.topics for _ in topic.partitions]
    partitions = [partition for topic in entity.topics for partition in topic.partitions]
    written = body_of(entity)
    found = decode_fetch(memoryview(b"head" + written), 4, version, {})
    assert found.session_id == getattr(entity, "session_id", 0)
    assert found.request.max_wait_ms == max(0, milliseconds(entity.max_wait))
    assert (found.request.min_bytes, found.request.max_bytes) == (max(0, entity.min_bytes), max(0, entity.max_bytes))
    assert found.request.rack == getattr(entity, "rack_id", "")
    for topic, read, label in zip(topics, found.request.partitions, found.labels, strict=True):
        if version >= 13:
            assert label == (bytes(16) if topic.topic_id is None else topic.topic_id.bytes)
            assert read.topic_id == ("" if topic.topic_id is None else topic_id_of(topic.topic_id.bytes))
        else:
            assert label == string(topic.topic, is_flexible(ApiKey.FETCH, version))
    for asked, read in zip(partitions, found.request.partitions, strict=True):
        assert (read.partition, read.fetch_offset) == (asked.partition, asked.fetch_offset)
        assert read.max_bytes == max(0, asked.partition_max_bytes)
        for ours, name in (
            (read.current_leader_epoch, "current_leader_epoch"),
            (read.last_fetched_epoch, "last_fetched_epoch"),
        ):
            epoch = getattr(asked, name, -1)
            assert ours == (None if epoch < 0 else epoch)
    for cut in range(len(written)):
        with contextlib.suppress(Malformed):
            decode_fetch(memoryview(written[:cut]), 0, version, {})


@pytest.mark.parametrize("version", versions(ApiKey.FETCH))
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_fetch_responses_are_written_as_kio_reads_them(version: int, data: st.DataObject) -> None:
    topics = data.draw(st.lists(UUIDS, min_size=1, max_size=3, unique=True))
    asked = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(topics),
                st.integers(0, 9),
                ERRORS,
                OFFSETS,
                OFFSETS,
                st.none() | st.builds(DivergingEpoch, st.just(LeaderEpoch(2)), st.just(Offset(7))),
                st.none() | st.integers(1, 9).map(BrokerId),
                st.binary(max_size=200),
            ),
            max_size=6,
        )
    )
    flexible = is_flexible(ApiKey.FETCH, version)
    labels = [raw if version >= 13 else string(raw.hex(), flexible) for raw, *_ in asked]
    results = tuple(
        FetchResult(
            TopicId("t"), partition, error, high, start, len(records), diverging, "", leader, LeaderEpoch(3), leader
        )
        for _, partition, error, high, start, diverging, leader, records in asked
    )
    parts = [records for *_, records in asked]
    written = encode_fetch(b"", version, labels, FetchResponse(results), parts, NO_TAGS)
    assert all(any(piece is part for piece in written) for part in parts if part), "records are never copied"
    found = read_response(ApiKey.FETCH, version, b"".join(written))
    read = [
        (topic.topic_id.bytes if version >= 13 else bytes.fromhex(topic.topic), partition)
        for topic in found.responses
        for partition in topic.partitions
    ]
    by_topic = sorted(
        range(len(asked)), key=lambda index: list(dict.fromkeys(a[0] for a in asked)).index(asked[index][0])
    )
    for (raw, partition), index in zip(read, by_topic, strict=True):
        result = results[index]
        assert (raw, partition.partition_index) == (asked[index][0], result.partition)
        assert (partition.records or b"") == parts[index]
        assert partition.high_watermark == (-1 if result.high_watermark is None else result.high_watermark)
        assert partition.last_stable_offset == partition.high_watermark
        assert partition.aborted_transactions is None
        unknown = result.error is ErrorCode.UNKNOWN_TOPIC_ID and version < 13
        assert partition.error_code == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if unknown else result.error)
        if version >= 5:
            assert partition.log_start_offset == (-1 if result.log_start_offset is None else result.log_start_offset)
        if version >= 12:
            about_leaders = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)
            told = result.leader if result.error in about_leaders and result.leader is not None else -1
            assert partition.current_leader.leader_id == told
        if version >= 12:
            end = result.diverging
            assert partition.diverging_epoch.end_offset == (-1 if end is None else end.end_offset)
        if version >= 11:
            assert partition.preferred_read_replica == (-1 if result.leader is None else result.leader)


@pytest.mark.parametrize("version", versions(ApiKey.API_VERSIONS))
@pytest.mark.parametrize("error", [ErrorCode.NONE, ErrorCode.UNSUPPORTED_VERSION])
def test_api_versions_responses_are_written_as_kio_reads_them(version: int, error: ErrorCode) -> None:
    found = read_response(ApiKey.API_VERSIONS, version, encode_api_versions(version, error, 77))
    assert found.error_code == error
    assert [(each.api_key, each.min_version, each.max_version) for each in found.api_keys] == [
        (key, served.oldest, served.newest) for key, served in SERVED.items()
    ]
    if version >= 3:
        assert found.finalized_features_epoch == 77
        named = {each.name: (each.min_version, each.max_version) for each in found.supported_features}
        assert named == {name: each for name, each in FEATURES.items() if each[0] or version >= 4}
        assert {each.name: each.max_version_level for each in found.finalized_features} == {
            name: high for name, (_, high) in FEATURES.items()
        }


@pytest.mark.parametrize("version", versions(ApiKey.METADATA))
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_metadata_requests_are_read_as_kio_writes_them(version: int, data: st.DataObject) -> None:
    entity = data.draw(values_for(request_class(ApiKey.METADATA, version)))
    written = body_of(entity)
    found = decode_metadata(memoryview(b"head" + written), 4, version)
    assert found.allow_auto_creation == getattr(entity, "allow_auto_topic_creation", True)
    assert found.topic_operations == getattr(entity, "include_topic_authorized_operations", False)
    assert found.cluster_operations == getattr(entity, "include_cluster_authorized_operations", False)
    if entity.topics is None or (version == 0 and not entity.topics):
        assert found.topics is None
    else:
        ids = [getattr(topic, "topic_id", None) for topic in entity.topics]
        assert found.topics == [
            (topic.name, None if raw is None else topic_id_of(raw.bytes))
            for topic, raw in zip(entity.topics, ids, strict=True)
        ]
    for cut in range(len(written)):
        with contextlib.suppress(Malformed):
            decode_metadata(memoryview(written[:cut]), 0, version)


@pytest.mark.parametrize("version", versions(ApiKey.METADATA))
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_metadata_responses_are_written_as_kio_reads_them(version: int, data: st.DataObject) -> None:
    brokers = st.lists(st.integers(1, 5).map(BrokerId), max_size=4, unique=True).map(tuple)
    partitions = data.draw(
        st.lists(
            st.builds(
                lambda leader, replicas, isr: (leader, replicas, isr), st.none() | st.integers(1, 5), brokers, brokers
            ),
            max_size=4,
        )
    )
    topics = tuple(
        TopicMetadata(
            error,
            name,
            None if raw is None else topic_id_of(raw),
            tuple(
                PartitionMetadata(
                    number,
                    None if leader is None else BrokerId(leader),
                    LeaderEpoch(4),
                    PartitionEpoch(1),
                    replicas,
                    isr,
                )
                for number, (leader, replicas, isr) in enumerate(partitions)
            ),
        )
        for error, name, raw in data.draw(st.lists(st.tuples(ERRORS, NAMES, st.none() | UUIDS), max_size=3))
    )
    addresses = {
        BrokerId(number): Address(f"h{number}", 9000 + number) for number in data.draw(st.sets(st.integers(1, 5)))
    }
    endpoints = tuple(BrokerEndpoint(number, "http", 1, rack="r" if number % 2 else None) for number in addresses)
    response = MetadataResponse("cluster", 9, BrokerId(1), BrokerId(2), 3, endpoints, topics)
    found = read_response(
        ApiKey.METADATA, version, encode_metadata(version, response, addresses, [], Operations(True, True))
    )
    assert [(b.node_id, b.host, b.port) for b in found.brokers] == [(n, *address) for n, address in addresses.items()]
    if version >= 1:
        assert found.controller_id == (2 if BrokerId(2) in addresses else -1)
    for read, topic in zip(found.topics, topics, strict=True):
        assert (read.error_code, read.name) == (topic.error, topic.name)
        if version >= 10:
            assert read.topic_id == (None if topic.topic_id is None else UUID(bytes=topic_id_bytes(topic.topic_id)))
        for shown, partition in zip(read.partitions, topic.partitions, strict=True):
            reachable = partition.leader is not None and partition.leader in addresses
            assert shown.leader_id == (partition.leader if reachable else -1)
            missing = 5 if partition.leader is None or version < 6 else 72
            assert shown.error_code == (0 if reachable else missing)
            assert (shown.replica_nodes, shown.isr_nodes) == (partition.replicas, partition.isr)
            if version >= 5:
                assert set(shown.offline_replicas) == set(partition.replicas) - set(addresses)


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=120), version=st.sampled_from(versions(ApiKey.PRODUCE)))
def test_any_bytes_are_a_produce_request_or_malformed(data: bytes, version: int) -> None:
    with contextlib.suppress(Malformed):
        decode_produce(memoryview(data), 0, version)


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=120), key=st.sampled_from(list(ApiKey)))
def test_any_bytes_are_a_request_or_malformed(data: bytes, key: ApiKey) -> None:
    with contextlib.suppress(Malformed):
        decode(key, SERVED[key].newest, memoryview(data))


def values_for(schema: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Any legal instance of one of kio's classes."""
    from kio.serial._introspect import is_optional

    chosen = {}
    for field in fields(schema):
        annotation = field.type
        options = [each for each in getattr(annotation, "__args__", ()) if each is not type(None)]
        optional = is_optional(field) and getattr(annotation, "__origin__", None) is not tuple
        if type(annotation).__name__ == "UnionType":
            [annotation] = options
        is_array = getattr(annotation, "__origin__", None) is tuple
        inside = annotation.__args__[0] if is_array else annotation
        one = values_for(inside, depth + 1) if hasattr(inside, "__dataclass_fields__") else primitive(field.metadata)
        value = st.lists(one, max_size=3).map(tuple) if is_array else one
        chosen[field.name] = st.none() | value if optional else value
    return st.builds(schema, **chosen)


def primitive(metadata: Any) -> st.SearchStrategy[Any]:
    bits = {"int8": 7, "int16": 15, "int32": 31, "int64": 63}
    match metadata["kafka_type"]:
        case "string":
            return NAMES
        case "bytes" | "records":
            return st.binary(max_size=20)
        case "uuid":
            return st.none() | UUIDS.map(lambda raw: UUID(bytes=raw))
        case "bool":
            return st.booleans()
        case "timedelta_i32" | "timedelta_i64":
            return INT32.map(lambda ms: timedelta(milliseconds=ms))
        case "uint16":
            return st.integers(0, 2**16 - 1)
        case kind:
            return st.integers(-(2 ** bits[kind]), 2 ** bits[kind] - 1)


@pytest.mark.parametrize(("key", "version"), [each for each in every_version() if each[0] is not ApiKey.PRODUCE])
@settings(deadline=None, max_examples=4, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_requests_are_read_as_kio_writes_them(key: ApiKey, version: int, data: st.DataObject) -> None:
    entity = data.draw(values_for(request_class(key, version)))
    written = body_of(entity)
    assert decode(key, version, memoryview(written)) == entity
    assert decode(key, version, memoryview(written + b"more")) == entity, "as Kafka, which does not look behind it"
    cut = data.draw(st.integers(0, max(0, len(written) - 1)))
    with contextlib.suppress(Malformed):
        decode(key, version, memoryview(written[:cut]))


@pytest.mark.parametrize("count", [b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x08", b"\x90\xce\x02"])
def test_a_count_is_not_believed(count: bytes) -> None:
    with pytest.raises(Malformed, match="elements"):
        decode(ApiKey.METADATA, 12, memoryview(count))


def test_a_fetch_is_given_no_more_than_there_is_room_for() -> None:
    schema = request_class(ApiKey.FETCH, 12)
    written = body_of(
        schema(max_wait=timedelta(0), min_bytes=1, max_bytes=1 << 20, topics=(), forgotten_topics_data=())
    )
    for room, most in ((1, 1), (1 << 22, 1 << 20)):
        assert decode_fetch(memoryview(written), 0, 12, {}, room).request.max_bytes == most


@pytest.mark.parametrize(
    ("key", "version", "body"),
    [
        (ApiKey.DESCRIBE_GROUPS, 0, b"\xff\xff\xff\xff"),
        (ApiKey.DESCRIBE_GROUPS, 5, b"\x00\x00\x00"),
        (ApiKey.METADATA, 1, b"\xff\xff\xff\xfb"),
        (ApiKey.HEARTBEAT, 0, b"\xff\xff" + bytes(6)),
        (ApiKey.HEARTBEAT, 4, b"\x00" + bytes(10)),
        (ApiKey.SYNC_GROUP, 0, b"\x00\x01g" + bytes(6) + b"\x00\x00\x00\x01\x00\x00\xff\xff\xff\xff"),
    ],
)
def test_null_is_taken_only_where_it_may_stand(key: ApiKey, version: int, body: bytes) -> None:
    with pytest.raises(Malformed, match=r"null that may not be|array of -5"):
        decode(key, version, memoryview(body))


def test_a_tagged_field_is_as_long_as_it_says() -> None:
    plain = body_of(
        request_class(ApiKey.FETCH, 12)(max_wait=timedelta(0), min_bytes=1, topics=(), forgotten_topics_data=())
    )
    assert plain[-1:] == NO_TAGS
    for size, name in ((2, b"\x02a"), (6, b"\x06abcde")):
        assert decode(ApiKey.FETCH, 12, memoryview(plain[:-1] + bytes((1, 0, size)) + name)).cluster_id is not None
    with pytest.raises(Malformed, match="tag 0 says 5 bytes and has 2"):
        decode(ApiKey.FETCH, 12, memoryview(plain[:-1] + b"\x01\x00\x05\x02axxx"))


def test_the_primitives_refuse_what_has_no_size() -> None:
    with pytest.raises(Malformed):
        Cursor(memoryview(bytes(10)), 5).raw(-1)
    with pytest.raises(Malformed, match="32 bits"):
        Cursor(memoryview(b"\x80" * 5 + b"\x01")).uvarint()
    assert [nullable_string(None, flexible) for flexible in (False, True)] == [b"\xff\xff", b"\x00"]


@pytest.mark.parametrize(("version", "code"), [(12, None), (13, ErrorCode.COORDINATOR_NOT_AVAILABLE)])
def test_metadata_tells_of_a_refusal_where_there_is_a_place_for_it(version: int, code: ErrorCode | None) -> None:
    body = _encode_refusal(version, Refused(ErrorCode.COORDINATOR_NOT_AVAILABLE, "not now"))
    found = read_response(ApiKey.METADATA, version, body)
    assert (found.brokers, found.topics, getattr(found, "error_code", None)) == ((), (), code)
