"""Every kind of fault by its name."""

from . import (
    clients,
    deaths,
    disks_and_clocks,
    failpoint,
    groups,
    leaders,
    network,
    operators,
    quorum,
    replicas,
    rot,
)
from .nemesis import Kind

KINDS: dict[str, Kind] = {
    "kill": deaths.kill,
    "kill-all": deaths.kill_all,
    "power": deaths.power,
    "pause": deaths.pause,
    "partition": network.partition,
    "oneway": network.one_way,
    "ring": network.ring,
    "bridge": network.bridge,
    "storm": network.storm,
    "reset": network.reset,
    "delay": network.delay,
    "reconnect-reorder": network.reconnect_reorder,
    "loss": network.loss,
    "slowdisk": disks_and_clocks.slow_disk,
    "fsync-eio": disks_and_clocks.sync_fails,
    "diskfull": disks_and_clocks.disk_full,
    "clock": disks_and_clocks.clock,
    "rolling": operators.rolling,
    "transfer": operators.transfer,
    "member": operators.member,
    "failpoint": failpoint.failpoint,
    "lagging-leader": leaders.lagging_leader,
    "kill-while-cut": replicas.kill_while_cut,
    "last-one": replicas.last_one,
    "fall": replicas.fall,
    "depose": quorum.depose,
    "slow-election": quorum.slow_election,
    "stale-join": replicas.stale_join,
    "comeback": leaders.comeback,
    "swap": quorum.swap,
    "part-kill": quorum.part_kill,
    "pause-kill": quorum.pause_kill,
    "frozen-view": leaders.frozen_view,
}
"""Every fault that any workload may meet."""

DURABLE_KINDS: dict[str, Kind] = {"power-all": deaths.power_all}
"""Those that only what is durable survives."""

ROT_KINDS: dict[str, Kind] = {
    "corrupt": rot.corrupt,
    "torn": rot.torn,
    "rot": rot.rot,
}
"""Disks that forget, or say something else than what was written; asked for by name."""

GROUP_KINDS: dict[str, Kind] = {
    "coordinator": groups.coordinator,
    "slow-load": groups.slow_load,
    "member-cut": clients.member_cut,
    "lone-coordinator": groups.lone_coordinator,
}
"""Those that aim at a consumer group."""

CLIENT_KINDS: dict[str, Kind] = {"client-cut": clients.client_cut}
"""Those that nodes know nothing of; a group's are among its own, others ask by name."""

ALL_KINDS = {**KINDS, **DURABLE_KINDS, **ROT_KINDS, **GROUP_KINDS, **CLIENT_KINDS}
