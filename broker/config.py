"""A node's settings: flags > ``OTTLA_*`` > ``ottla.toml`` > defaults. Unknown keys and bad values are errors.

A setting ``replica.lag.time.max.ms`` is the field ``replica_lag_time_max_ms``, ``OTTLA_REPLICA_LAG_TIME_MAX_MS`` in
the environment and a (nested or dotted) key of the file.
"""

import difflib
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ottla.client.errors import ConfigError
from ottla.client.servers import Address
from ottla.log.directories import parse_paths

ENVIRONMENT_PREFIX = "OTTLA_"
CLIENT_VARIABLES = frozenset({"OTTLA_SERVERS", "OTTLA_CLIENT_RACK"})
"""Variables of the command line and the SDK, which a node does not read."""

MIGRATION_POLICIES = ("bidirectional", "upgrade", "downgrade", "disabled")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
OFF = "off"
"""In place of an address: this door is not opened."""
WILDCARDS = frozenset({"0.0.0.0", "::"})
_KINDS = {"int": "a whole number", "bool": "true or false", "str": "a text"}

_Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
_LongMilliseconds = Annotated[int, msgspec.Meta(ge=1, le=366 * 86_400_000)]
_Bytes = Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a node can be told."""

    data: str = "./ottla-data"
    http: str = "127.0.0.1:7080"  # HOST:PORT to listen on
    kafka: str = "127.0.0.1:9092"  # HOST:PORT to listen on for Kafka's protocol, or off
    kafka_advertise: str | None = None  # HOST or HOST:PORT that Kafka clients are sent to; None: see docs/kafka.md
    advertise: str | None = None  # host that others reach this node by; binds to 0.0.0.0, or [::], unless http is set
    join: str | None = None  # HOST:PORT of every voter, comma-separated; None forms alone
    rack: str | None = None
    secret_file: str | None = None  # nodes prove to each other that they know its content
    insecure: bool = False  # allow listening beyond loopback without a secret
    log_level: str = "info"

    auto_create_topics_enable: bool = True
    num_partitions: _Count = 6
    default_replication_factor: Annotated[int, msgspec.Meta(ge=1, le=7)] | None = None  # None: min(3, brokers)

    auto_leader_rebalance_enable: bool = True  # leaderships go back to the preferred replicas by themselves
    leader_imbalance_check_interval_ms: _Milliseconds = 300_000
    broker_heartbeat_interval_ms: _Milliseconds = 250
    broker_session_timeout_ms: _Milliseconds = 3_000
    replica_lag_time_max_ms: _Milliseconds = 5_000
    replica_fetch_wait_max_ms: _Milliseconds = 500
    replica_fetch_max_bytes: _Bytes = 1 << 20  # of one partition, in one answer
    raft_heartbeat_ms: _Milliseconds = 100
    raft_election_min_ms: _Milliseconds = 500
    raft_election_max_ms: _Milliseconds = 1_000
    raft_snapshot_entries: _Count = 10_000
    raft_snapshot_bytes: _Bytes = 16 << 20
    raft_log_entries_kept: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = 1_000  # behind a snapshot
    request_timeout_ms: _Milliseconds = 30_000  # of an admin request through the quorum
    drain_timeout_ms: _Milliseconds = 10_000

    offsets_topic_num_partitions: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 6  # of __consumer_offsets, when made
    offsets_topic_replication_factor: Annotated[int, msgspec.Meta(ge=1, le=7)] | None = None  # None: min(3, brokers)
    offsets_retention_minutes: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 10_080  # after a group is empty
    offsets_retention_check_interval_ms: _Milliseconds = 600_000
    offsets_commit_timeout_ms: _Milliseconds = 5_000  # how long an answer waits for what it rests on to be committed
    offset_metadata_max_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 4_096  # of the text beside an offset
    group_max_groups: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 100_000  # that a broker coordinates
    group_max_size: _Count = 1_000  # members of one group of the classic protocol
    group_consumer_max_size: _Count = 1_000  # of the consumer protocol
    group_consumer_migration_policy: str = "bidirectional"  # which way a group with members may change its protocol
    group_min_session_timeout_ms: _Milliseconds = 6_000  # that a member of the classic protocol may ask for
    group_max_session_timeout_ms: _Milliseconds = 1_800_000
    group_initial_rebalance_delay_ms: Annotated[int, msgspec.Meta(ge=0, le=86_400_000)] = 500
    group_consumer_session_timeout_ms: _Milliseconds = 45_000  # of the consumer protocol (KIP-848)
    group_consumer_heartbeat_interval_ms: _Milliseconds = 1_000  # that its members are told

    connections_max: _Count = 2_000  # of the HTTP port, and as many of the Kafka port
    connections_max_idle_ms: _Milliseconds = 600_000  # a Kafka client that asks nothing for this long is hung up on
    kafka_request_bytes_max: _Bytes = 1 << 20  # of any request but Produce
    handshake_timeout_ms: _Milliseconds = 10_000  # a connection that says nothing for this long is closed
    frame_bytes_max: _Bytes = 32 << 20
    stream_requests_max: _Count = 1_000  # unanswered requests of one stream; then it is not read
    stream_inflight_bytes_max: _Bytes = 64 << 20  # of unanswered requests of one stream; then it is not read
    stream_send_timeout_ms: _Milliseconds = 30_000  # a client that takes no answer for this long is dropped
    inflight_bytes_max: _Bytes = 256 << 20  # of unanswered requests of all streams; then none is read
    log_dirs: str | None = None  # directories of logs, comma-separated; None: DATA/logs
    disk_reserve_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)] = 128 << 20  # appends leave this much free

    producer_id_expiration_ms: _LongMilliseconds = 86_400_000  # an idempotent producer silent for so long is forgotten
    log_retention_check_interval_ms: _Milliseconds = 300_000  # how often is looked for segments that may go
    log_scrub_interval_ms: _LongMilliseconds = 7 * 86_400_000  # how often every log is read to find damage
    log_cleaner_backoff_ms: _Milliseconds = 15_000  # how often is looked for compacted logs that are dirty
    log_cleaner_dedupe_buffer_size: _Bytes = 128 << 20  # memory for the keys of one pass of compaction

    @property
    def log_directories(self) -> tuple[Path, ...]:
        """Where logs are kept."""
        return parse_paths(self.log_dirs or "") or (Path(self.data) / "logs",)

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return parse_address(self.http, "http")

    @property
    def kafka_address(self) -> tuple[str, int] | None:
        """Host and port to listen on for Kafka's protocol; None: not at all."""
        return None if self.kafka.strip().lower() == OFF else parse_address(self.kafka, "kafka")

    def advertised_kafka(self, port: int) -> tuple[str, int]:
        """Host and port that Kafka clients are sent to, where we listen on ``port``. "": the host by which a client
        reached the node that it asks, because none is known that all can use."""
        if self.kafka_advertise:
            host, colon, _ = self.kafka_advertise.rpartition(":")
            if not colon or (":" in host and not host.endswith("]")):  # no port, or an IPv6 address alone
                return self.kafka_advertise.strip("[]"), port
            return parse_address(self.kafka_advertise, "kafka.advertise")
        if self.advertise:
            return self.advertised_host, port
        assert self.kafka_address is not None
        host, _ = self.kafka_address
        return ("" if host in WILDCARDS else host), port

    def kafka_address_told(self, port: int) -> str:
        """The same for people."""
        host, told = self.advertised_kafka(port)
        return str(Address(host or "any address of this machine", told))

    @property
    def advertised_host(self) -> str:
        return (self.advertise or self.http_address[0]).strip("[]")

    def advertised_address(self, port: int) -> str:
        """``HOST:PORT`` of this node on that port, an IPv6 host in brackets."""
        return str(Address(self.advertised_host, port))

    @property
    def join_addresses(self) -> tuple[tuple[str, int], ...]:
        """The voters, sorted; empty for a node that forms alone."""
        if not self.join:
            return ()
        parts = [part.strip() for part in self.join.split(",") if part.strip()]
        return tuple(sorted({parse_address(part, "join") for part in parts}))


