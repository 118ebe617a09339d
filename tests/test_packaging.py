"""What is installed is what is in the tree: a package forgotten in setup.cfg works here and fails everywhere else."""

import configparser
import importlib.metadata
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
DISTRIBUTION = "ottla"


def _listed() -> set[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return set(config["options"]["packages"].split())


def _in_tree() -> set[str]:
    top = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
    found = {init.parent for package in top for init in package.rglob("__init__.py")}
    return {".".join(("ottla", *directory.relative_to(ROOT).parts)) for directory in found}


def _installed_files() -> list[PurePosixPath]:
    files = importlib.metadata.files(DISTRIBUTION)
    assert files is not None
    return [PurePosixPath(file) for file in files]


def test_setup_cfg_lists_exactly_the_packages_of_the_tree() -> None:
    assert _listed() == _in_tree()


def test_every_top_level_package_is_mapped_to_its_directory() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    mapped = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    assert set(mapped) == {name for name in _listed() if name.count(".") == 1}
    assert all(f"ottla.{directory}" == name for name, directory in mapped.items())


def test_the_root_is_a_namespace() -> None:
    assert not (ROOT / "__init__.py").exists()
    assert not any(str(file) == "ottla/__init__.py" for file in _installed_files())


def test_every_package_says_that_it_is_typed() -> None:
    for name in _listed():
        assert (ROOT.joinpath(*name.split(".")[1:]) / "py.typed").is_file(), name


def test_the_version_is_one() -> None:
    from ottla.client.version import VERSION

    assert importlib.metadata.version(DISTRIBUTION) == VERSION
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_installation_holds_exactly_these_packages_and_their_marks() -> None:
    files = _installed_files()
    if any(file.name.startswith("__editable__") for file in files):
        return  # an editable installation lists no modules; the wheel's is what the suite runs against
    inside = {file for file in files if file.parts[0] == DISTRIBUTION}
    assert {".".join(file.parent.parts) for file in inside if file.name == "__init__.py"} == _listed()
    assert {".".join(file.parent.parts) for file in inside if file.name == "py.typed"} == _listed()


def test_the_command_is_installed() -> None:
    commands = importlib.metadata.entry_points(group="console_scripts", name=DISTRIBUTION)
    assert [command.value for command in commands] == ["ottla.cli.main:main"]
