"""Where each planted bug is looked for, and where it was found: workload, kinds of fault, and the first catching seed.

A kind of fault that has nothing to do with a bug only dilutes the hunt, so each has its own few.
"""

import msgspec

from .story import Config

SNAPSHOTS = {"raft_snapshot_entries": 20, "raft_log_entries_kept": 0}
"""Settings in which a voter that was away for a few seconds needs a snapshot."""

SMALL_FETCHES = {"replica_fetch_max_bytes": 512}
"""A follower that was away needs many answers."""


class Hunt(msgspec.Struct, frozen=True):
    """``seed``: the first of 0 to 199 that catches it, None while none does; ``found_by``: what said so there.
    ``median``: how many seeds a hunt takes."""

    nemeses: str
    seed: int | None = None
    found_by: str = ""
    median: float | None = None
    workload: str = "queue"
    seconds: float = 20.0
    rate: float = 20.0
    nodes: int = 3
    observers: int = 0
    settings: dict[str, int] = {}

    def config(self, bug: str | None) -> Config:
        """Of a run with the bug, or of the clean one."""
        return Config(
            workload=self.workload,
            nemeses=tuple(self.nemeses.split(",")),
            seconds=self.seconds,
            rate=self.rate,
            nodes=self.nodes,
            observers=self.observers,
            settings=self.settings,
            bug=bug,
            punctual=False,  # with few kinds there is no variety to lose
        )


