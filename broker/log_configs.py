"""What holds for a topic's logs on this broker: the topic's own configs, else this broker's, else the cluster's, else
Kafka's defaults (KIP-226)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ottla.log.config import LogConfig
from ottla.log.model import BrokerId
from ottla.raft.config_rules import LONG_MAX, TOPIC_CONFIGS, TOPIC_DEFAULTS
from ottla.raft.image import ALL_BROKERS, MetadataImage, Topic

_BROKER_NAMES: Mapping[str, str] = {topic_name: name for name, topic_name in TOPIC_DEFAULTS.items()}
_FIELDS: Mapping[str, str] = {
    name: field for name in TOPIC_CONFIGS if (field := name.replace(".", "_")) in LogConfig.__struct_fields__
}
_NO_LIMIT = {"retention.ms": -1, "retention.bytes": -1, "flush.messages": LONG_MAX, "flush.ms": LONG_MAX}


class Setting(NamedTuple):
    """One config as it holds. ``source``: who set it: ``topic``, ``broker``, ``cluster`` or ``default``."""

    value: str
    source: str


def topic_settings(image: MetadataImage, topic: Topic, broker: BrokerId) -> dict[str, Setting]:
    """All configs of a topic on that broker, by name."""
    return {name: _topic_setting(image, topic, broker, name) for name in sorted(TOPIC_CONFIGS)}


def log_config(image: MetadataImage, topic: Topic, broker: BrokerId) -> LogConfig:
    """The same, as the log takes it."""
    fields: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        value, source = _topic_setting(image, topic, broker, name)
        if source != "default":
            fields[field] = _typed(name, value)
    return LogConfig(**fields)


def _topic_setting(image: MetadataImage, topic: Topic, broker: BrokerId, name: str) -> Setting:
    if name in topic.configs:
        return Setting(topic.configs[name], "topic")
    broker_name = _BROKER_NAMES.get(name)
    if broker_name is not None:
        for key, source in ((str(broker), "broker"), (ALL_BROKERS, "cluster")):
            configs = image.broker_configs.get(key)
            if configs is not None and broker_name in configs:
                return Setting(configs[broker_name], source)
    if name == "min.insync.replicas":
        return Setting(str(image.min_insync(topic)), "default")
    return Setting(TOPIC_CONFIGS[name].default, "default")


def _typed(name: str, text: str) -> object:
    kind = TOPIC_CONFIGS[name].kind
    if kind in ("int", "long"):
        number = int(text)
        return None if _NO_LIMIT.get(name) == number else number
    if kind == "double":
        return float(text)
    return frozenset(part.strip() for part in text.split(",")) if kind == "list" else text
