"""How a broker's group coordinator is put together."""

from ottla.client.protocol import CreateTopicRequest
from ottla.log.chance import Chance

from ..api.topics import TopicsApi
from ..config import Settings
from ..replica_manager import ReplicaManager
from .coordinator import GroupCoordinator
from .internal_topic import CONFIGS, INTERNAL_TOPIC
from .outcome import GroupLimits

REPLICATION_FACTOR = 3


def make_coordinator(
    manager: ReplicaManager, topics: TopicsApi, settings: Settings, chance: Chance, voters: int
) -> GroupCoordinator:
    """``voters``: so many nodes there are at least, registered or not: a cluster that has just formed must not keep
    its groups on the one broker that came first."""

    async def create_topic() -> None:
        brokers = max(voters, len(manager.image.brokers))
        factor = settings.offsets_topic_replication_factor or min(REPLICATION_FACTOR, brokers)
        partitions = settings.offsets_topic_num_partitions
        await topics.create_internal(CreateTopicRequest(INTERNAL_TOPIC, partitions, factor, CONFIGS))

    return GroupCoordinator(
        manager=manager,
        chance=chance,
        limits=limits_of(settings),
        create_topic=create_topic,
        commit_timeout_s=settings.offsets_commit_timeout_ms / 1000,
        sweep_s=settings.offsets_retention_check_interval_ms / 1000,
    )


def limits_of(settings: Settings) -> GroupLimits:
    """The settings as groups use them."""
    policy = settings.group_consumer_migration_policy.lower()
    return GroupLimits(
        groups_max=settings.group_max_groups,
        size_max=settings.group_max_size,
        consumer_size_max=settings.group_consumer_max_size,
        upgrade=policy in ("bidirectional", "upgrade"),
        downgrade=policy in ("bidirectional", "downgrade"),
        session_min_s=settings.group_min_session_timeout_ms / 1000,
        session_max_s=settings.group_max_session_timeout_ms / 1000,
        initial_delay_s=settings.group_initial_rebalance_delay_ms / 1000,
        consumer_session_s=settings.group_consumer_session_timeout_ms / 1000,
        consumer_heartbeat_s=settings.group_consumer_heartbeat_interval_ms / 1000,
        metadata_bytes_max=settings.offset_metadata_max_bytes,
        retention_ms=settings.offsets_retention_minutes * 60_000,
    )
