"""Settings of topics and brokers: what holds, who set it, and that running logs take it."""

import pytest

from ottla.broker.api.configs import ConfigsApi
from ottla.broker.api.quorum_door import QuorumDoor
from ottla.broker.config import Settings
from ottla.broker.log_configs import log_config, topic_settings
from ottla.broker.log_level import LogLevel
from ottla.broker.replica import Refused
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import AlterConfigsRequest, ConfigOp, DescribeConfigsRequest
from ottla.log.config import LogConfig
from ottla.log.model import TopicIdPartition
from ottla.raft.commands import AlterConfigs, ConfigChange, CreateTopicWithConfigs
from ottla.raft.config_rules import BROKER_CONFIGS, TOPIC_CONFIGS
from ottla.raft.results import Refused as QuorumRefused

from .small_quorum import TOPIC, A, OneBroker, SmallQuorum


def create(quorum: SmallQuorum, **configs: str) -> None:
    named = {key.replace("_", "."): value for key, value in configs.items()}
    result = quorum.decide(CreateTopicWithConfigs("t", TOPIC, assignments=((A,),), configs=named))
    assert not isinstance(result, QuorumRefused), result


def alter(quorum: SmallQuorum, broker: str | None, **configs: str) -> None:
    changes = tuple(ConfigChange(key.replace("_", "."), "set", value) for key, value in configs.items())
    result = quorum.decide(AlterConfigs(TOPIC if broker is None else None, broker or "", changes))
    assert not isinstance(result, QuorumRefused), result


def test_our_defaults_are_the_rules_defaults() -> None:
    quorum = SmallQuorum(A)
    create(quorum, **{key.replace(".", "_"): rule.default for key, rule in TOPIC_CONFIGS.items()})
    assert log_config(quorum.image, quorum.image.topics["t"], A) == LogConfig()


def test_the_nearest_setting_wins() -> None:
    quorum = SmallQuorum(A)
    create(quorum)
    held = []
    for where, value in (("", "1000"), ("1", "2000"), (None, "3000")):
        alter(quorum, where, **{"retention_ms" if where is None else "log_retention_ms": value})
        topic = quorum.image.topics["t"]
        held.append(
            (log_config(quorum.image, topic, A).retention_ms, topic_settings(quorum.image, topic, A)["retention.ms"])
        )
    assert held == [(1000, ("1000", "cluster")), (2000, ("2000", "broker")), (3000, ("3000", "topic"))]


def test_values_as_the_log_takes_them() -> None:
    quorum = SmallQuorum(A)
    create(
        quorum,
        retention_ms="-1",
        cleanup_policy="compact,delete",
        min_cleanable_dirty_ratio="0.25",
        flush="ack",
        flush_ms="9223372036854775807",
        flush_messages="7",
    )
    config = log_config(quorum.image, quorum.image.topics["t"], A)
    assert config.retention_ms is None
    assert config.compacts
    assert config.deletes
    assert config.min_cleanable_dirty_ratio == 0.25
    assert (config.flush, config.flush_ms, config.flush_messages) == ("ack", None, 7)


async def test_a_running_log_takes_a_change_of_its_topic_and_of_the_cluster() -> None:
    quorum = SmallQuorum(A)
    create(quorum)
    broker = OneBroker(quorum)
    await broker.start()
    log = broker.manager.replicas[TopicIdPartition(TOPIC, 0)].log
    alter(quorum, "", log_segment_bytes="5000")
    broker.manager.apply_image(quorum.image)
    assert log.config.segment_bytes == 5000
    alter(quorum, None, segment_bytes="6000")
    broker.manager.apply_image(quorum.image)
    assert log.config.segment_bytes == 6000


def test_the_log_level_follows_the_quorum() -> None:
    quorum, said = SmallQuorum(A), list[str]()
    level = LogLevel(A, "info", said.append)
    for where, value in (("", "debug"), ("1", "error")):
        alter(quorum, where, log_level=value)
        level.follow(quorum.image)
        level.follow(quorum.image)
    quorum.decide(AlterConfigs(None, "1", (), replace=True))
    level.follow(quorum.image)
    quorum.decide(AlterConfigs(None, "", (), replace=True))
    level.follow(quorum.image)
    assert said == ["debug", "error", "debug", "info"]


