"""The reference says what the program says."""

import re
from pathlib import Path

from ottla.broker.config import Settings, setting_name
from ottla.cli.app import make_app
from ottla.raft.config_rules import BROKER_CONFIGS, TOPIC_CONFIGS, TOPIC_DEFAULTS

DOCS = Path(__file__).parents[2] / "docs"


NODE, TOPIC, BROKER = "# Configuration", "## A topic", "## The cluster's and a broker's"


def _rows(section: str = NODE) -> dict[str, str]:
    """The first two columns of the tables of a section."""
    text = (DOCS / "configuration.md").read_text().split(section, 1)[1]
    end = text.find(TOPIC if section == NODE else "\n## ")
    return dict(re.findall(r"^\| `([a-z.]+)` \| ([^|]+) \|", text[:end], re.MULTILINE))


def test_every_setting_is_documented_and_no_other() -> None:
    assert set(_rows()) == {setting_name(field) for field in Settings.__struct_fields__}
    assert set(_rows(TOPIC)) == set(TOPIC_CONFIGS)
    assert set(_rows(BROKER)) == set(BROKER_CONFIGS)


def test_topic_settings_have_their_defaults_and_names() -> None:
    shown = {name: default for name, default in _rows(TOPIC).items() if name != "min.insync.replicas"}
    assert shown == {name: rule.default for name, rule in TOPIC_CONFIGS.items() if name != "min.insync.replicas"}
    names = {name: cell.strip("`") for name, cell in _rows(BROKER).items() if cell.startswith("`")}
    assert names == TOPIC_DEFAULTS


def test_defaults_are_the_real_ones() -> None:
    rows, defaults = _rows(), Settings()
    for field in Settings.__struct_fields__:
        value = getattr(defaults, field)
        shown = rows[setting_name(field)]
        if value is None:
            assert shown in ("none", "min(3, brokers)"), field
        else:
            assert shown == (str(value).lower() if isinstance(value, bool) else str(value)), field


def test_every_command_is_documented() -> None:
    text = (DOCS / "cli.md").read_text()
    app = make_app()
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    names = [str(command.name) for command in app.registered_commands]
    names += [f"{group} {command.name}" for group, sub in groups.items() for command in sub.registered_commands]
    # `resume` stands beside `pause` in one row
    missing = [name for name in names if f"ottla {name}" not in text and f"`{name.split()[-1]} 2`" not in text]
    assert missing == []