HUNTS: dict[str, Hunt] = {
    "ack_before_sync": Hunt("power-all,slowdisk", workload="flush", seed=5, found_by="leader completeness"),
    "ack_early": Hunt("kill,partition", seed=0, found_by="ISR completeness", median=1.0),
    "below_min_insync": Hunt("fall,last-one", nodes=5, seed=0, found_by="ISR completeness", median=1.0),
    "read_past_high_watermark": Hunt(
        "kill,partition,frozen-view", seed=2, found_by="duplicate, inconsistent-offsets", median=2.0
    ),
    "no_maximal_isr": Hunt("stale-join", seconds=30.0, seed=0, found_by="ISR completeness", median=1.0),
    "isr_counted_before_committed": Hunt("lagging-leader", seed=1, found_by="leader completeness", median=3.0),
    "isr_joins_behind": Hunt("kill-while-cut,kill,slowdisk", seed=21, found_by="ISR completeness", median=1.0),
    "truncate_to_high_watermark": Hunt(
        "kill,kill-all,kill-while-cut", seed=0, found_by="leader completeness", median=1.0
    ),
    "no_divergence_check": Hunt(
        "partition,pause,frozen-view", seed=0, found_by="duplicate, inconsistent-offsets, equal logs", median=1.0
    ),
    "sent_is_held": Hunt("kill,delay,partition", seed=1, found_by="ISR completeness", median=2.0),
    "truncate_to_zero_epoch": Hunt("partition,pause,frozen-view", seed=0, found_by="whole again in time"),
    "acks_survive_epochs": Hunt(
        "comeback", seconds=30.0, seed=8, found_by="inconsistent-offsets, lost-write", median=3.0
    ),
    "no_epoch_fencing": Hunt("comeback", seconds=30.0, nodes=5, seed=6, found_by="a fetch counts in its epoch"),
    "deposed_leads_on": Hunt("pause,frozen-view", seed=0, found_by="whole again in time", median=1.0),
    "lease_not_rechecked": Hunt("pause,frozen-view,partition"),
    "high_watermark_unbounded": Hunt(
        "kill,partition", settings=SMALL_FETCHES, seed=3, found_by="offsets in order", median=4.0
    ),
    "latest_before_epoch_start": Hunt("kill,pause,partition", seed=0, found_by="latest offset", median=1.0),
    "isr_no_cas": Hunt("lagging-leader,kill-while-cut,stale-join"),
    "isr_takes_stale_incarnation": Hunt("stale-join", seconds=30.0, seed=0, found_by="ISR completeness", median=3.0),
    "isr_takes_fenced": Hunt("kill,pause,stale-join,delay", seed=0, found_by="ISR completeness", median=4.0),
    "no_unclean_shutdown_check": Hunt("power,last-one", seed=3, found_by="ISR completeness", median=4.0),
    "boot_id_ignored": Hunt("power,last-one", seed=3, found_by="leader completeness"),
    "elr_not_kept": Hunt("fall", nodes=5, seed=6, found_by="leader completeness"),
    "unclean_election": Hunt("fall", nodes=5, seed=0, found_by="leader completeness"),
    "leader_epoch_kept": Hunt("kill,pause", seed=0, found_by="whole again in time"),
    "incarnation_resumes": Hunt("failpoint,kill,rolling", seed=0, found_by="no fenced member of the ISR"),
    "unfenced_too_early": Hunt("pause,frozen-view,partition", seed=0, found_by="unfenced once it knows"),
    "removed_before_caught_up": Hunt("member,kill", nodes=5, seed=3, found_by="whole again in time", median=1.0),
    "added_counts_at_once": Hunt("member,kill", nodes=5, seed=0, found_by="leader completeness", median=1.0),
    "leader_outside_target": Hunt("member,kill", nodes=5, seed=0, found_by="the leader is in the ISR", median=1.0),
    "drain_ignored": Hunt("member,kill", nodes=5, seed=0, found_by="a drained broker leads nothing", median=1.0),
    "epoch_kept_when_a_replica_goes": Hunt("member,delay,partition", nodes=5, seconds=30.0),
    "raft_counts_unsynced": Hunt("swap", workload="meta", seed=0, found_by="not-linearizable, equal images"),
    "raft_answers_before_sync": Hunt("swap", workload="meta", seed=0, found_by="not-linearizable"),
    "raft_sync_skipped": Hunt("swap", workload="meta", seed=2, found_by="not-linearizable, equal images"),
    "raft_votes_twice": Hunt("slow-election", workload="meta", nodes=5, seed=1, found_by="one leader in a term"),
    "vote_not_persisted": Hunt("slow-election", workload="meta", nodes=5),
    "term_not_persisted": Hunt("kill-all,kill,swap", workload="meta"),
    "barrier_without_majority": Hunt("depose", workload="meta", rate=60.0, seed=66, found_by="not-linearizable"),
    "request_executed_twice": Hunt(
        "kill,partition,delay,transfer",
        workload="meta",
        seed=54,
        found_by="one result for a request",
    ),
    "result_of_another_request": Hunt(
        "kill,partition,delay,transfer", workload="meta", seed=17, found_by="not-linearizable"
    ),
    "snapshot_keeps_old_image": Hunt("partition,pause,kill", settings=SNAPSHOTS, seed=0, found_by="equal images"),
    "roles_missed_in_snapshot": Hunt(
        "partition,pause,frozen-view", settings=SNAPSHOTS, seed=16, found_by="whole again in time"
    ),
    "observer_serves_uncommitted": Hunt(
        "partition,pause,swap", workload="meta", observers=1, seed=1, found_by="equal images"
    ),
    "no_idempotence": Hunt("kill,delay", workload="idem", seed=0, found_by="duplicate"),
    "dedup_lost_at_restart": Hunt("kill,kill-all", workload="idem", seed=0, found_by="producers as the log has them"),
    "dedup_lost_at_failover": Hunt("kill,partition", workload="idem", seed=0, found_by="producers as the log has them"),
    "dedup_survives_truncation": Hunt(
        "comeback", workload="idem", seconds=30.0, seed=0, found_by="producers as the log has them", median=1.0
    ),
    "dedup_off_by_one": Hunt("kill,delay", workload="idem", seed=0, found_by="duplicate"),
    "log_ends_at_recovery_point": Hunt("kill-all,kill", seed=0, found_by="leader completeness"),
    "torn_tail_kept": Hunt("power,failpoint", seed=0, found_by="whole again in time"),
    "recovery_point_unsynced": Hunt("power"),
    "deleted_log_reused": Hunt(
        "kill,pause", workload="remake", seed=0, found_by="inconsistent-offsets, lost-write, phantom-read", median=1.0
    ),
    "cleaner_drops_newest": Hunt("kill", workload="compact", seed=0, found_by="lost-key, views-differ"),
    "cleans_above_high_watermark": Hunt("kill,partition,comeback,pause", workload="compact", rate=60.0),
    "tombstone_goes_at_once": Hunt("kill", workload="compact", rate=40.0, seed=3, found_by="lost-key"),
    "swap_undone_half": Hunt("power,failpoint", workload="compact", rate=40.0, seed=2, found_by="lost-key"),
    "cut_and_swapped_back": Hunt("kill,partition,comeback,pause", workload="compact", rate=60.0),
    "retention_above_high_watermark": Hunt(
        "kill,partition,pause,delay", workload="compact", rate=120.0, seed=0, found_by="offsets in order"
    ),
    "retention_takes_too_much": Hunt("kill", workload="compact", seed=2, found_by="lost-record"),
    "damage_not_looked_for": Hunt("rot,corrupt,kill", seed=1, found_by="equal logs"),
    "damage_opens_again": Hunt("rot,kill", workload="compact", seed=1, found_by="whole again in time"),
    "crc_not_looked_at": Hunt("rot,corrupt,kill", seed=1, found_by="equal logs"),
    "offset_commit_no_generation": Hunt(
        "coordinator", workload="group", seed=0, found_by="lost-commit, old-commit-accepted"
    ),
    "commit_acked_early": Hunt("coordinator", workload="group", seed=0, found_by="lost-commit, two-owners"),
    "deposed_coordinator_acks": Hunt("coordinator", workload="group", seed=3, found_by="lost-commit"),
    "deposed_coordinator_tells": Hunt("lone-coordinator", workload="group", seed=1, found_by="lost-commit"),
    "coordinator_loads_too_little": Hunt("coordinator", workload="group", seed=0, found_by="lost-commit"),
    "coordinator_answers_unloaded": Hunt("slow-load", workload="group", seed=0, found_by="two-owners"),
    "sessions_end_with_their_coordinator": Hunt(
        "coordinator", workload="group", seed=0, found_by="slow-settle, uncommitted, unhandled"
    ),
    "given_before_let_go": Hunt("coordinator", workload="group", seed=0, found_by="two-owners"),
    "silence_lets_go": Hunt("coordinator", workload="group", seed=0, found_by="two-owners"),
    "fenced_heartbeat_accepted": Hunt("coordinator", workload="group", seed=2, found_by="slow-settle"),
    "classic_session_never_ends": Hunt("coordinator", workload="group", seed=1, found_by="slow-settle"),
    "commits_what_is_fetched": Hunt("coordinator", workload="group", seed=0, found_by="commit-past-handled"),
    "commits_what_was_lost": Hunt("coordinator", workload="group", seed=1, found_by="commit-unowned"),
    "revokes_under_the_handler": Hunt("coordinator", workload="group", seed=2, found_by="two-owners"),
    "fenced_member_keeps_all": Hunt("coordinator", workload="group", seed=4, found_by="two-owners"),
}

