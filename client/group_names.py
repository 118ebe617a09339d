"""What requests of groups name: bounds of their fields, and the epochs that mean something."""

from typing import Annotated

import msgspec

GroupId = Annotated[str, msgspec.Meta(max_length=255)]
"""What a group is called. Empty is refused: INVALID_GROUP_ID."""
MemberId = Annotated[str, msgspec.Meta(max_length=300)]
InstanceId = Annotated[str, msgspec.Meta(min_length=1, max_length=249)]
"""A static member's own name (KIP-345): it survives the process, so a restart needs no rebalance."""
Text = Annotated[str, msgspec.Meta(max_length=4096)]
MAX_MEMBERS = msgspec.Meta(max_length=10_000)
FEW = msgspec.Meta(max_length=100)
Payload = Annotated[bytes, msgspec.Meta(max_length=1 << 20)]
"""A member's subscription or assignment in the classic protocol: bytes that only members understand."""

JOIN_EPOCH = 0
"""Member epoch of the first heartbeat, and of one that was fenced and joins again (KIP-848)."""
LEAVE_EPOCH = -1
"""Member epoch of the last heartbeat: the member is gone, and so is its place."""
STATIC_LEAVE_EPOCH = -2
"""The last heartbeat of a static member that will be back: its partitions wait for it for a session."""
INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state"})
"""The cluster's own topics, which coordinators write: clients may read them, and neither write, make nor delete
them."""
CLASSIC, CONSUMER = "classic", "consumer"
"""The two types of group, as ListGroups names them."""
