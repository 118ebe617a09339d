"""Puts the clients that are not Python into a directory outside the tree, by npm, Maven and pip as they are set up.
What cannot be had is told, and its cases are left out."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .registry import HERE

APPS = ("quixstreams", "faust-streaming")


def install(cache: Path, *, kafka: bool) -> None:
    """Whatever is missing. ``kafka``: Apache Kafka's broker too."""
    cache.mkdir(parents=True, exist_ok=True)
    steps: dict[str, Callable[[Path], None]] = {"kcat": _kcat, "kafkajs": _kafkajs, "java": _java, "apps": _apps}
    if kafka:
        steps["kafka"] = _jars
    for name, step in steps.items():
        try:
            step(cache / name)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name} cannot be installed: {error}", file=sys.stderr)


def _run(*command: str | Path, where: Path | None = None) -> None:
    print("$", *command, file=sys.stderr)
    subprocess.run(command, cwd=where, check=True, stdout=sys.stderr)


def _kcat(_: Path) -> None:
    if shutil.which("kcat") is None:
        _run("apt-get", "install", "-y", "kcat")


def _is_new(source: Path, directory: Path) -> bool:
    """Copy a list of dependencies beside what was installed by it; whether that was another."""
    directory.mkdir(exist_ok=True)
    copy = directory / source.name
    if copy.exists() and copy.read_bytes() == source.read_bytes():
        return False
    shutil.copy(source, copy)
    return True


def _kafkajs(directory: Path) -> None:
    if _is_new(HERE / "kafkajs" / "package.json", directory) or not (directory / "node_modules").exists():
        _run("npm", "install", "--no-fund", "--no-audit", where=directory)


def _jars(directory: Path) -> None:
    if _is_new(HERE / directory.name / "pom.xml", directory) or not (directory / "jars").exists():
        shutil.rmtree(directory / "jars", ignore_errors=True)
        _run("mvn", "-q", "dependency:copy-dependencies", "-DoutputDirectory=jars", where=directory)


def _java(directory: Path) -> None:
    _jars(directory)
    _run("javac", "-d", directory / "classes", "-cp", f"{directory / 'jars'}/*", HERE / "java" / "Worker.java")


def _apps(directory: Path) -> None:
    """In an environment of their own: they ask for certain versions of the clients."""
    if not (directory / "bin" / "faust").exists():
        _run(sys.executable, "-m", "venv", directory)
        _run(directory / "bin" / "python", "-m", "pip", "install", "-q", *APPS)
