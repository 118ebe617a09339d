"""`ottla group`: ls, show, seek, forget, rm."""

import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.client.errors import OttlaError, RequestFailed

from .consume import parse_place
from .options import confirm
from .output import Output, counted, show_document, show_rows, show_table, talk
from .problems import NotFound, UsageProblem
from .sdk import with_client
from .status import CLEAR, REDRAW_S

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.group_descriptions import GroupDescription, OffsetChange, Place

T = TypeVar("T")

LIST_COLUMNS = ("group", "type", "state", "members")
PARTITION_COLUMNS = ("topic", "partition", "committed", "end", "lag", "member")
SEEK_COLUMNS = ("topic", "partition", "committed", "new", "lag")
FORGET_COLUMNS = ("topic", "partition", "committed")
_EXACT = re.compile(r"(?P<topic>[a-zA-Z0-9._-]{1,249}):(?P<partition>[0-9]{1,9}):(?P<offset>[0-9]{1,19})")
_WHAT = re.compile(r"(?P<topic>[a-zA-Z0-9._-]{1,249})(:(?P<partition>[0-9]{1,9}))?")


def list_all(servers: str, output: Output) -> None:
    """Every group, a row each. Raises OttlaError, afterwards, where a node did not tell its groups."""
    from ottla.client.group_descriptions import listed_document

    found = with_client(servers, lambda client: client.admin.list_groups())
    show_rows([listed_document(group) for group in found.groups], LIST_COLUMNS, output)
    if found.unanswered:
        sys.stdout.flush()
        said = "; ".join(f"n{node}: {problem.rstrip('.')}" for node, problem in sorted(found.unanswered.items()))
        raise OttlaError(
            f"groups may be missing, not all nodes told theirs ({said}).",
            code="OTTLA-INCOMPLETE",
            hint="See what is wrong: ottla doctor",
        )


def show(servers: str, name: str, watch: bool, output: Output) -> None:
    """The total first, then a row per partition; again every second with ``watch``."""
    while True:
        described = _of_group(servers, name, lambda client: client.admin.describe_group(name))
        if watch and sys.stdout.isatty():
            sys.stdout.write(CLEAR)
        show_description(described, output)
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(REDRAW_S)


def seek(
    servers: str, name: str, to: Sequence[str], topics: Sequence[str], *, dry_run: bool, yes: bool, output: Output
) -> None:
    """Commit for a group that nobody is in. Raises UsageProblem."""
    target = parse_targets(to)
    if topics and not isinstance(target, str):
        raise UsageProblem("-t does not go with TOPIC:PARTITION:OFFSET, which names its topic")
    plan = _of_group(
        servers,
        name,
        lambda client: client.admin.set_offsets(name, target, topics=list(topics) or None, validate_only=True),
        hint="Name what it reads: -t TOPIC, or --to TOPIC:PARTITION:OFFSET.",
    )
    if not dry_run:
        confirm(f"Set {counted(len(plan), 'partition')} of {name}?", yes)
        exact = {(change.topic, change.partition): change.after for change in plan}
        plan = _of_group(servers, name, lambda client: client.admin.set_offsets(name, exact))
    show_rows([_change(change) for change in plan], SEEK_COLUMNS, output)


def forget(servers: str, name: str, what: Sequence[str], *, dry_run: bool, yes: bool, output: Output) -> None:
    """Delete committed offsets. Raises UsageProblem, NotFound."""
    asked = [_parse_what(text) for text in what]
    found = _of_group(servers, name, lambda client: client.admin.delete_offsets(name, asked, validate_only=True))
    if not found:
        raise NotFound(f"{name} has committed nothing for {', '.join(what)}", hint=f"See: ottla group show {name}")
    if not dry_run:
        confirm(f"Forget what {name} has committed for {counted(len(found), 'partition')}?", yes)
        exact = list(found)
        found = _of_group(servers, name, lambda client: client.admin.delete_offsets(name, exact))
    rows = [{"topic": topic, "partition": number, "committed": at} for (topic, number), at in found.items()]
    show_rows(rows, FORGET_COLUMNS, output)


