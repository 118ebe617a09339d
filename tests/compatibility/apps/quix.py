"""Quix Streams: reads one topic, counts and doubles, writes another, until it is told to stop."""

import sys

from quixstreams import Application

servers, group, source, sink = sys.argv[1:]

app = Application(
    broker_address=servers,
    consumer_group=group,
    auto_offset_reset="earliest",
    state_dir=".",
    loglevel="INFO",
    commit_interval=0.5,
)
numbers = app.dataframe(app.topic(source, value_deserializer="json", key_deserializer="bytes"))


def running_sum(value: dict, state) -> dict:
    total = state.get("total", 0) + value["n"]
    state.set("total", total)
    return {"n": 2 * value["n"], "total": total}


numbers = numbers.apply(running_sum, stateful=True)
numbers.to_topic(app.topic(sink, value_serializer="json", key_serializer="bytes"))

app.run()
