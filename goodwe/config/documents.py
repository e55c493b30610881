"""The documents made of the options: the sample file, the table of the options, the settings in force."""

import logging
from typing import Any

from .file import all_kinds, always_there
from .options import Config, Option
from .parsers import FILE_NAME, level, password_file, switch, usb_id

_ABOUT = """\
# Configuration of GoodWeUSBLogger. Everything is optional; what stands here behind # is the default.
# A comment has its own line; a value is taken as it stands.
"""


def sample() -> str:
    """The commented file etc/goodwe.conf: all defaults."""
    lines = [_ABOUT]
    for name, kind in all_kinds().items():
        lines.append(f"[{name}]" if name in always_there() else f"#[{name}]")
        for option in listed(kind.options()):
            lines += [f"# {option.meaning}", f"#{option.key} = {option.default}".rstrip(), ""]
    return "\n".join(lines).rstrip() + "\n"


def table() -> str:
    """The table of etc/doc/configuration.md."""
    rows = ["| section | key | default | meaning |", "|---|---|---|---|"]
    for name, kind in all_kinds().items():
        for option in listed(kind.options()):
            rows.append(f"| {name} | {option.key} | {option.default or '(empty)'} | {option.meaning} |")
    return "\n".join(rows) + "\n"


def shown(config: Config) -> str:
    """The settings in force, one `key = value` a line, without the secrets."""
    lines = []
    for name, section in config.sections.items():
        lines.append(f"[{name}]")
        for option in section.options():
            value = shown_value(option, getattr(section, option.attribute))
            if option.listed or value != option.default:
                lines.append(f"{option.key} = {value}".rstrip())
    return "\n".join(lines) + "\n"


def listed(options: list[Option]) -> list[Option]:
    """The options that the documents have."""
    return [option for option in options if option.listed]


def shown_value(option: Option, value: Any) -> str:
    """A value as the file would have it; *** for a secret."""
    if option.secret:
        return "***" if value else ""
    if option.parse is password_file and not FILE_NAME.fullmatch(value):
        return "***"  # somebody may have put the password itself there
    if option.parse is level:
        return str(logging.getLevelName(value))
    if option.parse is usb_id:
        return f"{value:04x}"
    if option.parse is switch:
        return "on" if value else "off"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
