"""From the configuration file to the settings: which sections there are, every value, what must fit together.

INI, read as configparser has it: keys of any case, `#` comments on lines of their own, no interpolation.
"""

import configparser
import contextlib
import stat
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .. import outputs
from ..errors import ConfigError
from ..guard import missing
from . import rules
from .inverter import InverterSettings
from .options import Complaint, Config, Option, Section
from .parsers import COMMENT, FILE_NAME, OF_FILES, OWN_QUOTES, QUOTES, OutOfReach, password_file, servers
from .source import Source, quoted, quoted_name, read

SEEN_BY_ALL = "can be read by everybody"
"""Said of a file with a secret in it."""
DEFAULT_OUTPUT = "mqtt"
"""There without a section; the sections of others exist when the file has them."""
LEFT_OVER = {("inverter", "dev"), ("inverter", "debug")}
"""Keys of the oldest versions: accepted, without effect."""
DOMOTICZ = "domoticz"

Kinds = dict[str, type[Section]]


def load(path: str, *, required: bool, to_run: bool = True, logs_in: bool = True) -> tuple[Config, list[str]]:
    """The settings in the file at `path`, and warnings about it.

    A missing file means all defaults unless it is `required`. Without `to_run` nothing is to be started:
    a password that only the daemon can get at is a warning then. Without `logs_in` certificates and keys
    need not be readable either. Raises ConfigError.
    """
    try:
        content, mode = read(path)
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such file; leave --config out to run with the defaults") from None
        return parse("", path, to_run=to_run)
    config, warnings = parse(content, path, to_run=to_run, logs_in=logs_in)
    if mode & stat.S_IROTH and any(map(rules.stands_in_the_file, config.sections.values())):
        warnings.append(f"{path} has a password in it and {SEEN_BY_ALL}; chmod 640 it")
    return config, warnings


def parse(content: str, path: str, *, to_run: bool = True, logs_in: bool = True) -> tuple[Config, list[str]]:
    """The settings in the text of a file, and warnings about it, as `load` gives them. Raises ConfigError."""
    source = Source(content, path)
    parser = source.parsed()
    kinds, broken = _kinds_of(source, parser.sections())
    warnings = [f"{path}: [{name}] is left out: {why}" for name, why in broken.items()]
    for name, kind in kinds.items():
        warnings += _check_keys(source, kind, parser.options(name) if name in parser else [])
    parsing = _Parsing(source, parser, logs_in=logs_in)
    config = Config({name: parsing.section(kind) for name, kind in kinds.items()})
    for name in kinds:
        config, about = parsing.with_secrets(config, name, to_run=to_run)
        warnings += about
    for name in kinds:
        config, about = parsing.checked(config, name)
        warnings += about
    for section, complaint in (*rules.files_apart(config, path), *rules.out_of_reach_of_user(config)):
        warnings += parsing.told(section, [complaint])
    on = [name for name in kinds if getattr(config.sections[name], "enabled", False)]
    if not on and not broken:
        warnings.append(f"{path}: every output is off; readings go nowhere")
    # The outputs' registry meets the same error, and says it in full.
    return Config({**config.sections, **{name: Section() for name in broken}}), warnings


# --- which sections there are


def all_kinds() -> Kinds:
    """Every section that the program knows, the ones that are always there first."""
    kinds = always_there()
    for output in outputs.names():
        kinds |= _kinds_by(output)
    return kinds


def always_there() -> Kinds:
    """The sections that need not stand in the file; the others switch something on by standing there."""
    return {InverterSettings.NAME: InverterSettings, **_kinds_by(DEFAULT_OUTPUT)}


def _kinds_by(output: str) -> Kinds:
    return {kind.NAME: kind for kind in outputs.sections(output)}


def _kinds_of(source: Source, given: Iterable[str]) -> tuple[Kinds, dict[str, str]]:
    """The sections that are always there and those of the file; and why which of these cannot be used.

    Raises ConfigError for one that nobody knows.
    """
    kinds = always_there()
    broken: dict[str, str] = {}
    for name in given:
        if name in kinds:
            continue
        if name.lower().startswith(DOMOTICZ):
            source.refuse(name, "", _instead_of(f"[{DOMOTICZ}]"))
        if name in outputs.names():
            try:
                kinds |= _kinds_by(name)
            except Exception as error:  # a defect or a library that is missing: the other outputs go on
                broken[name] = missing(name, error) or f"{type(error).__name__}: {error}"
            continue
        every = _that_can_be_loaded()
        if name not in every:
            shown = f" [{quoted_name(name)}]" if quoted_name(name) else ""
            source.refuse(
                name,
                "",
                f"unknown section{shown}; {nearest(name, every)}",
                meant=shown and meant(name, every),
            )
        kinds[name] = every[name]
    return kinds, broken


def _that_can_be_loaded() -> Kinds:
    kinds = always_there()
    for output in outputs.names():
        with contextlib.suppress(Exception):  # the file does not ask for it
            kinds |= _kinds_by(output)
    return kinds


