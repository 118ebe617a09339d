"""The reference says what the program says."""

import re
from pathlib import Path

from ottla.broker.config import Settings, setting_name
from ottla.cli.app import make_app
from ottla.raft.topic_rules import HONOURED_CONFIGS

DOCS = Path(__file__).parents[2] / "docs"


def _rows() -> dict[str, str]:
    text = (DOCS / "configuration.md").read_text()
    return dict(re.findall(r"^\| `([a-z.]+)` \| ([^|]+) \|", text, re.MULTILINE))


def test_every_setting_is_documented_and_no_other() -> None:
    assert set(_rows()) == {setting_name(field) for field in Settings.__struct_fields__} | set(HONOURED_CONFIGS)


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
