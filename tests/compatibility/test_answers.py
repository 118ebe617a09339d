"""What no client shows, or each in its own words: answers to requests by hand, as Apache Kafka gives them."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from ottla.broker.kafka.versions import ApiKey
from tests.broker.kafka.kio_bytes import request_class
from tests.broker.kafka.node import Raw

from .target import Target

pytestmark = pytest.mark.processes

NOWHERE = 1_000_000


def entity(schema: Any, given: dict[str, Any]) -> Any:
    """One of kio's classes from dicts; what is not given is nothing, or what a client says that does not care."""
    made: dict[str, Any] = {}
    for field in fields(schema):
        if field.name in given:
            made[field.name] = _value(field, given[field.name])
        elif "kafka_type" in field.metadata or not is_dataclass(field.type):
            made[field.name] = _nothing(field)
    unknown = given.keys() - made.keys()
    assert not unknown, f"{schema.__module__} has no {unknown} but {list(made)}"
    return schema(**made)


def _value(field: Any, value: Any) -> Any:
    inner = field.type
    if type(inner).__name__ == "UnionType":
        inner = next(each for each in inner.__args__ if each is not type(None))
    if isinstance(value, tuple):
        return tuple(entity(inner.__args__[0], each) if isinstance(each, dict) else each for each in value)
    return entity(inner, value) if isinstance(value, dict) else value


def _nothing(field: Any) -> Any:
    if type(field.type).__name__ == "UnionType":
        return None
    if getattr(field.type, "__origin__", None) is tuple:
        return ()
    nothing: dict[str, Any] = {
        "string": "",
        "bytes": b"",
        "records": b"",
        "bool": False,
        "uuid": UUID(int=0),
        "timedelta_i32": timedelta(seconds=10),
        "timedelta_i64": timedelta(seconds=10),
    }
    return nothing.get(field.metadata.get("kafka_type", ""), -1 if "epoch" in field.name else 0)


