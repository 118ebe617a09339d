"""Deciding configs: of a topic, of one broker, of all brokers (KIP-226, KIP-339)."""

from collections.abc import Mapping, Sequence

from .commands import AlterConfigs, ConfigChange
from .config_rules import BROKER_CONFIGS, CLUSTER_ONLY, TOPIC_CONFIGS, Rule, why_illegal
from .decision import Context, Decision, ordered_topics, refuse
from .election import settle
from .events import ConfigsChanged, Event, PartitionChanged
from .image import ALL_BROKERS, MIN_INSYNC_REPLICAS, UNCLEAN_RECOVERY, MetadataImage, Topic, rules_of
from .results import Done

CONFIGS_MAX = 64


class IllegalConfigs(ValueError):
    """These changes cannot be made; the text says why."""


def alter_configs(context: Context, body: AlterConfigs) -> Decision:
    """All changes or none. Where min.insync.replicas changes, so does who is eligible (KIP-966)."""
    try:
        if body.topic_id is not None:
            return _alter_topic(context.image, body)
        return _alter_broker(context.image, body)
    except IllegalConfigs as illegal:
        return refuse("INVALID_CONFIG", str(illegal))


def altered(
    present: Mapping[str, str], changes: Sequence[ConfigChange], rules: Mapping[str, Rule], what: str, *, replace: bool
) -> dict[str, str]:
    """What is set after these changes. Raises IllegalConfigs."""
    configs = {} if replace else dict(present)
    for change in changes:
        if change.key not in rules and change.key not in configs:
            reason = why_illegal({change.key: ""}, rules, what)
            raise IllegalConfigs(reason)
        value = _changed(configs.get(change.key), change, rules[change.key], what)
        configs.pop(change.key, None)
        if value is not None:
            configs[change.key] = value
    if (reason := why_illegal(configs, rules, what)) is not None:
        raise IllegalConfigs(reason)
    if len(configs) > CONFIGS_MAX:
        raise IllegalConfigs(f"a {what} has at most {CONFIGS_MAX} configs of its own")
    return configs


def _changed(present: str | None, change: ConfigChange, rule: Rule, what: str) -> str | None:
    """The new value; None where it is to be unset."""
    if change.op == "delete":
        return None
    if change.op == "set":
        return change.value
    if rule.kind != "list":
        raise IllegalConfigs(f"{what} config {change.key} is no list: {change.op} does not apply, set does")
    parts = (rule.default if present is None else present).split(",")
    for part in change.value.split(","):
        if change.op == "subtract" and part in parts:
            parts.remove(part)
        elif change.op == "append" and part not in parts:
            parts.append(part)
    return ",".join(parts)


def _alter_topic(image: MetadataImage, body: AlterConfigs) -> Decision:
    assert body.topic_id is not None
    topic = image.topic_by_id(body.topic_id)
    if topic is None:
        return refuse("UNKNOWN_TOPIC_ID", f"there is no topic with id {body.topic_id}")
    configs = altered(topic.configs, body.changes, TOPIC_CONFIGS, "topic", replace=body.replace)
    defaults = image.broker_configs.get(ALL_BROKERS, {})
    events = _resettled(image, topic, configs, defaults)
    return Decision([ConfigsChanged(topic.topic_id, "", configs), *events], Done())


def _alter_broker(image: MetadataImage, body: AlterConfigs) -> Decision:
    rules: Mapping[str, Rule] = BROKER_CONFIGS
    if body.broker != ALL_BROKERS:
        if int(body.broker) not in image.brokers:
            return refuse("BROKER_ID_NOT_REGISTERED", f"broker {body.broker} is not registered")
        _refuse_cluster_only(body.changes)
    name = str(int(body.broker)) if body.broker else ALL_BROKERS
    present = image.broker_configs.get(name, {})
    configs = altered(present, body.changes, rules, "broker", replace=body.replace)
    events: list[Event] = []
    if not body.broker and any(configs.get(key) != present.get(key) for key in (MIN_INSYNC_REPLICAS, UNCLEAN_RECOVERY)):
        for topic in ordered_topics(image):
            events += _resettled(image, topic, topic.configs, configs)
    return Decision([ConfigsChanged(None, name, configs), *events], Done())


def _refuse_cluster_only(changes: Sequence[ConfigChange]) -> None:
    for change in changes:
        if change.key in CLUSTER_ONLY:
            raise IllegalConfigs(f"broker config {change.key} is the same for all brokers: set it for the cluster")


def _resettled(
    image: MetadataImage, topic: Topic, configs: Mapping[str, str], defaults: Mapping[str, str]
) -> list[Event]:
    """Lowering it empties the ELRs of the partitions whose ISR has become large enough; raising it makes nobody
    eligible who has left."""
    events: list[Event] = []
    for number, partition in enumerate(topic.partitions):
        rules = rules_of(partition, configs, defaults)
        if rules == image.rules(topic, partition):
            continue
        state, elected_from = settle(partition, partition.isr, partition.elr, image.brokers, rules)
        if state != partition:
            events.append(PartitionChanged(topic.topic_id, number, state, elected_from))
    return events
