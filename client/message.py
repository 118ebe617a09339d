"""What every request and response is made of: the base of the structs, and the bounds of their fields."""

from typing import Annotated

import msgspec

Int32 = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""A count, a size, a wait or a partition number: never negative; the frame is refused otherwise."""
FetchOffset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(max_length=1024)]
MAX_REQUEST_PARTITIONS = 10_000
"""No request names more partitions than this."""
Many = msgspec.Meta(max_length=MAX_REQUEST_PARTITIONS)


class Message(msgspec.Struct, array_like=True):
    """Base of every request, every response, and every struct inside them."""