@pytest.fixture
def api() -> ConfigsApi:
    quorum = SmallQuorum(A)
    create(quorum)
    broker = OneBroker(quorum)
    broker.manager.image = quorum.image

    class Channel:
        async def commit_index(self) -> int:
            return quorum.image.index

        async def submit(self, body, timeout_s, *, change_id):  # type: ignore[no-untyped-def]
            return quorum.decide(body), quorum.index

    async def wait_applied(index: int, timeout_s: float) -> None:
        broker.manager.image = quorum.image

    door = QuorumDoor(manager=broker.manager, channel=Channel(), wait_applied=wait_applied, timeout_s=5.0)  # type: ignore[arg-type]
    return ConfigsApi(manager=broker.manager, door=door, settings=Settings(rack="r1"))


async def test_what_was_changed_is_told(api: ConfigsApi) -> None:
    await api.alter(AlterConfigsRequest("t", "", (ConfigOp("retention.ms", "set", "5"),)))
    told = {entry.name: entry for entry in (await api.describe(DescribeConfigsRequest("t"))).configs}
    assert set(told) == set(TOPIC_CONFIGS)
    assert (told["retention.ms"].value, told["retention.ms"].source) == ("5", "topic")


async def test_a_broker_tells_its_own_settings_beside_the_clusters(api: ConfigsApi) -> None:
    await api.alter(AlterConfigsRequest(None, "", (ConfigOp("log.level", "set", "debug"),)))
    told = {entry.name: entry for entry in (await api.describe(DescribeConfigsRequest(None, "1"))).configs}
    assert (told["log.level"].value, told["log.level"].source) == ("debug", "cluster")
    assert (told["rack"].value, told["rack"].source, told["rack"].read_only) == ("r1", "node", True)
    assert set((await api.describe(DescribeConfigsRequest(None, ""))).configs[0].__struct_fields__)
    cluster = {entry.name for entry in (await api.describe(DescribeConfigsRequest(None, ""))).configs}
    assert cluster == set(BROKER_CONFIGS)


@pytest.mark.parametrize("validate_only", [True, False])
@pytest.mark.parametrize(
    ("topic", "key", "value"),
    [("t", "retention.sm", "5"), ("t", "retention.ms", "soon"), (None, "retention.ms", "5"), ("t", "flush", "never")],
)
async def test_a_wrong_change_is_refused_and_changes_nothing(
    api: ConfigsApi, topic: str | None, key: str, value: str, validate_only: bool
) -> None:
    changes = (ConfigOp("segment.bytes" if topic else "log.segment.bytes", "set", "5000"), ConfigOp(key, "set", value))
    before = await api.describe(DescribeConfigsRequest(topic))
    with pytest.raises(Refused) as refused:
        await api.alter(AlterConfigsRequest(topic, "", changes, validate_only=validate_only))
    assert refused.value.error is ErrorCode.INVALID_CONFIG
    assert key in str(refused.value)
    assert await api.describe(DescribeConfigsRequest(topic)) == before


async def test_a_dry_run_changes_nothing(api: ConfigsApi) -> None:
    before = await api.describe(DescribeConfigsRequest("t"))
    await api.alter(AlterConfigsRequest("t", "", (ConfigOp("retention.ms", "set", "5"),), validate_only=True))
    assert await api.describe(DescribeConfigsRequest("t")) == before


async def test_nobody_knows_that_topic_or_broker(api: ConfigsApi) -> None:
    for request in (DescribeConfigsRequest("nope"), DescribeConfigsRequest(None, "9")):
        with pytest.raises(Refused):
            await api.describe(request)
    for topic, broker in (("nope", ""), (None, "9")):
        with pytest.raises(Refused):
            await api.alter(AlterConfigsRequest(topic, broker, (ConfigOp("log.level", "set", "info"),)))
