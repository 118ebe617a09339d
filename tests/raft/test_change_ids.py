"""Clients' changes are carried out once: remembered across snapshots, and only so many of them."""

from ottla.raft.commands import AllocateProducerIds, Command, encode_command
from ottla.raft.image import CHANGES_KEPT
from ottla.raft.image_codec import decode_image, encode_image
from ottla.raft.results import ProducerIdBlock, decode_result
from ottla.raft.state_machine import MetadataStateMachine


def ask(machine: MetadataStateMachine, change_id: str) -> ProducerIdBlock:
    command = encode_command(Command(0, None, AllocateProducerIds(10), change_id))
    result = decode_result(machine.apply(machine.image.index + 1, 1, command))
    assert isinstance(result, ProducerIdBlock)
    return result


def test_an_attempt_at_what_was_done_has_its_result_and_no_effect_after_a_snapshot_either() -> None:
    machine = MetadataStateMachine()
    first = ask(machine, "a")
    assert ask(machine, "b").start == 10
    assert ask(machine, "a") == first
    restored = MetadataStateMachine(decode_image(encode_image(machine.image)))
    assert restored.image.digest() == machine.image.digest()
    assert encode_image(restored.image) == encode_image(machine.image)
    assert ask(restored, "a") == first
    assert ask(restored, "c").start == 20


def test_the_oldest_are_forgotten_on_every_node_alike() -> None:
    machine = MetadataStateMachine()
    for number in range(CHANGES_KEPT + 5):
        ask(machine, str(number))
    assert list(machine.image.changes) == [str(number) for number in range(5, CHANGES_KEPT + 5)]
    again = MetadataStateMachine(decode_image(encode_image(machine.image)))
    for one in (machine, again):
        ask(one, "new")
    assert machine.image.digest() == again.image.digest()
    assert next(iter(again.image.changes)) == "6"
