"""Give keys of a configuration file other values; every other line stays as it is, to the byte."""

import re
from collections.abc import Mapping

from .source import Source, normalized

LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
"""With its end; numbered as `normalized` leaves them."""
SETTING = re.compile(r"([^=:]*?)\s*[=:]")


def edited(text: str, section: str, values: Mapping[str, str | None]) -> str:
    """The text of a file with these keys of a section set; a # goes before a line whose value is None.

    A key that the file does not set gets a line below the one that has it as a comment, else below the
    section's heading; a section that is not there is put at the end.
    """
    lines = LINE.findall(text)
    end = (_end_of(lines[0]) if lines else "") or "\n"
    source = Source(normalized(text), "")
    heading = source.line_of(section, "")
    new = {key: value for key, value in values.items() if value is not None}
    if not heading:
        gap = ([end] if lines and not _end_of(lines[-1]) else []) + ([end] if lines else [])
        return "".join([*lines, *gap, f"[{section}]{end}", *(_line(key, new[key], end) for key in new)])
    below: dict[int, list[str]] = {}
    for key, value in values.items():
        number = source.line_of(section, key)
        if number:
            lines[number - 1] = _changed(lines[number - 1], value)
        elif value is not None:
            place = _comment_on(key, lines, source.lines_of(section)) or heading
            below.setdefault(place, []).append(source.indent_below(place, section) + _line(key, value, end))
    for place, added in below.items():
        if not _end_of(lines[place - 1]):  # the last line of the file
            lines[place - 1] += end
            added[-1] = added[-1].removesuffix(end)
        lines[place - 1] += "".join(added)
    return "".join(lines)


def _changed(line: str, value: str | None) -> str:
    setting = SETTING.match(line)
    if value is None or setting is None:
        return f"#{line}"
    return _line(setting[1], value, _end_of(line))


def _line(key: str, value: str, end: str) -> str:
    return f"{key} = {value}".rstrip(" ") + end


def _end_of(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


def _comment_on(key: str, lines: list[str], numbers: range) -> int:
    """Number of the last of these lines that has the key as a comment, 0 for none."""
    comment = re.compile(rf"\s*[#;]\s*{re.escape(key)}\s*[=:]", re.IGNORECASE)
    return max(
        (number for number in numbers if comment.match("".join(lines[number - 1 : number]))), default=0
    )
