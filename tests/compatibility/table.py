"""docs/compatibility.md, from what the cases' runs noted."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ORACLE = Path(__file__).with_name("oracle.json")
"""What the last run against Apache Kafka came to."""

FEATURES: Mapping[str, Mapping[str, str]] = {
    "Records": {
        "test_produce_and_consume_with_every_codec": "Produce and consume, each codec",
        "test_what_the_sdk_writes_the_client_reads": "Read what the SDK wrote, each codec",
        "test_what_the_client_writes_the_sdk_reads": "Written, and read by the SDK, each codec",
        "test_produce_with_every_kind_of_acknowledgement": "acks=all, 1 and 0",
        "test_idempotent_batches_are_stored_once_and_in_order": "Idempotent producer",
        "test_a_forgotten_producer_goes_on": "Idempotent producer that the brokers had forgotten",
        "test_producing_goes_on_when_the_leader_dies": "Idempotent producer while the leader is killed",
        "test_a_topic_that_is_missing_is_made_by_producing_to_it": "Topics made by producing to them",
        "test_who_reads_what_is_committed_reads_all_that_is_no_transaction": "isolation.level=read_committed",
        "test_a_batch_may_be_as_large_as_the_topic_says": "Batches of exactly max.message.bytes, and one byte more",
        "test_records_larger_than_what_a_consumer_asks_for_are_read": "Records larger than a fetch",
        "test_a_thousand_partitions_are_written_and_read": "1,000 partitions, written and read",
    },
    "Groups": {
        "test_a_group_reads_commits_and_goes_on_where_it_was": "Read, commit, go on",
        "test_members_share_and_take_over": "Share, and take over from one that leaves",
        "test_a_group_commits_by_itself": "Automatic commits",
        "test_members_that_commit_by_themselves_share": "Share and take over with automatic commits",
        "test_a_static_member_finds_its_place_again": "Static members",
        "test_a_pattern_stands_for_the_topics_that_it_matches": "Subscription by pattern",
        "test_members_of_both_protocols_share_and_take_over": "Both protocols in one group (KIP-848's migration)",
        "test_a_group_goes_on_when_its_coordinator_and_leader_die": "Coordinator and leader killed",
        "test_a_group_is_listed_described_and_deleted": "List, describe, delete; offsets",
    },
    "Administration": {
        "test_a_topic_is_made_described_grown_and_deleted": "Topics: create, describe, grow, delete",
        "test_a_config_is_changed": "Configs: describe, alter",
        "test_the_cluster_is_three_brokers_and_a_controller": "Describe the cluster",
        "test_offsets_are_found_by_time_to_the_record": "Offsets by time",
        "test_the_record_with_the_largest_time_is_found": "Offset of the largest time",
        "test_records_below_an_offset_are_deleted": "Delete records",
        "test_a_thousand_partitions_are_described": "1,000 partitions, described",
        "test_a_mistake_is_refused_with_kafkas_code": "Mistakes are refused with Kafka's codes",
    },
}

HEAD = """# Kafka clients that were tried

Unmodified clients against a cluster of three nodes, by `python -m tests.compatibility`, which also writes this page.
*yes*: the cases pass. *not offered*: the client has no such call. [kafka.md](kafka.md) says what is served.
"""

NOTES = """## What to know of them

* **kafkajs** goes on sending its heartbeats to a coordinator that has died. It looks for another only when its consumer
  starts anew, which is after `retry.retries` failures, each of which lasts for `maxWaitTimeInMs` (5 s) and a pause.
  With 20 retries of up to 2 s it read 8 to 10 of 50 records in a minute, in 4 of 4 runs against Apache Kafka and in
  8 of 8 against Ottla; where the dead broker led the topic and did not coordinate the group it read all (3 of 3, Apache
  Kafka). The cases run it with `retries: 5, maxRetryTime: 1000`, `restartOnFailure` and `maxWaitTimeInMs: 500`: it read
  on 14 s after the kill with Apache Kafka and 10 s with Ottla (medians of 8). Its `connect` of an idempotent producer
  fails while the controller is dead, its `commitOffsets` while the coordinator is, or returns without a word and
  without a commit while the consumer starts anew; to try again, and to look, is left to the program.
