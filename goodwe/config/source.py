"""The text of the file: how it is read, where a setting stands, what of it a message may quote.

A message never shows a line that could hold a password, and nothing that stands before an @.
"""

import configparser
import os
import re
from typing import NoReturn

from ..errors import MAY_NOT_READ, ConfigError
from .parsers import COMMENT, wide_encoding

HEADING = re.compile(r"\[(?P<header>[^]]+)\]")
"""A section's name ends at the first ]."""
KEY = re.compile(r"([^=:]*)[=:]")
NAME = re.compile(r"(?:[^\W\d]|-){1,24}")
"""The shape of our own names; in anything else a password may have got by a slip."""
TELLING = re.compile(
    r"(?i)pass|pwd|\bpw\b|secret|token|login|credential|kennwort|wachtwoord|geheim|senha|clave"
)
"""Words that people put before a password."""
LONGEST_QUOTE = 200


def read(path: str) -> tuple[str, int]:
    """The text of a file, with its lines ended by a newline each, and its mode.

    Raises FileNotFoundError, and ConfigError for what is no text or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data, mode = file.read(), os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; {MAY_NOT_READ}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return normalized(decoded(data, path)), mode


def decoded(data: bytes, path: str) -> str:
    """The text of a file with these bytes. Raises ConfigError for what is none."""
    if found := wide_encoding(data):
        raise ConfigError(f"{path}: not UTF-8 text (byte 0) in line 1: it is {found}; save it as UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = len(re.split(rb"\r\n|\r|\n", data[: error.start]))
        where = f"(byte {error.start}) in line {line}"
        raise ConfigError(f"{path}: not UTF-8 text {where}; save it as UTF-8") from error


def normalized(text: str) -> str:
    """The text of a file with its lines ended by a newline each, and without byte order marks."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # The mark that Windows puts in front; where files were joined, it is inside.
    return text.lstrip("\ufeff").replace("\n\ufeff", "\n")


class Source:
    """The text of one file, for messages that name their line."""

    def __init__(self, content: str, path: str) -> None:
        """`content` is the text, `path` that of the file for messages."""
        self.path = path
        self._lines = content.split("\n")  # as configparser does, and not at form feeds
        self._settings = _settings(self._lines)

    def parsed(self) -> configparser.ConfigParser:
        """The sections and their raw values. Raises ConfigError for what is no INI file."""
        # No default section: one named [DEFAULT] would silently give its keys to the others.
        parser = configparser.ConfigParser(interpolation=None, default_section="")
        parser.SECTCRE = HEADING
        try:
            parser.read_string("\n".join(self._lines), self.path)
        except configparser.Error as error:
            raise self._malformed(error) from error
        for number, _, key in self._settings:
            line = self._lines[number - 1].strip()
            behind = "" if key is not None else line[line.index("]") + 1 :].strip()
            if behind and behind[0] not in "#;":
                raise ConfigError(f"{self.path}:{number}: a section's [name] needs a line of its own")
        return parser

    def refuse(
        self, section: str, key: str, message: str, *, meant: str = "", droppable: bool = False
    ) -> NoReturn:
        """Raise a ConfigError about this key, or with an empty one about the section itself.

        `meant` is the name that should probably stand there; `droppable` as ConfigError has it.
        """
        line = self.line_of(section, key)
        raise ConfigError(
            f"{self.path}:{line}: {message}" if line else f"{self.path}: {message}",
            line=line,
            meant=(key or section, meant) if meant else None,
            droppable=droppable,
        )

    def line_of(self, section: str, key: str) -> int:
        """Number of the line that sets the key (of the section's heading without one); 0 if none does."""
        wanted = key.lower() or None
        return next(
            (line for line, within, found in self._settings if (within, found) == (section, wanted)), 0
        )

    def lines_of(self, section: str) -> range:
        """Numbers of the lines from the section's heading to the next one; none without a heading."""
        first = self.line_of(section, "")
        headings = [line for line, _, key in self._settings if key is None and line > first]
        return range(first, min(headings, default=len(self._lines) + 1)) if first else range(0)

    def indent_below(self, line: int, section: str) -> str:
        """The blanks before a setting of the section that is to stand below this line.

        As many as the one above has: with more it would go on with that one's value, and with fewer the one
        below would go on with its.
        """
        numbers = [number for number, within, key in self._settings if within == section and key is not None]
        above = [number for number in numbers if number <= line]
        nearest = above[-1] if above else min(numbers, default=0)
        text = self._lines[nearest - 1] if nearest else ""
        return text[: len(text) - len(text.lstrip())]

    def _malformed(self, error: configparser.Error) -> ConfigError:
        """An error about the form of the file; it never shows the line, which may hold a password."""
        droppable = True
        match error:
            case configparser.MissingSectionHeaderError(lineno=line):
                why = "stands before the first section; begin with [inverter] or [mqtt]"
            case configparser.DuplicateSectionError(lineno=line, section=section):
                why = f"section [{quoted_name(section) or '...'}] is there twice; join the two"
                droppable = False
            case configparser.DuplicateOptionError(lineno=line, option=key):
                why = f"{quoted_name(key) or 'a key'} is there twice; delete one"
            case configparser.ParsingError(errors=[(line, _), *_]):
                why = "neither [section] nor key = value"
            case _:
                return ConfigError(f"{self.path}: {type(error).__name__}")
        if line and "\0" in self._lines[line - 1]:
            why, droppable = "bytes of value 0, as after a power cut; write the line anew", False
        return ConfigError(f"{self.path}:{line}: {why}", line=line or 0, droppable=droppable)


def _settings(lines: list[str]) -> list[tuple[int, str, str | None]]:
    """Number, section and key of each line that sets something; the key is None for a section's heading."""
    found: list[tuple[int, str, str | None]] = []
    section, indent, in_value = "", 0, False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        depth = len(line) - len(line.lstrip())
        if in_value and depth > indent:  # goes on with the value above
            continue
        indent = depth
        if heading := HEADING.match(text):
            section, in_value = heading["header"], False
            found.append((number, section, None))
        elif setting := KEY.match(text):
            in_value = True
            found.append((number, section, setting[1].strip().lower()))
    return found


def quoted_name(name: str) -> str:
    """A section or key as a message may show it: nothing if it has not the shape of a name."""
    is_name = NAME.fullmatch(name) and not TELLING.search(name)
    return name if is_name or name in ("password", "passwordfile") else ""


def quoted(raw: str, *, is_path: bool = False) -> str:
    """The first line of a value as a message may show it."""
    text = raw.partition("\n")[0]
    comment = COMMENT.search(text)
    # Whatever stands in a comment: a password of before, or what somebody was told on the telephone.
    value, behind = (text[: comment.start()], f"{comment[0]} ...") if comment else (text, "")
    if "@" in value:
        value = "***" + value[value.rindex("@") :]
    if not is_path:
        telling = TELLING.search(value)
        value = value[: telling.start()] + "***" if telling else value
        if "::" not in value:  # a login with a port's place: me:secret
            value = re.sub(r":(?!//|\d+(?:[\s,/]|$))[^\s,]+", ":***", value)
    text = value + behind
    text = text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "..."
    # These two do no harm to a terminal; others do, and some end the line.
    return "".join(c if c.isprintable() or c in "\0\t" else c.encode("unicode_escape").decode() for c in text)