def remove(servers: str, name: str, *, dry_run: bool, yes: bool, output: Output) -> None:
    """Forget a group, or show what that would forget."""

    async def look(client: "Client") -> "GroupDescription":
        await client.admin.delete_group(name, validate_only=True)
        return await client.admin.describe_group(name)

    if dry_run:
        show_description(_of_group(servers, name, look), output)
        return
    confirm(f"Forget group {name} and all it has committed?", yes)
    _of_group(servers, name, lambda client: client.admin.delete_group(name))
    talk(f"Removed {name}.")


def parse_targets(to: Sequence[str]) -> "dict[Place, int | str] | str":
    """Offsets by partition, or one place for all, as the SDK names them. Raises UsageProblem."""
    exact: dict[Place, int | str] = {}
    for text in to:
        if found := _EXACT.fullmatch(text):
            place = found["topic"], int(found["partition"])
            if place in exact:
                raise UsageProblem(f"--to names {place[0]}:{place[1]} twice")
            exact[place] = int(found["offset"])
        elif len(to) > 1 or (":" in text and not text.startswith("@")):
            raise UsageProblem(f"--to {text!r} is not TOPIC:PARTITION:OFFSET, and only that may be repeated")
    if exact:
        return exact
    try:
        place_of_all = parse_place(to[0], "--to")
    except UsageProblem as problem:
        if to[0].startswith("@"):
            raise
        raise UsageProblem(f"--to {to[0]!r} is not start, end, @TIME or TOPIC:PARTITION:OFFSET") from problem
    if isinstance(place_of_all, int):
        raise UsageProblem("one offset means another place in each partition; write TOPIC:PARTITION:OFFSET")
    return place_of_all if isinstance(place_of_all, str) else to[0]


def _parse_what(text: str) -> "str | Place":
    found = _WHAT.fullmatch(text)
    if found is None:
        raise UsageProblem(f"{text!r} is not TOPIC or TOPIC:PARTITION")
    return found["topic"] if found["partition"] is None else (found["topic"], int(found["partition"]))


def _change(change: "OffsetChange") -> dict[str, Any]:
    return {
        "topic": change.topic,
        "partition": change.partition,
        "committed": change.before,
        "new": change.after,
        "lag": change.lag,
        "start": change.start,
        "end": change.end,
    }


def show_description(group: "GroupDescription", output: Output) -> None:
    """The total first, then a row per partition."""
    from ottla.client.group_descriptions import classic_members, group_document

    document = group_document(group)
    if output is not Output.table:
        show_document(document, output)
        return
    mixed = classic_members(group)
    print(
        f"{group.group_id}  lag {group.lag}  {group.state}  {counted(len(group.members), 'member')}"
        f"{f' ({mixed} classic)' if mixed else ''}  {group.group_type}  epoch {group.epoch}"
    )
    if document["partitions"]:
        show_table(document["partitions"], PARTITION_COLUMNS)


def _of_group(servers: str, name: str, work: "Callable[[Client], Awaitable[T]]", *, hint: str = "") -> T:
    """What the coordinator does not know is what the command did not find. ``hint``: what to do about that."""
    with _in_words_of_the_command(name, hint):
        return with_client(servers, work)
    raise AssertionError("unreachable")


@contextmanager
def _in_words_of_the_command(name: str, hint: str) -> Iterator[None]:
    try:
        yield
    except RequestFailed as error:
        from ottla.client.error_codes import ErrorCode

        if error.error is ErrorCode.GROUP_ID_NOT_FOUND:
            raise NotFound(str(error.args[0]), hint=hint or "List what there is: ottla group ls") from error
        if error.error in (ErrorCode.NON_EMPTY_GROUP, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC):
            error.hint = f"Stop its members first; see who they are: ottla group show {name}"
        raise
