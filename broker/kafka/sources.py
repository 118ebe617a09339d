"""Kafka's numbers for where a config comes from, of what type it is, and whose it is. Pure."""

TOPIC, BROKER = 2, 4
"""Kinds of resources that have configs."""

_UNKNOWN_TYPE = 0
_TYPES = {
    "boolean": 1,
    "string": 2,
    "int": 3,
    "short": 4,
    "long": 5,
    "double": 6,
    "list": 7,
    "class": 8,
    "password": 9,
}
_DYNAMIC_TOPIC, _DYNAMIC_BROKER, _DYNAMIC_DEFAULT, _STATIC, _DEFAULT = 1, 2, 3, 4, 5
_SOURCES = {
    "topic": _DYNAMIC_TOPIC,
    "broker": _DYNAMIC_BROKER,
    "cluster": _DYNAMIC_DEFAULT,
    "node": _STATIC,
    "default": _DEFAULT,
}


def config_source(source: str) -> int:
    """Never -1 or 0: there are clients that fail on them."""
    return _SOURCES[source]


def config_type(kind: str) -> int:
    return _TYPES.get(kind, _UNKNOWN_TYPE)