def _check_keys(source: Source, kind: type[Section], given: Iterable[str]) -> list[str]:
    """Warnings about keys without effect. Raises ConfigError for one that the section does not have."""
    warnings = []
    known = {option.attribute: option for option in kind.options()}
    for key in given:
        if key in known:
            continue
        if key.startswith(DOMOTICZ):
            source.refuse(kind.NAME, key, _instead_of(quoted_name(key) or DOMOTICZ))
        if (kind.NAME, key) not in LEFT_OVER:
            shown = f" {quoted_name(key)}" if quoted_name(key) else ""
            listed = [option.key for option in known.values() if option.listed]
            source.refuse(
                kind.NAME,
                key,
                f"unknown key{shown} in [{kind.NAME}]; {nearest(key, listed)}",
                meant=shown and meant(key, listed),
                droppable=True,
            )
        about = f"{key} in [{kind.NAME}] is of an old version and has no effect; it can be deleted"
        warnings.append(f"{source.path}: {about}")
    return warnings


def _instead_of(name: str) -> str:
    """The advice for settings of a fork that published for Domoticz on a topic of its own."""
    instead = "discovery in [homeassistant] takes its place, Domoticz reads that"
    return f"{name} is of another program; delete it: {instead}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The name that is probably meant, or all that there are, to follow a semicolon."""
    words = list(known)
    near = meant(name, words)
    return f"is {near} meant?" if near else f"known are {', '.join(dict.fromkeys(words))}"


def meant(name: str, known: Iterable[str]) -> str:
    """The name that is probably meant; empty when none is near."""
    import difflib  # here, since only a mistake needs it

    names = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), names, n=1)
    return names[near[0]] if near else ""


# --- what they say


class _Parsing:
    """One file on its way to the settings."""

    def __init__(self, source: Source, parser: configparser.ConfigParser, *, logs_in: bool) -> None:
        """`source` is the text of the file, `parser` its sections and raw values.

        Without `logs_in` a file that we may not read keeps its name.
        """
        self._logs_in = logs_in
        self._source = source
        self._parser = parser

    def section(self, kind: type[Section]) -> Section:
        """A section with the values of the file, or the defaults. Raises ConfigError for one that is none."""
        return kind(**{option.attribute: self._value(kind.NAME, option) for option in kind.options()})

    def with_secrets(self, config: Config, name: str, *, to_run: bool) -> tuple[Config, list[str]]:
        """The same with this section's secrets out of their files, and warnings. Raises ConfigError."""
        section, complaints = rules.read_secrets(config.sections[name], self._source.path, to_run=to_run)
        return config.having(section), self.told(section, complaints)

    def checked(self, config: Config, name: str) -> tuple[Config, list[str]]:
        """The same with this section as it can be used, and warnings. Raises ConfigError."""
        section = config.sections[name]
        complaints = [*rules.check(section), *section.check(config)]
        changes = {key: value for one in complaints for key, value in (one.instead or {}).items()}
        return config.having(replace(section, **changes)), self.told(section, complaints)

    def _raw(self, section: str, option: Option) -> str:
        return self._parser.get(section, option.attribute, fallback=option.default) or ""

    def _value(self, section: str, option: Option) -> Any:
        raw = self._raw(section, option)
        try:
            return _parsed(option, raw)
        except ValueError as error:
            if isinstance(error, OutOfReach) and not self._logs_in:
                return raw
            hint = "" if option.secret else _hint(option, raw.partition("\n")[0])
            told = f"{option.key}{_quoted(option, raw)}: must be {error}{hint}"
            # The default is what most people want, but not for where the broker is.
            droppable = bool(option.default) and option.parse is not servers
            self._source.refuse(section, option.key, told, droppable=droppable)

    def told(self, section: Section, complaints: Iterable[Complaint]) -> list[str]:
        """The warnings among them. Raises ConfigError for the first that is more than that."""
        options = {option.key: option for option in section.options()}
        warnings = []
        for one in complaints:
            text = one.text
            if one.with_value:
                raw = self._raw(section.NAME, options[one.key])
                text = f"{one.key}{_quoted(options[one.key], raw)}: {text}"
            if not one.is_warning:
                self._source.refuse(section.NAME, one.key, text)
            warnings.append(f"{self._source.path}: {text}" if one.key else text)
        return warnings


def _parsed(option: Option, raw: str) -> Any:
    """The value of a text. Raises ValueError, saying what would be right."""
    if "\0" in raw and not option.secret:
        raise ValueError("text, not bytes of value 0")
    if "\n" in raw:
        raise ValueError("on one line; is the next line indented by mistake?")
    value = option.parse(raw)
    # A comment or quotes would be a part of the file's name, of the client id, of the login.
    if not option.secret and COMMENT.search(raw):
        raise ValueError("alone on its line")
    in_quotes = len(raw) > 1 and raw[0] in QUOTES and raw[-1] in QUOTES
    if in_quotes and not option.secret and option.parse not in OWN_QUOTES:
        raise ValueError("the bare text")
    return value


def _hint(option: Option, raw: str) -> str:
    """A likely reason why a value is none."""
    if COMMENT.search(raw):
        return "; a comment needs a line of its own"
    if option.parse not in OWN_QUOTES and raw and (raw[0] in QUOTES or raw[-1] in QUOTES):
        return "; without the quotes"
    return ""


def _quoted(option: Option, raw: str) -> str:
    """The ` = value` behind the key, as far as a message may show it."""
    if option.secret:
        return ""
    if option.parse is password_file and not FILE_NAME.fullmatch(raw):
        return ""  # somebody may have put the password itself there
    return " = " + quoted(raw, is_path=option.parse in OF_FILES)