def parse_address(text: str, setting: str) -> tuple[str, int]:
    """``HOST:PORT``; an IPv6 host in brackets. Raises ConfigError."""
    host, separator, port = text.strip().rpartition(":")
    is_number = port.isascii() and port.isdigit() and len(port) <= 5
    if not separator or not host or not is_number or int(port) > 65535:
        raise ConfigError(f"{setting} is {text!r}, not HOST:PORT", hint="For example 127.0.0.1:7080.")
    return host.strip("[]"), int(port)


def load_settings(
    flags: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    file: bytes | None = None,
    file_name: str = "the configuration file",
) -> Settings:
    """Combine the sources. ``flags`` may use either spelling; a None among them was not given. ``file``: what is in
    it; ``file_name``: what to call it in an error. Raises ConfigError."""
    return origins_of(flags, environment=environment, file=file, file_name=file_name)[0]


def origins_of(
    flags: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    file: bytes | None = None,
    file_name: str = "the configuration file",
) -> tuple[Settings, dict[str, str]]:
    """As ``load_settings``, and whence each field comes that is not a default: ``flag``, ``environment`` or the
    file's name. Raises ConfigError."""
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in (
        (file_name, _from_file(file, file_name) if file is not None else {}),
        ("environment", _from_environment(environment or {})),
        ("flag", {_field(name): value for name, value in flags.items() if value is not None}),
    ):
        merged.update(values)
        origins.update(dict.fromkeys(values, origin))
    for door, port in (("http", 7080), ("kafka", 9092)):
        if merged.get("advertise") and door not in merged:
            merged[door] = f"[::]:{port}" if ":" in str(merged["advertise"]) else f"0.0.0.0:{port}"
    try:
        settings = msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(error, merged)) from error
    _check(settings)
    return settings, origins


