"""Which clients there are, and how each is started."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent / "clients"
INSTALLED = Path(os.environ.get("OTTLA_COMPATIBILITY_CLIENTS", ""))
"""Where ``python -m tests.compatibility`` has put what is not Python."""


class Known(NamedTuple):
    """``command``: None where it is not installed here."""

    name: str
    command: Sequence[str] | None


def _python(name: str, module: str, script: str) -> Known:
    found = importlib.util.find_spec(module) is not None
    return Known(name, (sys.executable, str(HERE / script)) if found else None)


def _beside(name: str, needs: str, command: Sequence[str], present: Path) -> Known:
    there = str(INSTALLED) != "." and shutil.which(needs) is not None and present.exists()
    return Known(name, command if there else None)


CLIENTS = (
    _python("confluent-kafka", "confluent_kafka", "confluent.py"),
    _python("aiokafka", "aiokafka", "aiokafka_client.py"),
    _python("kafka-python", "kafka", "kafka_python.py"),
)


def installed() -> list[Known]:
    return [client for client in CLIENTS if client.command is not None]
