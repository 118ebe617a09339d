"""What a node that waits for its cluster says of itself."""

from pathlib import Path

import pytest

from ottla.log.chance import SystemChance
from ottla.log.storage import SystemStorage
from ottla.raft.forming import FormingDesk, _absence
from ottla.raft.identity import open_directory


@pytest.mark.parametrize(
    ("host", "port", "found", "is_absent"),
    [
        ("a", 7080, False, False),
        ("A", 7080, False, False),
        ("a", 7081, False, True),
        ("c", 7080, False, True),
        ("c", 7080, True, False),
    ],
)
def test_a_node_that_its_list_does_not_name_says_so_until_it_finds_itself(
    tmp_path: Path, host: str, port: int, found: bool, is_absent: bool
) -> None:
    with open_directory(tmp_path, SystemStorage(), SystemChance()) as directory:
        desk = FormingDesk(directory, ["a:7080", "b:7080"], None, SystemChance())
        desk.found_itself = found
        said = _absence(desk, host, port)
    assert (f"this node listens on {host}:{port}, which --join does not name" in said) is is_absent
