"""The nouns of the log, each its own type so that they cannot be mixed.

Absence is ``None`` inside Ottla; the ``-1`` of Kafka's formats lives only in the codecs.
"""

from typing import NamedTuple, NewType

Offset = NewType("Offset", int)
"""Position of a record in a partition, from 0. Never names two records of one topic id."""

LeaderEpoch = NewType("LeaderEpoch", int)
"""Counts the leaders of a partition. Rises with every change of leader; never a Raft term."""

PartitionEpoch = NewType("PartitionEpoch", int)
"""Counts every change of a partition's state; the compare-and-set key of AlterPartition (KIP-497)."""

BrokerId = NewType("BrokerId", int)
"""A node's number, from 1. Voters have their position in the voter set."""

BrokerEpoch = NewType("BrokerEpoch", int)
"""The quorum index of a broker's registration: tells one incarnation of a broker from the next (KIP-841)."""

ProducerId = NewType("ProducerId", int)
"""An idempotent producer's number, given by the quorum (KIP-98)."""

ProducerEpoch = NewType("ProducerEpoch", int)
"""Tells one session of a producer id from the next, 0 to 32767."""

TopicId = NewType("TopicId", str)
"""A topic's identity: 16 random bytes as 22 characters of URL-safe base64, as Kafka prints them (KIP-516).
A topic deleted and made again under its name has a new one."""

DirectoryId = NewType("DirectoryId", str)
"""A data directory's identity, made when it is formatted; the same form as a TopicId (KIP-858)."""


class TopicPartition(NamedTuple):
    """A partition by its topic's name."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class TopicIdPartition(NamedTuple):
    """A partition by its topic's identity: what produce, fetch and replica requests name."""

    topic_id: TopicId
    partition: int


class OffsetAndEpoch(NamedTuple):
    """An offset with the leader epoch it was written in, or the end offset of an epoch (KIP-101)."""

    offset: Offset
    leader_epoch: LeaderEpoch


class ProducerIdAndEpoch(NamedTuple):
    """Who a batch's sequence numbers belong to."""

    producer_id: ProducerId
    producer_epoch: ProducerEpoch