WHY_NOT: dict[str, str] = {
    "recovery_point_unsynced": "A log that ends below its recovery point is set aside and fetched anew, which the "
    "traces show; with one power loss at a time that harms nothing, and it is over in time since streams hand over at "
    "once (40 seeds). The log's power cuts at every change catch it (`tests/log/test_recovery.py`).",
    "cleans_above_high_watermark": "A record that is not committed must be cleaned over an older one of its key and "
    "then be truncated, and nobody may write that key again: the few that wait to be committed lie in the last "
    "segment, which is not cleaned. A unit test holds it (20 seeds).",
    "cut_and_swapped_back": "A truncation must come between a cleaned segment's new name and its taking the place of "
    "others, and reach below what is cleaned, which is committed. A unit test holds it (8 seeds).",
    "epoch_kept_when_a_replica_goes": "A fetch must stay on its way while its sender is taken out and put in "
    "again, and its stream must outlive both: whole nodes open a new one. The metadata's "
    "histories catch it at once (10 seeds).",
    "lease_not_rechecked": "Image and roles change in one step, so whoever leads is said to lead by the newest image: "
    "the check is a second lock on one door, and no run can tell (25 seeds).",
    "isr_no_cas": "A partition has one request in flight, its outcome is always found out, a new leader epoch refuses "
    "what an older one sent, and until the answer the wider of both sets counts: the compare-and-set is a fifth lock. "
    "Unit tests hold it (12 seeds).",
    "vote_not_persisted": "A voter must die and come back between two candidates of one term, and whole nodes take "
    "longer to come back than an election does. The quorum's own simulation catches it at seed 0 "
    "(`vote_forgotten`); here 25 seeds did not.",
    "term_not_persisted": "As for the vote: whole nodes come back too slowly to be asked twice in one term, and who "
    "changes a topic again is known by a change id. The quorum's own simulation catches it at seed 0 "
    "(`hard_state_forgotten`); here 200 seeds did not.",
}
"""What keeps a bug from being caught."""
