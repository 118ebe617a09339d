"""`ottla group`: ls, show, seek, rm."""

import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .consume import Moment, parse_place
from .options import confirm
from .output import Output, show_document, show_rows, show_table, talk
from .problems import NotFound, UsageProblem
from .sdk import with_client
from .status import CLEAR, REDRAW_S

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.group_admin import GroupAdmin, GroupDescription, Place

LIST_COLUMNS = ("group", "type", "state", "members")
PARTITION_COLUMNS = ("topic", "partition", "committed", "end", "lag", "member")
SEEK_COLUMNS = ("topic", "partition", "committed", "new", "lag")
_EXACT = re.compile(r"(?P<topic>[a-zA-Z0-9._-]{1,249}):(?P<partition>[0-9]{1,9}):(?P<offset>[0-9]{1,18})")

Target = str | int | Moment


def list_all(servers: str, output: Output) -> None:
    """Every group, a row each."""

    async def ask(client: "Client") -> list[dict[str, Any]]:
        groups = await _admin(client).list_groups()
        return [
            {
                "group": group.group_id,
                "type": group.group_type,
                "state": group.state,
                "members": group.members,
                "protocol_type": group.protocol_type,
            }
            for group in groups
        ]

    show_rows(with_client(servers, ask), LIST_COLUMNS, output)


def show(servers: str, name: str, watch: bool, output: Output) -> None:
    """The total first, then a row per partition; again every second with ``watch``."""
    while True:
        described = with_client(servers, lambda client: _described(client, name))
        if watch and sys.stdout.isatty():
            sys.stdout.write(CLEAR)
        _show(described, output)
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(REDRAW_S)


def seek(
    servers: str, name: str, to: Sequence[str], topics: Sequence[str], *, dry_run: bool, yes: bool, output: Output
) -> None:
    """Commit for a group that nobody is in. Raises UsageProblem."""
    exact, place = parse_targets(to)
    if exact and topics:
        raise UsageProblem("-t does not go with TOPIC:PARTITION:OFFSET, which names its topic")
    rows = with_client(servers, lambda client: _plan(client, name, exact, place, topics))
    if not rows:
        raise NotFound(
            f"{name} has committed nothing", hint="Name what it reads: -t TOPIC, or --to TOPIC:PARTITION:OFFSET."
        )
    if not dry_run:
        confirm(f"Set {len(rows)} partitions of {name}?", yes)
        offsets = {(row["topic"], row["partition"]): row["new"] for row in rows}
        with_client(servers, lambda client: _admin(client).set_offsets(name, offsets))
    show_rows(rows, SEEK_COLUMNS, output)


def remove(servers: str, name: str, yes: bool) -> None:
    """Forget a group."""
    confirm(f"Forget group {name} and all it has committed?", yes)

    async def work(client: "Client") -> None:
        with _not_found(name):
            await _admin(client).delete_group(name)

    with_client(servers, work)
    talk(f"Removed {name}.")


def parse_targets(to: Sequence[str]) -> "tuple[dict[Place, int], Target | None]":
    """Exact offsets, or one place for all partitions. Raises UsageProblem."""
    exact = {}
    for text in to:
        if found := _EXACT.fullmatch(text):
            exact[found["topic"], int(found["partition"])] = int(found["offset"])
    if len(exact) == len(to):
        return exact, None
    if len(to) > 1:
        raise UsageProblem("--to is repeated only as TOPIC:PARTITION:OFFSET")
    place = parse_place(to[0], "--to")
    if isinstance(place, int):
        raise UsageProblem("one offset means another place in each partition; write TOPIC:PARTITION:OFFSET")
    return {}, place


def describe(group: "GroupDescription") -> dict[str, Any]:
    """Everything that is known of one group."""
    return {
        "group": group.group_id,
        "type": group.group_type,
        "state": group.state,
        "epoch": group.epoch,
        "assignor": group.assignor,
        "lag": group.lag,
        "members": [
            {
                "member": member.member_id,
                "instance": member.instance_id,
                "client": member.client_id,
                "epoch": member.epoch,
                "protocol": member.protocol,
                "pattern": member.pattern,
                "partitions": None if member.partitions is None else [f"{t}-{n}" for t, n in member.partitions],
            }
            for member in group.members
        ],
        "partitions": [
            {
                "topic": partition.topic,
                "partition": partition.partition,
                "committed": partition.committed,
                "end": partition.end,
                "lag": partition.lag,
                "member": partition.member,
                "metadata": partition.metadata,
            }
            for partition in group.partitions
        ],
    }


def _show(group: "GroupDescription", output: Output) -> None:
    document = describe(group)
    if output is not Output.table:
        show_document(document, output)
        return
    mixed = sum(member.protocol == "classic" for member in group.members) if group.group_type == "consumer" else 0
    print(
        f"{group.group_id}  lag {group.lag}  {group.state}  {len(group.members)} members"
        f"{f' ({mixed} classic)' if mixed else ''}  {group.group_type}  epoch {group.epoch}"
    )
    if document["partitions"]:
        show_table(document["partitions"], PARTITION_COLUMNS)


def _admin(client: "Client") -> "GroupAdmin":
    from ottla.client.group_admin import GroupAdmin

    return GroupAdmin(client.cluster)


class _not_found:
    """What the coordinator does not know is what the command did not find."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from ottla.client.error_codes import ErrorCode
        from ottla.client.errors import RequestFailed

        if isinstance(error, RequestFailed) and error.error is ErrorCode.GROUP_ID_NOT_FOUND:
            raise NotFound(f"there is no group {self._name}", hint="List what there is: ottla group ls") from error


async def _described(client: "Client", name: str) -> "GroupDescription":
    with _not_found(name):
        return await _admin(client).describe_group(name)
    raise AssertionError("unreachable")


async def _plan(
    client: "Client", name: str, exact: "dict[Place, int]", place: Target | None, topics: Sequence[str]
) -> list[dict[str, Any]]:
    """A row per partition that would be set."""
    admin = _admin(client)
    committed: dict[Place, int | None] = {}
    try:
        described = await _described(client, name)
        committed = {(p.topic, p.partition): p.committed for p in described.partitions}
    except NotFound:
        pass  # it will be there once it has committed
    if place is None:
        targets = exact
        ends = await admin.ends(targets)
    else:
        places = [where for where in committed if not topics] + await _all_partitions(client, topics)
        ends = await admin.ends(places)
        targets = await _targets(client, admin, places, place)
    return [
        {
            "topic": topic,
            "partition": number,
            "committed": committed.get((topic, number)),
            "new": offset,
            "lag": None if (end := ends.get((topic, number))) is None else max(0, end - offset),
        }
        for (topic, number), offset in sorted(targets.items())
    ]


async def _all_partitions(client: "Client", topics: Sequence[str]) -> "list[Place]":
    return [(topic, n) for topic in topics for n in range(len((await client.cluster.topic(topic)).partitions))]


async def _targets(
    client: "Client", admin: "GroupAdmin", places: "Sequence[Place]", place: Target
) -> "dict[Place, int]":
    found: dict[Place, int] = {}
    if isinstance(place, Moment):
        for topic in sorted({topic for topic, _ in places}):
            offsets = await client.admin.offsets_for_time(topic, place.timestamp_ms)
            found.update({(topic, n): offsets[n] for t, n in places if t == topic})
        return found
    offsets_by_place = await (admin.starts(places) if place == "earliest" else admin.ends(places))
    for where, offset in offsets_by_place.items():
        if offset is not None:
            found[where] = offset
    return found