"""


def read_rows(results: Path) -> list[Row]:
    return [json.loads(line) for line in results.read_text().splitlines()]


def tally(rows: Iterable[Row]) -> dict[str, Any]:
    """How many cases passed and failed, and which failed."""
    tried = [row for row in rows if row["outcome"] != "skipped"]
    failed = [row for row in tried if row["outcome"] == "failed"]
    return {
        "passed": len(tried) - len(failed),
        "failed": sorted({f"{row['case']} {row.get('client') or row['reader']}" for row in failed}),
    }


def document(rows: list[Row]) -> str:
    cases = [row for row in rows if row["case"] not in ("cross", "app")]
    versions = {row["client"]: row["version"] for row in cases if row["version"]}
    parts = [HEAD, _oracle(), _clients(versions)]
    for title, features in FEATURES.items():
        lines = [[feature, *(cell(cases, case, client) for client in versions)] for case, feature in features.items()]
        parts.append(f"## {title}\n\n{_table(['', *versions], lines)}")
    parts += [_cross([row for row in rows if row["case"] == "cross"]), _apps([r for r in rows if r["case"] == "app"])]
    parts.append(NOTES)
    return "\n".join(part for part in parts if part)


def cell(rows: Iterable[Row], case: str, client: str) -> str:
    """What became of one case with one client, over all its parameters."""
    found = [row for row in rows if (row["case"], row["client"]) == (case, client)]
    by = {
        outcome: [_named(row) for row in found if row["outcome"] == outcome]
        for outcome in ("passed", "skipped", "failed")
    }
    if not found:
        return "not tried"
    if by["failed"] and f"{case} {client}" in _failed_with_kafka():
        return "no, nor with Kafka" + (f": {', '.join(by['failed'])}" if any(by["failed"]) else "")
    if by["failed"]:
        return "**fails**" + (f": {', '.join(by['failed'])}" if any(by["failed"]) else "")
    if not by["passed"]:
        return "not offered"
    return f"yes; not offered: {', '.join(by['skipped'])}" if by["skipped"] else "yes"


def _named(row: Row) -> str:
    """Its parameters, where they say anything to a reader."""
    params = row["params"]
    if "protocol" in params and "assignor" in params:
        return f"{params['assignor']} ({params['protocol']})"
    if "later" in params:
        return f"{params['protocol']}{', topics made later' if params['later'] == 'True' else ''}"
    return " ".join(params.values())


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines)) + "\n"


def _clients(versions: Mapping[str, str]) -> str:
    return _table(["client", "version"], [[name, version] for name, version in versions.items()])


def _failed_with_kafka() -> list[str]:
    return list(json.loads(ORACLE.read_text())["failed"]) if ORACLE.exists() else []


def _oracle() -> str:
    """That the cases themselves are right."""
    if not ORACLE.exists():
        return ""
    known = json.loads(ORACLE.read_text())
    failed = f"; there these fail: {', '.join(known['failed'])}" if known["failed"] else ", and all pass there"
    return (
        f"The same cases were run against Apache Kafka {known['version']} with the same clients "
        f"(`--target kafka`, three brokers), {known['passed']} of them{failed}.\n"
    )


def _cross(rows: list[Row]) -> str:
    """Who reads whom."""
    if not rows:
        return ""
    writers, readers = (list(dict.fromkeys(row[end] for row in rows)) for end in ("writer", "reader"))
    every = len({row["codec"] for row in rows})

    def told(writer: str, reader: str) -> str:
        found = [row for row in rows if (row["writer"], row["reader"]) == (writer, reader)]
        failed = [row["codec"] for row in found if row["outcome"] != "passed"]
        if failed:
            return f"**fails**: {', '.join(failed)}"
        return "all" if len(found) == every else ", ".join(row["codec"] for row in found)

    lines = [[writer, *(told(writer, reader) for reader in readers)] for writer in writers]
    said = "Who writes stands on the left, who reads above; in a field the codecs with which every byte was the same.\n"
    return f"## Written by one, read by another\n\n{said}\n{_table(['', *readers], lines)}"


def _apps(rows: list[Row]) -> str:
    """Stream processors."""
    if not rows:
        return ""
    lines = [[row["client"], row["version"], "yes" if row["outcome"] == "passed" else "**fails**"] for row in rows]
    said = "An app that maps a topic to another, with a sum for each key in a state, and goes on after a restart.\n"
    return f"## Stream processors\n\n{said}\n{_table(['', 'version', 'result'], lines)}"
