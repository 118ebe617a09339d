"""Requests that speak of things that are there as often as of things that are not."""

import random
from dataclasses import fields
from datetime import timedelta
from typing import Any
from uuid import UUID

TOPIC = "there"


def example(schema: Any, chance: random.Random) -> Any:
    """An instance of one of kio's classes."""
    return schema(**{field.name: _value(field, field.type, chance) for field in fields(schema)})


def _value(field: Any, annotation: Any, chance: random.Random) -> Any:
    options = getattr(annotation, "__args__", ())
    if type(annotation).__name__ == "UnionType":
        if chance.random() < 0.2:
            return None
        [annotation] = [each for each in options if each is not type(None)]
    if getattr(annotation, "__origin__", None) is tuple:
        inner = annotation.__args__[0]
        return tuple(_value(field, inner, chance) for _ in range(chance.choice((0, 1, 1, 2))))
    if hasattr(annotation, "__dataclass_fields__"):
        return example(annotation, chance)
    match field.metadata["kafka_type"]:
        case "string":
            return chance.choice((TOPIC, TOPIC, "missing", "1", "consumer", "range", ""))
        case "bytes" | "records":
            return chance.randbytes(chance.randrange(80))
        case "uuid":
            return UUID(bytes=chance.randbytes(16))
        case "bool":
            return chance.random() < 0.5
        case "timedelta_i32" | "timedelta_i64":
            return timedelta(milliseconds=chance.choice((0, 10, -1)))
        case _:
            return chance.choice((0, 0, 1, 2, -1, -2))
