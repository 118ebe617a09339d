"""The flags of `ottla produce`, `ottla consume` and `ottla bench`."""

from enum import StrEnum
from typing import Annotated

import typer

from .options import DEFAULT_SERVERS, OutputOption, Servers, Topic
from .output import Output


class Acks(StrEnum):
    """Who must have a record before it counts."""

    all = "all"
    leader = "1"
    none = "0"


class Codec(StrEnum):
    """How batches are compressed."""

    none = "none"
    gzip = "gzip"
    snappy = "snappy"
    lz4 = "lz4"
    zstd = "zstd"


AcksOption = Annotated[Acks, typer.Option("--acks", help="all in-sync replicas, 1 the leader, 0 nobody.")]
CodecOption = Annotated[Codec, typer.Option("--compression", help="Of the batches.")]


def produce_command(
    topic: Topic,
    separator: Annotated[str | None, typer.Option("-k", metavar="SEP", help="Splits key and value.")] = None,
    headers: Annotated[
        list[str] | None, typer.Option("-H", metavar="NAME=VALUE", help="A header; may be repeated.")
    ] = None,
    partition: Annotated[int | None, typer.Option("-p", "--partition", min=0, help="Choose the partition.")] = None,
    acks: AcksOption = Acks.all,
    compression: CodecOption = Codec.none,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object a line: key, value, headers, partition, timestamp.")
    ] = False,
    servers: Servers = DEFAULT_SERVERS,
) -> None:
    from .produce import ProduceOptions, produce

    options = ProduceOptions(topic, separator, headers or [], partition, acks.value, compression.value, as_json)
    produce(servers, options)


def consume_command(
    topics: Annotated[
        list[str] | None, typer.Argument(metavar="TOPIC...", help="One or more topics.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more.")] = False,
    limit: Annotated[int | None, typer.Option("-n", metavar="N", min=0, help="At most N records.")] = None,
    partitions: Annotated[
        list[int] | None, typer.Option("-p", "--partition", min=0, help="Only this one; may be repeated.")
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="start|end|OFFSET|@TIME", help="Where to begin. TIME: 2026-11-01T00:00Z, or -1h ago."
        ),
    ] = "start",
    end: Annotated[
        str | None, typer.Option("--to", metavar="start|end|OFFSET|@TIME", help="Stop before this. Default: end")
    ] = None,
    shape: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="value|json|FORMAT",
            help="FORMAT holds %k key, %v value, %o offset, %p partition, %t topic, %T timestamp, %h headers; "
            "a newline follows.",
        ),
    ] = "value",
    rack: Annotated[
        str, typer.Option("--rack", envvar="OTTLA_CLIENT_RACK", help="Where you are: read from a replica there.")
    ] = "",
    group: Annotated[
        str | None,
        typer.Option("-g", "--group", metavar="GROUP", help="As a member of this group; what is written is committed."),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern", metavar="RE", help="All topics whose names this means (RE2); with -f or -g, later ones too."
        ),
    ] = None,
    servers: Servers = DEFAULT_SERVERS,
) -> None:
    from .consume import ConsumeOptions, consume

    named = topics or []
    consume(servers, ConsumeOptions(named, limit, partitions or [], start, end, follow, shape, rack, group, pattern))


def bench_app() -> typer.Typer:
    """The group."""
    app = typer.Typer(help="Measure.", no_args_is_help=True, rich_markup_mode=None)
    app.command("produce", help="Records a second, MB/s and latencies of acknowledgements.")(_bench_produce)
    app.command("consume", help="Records a second and MB/s of reading.")(_bench_consume)
    app.command("end-to-end", help="How long a record is on its way.")(_bench_end_to_end)
    return app


def _bench_produce(
    topic: Annotated[str, typer.Option("-t", "--topic", help="Made with the defaults if it is not there.")],
    size: Annotated[int, typer.Option(min=0, help="Bytes of a record's value.")] = 1000,
    count: Annotated[int, typer.Option(min=1, help="Records.")] = 1_000_000,
    acks: AcksOption = Acks.all,
    batch_size: Annotated[int, typer.Option(min=1, help="Bytes of a batch.")] = 64 << 10,
    compression: CodecOption = Codec.none,
    in_flight: Annotated[int, typer.Option(min=1, max=5, help="Requests in flight per broker.")] = 5,
    rate: Annotated[
        float | None, typer.Option(min=0.001, metavar="N", help="Records a second. Default: as many as go")
    ] = None,
    servers: Servers = DEFAULT_SERVERS,
    output: OutputOption = Output.table,
) -> None:
    from .bench import BenchOptions, bench_produce

    options = BenchOptions(topic, size, count, acks.value, batch_size, compression.value, in_flight, rate)
    bench_produce(servers, options, output)


def _bench_consume(
    topic: Annotated[str, typer.Option("-t", "--topic", help="Read from its beginning.")],
    count: Annotated[int | None, typer.Option(min=1, help="Records. Default: all there are")] = None,
    group: Annotated[
        str | None, typer.Option("-g", "--group", help="As a member of this group, from where it has got to.")
    ] = None,
    servers: Servers = DEFAULT_SERVERS,
    output: OutputOption = Output.table,
) -> None:
    from .bench_read import bench_consume

    bench_consume(servers, topic, count, group, output)


def _bench_end_to_end(
    topic: Annotated[str, typer.Option("-t", "--topic", help="Made with the defaults if it is not there.")],
    size: Annotated[int, typer.Option(min=8, help="Bytes of a record's value.")] = 100,
    count: Annotated[int, typer.Option(min=1, help="Records.")] = 5_000,
    rate: Annotated[float, typer.Option(min=0.001, metavar="N", help="Records a second.")] = 1_000,
    acks: AcksOption = Acks.all,
    servers: Servers = DEFAULT_SERVERS,
    output: OutputOption = Output.table,
) -> None:
    from .bench_read import EndToEndOptions, bench_end_to_end

    bench_end_to_end(servers, EndToEndOptions(topic, size, count, rate, acks.value), output)
