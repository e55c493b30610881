"""A section of the configuration file: a frozen dataclass, whose fields are its options.

    @dataclass(frozen=True, kw_only=True)
    class WebSettings(OutputSection):
        '''Section [web].'''

        NAME = "web"

        port: int = option("8080", whole(1, 65535), "Port to listen on.")

Parsing, defaults, messages, the sample file and the documents' table follow from that line. A secret has
`secret=True`; with a further option named like it and `file` behind (parser `password_file`) it may stand
in a file of its own. `tls`, `cafile`, `certfile` and `keyfile` are checked together wherever they are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from .parsers import switch

if TYPE_CHECKING:
    from ..outputs.mqtt.settings import HomeAssistantSettings, MqttSettings
    from .inverter import InverterSettings


class Option(NamedTuple):
    """One key of the file."""

    key: str
    """As it is published: vendorId. The field has it in lower case."""
    default: str
    parse: Callable[[str], Any]
    """Text to value; a ValueError says what would be right, to follow "must be"."""
    meaning: str
    secret: bool
    listed: bool
    """True if the sample file and the table have it."""
    takes_restart: bool
    """True if a running program cannot follow a change of it."""
    no_switch: str = ""
    """Advice, where the value is a name of any form, to who puts a word such as on or off there."""

    @property
    def attribute(self) -> str:
        """The name of its field, and of the key as configparser gives it."""
        return self.key.lower()


class Complaint(NamedTuple):
    """Two settings that do not agree."""

    key: str
    """The one whose line is named; empty for what is not about a line."""
    text: str
    is_warning: bool = False
    """True if the program runs all the same."""
    instead: dict[str, Any] | None = None
    """Values to run with."""
    with_value: bool = False
    """True if the key and its value go before the text."""


def option(
    default: str,
    parse: Callable[[str], Any],
    meaning: str,
    *,
    name: str = "",
    secret: bool = False,
    listed: bool = True,
    takes_restart: bool = False,
    no_switch: str = "",
) -> Any:
    """A field for the key `name`, if that is not the field's own name; the other arguments as in `Option`."""
    row = (name, default, parse, meaning, secret, listed, takes_restart, no_switch)
    return field(metadata={"option": row})


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the file; its options are its fields."""

    NAME: ClassVar[str]

    @classmethod
    def options(cls) -> list[Option]:
        """The options of the section, in the order of its lines."""
        rows = [(one.name, one.metadata["option"]) for one in fields(cls)]
        return [Option(row[0] or attribute, *row[1:]) for attribute, row in rows]

    def check(self, config: "Config") -> Iterator[Complaint]:
        """Yield the settings that do not agree, within the section or with others of `config`."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class OutputSection(Section):
    """The section that an output is named after."""

    enabled: bool = option("on", switch, "Whether there is this output at all.", listed=False)


@dataclass(frozen=True)
class Config:
    """The whole file: its sections by their names, also as attributes."""

    sections: Mapping[str, Section]

    @property
    def inverter(self) -> "InverterSettings":
        """Section [inverter]."""
        return cast("InverterSettings", self.sections["inverter"])

    @property
    def mqtt(self) -> "MqttSettings":
        """Section [mqtt], with the defaults if the file has none."""
        return cast("MqttSettings", self.sections["mqtt"])

    @property
    def homeassistant(self) -> "HomeAssistantSettings":
        """Section [homeassistant], with the defaults if the file has none."""
        return cast("HomeAssistantSettings", self.sections["homeassistant"])

    def __getattr__(self, name: str) -> Any:
        """Another output's section. Raises AttributeError where the file has none."""
        sections = self.__dict__.get("sections", {})
        if name not in sections:
            raise AttributeError(f"no section [{name}]")
        return sections[name]

    def having(self, section: Section) -> "Config":
        """The same with this section in place of the one of its name."""
        return Config({**self.sections, section.NAME: section})
