"""Which clients there are, and how each is started."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent / "clients"
CACHE = Path(os.environ["OTTLA_COMPATIBILITY_CLIENTS"]) if "OTTLA_COMPATIBILITY_CLIENTS" in os.environ else None
"""Where ``python -m tests.compatibility`` has put what is not Python."""
EVERYTHING = CACHE is not None
"""Whether it is that command which runs: with all clients, and what is slow."""


class Known(NamedTuple):
    """``command``: None where it is not installed here."""

    name: str
    command: Sequence[str] | None


def _python(name: str, module: str, script: str) -> Known:
    found = importlib.util.find_spec(module) is not None
    return Known(name, (sys.executable, str(HERE / script)) if found else None)


def _kcat() -> Known:
    there = CACHE is not None and shutil.which("kcat") is not None
    return Known("kcat", (sys.executable, str(HERE / "kcat.py")) if there else None)


def _kafkajs() -> Known:
    there = CACHE is not None and shutil.which("node") and (CACHE / "kafkajs" / "node_modules" / "kafkajs").is_dir()
    return Known("kafkajs", ("node", str(HERE / "kafkajs" / "worker.js"), str(CACHE / "kafkajs")) if there else None)


def _java() -> Known:
    if CACHE is None or shutil.which("java") is None or not (CACHE / "java" / "classes" / "Worker.class").exists():
        return Known("java", None)
    where = f"{CACHE / 'java' / 'classes'}{os.pathsep}{CACHE / 'java' / 'jars'}/*"
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return Known("java", ("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", quiet, "-cp", where, "Worker"))


CLIENTS = (
    _java(),
    _python("confluent-kafka", "confluent_kafka", "confluent.py"),
    _python("aiokafka", "aiokafka", "aiokafka_client.py"),
    _python("kafka-python", "kafka", "kafka_python.py"),
    _kafkajs(),
    _kcat(),
)


def installed() -> list[Known]:
    return [client for client in CLIENTS if client.command is not None]


def _apps() -> Path | None:
    python = None if CACHE is None else CACHE / "apps" / "bin" / "python"
    return python if python is not None and python.exists() else None


APPS = _apps()
"""The Python that has Quix Streams and Faust, whose dependencies are their own; None where there is none."""
