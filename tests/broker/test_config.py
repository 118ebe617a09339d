"""Where a setting comes from, and what is said of one that is wrong."""

import pytest

from ottla.broker.config import Settings, load_settings, parse_address
from ottla.client.errors import ConfigError
from ottla.client.servers import parse_servers


def test_flags_win_over_the_environment_over_the_file_over_defaults():
    file = b'num.partitions = 1\nrack = "file"\nlog_level = "error"\n[replica.lag.time.max]\nms = 7\n'
    environment = {"OTTLA_NUM_PARTITIONS": "2", "OTTLA_RACK": "environment", "PATH": "/bin"}
    settings = load_settings({"num.partitions": 3, "rack": None}, environment=environment, file=file)
    assert (settings.num_partitions, settings.rack, settings.log_level) == (3, "environment", "error")
    assert settings.replica_lag_time_max_ms == 7
    assert settings.raft_heartbeat_ms == Settings().raft_heartbeat_ms


def test_every_spelling_of_a_name_is_the_same_setting():
    for name in ("num.partitions", "num-partitions", "num_partitions"):
        assert load_settings({name: 4}).num_partitions == 4


def test_variables_of_the_command_line_are_not_the_nodes():
    assert load_settings({}, environment={"OTTLA_SERVERS": "h:1"}) == Settings()


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({"flags": {"num.partition": 3}}, "Did you mean num.partitions?"),
        ({"environment": {"OTTLA_RAKC": "a"}}, "OTTLA_RAKC"),
        ({"file": b"zzz = 1"}, "docs/configuration.md"),
        ({"file": b"= 1"}, "TOML"),
        ({"file": b"\xff\xfe"}, "TOML"),
        ({"flags": {"num.partitions": 0}}, "num.partitions is 0"),
        ({"environment": {"OTTLA_NUM_PARTITIONS": "many"}}, "num.partitions is 'many', not a whole number."),
        ({"flags": {"insecure": "maybe"}}, "insecure is 'maybe', not true or false."),
        ({"file": b"= 1", "file_name": "x.toml"}, "x.toml is not TOML"),
        ({"file": b'join = ["a:1"]'}, "join is"),
        ({"flags": {"default.replication.factor": 8}}, "default.replication.factor is 8"),
        ({"flags": {"raft.election.min.ms": 1000}}, "raft.election.max.ms"),
        ({"flags": {"raft.heartbeat.ms": 500}}, "raft.heartbeat.ms"),
        ({"flags": {"broker.session.timeout.ms": 200}}, "broker.session.timeout.ms"),
        ({"flags": {"log.level": "loud"}}, "log.level is 'loud'"),
        ({"flags": {"join": ",".join(f"h{n}:1" for n in range(8))}}, "more than 7"),
        ({"flags": {"http": "7080"}}, "HOST:PORT"),
        ({"flags": {"join": "a:1,b"}}, "HOST:PORT"),
    ],
)
def test_what_is_wrong_is_named(sources, said):
    with pytest.raises(ConfigError) as refused:
        load_settings(sources.pop("flags", {}), **sources)
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["", ":", "h:", ":1", "h:-1", "h:65536", "h:1x", "h:\u00b2", "h:" + "9" * 5000])
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(ConfigError):
        parse_address(text, "http")


def test_addresses():
    assert parse_address("127.0.0.1:0", "http") == ("127.0.0.1", 0)
    assert parse_address("[::1]:7080", "http") == ("::1", 7080)
    assert load_settings({"join": " b:2, a:1,a:1 ,"}).join_addresses == (("a", 1), ("b", 2))
    assert load_settings({"join": ""}).join_addresses == ()


@pytest.mark.parametrize("http", ["0.0.0.0:7080", "[::]:7080"])
def test_every_address_is_none_that_others_could_use(http):
    with pytest.raises(ConfigError, match="--advertise"):
        load_settings({"http": http, "insecure": True})


@pytest.mark.parametrize(
    "beyond", [{"http": "10.0.0.1:7080"}, {"advertise": "node1"}, {"http": "[::]:1", "advertise": "node1"}]
)
def test_beyond_loopback_needs_a_secret_or_a_plain_word(beyond):
    with pytest.raises(ConfigError) as refused:
        load_settings(beyond)
    assert refused.value.code == "OTTLA-INSECURE"
    load_settings({**beyond, "insecure": True})
    load_settings({**beyond, "secret.file": "key"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.1", "127.255.0.9", "[::1]", "localhost"])
def test_on_loopback_no_secret_is_needed(host):
    load_settings({"http": f"{host}:7080"})


def test_an_advertised_node_listens_everywhere_unless_told_where():
    assert load_settings({"advertise": "node1", "insecure": True}).http_address == ("0.0.0.0", 7080)
    assert load_settings({"advertise": "2001:db8::1", "insecure": True}).http_address == ("::", 7080)
    assert load_settings({"advertise": "node1", "insecure": True}).kafka_address == ("0.0.0.0", 9092)
    settings = load_settings({"advertise": "node1", "http": "127.0.0.1:1", "kafka": "off"})
    assert (settings.http_address, settings.advertised_host) == (("127.0.0.1", 1), "node1")


def test_where_kafka_clients_are_sent():
    assert load_settings({"kafka": "127.0.0.1:0"}).advertised_kafka(9) == ("127.0.0.1", 9)
    assert load_settings({"advertise": "node1", "insecure": True}).advertised_kafka(9) == ("node1", 9)
    behind = {"insecure": True, "kafka": "0.0.0.0:9092"}
    assert load_settings(behind).advertised_kafka(9) == ("", 9), "whatever host the client came by"
    assert load_settings(behind | {"kafka.advertise": "k:7"}).advertised_kafka(9) == ("k", 7)
    assert load_settings(behind | {"kafka.advertise": "k"}).advertised_kafka(9) == ("k", 9)
    assert load_settings(behind | {"kafka.advertise": "[2001:db8::1]:7"}).advertised_kafka(9) == ("2001:db8::1", 7)
    assert load_settings(behind | {"kafka.advertise": "2001:db8::1"}).advertised_kafka(9) == ("2001:db8::1", 9)
    assert load_settings({"kafka": "off"}).kafka_address is None


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"kafka": "9092"}, "not HOST:PORT"),
        ({"kafka": "0.0.0.0:9092"}, "can be reached from outside"),
        ({"kafka": "127.0.0.1:7080"}, "are both"),
        ({"kafka.advertise": "k:port"}, "not HOST:PORT"),
    ],
)
def test_bad_kafka_addresses_are_refused(flags, says):
    with pytest.raises(ConfigError, match=says):
        load_settings(flags)


@pytest.mark.parametrize("flags", [{"http": "[::1]:7080"}, {"advertise": "::1", "insecure": True}])
@pytest.mark.parametrize("brackets", [False, True])
def test_an_ipv6_node_finds_itself(flags, brackets):
    if brackets and "advertise" in flags:
        flags = flags | {"advertise": "[::1]"}
    settings = load_settings(flags)
    assert settings.advertised_host == "::1", "as it is written in the voter set, and in URLs"
    assert parse_servers(settings.advertised_address(7)) == (("::1", 7),)
