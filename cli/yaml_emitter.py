"""Block-style YAML 1.2 of what JSON can hold. Every scalar is written as JSON writes it, which is YAML too, except
plain words that YAML cannot mistake for something else."""

import json
import re
from typing import Any

_PLAIN = re.compile(r"\A[A-Za-z_/][A-Za-z0-9_./-]*\Z")
_MISTAKABLE = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n", "~"})


def emit_yaml(document: Any) -> str:
    """The document with a newline at its end."""
    return "\n".join(_lines(document)) + "\n"


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in _entry(f"{_scalar(str(key))}:", item)]
    if isinstance(value, list | tuple) and value:
        return [line for item in value for line in _item(item)]
    return [_scalar(value)]


def _entry(key: str, value: Any) -> list[str]:
    if isinstance(value, dict | list | tuple) and value:
        return [key, *(f"  {line}" for line in _lines(value))]
    return [f"{key} {_scalar(value)}"]


def _item(value: Any) -> list[str]:
    first, *rest = _lines(value)
    return [f"- {first}", *(f"  {line}" for line in rest)]


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _MISTAKABLE:
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value)
