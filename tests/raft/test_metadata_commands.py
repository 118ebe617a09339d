"""Commands as bytes: whatever they are, applying them raises nothing."""

from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId
from ottla.raft.commands import (
    Command,
    CreateTopic,
    RegisterBroker,
    Requester,
    UnfenceBroker,
    encode_command,
)
from ottla.raft.image import empty_image
from ottla.raft.results import (
    Refused,
    decode_result,
)
from ottla.raft.state_machine import MetadataStateMachine

from .metadata_cluster import TOPIC, code


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_change_nothing_but_the_index(data: bytes) -> None:
    machine = MetadataStateMachine(empty_image("c"))
    result = decode_result(machine.apply(5, 1, data))
    assert isinstance(result, Refused)
    assert machine.image == replace(empty_image("c"), index=5)


@settings(derandomize=True, deadline=None)
@given(st.integers(min_value=0, max_value=400), st.integers(min_value=0, max_value=255))
def test_a_damaged_command_never_raises(position: int, byte: int) -> None:
    body = CreateTopic("t", TOPIC, 3, None, ((BrokerId(1),),), {"segment.bytes": "100"}, 7, False)
    data = bytearray(encode_command(Command(1, Requester(BrokerId(1), BrokerEpoch(1), 1), body)))
    data[position % len(data)] = byte
    machine = MetadataStateMachine()
    machine.apply(
        1, 1, encode_command(Command(0, None, RegisterBroker(BrokerId(1), "i", DirectoryId("d"), "h", 1, None, False)))
    )
    machine.apply(2, 1, encode_command(Command(0, None, UnfenceBroker(BrokerId(1), BrokerEpoch(1)))))
    decode_result(machine.apply(3, 1, bytes(data)))
    decode_result(machine.apply(4, 1, bytes(data[:position])))


def test_values_out_of_range_are_no_command() -> None:
    body = RegisterBroker(BrokerId(0), "i", DirectoryId("d"), "h", 1, None, False)
    machine = MetadataStateMachine()
    assert code(decode_result(machine.apply(1, 1, encode_command(Command(0, None, body))))) == "INVALID_REQUEST"
    huge = encode_command(Command(0, None, CreateTopic("x" * 2**20, TOPIC)))
    assert code(decode_result(machine.apply(2, 1, huge))) == "INVALID_REQUEST"
