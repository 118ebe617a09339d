"""Configs of topics and brokers: changed through the quorum, told as they hold (KIP-133, KIP-226, KIP-339)."""

from collections.abc import Mapping

import msgspec

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    AlterConfigsRequest,
    ConfigEntry,
    ConfigsAltered,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
)
from ottla.raft.commands import AlterConfigs, ConfigChange
from ottla.raft.config_decisions import IllegalConfigs, altered
from ottla.raft.config_rules import BROKER_CONFIGS, TOPIC_CONFIGS
from ottla.raft.image import ALL_BROKERS

from ..config import Settings, setting_name
from ..log_configs import topic_settings
from ..replica import Refused
from ..replica_manager import ReplicaManager
from .quorum_door import QuorumDoor


class ConfigsApi:
    """``settings``: this node's own, which are told and cannot be changed while it runs."""

    def __init__(self, *, manager: ReplicaManager, door: QuorumDoor, settings: Settings) -> None:
        self._manager = manager
        self._door = door
        self._settings = settings

    async def alter(self, request: AlterConfigsRequest) -> ConfigsAltered:
        """Change configs, all that are named or none. Raises Refused: INVALID_CONFIG, UNKNOWN_TOPIC_OR_PARTITION,
        BROKER_ID_NOT_REGISTERED ..."""
        changes = tuple(ConfigChange(change.key, change.op, change.value) for change in request.changes)
        if request.topic is not None:
            topic = await self._door.topic(request.topic)
            body = AlterConfigs(topic.topic_id, "", changes, request.replace)
            present, rules, what = topic.configs, TOPIC_CONFIGS, "topic"
        else:
            body = AlterConfigs(None, request.broker, changes, request.replace)
            present = dict(self._manager.image.broker_configs.get(request.broker, {}))
            rules, what = BROKER_CONFIGS, "broker"
        if request.validate_only:
            try:
                altered(present, changes, rules, what, replace=request.replace)
            except IllegalConfigs as illegal:
                raise Refused(ErrorCode.INVALID_CONFIG, str(illegal)) from illegal
            return ConfigsAltered(self._manager.image.index)
        _, index = await self._door.decide(body, request.change_id)
        return ConfigsAltered(index)

    async def describe(self, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
        """All configs of a topic, of a broker, or of the cluster. Raises Refused: UNKNOWN_TOPIC_OR_PARTITION,
        BROKER_ID_NOT_REGISTERED."""
        if request.topic is not None:
            return DescribeConfigsResponse(self._of_topic(request.topic))
        if request.broker != ALL_BROKERS and int(request.broker) not in self._manager.image.brokers:
            raise Refused(ErrorCode.BROKER_ID_NOT_REGISTERED, f"there is no broker {request.broker}")
        entries = self._of_broker(request.broker)
        if request.broker == str(self._manager.local):
            entries += self._of_settings()
        return DescribeConfigsResponse(tuple(entries))

    def _of_topic(self, name: str) -> tuple[ConfigEntry, ...]:
        topic = self._manager.image.topics.get(name)
        if topic is None:
            raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name}")
        settings = topic_settings(self._manager.image, topic, self._manager.local)
        return tuple(
            ConfigEntry(key, setting.value, setting.source, TOPIC_CONFIGS[key].kind, TOPIC_CONFIGS[key].says)
            for key, setting in settings.items()
        )

    def _of_broker(self, broker: str) -> list[ConfigEntry]:
        configs = self._manager.image.broker_configs
        own: Mapping[str, str] = configs.get(broker, {}) if broker != ALL_BROKERS else {}
        cluster = configs.get(ALL_BROKERS, {})
        entries = []
        for key, rule in sorted(BROKER_CONFIGS.items()):
            source = "broker" if key in own else "cluster" if key in cluster else "default"
            value = own.get(key, cluster.get(key, rule.default))
            entries.append(ConfigEntry(key, value, source, rule.kind, rule.says))
        return entries

    def _of_settings(self) -> list[ConfigEntry]:
        defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
        entries = []
        for field, value in sorted(msgspec.structs.asdict(self._settings).items()):
            if setting_name(field) in BROKER_CONFIGS:
                continue
            source = "default" if value == defaults[field] else "node"
            entries.append(ConfigEntry(setting_name(field), _text(value), source, _kind(value), "", read_only=True))
        return entries


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "long" if isinstance(value, int) else "string"