def setting_name(field: str) -> str:
    """The dotted name a person writes."""
    return field.replace("_", ".")


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    chosen = {
        name: value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in CLIENT_VARIABLES
    }
    return {_field(name.removeprefix(ENVIRONMENT_PREFIX).lower(), shown=name): v for name, v in chosen.items()}


def _from_file(content: bytes, name: str) -> dict[str, Any]:
    import tomllib  # for those who have a file

    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} is not TOML: {error}") from error
    return {_field(key, place=f" in {name}"): value for key, value in _flatten(document, "")}


def _flatten(table: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        flat.extend(_flatten(value, f"{name}.") if isinstance(value, dict) else [(name, value)])
    return flat


def _field(name: str, shown: str | None = None, place: str = "") -> str:
    field = name.replace(".", "_").replace("-", "_")
    if field in Settings.__struct_fields__:
        return field
    near = difflib.get_close_matches(field, Settings.__struct_fields__, n=1)
    hint = f"Did you mean {setting_name(near[0])}?" if near else "See docs/configuration.md."
    raise ConfigError(f"there is no setting {shown or name!r}{place}.", hint=hint)


def _explain(error: msgspec.ValidationError, merged: Mapping[str, Any]) -> str:
    problem, _, where = str(error).partition(" - at `$.")
    field = where.rstrip("`")
    if not field:
        return str(error)
    if problem.startswith("Expected `") and ", got" in problem:
        kind = problem.removeprefix("Expected `").partition("`")[0].partition(" ")[0]
        return f"{setting_name(field)} is {merged.get(field)!r}, not {_KINDS.get(kind, kind)}."
    return f"{setting_name(field)} is {merged.get(field)!r}: {problem}."


def _check(settings: Settings) -> None:
    host, _ = settings.http_address
    if settings.raft_election_max_ms <= settings.raft_election_min_ms:
        raise ConfigError("raft.election.max.ms must be above raft.election.min.ms.")
    if settings.raft_heartbeat_ms >= settings.raft_election_min_ms:
        raise ConfigError("raft.heartbeat.ms must be below raft.election.min.ms, or nobody leads for long.")
    if settings.broker_heartbeat_interval_ms >= settings.broker_session_timeout_ms:
        raise ConfigError("broker.heartbeat.interval.ms must be below broker.session.timeout.ms.")
    if settings.group_consumer_heartbeat_interval_ms >= settings.group_consumer_session_timeout_ms:
        raise ConfigError("group.consumer.heartbeat.interval.ms must be below group.consumer.session.timeout.ms.")
    if settings.group_min_session_timeout_ms > settings.group_max_session_timeout_ms:
        raise ConfigError("group.min.session.timeout.ms must not be above group.max.session.timeout.ms.")
    if settings.group_consumer_migration_policy.lower() not in MIGRATION_POLICIES:
        raise ConfigError(
            f"group.consumer.migration.policy is {settings.group_consumer_migration_policy!r}, "
            f"not one of {', '.join(MIGRATION_POLICIES)}."
        )
    if settings.log_level.lower() not in LOG_LEVELS:
        raise ConfigError(f"log.level is {settings.log_level!r}, not one of {', '.join(LOG_LEVELS)}.")
    if len(settings.join_addresses) > 7:
        raise ConfigError("join names more than 7 voters.", hint="1, 3 or 5 are wise.")
    if host in WILDCARDS and not settings.advertise:
        raise ConfigError(
            f"http {settings.http} is every address of this machine, and others must know one.",
            hint="Add --advertise HOST: the name or address that the other nodes and the clients reach.",
        )
    kafka = settings.kafka_address
    if kafka is not None:
        settings.advertised_kafka(kafka[1])
        if kafka[1] and kafka == settings.http_address:
            raise ConfigError(f"http and kafka are both {settings.kafka}.", hint="Each door needs a port of its own.")
    if settings.secret_file or settings.insecure:
        return
    for door, address in (("http", settings.http_address), ("kafka", kafka)):
        if address is not None and not is_loopback(address[0]):
            raise ConfigError(
                f"{door} {getattr(settings, door)} can be reached from outside and no secret protects the nodes.",
                code="OTTLA-INSECURE",
                hint="Give --secret-file FILE (the same on every node), or --insecure if the network is yours alone.",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it: all of 127.0.0.0/8 (RFC 1122), ::1, and the name that means them."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
