"""Who leads instead, in the tagged fields of Produce and Fetch responses (KIP-951): the client needs no metadata
request to go on. Pure."""

from collections.abc import Iterable

from ottla.client.error_codes import ErrorCode
from ottla.log.model import BrokerId, LeaderEpoch

from .caller import Caller
from .view import BrokerView
from .wire import INT32, NO_TAGS, nullable_string, string, uvarint

_ABOUT_LEADERS = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH})


def current_leader(error: ErrorCode, leader: BrokerId | None, epoch: LeaderEpoch | None, tag: int) -> bytes:
    """A partition's tags: who leads, where the error is about leadership and this broker knows."""
    if error not in _ABOUT_LEADERS or leader is None or epoch is None:
        return NO_TAGS
    value = INT32.pack(leader) + INT32.pack(epoch) + NO_TAGS
    return b"\x01" + uvarint(tag) + uvarint(len(value)) + value


def node_endpoints(view: BrokerView, caller: Caller, leaders: Iterable[BrokerId]) -> bytes:
    """The response's tags: where those leaders are, but for this broker itself."""
    nodes = []
    for broker_id in sorted(set(leaders) - {view.local}):
        address = view.address(caller, broker_id)
        if address is not None:
            rack = view.image.brokers[broker_id].rack
            nodes.append(
                INT32.pack(broker_id)
                + string(address.host, flexible=True)
                + INT32.pack(address.port)
                + nullable_string(rack, flexible=True)
                + NO_TAGS
            )
    if not nodes:
        return NO_TAGS
    value = uvarint(len(nodes) + 1) + b"".join(nodes)
    return b"\x01\x00" + uvarint(len(value)) + value
