"""What a kind and version of command decides never changes: recorded transcripts must still come out the same.

A transcript is ``# comment``, or a command as JSON; each is followed by its result and the digest
of the image after it:

    {"proposed_at_ms":0,"requester":null,"body":{"type":"AllocateProducerIds/1","count":5}}
    ---- {"type":"ProducerIdBlock","start":0,"count":5} 6f1d...

New behaviour is a new version with a new transcript; a recorded answer is never edited to fit the code.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ottla.raft.commands import Body, Command, encode_command
from ottla.raft.image import empty_image
from ottla.raft.results import decode_result
from ottla.raft.state_machine import MetadataStateMachine

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


def commands_of(transcript: str) -> Iterator[Command]:
    for line in transcript.splitlines():
        if line.startswith("{"):
            yield msgspec.json.decode(line, type=Command)


def perform(transcript: str) -> str:
    """The transcript with its answers as the code gives them now."""
    machine = MetadataStateMachine(empty_image("transcript-cluster-id0"))
    lines, index = [], 0
    for line in transcript.splitlines():
        if line.startswith("----"):
            continue
        lines.append(line)
        if line.startswith("{"):
            index += 1
            command = msgspec.json.decode(line, type=Command)
            result = decode_result(machine.apply(index, 1, encode_command(command)))
            lines.append(f"---- {msgspec.json.encode(result).decode()} {machine.image.digest().hex()[:16]}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_recorded_decisions_still_stand(path: Path) -> None:
    recorded = path.read_text()
    assert perform(recorded).splitlines() == recorded.splitlines()


def test_the_transcripts_tell_of_every_kind_of_command() -> None:
    told = {type(command.body) for path in TRANSCRIPTS for command in commands_of(path.read_text())}
    assert told == set(Body.__args__)
