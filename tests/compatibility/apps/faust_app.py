"""Faust: reads one topic, sums in a table and doubles, writes another, until it is told to stop."""

import sys

import faust

servers, group, source, sink = sys.argv[1:]

app = faust.App(
    group,
    broker="kafka://" + servers.replace(",", ";kafka://"),
    value_serializer="json",
    store="memory://",
    topic_partitions=2,
    topic_replication_factor=3,
    consumer_auto_offset_reset="earliest",
    broker_commit_interval=0.5,
    broker_session_timeout=10,
    broker_heartbeat_interval=2,
    web_enabled=False,
    datadir=".",
)
numbers = app.topic(source, key_type=bytes)
doubled = app.topic(sink, key_type=bytes)
totals = app.Table("totals", default=int, partitions=2, key_type=bytes, value_type=int)


@app.agent(numbers)
async def double(stream):
    async for key, value in stream.items():
        totals[key] += value["n"]
        await doubled.send(key=key, value={"n": 2 * value["n"], "total": totals[key]})


faust.Worker(app, loglevel="info").execute_from_commandline()
