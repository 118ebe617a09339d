"""What an operator does to a cluster that is loaded and suffers: moves, elections, drains, decommissions.

Every command goes through the SDK, as the command line's do, and may fail: there may be no quorum.
"""

from random import Random

import ottla.client as ottla
from ottla.client.admin import Admin
from ottla.client.protocol import TopicMetadata
from ottla.client.rebalancing import DoesNotFit, plan, vacate
from ottla.log.model import BrokerId

KINDS = ("move", "move", "move", "cancel", "elect", "drain", "undrain", "decommission", "rebalance")


async def administer(servers: list[str], chance: Random) -> str | None:
    """One thing an operator may do; what it was, or None where it could not be done."""
    kind = chance.choice(KINDS)
    try:
        async with ottla.connect(servers) as client:
            return kind if await _do(client.admin, kind, chance) else None
    except ottla.OttlaError:
        return None


async def undrain_all(servers: list[str]) -> bool:
    """Whether every node may lead again."""
    try:
        async with ottla.connect(servers) as client:
            for node in (await client.admin.describe_cluster()).nodes:
                if node.endpoint.drained:
                    await client.admin.undrain_node(node.endpoint.broker_id)
    except ottla.OttlaError:
        return False
    return True


async def _do(admin: Admin, kind: str, chance: Random) -> bool:
    topics = [topic for topic in await admin.list_topics() if topic.partitions]
    endpoints = [node.endpoint for node in (await admin.describe_cluster()).nodes]
    brokers = [endpoint.broker_id for endpoint in endpoints]
    if not topics or not brokers:
        return False
    topic = chance.choice(topics)
    state = chance.choice(topic.partitions)
    place = (topic.name, state.partition)
    node = chance.choice(brokers)
    match kind:
        case "move":
            target = chance.sample(brokers, min(len(brokers), chance.choice((2, 3, 3, 3))))
            return (await admin.move_partitions({place: target})).changed > 0
        case "cancel":
            moving = [(t.name, s.partition) for t in topics for s in t.partitions if s.adding or s.removing]
            return bool(moving) and (await admin.move_partitions(dict.fromkeys(moving))).changed > 0
        case "elect":
            return (
                await admin.elect_leaders([(t.name, s.partition) for t in topics for s in t.partitions])
            ).changed > 0
        case "drain":
            await admin.drain_node(node)
        case "undrain":
            await admin.undrain_node(node)
        case "decommission":
            await admin.drain_node(node)
            rest = {broker: None for broker in brokers if broker != node}
            try:
                moves = vacate(_layout(topics), rest, BrokerId(node))
            except DoesNotFit:
                return True
            await admin.move_partitions({move.place: move.after for move in moves})
        case "rebalance":
            there = dict.fromkeys(brokers)
            moves = plan(_layout(topics), there)
            return (await admin.move_partitions({move.place: move.after for move in moves})).changed > 0
    return True


def _layout(topics: list[TopicMetadata]) -> dict[tuple[str, int], tuple[BrokerId, ...]]:
    return {
        (topic.name, state.partition): tuple(broker for broker in state.replicas if broker not in state.removing)
        for topic in topics
        for state in topic.partitions
    }