class Where:
    """The topic, the group, and who answers for them."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.topic = target.topic(partitions=1)
        self.missing = target.name("missing")
        self.group = target.name("nobody")

    def server(self, number: int) -> str:
        return self._target.servers.split(",")[number - 1]

    def ask(self, number: int, key: ApiKey, version: int, /, **given: Any) -> Any:
        with Raw(self.server(number)) as connection:
            return connection.ask(entity(request_class(key, version), given))

    def leader(self, key: ApiKey, version: int, /, **given: Any) -> Any:
        while _loads(answer := self.ask(self._target.leader(self.topic), key, version, **given)):
            pass
        return answer

    def coordinator(self, key: ApiKey, version: int, /, **given: Any) -> Any:
        while (found := self.ask(1, ApiKey.FIND_COORDINATOR, 2, key=self.group)).error_code:
            assert found.error_code == 15
        while _loads(answer := self.ask(found.node_id, key, version, **given)):
            pass
        return answer

    def anyone(self, key: ApiKey, version: int, /, **given: Any) -> Any:
        return self.ask(1, key, version, **given)


def _loads(answer: Any) -> bool:
    """A coordinator or leader that was just elected, wherever its answer has room to say so."""
    if isinstance(answer, tuple):
        return any(map(_loads, answer))
    if not is_dataclass(answer):
        return False
    return getattr(answer, "error_code", 0) in (6, 14, 16) or any(
        _loads(getattr(answer, f.name)) for f in fields(answer)
    )


@pytest.fixture(scope="module")
def where(target: Target) -> Where:
    return Where(target)


class Case(NamedTuple):
    """``found``: what of the answer is told; ``expected``: by Apache Kafka."""

    ask: Callable[[Where], Any]
    expected: Any


def partition(where: Where, **given: Any) -> tuple[dict[str, Any], ...]:
    return ({"name": where.topic, "partitions": ({"partition_index": 0, **given},)},)


def listed(where: Where, timestamp: int, version: int = 8) -> Any:
    topics = partition(where, timestamp=timestamp)
    [topic] = where.leader(ApiKey.LIST_OFFSETS, version, replica_id=-1, topics=topics).topics
    [found] = topic.partitions
    return int(found.error_code), found.offset, found.timestamp


def committed(where: Where, version: int, **asked: Any) -> int:
    topics = partition(where, committed_offset=1, committed_leader_epoch=-1)
    answer = where.coordinator(ApiKey.OFFSET_COMMIT, version, group_id=where.group, topics=topics, **asked)
    return int(answer.topics[0].partitions[0].error_code)


def configs(where: Where, version: int, keys: tuple[str, ...] | None) -> tuple[int, int]:
    """Error and how many."""
    resource = {"resource_type": 2, "resource_name": where.topic, "configuration_keys": keys}
    [found] = where.anyone(ApiKey.DESCRIBE_CONFIGS, version, resources=(resource,)).results
    return int(found.error_code), min(len(found.configs), 3)


def described(where: Where, version: int) -> tuple[int, str]:
    [found] = where.coordinator(ApiKey.DESCRIBE_GROUPS, version, groups=(where.group,)).groups
    return int(found.error_code), found.group_state


def joined(where: Where, version: int, **asked: Any) -> int:
    given = {
        "group_id": where.group,
        "session_timeout": timedelta(seconds=10),
        "protocol_type": "consumer",
        "protocols": ({"name": "range"},),
    }
    return int(where.coordinator(ApiKey.JOIN_GROUP, version, **(given | asked)).error_code)


def altered(where: Where, resource: dict[str, Any], **entry: Any) -> int:
    entry = {"config_operation": 0, **entry}
    given = {"resource_type": 2, **resource, "configs": (entry,)}
    [found] = where.anyone(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=(given,)).responses
    return int(found.error_code)


def deleted(where: Where, offset: int) -> tuple[int, int]:
    topics = partition(where, offset=offset)
    [found] = where.leader(ApiKey.DELETE_RECORDS, 2, topics=topics).topics[0].partitions
    return int(found.error_code), found.low_watermark


def metadata(where: Where, name: str) -> int:
    [found] = where.anyone(ApiKey.METADATA, 12, topics=({"name": name},), allow_auto_topic_creation=False).topics
    return int(found.error_code)


def in_group(where: Where, key: ApiKey, version: int, **asked: Any) -> int:
    return int(where.coordinator(key, version, group_id=where.group, **asked).error_code)


def heartbeat(where: Where, member: str, epoch: int, **asked: Any) -> int:
    given = {"member_id": member, "member_epoch": epoch, **asked}
    return in_group(where, ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, **given)


def epoch_end(where: Where, epoch: int, current: int = -1) -> tuple[int, int, int]:
    topics = (
        {
            "topic": where.topic,
            "partitions": ({"partition": 0, "current_leader_epoch": current, "leader_epoch": epoch},),
        },
    )
    [found] = where.leader(ApiKey.OFFSET_FOR_LEADER_EPOCH, 4, replica_id=-1, topics=topics).topics[0].partitions
    return int(found.error_code), found.leader_epoch, found.end_offset


def fetched(where: Where, **asked: Any) -> int:
    given = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000, **asked}
    topics = ({"topic": where.topic, "partitions": (given,)},)
    answer = where.leader(ApiKey.FETCH, 12, replica_id=-1, max_wait=timedelta(0), max_bytes=1000, topics=topics)
    return int(answer.responses[0].partitions[0].error_code)


def created(where: Where, *topics: dict[str, Any]) -> list[int]:
    given = tuple({"num_partitions": 1, "replication_factor": 1, **topic} for topic in topics)
    answer = where.anyone(ApiKey.CREATE_TOPICS, 7, topics=given, validate_only=True)
    return sorted(int(each.error_code) for each in answer.topics)


def offsets(where: Where) -> tuple[int, int, int]:
    group = {"group_id": where.group, "member_epoch": -1, "topics": ({"name": where.topic, "partition_indexes": (0,)},)}
    [found] = where.coordinator(ApiKey.OFFSET_FETCH, 9, groups=(group,)).groups
    [one] = found.topics[0].partitions
    return int(found.error_code), int(one.error_code), one.committed_offset


def producers(where: Where, topic: str) -> int:
    topics = ({"name": topic, "partition_indexes": (0,)},)
    return int(where.leader(ApiKey.DESCRIBE_PRODUCERS, 0, topics=topics).topics[0].partitions[0].error_code)


def elected(where: Where, topic: str) -> int:
    topics = ({"topic": topic, "partitions": (0,)},)
    answer = where.anyone(ApiKey.ELECT_LEADERS, 2, election_type=0, topic_partitions=topics)
    return int(answer.replica_election_results[0].partition_result[0].error_code)


CASES = {
    "configs, all": Case(lambda w: configs(w, 4, None), (0, 3)),
    "configs, an empty list": Case(lambda w: configs(w, 4, ()), (0, 3)),
    "configs, an empty list in the oldest version": Case(lambda w: configs(w, 1, ()), (0, 3)),
    "configs, one": Case(lambda w: configs(w, 4, ("retention.ms",)), (0, 1)),
    "configs, one that is none": Case(lambda w: configs(w, 4, ("no.such",)), (0, 0)),
    "the largest time of nothing": Case(lambda w: listed(w, -3), (0, -1, -1)),
    "the end": Case(lambda w: listed(w, -1), (0, 0, -1)),
    "the start": Case(lambda w: listed(w, -2), (0, 0, -1)),
    "the local start": Case(lambda w: listed(w, -4), (0, 0, -1)),
    "a time after all": Case(lambda w: listed(w, 1), (0, -1, -1)),
    "a group that is none": Case(lambda w: described(w, 5), (0, "Dead")),
    "a group that is none, by the newest version": Case(lambda w: described(w, 6), (69, "Dead")),
    "a commit with an epoch to a group that is none": Case(
        lambda w: committed(w, 9, generation_id_or_member_epoch=3, member_id="m"), 69
    ),
    "the same, by an older version": Case(
        lambda w: committed(w, 8, generation_id_or_member_epoch=3, member_id="m"), 22
    ),
    "offsets of a group that is none": Case(offsets, (0, 0, -1)),
    "a heartbeat to a group that is none": Case(
        lambda w: in_group(w, ApiKey.HEARTBEAT, 4, generation_id=1, member_id="m"), 25
    ),
    "a sync with a group that is none": Case(
        lambda w: in_group(w, ApiKey.SYNC_GROUP, 4, generation_id=1, member_id="m"), 25
    ),
    "a sync that does not say its protocol": Case(
        lambda w: in_group(w, ApiKey.SYNC_GROUP, 5, generation_id=1, member_id="m"), 23
    ),
    "a join as a member that is none": Case(lambda w: joined(w, 9, member_id="m"), 25),
    "a join for a too short session": Case(lambda w: joined(w, 9, session_timeout=timedelta(milliseconds=1)), 26),
    "a join without a protocol": Case(lambda w: joined(w, 9, protocols=()), 23),
    "a consumer's heartbeat that says too little": Case(lambda w: heartbeat(w, "m", 0), 42),
    "records deleted up to the end": Case(lambda w: deleted(w, -1), (0, 0)),
    "records deleted up to beyond the end": Case(lambda w: deleted(w, NOWHERE), (1, -1)),
    "metadata of a topic that is none": Case(lambda w: metadata(w, w.missing), 3),
    "metadata of a name that is none": Case(lambda w: metadata(w, "no spaces"), 17),
    "an alteration of a topic that is none": Case(
        lambda w: altered(w, {"resource_name": w.missing}, name="retention.ms", value="1"), 3
    ),
    "an alteration of a config that is none": Case(
        lambda w: altered(w, {"resource_name": w.topic}, name="no.such", value="1"), 40
    ),
    "an alteration to what is no value": Case(
        lambda w: altered(w, {"resource_name": w.topic}, name="retention.ms", value="soon"), 40
    ),
    "the end of an epoch that is to come": Case(lambda w: epoch_end(w, 99), (0, -1, -1)),
    "an epoch's end asked with an epoch that is to come": Case(lambda w: epoch_end(w, 0, current=99)[0], 75),
    "a fetch beyond the end": Case(lambda w: fetched(w, fetch_offset=NOWHERE), 1),
    "a fetch with an epoch that is to come": Case(lambda w: fetched(w, current_leader_epoch=99), 75),
    "one topic made twice at once": Case(lambda w: created(w, {"name": w.missing}, {"name": w.missing}), [42]),
    "a topic that is there made": Case(lambda w: created(w, {"name": w.topic}), [36]),
    "a name of two dots made": Case(lambda w: created(w, {"name": ".."}), [17]),
    "producers of a topic that is none": Case(lambda w: producers(w, w.missing), 3),
    "producers": Case(lambda w: producers(w, w.topic), 0),
    "an election that is not needed": Case(lambda w: elected(w, w.topic), 84),
    "an election for a topic that is none": Case(lambda w: elected(w, w.missing), 3),
}


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_kafkas(where: Where, name: str) -> None:
    assert CASES[name].ask(where) == CASES[name].expected
