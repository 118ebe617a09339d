"""The aborted transactions of a segment, as Kafka's ``.txnindex`` has them, big endian, 34 bytes each:

    | version: i16 = 0 | producer id: i64 | first offset: i64 | last offset: i64 | last stable offset: i64 |

Sorted by last offset: what a reader of committed records has to leave out (KIP-98).
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from .model import Offset, ProducerId

VERSION = 0
ENTRY = struct.Struct(">hqqqq")


class AbortedTransaction(NamedTuple):
    """A transaction whose records, between these offsets, were never committed.

    ``last_stable_offset``: where readers of committed records stood when it ended.
    """

    producer_id: ProducerId
    first_offset: Offset
    last_offset: Offset
    last_stable_offset: Offset


def encode_aborted(transactions: Iterable[AbortedTransaction]) -> bytes:
    """The bytes of these entries."""
    return b"".join(ENTRY.pack(VERSION, *transaction) for transaction in transactions)


def decode_aborted(data: bytes, base_offset: Offset) -> list[AbortedTransaction]:
    """The entries of the index of the segment at ``base_offset``. Raises ValueError saying what is wrong: one that is
    missing would show a reader what was aborted."""
    if len(data) % ENTRY.size:
        raise ValueError(f"{len(data)} bytes are no whole number of entries")
    found: list[AbortedTransaction] = []
    for version, producer_id, first, last, stable in ENTRY.iter_unpack(data):
        if version != VERSION:
            raise ValueError(f"version {version} is not known")
        if last < base_offset or first > last or (found and last < found[-1].last_offset):
            raise ValueError(f"a transaction from {first} to {last} is out of place")
        found.append(AbortedTransaction(ProducerId(producer_id), Offset(first), Offset(last), Offset(stable)))
    return found
