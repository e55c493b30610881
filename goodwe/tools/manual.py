"""Manual pages and completion, made of the verbs and the options: see documents.py, which writes them."""

import argparse
import re
from collections.abc import Iterator

from .. import __version__, cli, config, paths, program
from ..config.documents import listed
from ..config.file import always_there
from ..config.options import Option

BASH, ZSH, FISH = "bash", "zsh", "fish"
FILES = (
    (config.PATH, "the configuration, see goodwe.conf(5)"),
    ("/var/log/goodwe.log", "the log of the daemon; under systemd it is the journal"),
    (paths.PIDFILE, "the pid file of the daemon; beside it the socket at which status asks"),
    ("/run/goodwe/control.sock", "the same socket of the unit"),
    ("/var/lib/goodwe/", "totals of the inverters over restarts, and what waits for the broker"),
)
SIGNALS = (
    ("SIGTERM", "say goodbye to the broker and end"),
    ("SIGUSR1", "write the traffic before each of the last losses to the log"),
)

# --- roff


def roff(text: str) -> str:
    """Text of a line as roff takes it: no escapes, no requests, hyphens that can be copied."""
    said = text.replace(r"\|", "|").replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", said).replace("\n.", "\n\\&.")


def _title(name: str, section: int, title: str) -> str:
    return f'.TH "{roff(name)}" "{section}" "" "GoodWeUSBLogger {roff(__version__)}" "{title}"'


def _term(term: str, text: str) -> list[str]:
    return [".TP", f".B {term}", roff(text[:1].upper() + text[1:]) + "."]


def manual_of_the_program() -> str:
    """GoodWe.py(8)."""
    lines = [
        _title(program.SCRIPT, 8, "System Administration"),
        ".SH NAME",
        rf"{roff(program.SCRIPT)} \- publish the values of GoodWe solar inverters on USB to MQTT",
        ".SH SYNOPSIS",
        rf".B {roff(program.SCRIPT)}",
        r"[\fB\-\-config\fR \fIFILE\fR] [\fB\-\-pidfile\fR \fIFILE\fR] \fIVERB\fR [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION",
        "Finds inverters on USB by itself, reads them every few seconds, and publishes their values to MQTT,",
        "as JSON and for Home Assistant. It runs as a daemon, as a unit of systemd, or in the foreground.",
        rf"Installed by pip or pipx it is called {roff(program.COMMAND)} as well.",
        ".SH OPTIONS",
        *_options(cli.command_line()),
        ".SH VERBS",
    ]
    for verb in cli.VERBS:
        lines += _verb(verb)
    lines += [".SH FILES", *(line for path, text in FILES for line in _term(roff(path), text))]
    lines += [".SH SIGNALS", *(line for name, text in SIGNALS for line in _term(name, text))]
    lines += [".SH SEE ALSO", r"\fBgoodwe.conf\fR(5), \fBmosquitto_sub\fR(1)"]
    return "\n".join(lines) + "\n"


def _verb(verb: cli.Verb) -> Iterator[str]:
    for usage in verb.usages:
        yield ".TP"
        yield rf"\fB{roff(verb.name)}\fR {roff(usage.arguments)}".rstrip()
        yield roff(usage.does[:1].upper() + usage.does[1:]) + "."
        if usage.exits:
            yield rf"Exit code: {roff(usage.exits)}."
    options = list(_options(verb.parser())) if verb.parser else []
    if options:
        yield from (".RS", *options, ".RE")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in _with_options(parser):
        if action.option_strings:
            names = ", ".join(rf"\fB{roff(name)}\fR" for name in action.option_strings)
            value = rf" \fI{roff(_value(action))}\fR" if _value(action) else ""
            yield from (".TP", names + value, roff(_help(action)))


def _with_options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Its actions, and those of the parsers below it; an option that several have is there once."""
    found = _actions(parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                known = {name for one in found for name in one.option_strings}
                found += [one for one in _with_options(below) if known.isdisjoint(one.option_strings)]
    return found


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    shown = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
    return [action for action in shown if action.dest != "help"]


def _value(action: argparse.Action) -> str:
    """The word for what stands behind an option; empty for one that takes nothing."""
    if action.nargs == 0:
        return ""
    if action.metavar is not None:
        return action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _help(action: argparse.Action) -> str:
    said = (action.help or "").replace("%%", "%")
    return said[:1].upper() + said[1:] + "." if said else ""


def manual_of_the_configuration() -> str:
    """goodwe.conf(5)."""
    lines = [
        _title("goodwe.conf", 5, "File Formats"),
        ".SH NAME",
        rf"goodwe.conf \- configuration of {roff(program.SCRIPT)}(8)",
        ".SH DESCRIPTION",
        rf"{config.PATH} has sections, and in them lines of the form \fIkey\fR = \fIvalue\fR.",
        "All of it may be left out. A comment has a line of its own that begins with #; a value is taken as",
        "it stands. Keys may be written in capitals or not; an unknown one is refused, naming the nearest.",
        rf".B {roff(program.SCRIPT)} check\-config",
        "says what is in force and what is wrong.",
    ]
    for name, kind in config.all_kinds().items():
        lines.append(f".SH SECTION [{name}]")
        if name not in always_there():
            lines.append("What it is for is off without this section.")
        for option in listed(kind.options()):
            lines += _key(option)
    lines += [".SH SEE ALSO", rf"\fB{roff(program.SCRIPT)}\fR(8)"]
    return "\n".join(lines) + "\n"


def _key(option: Option) -> list[str]:
    default = rf" = \fI{roff(option.default)}\fR" if option.default else " ="
    return [".TP", rf"\fB{roff(option.key)}\fR{default}", roff(option.meaning)]


# --- completion


def completion(shell: str) -> str:
    """The completion for that shell: BASH, ZSH or FISH. Raises ImportError where shtab is missing."""
    if shell == FISH:
        return _fish()
    import shtab  # here, since only who writes the documents needs it

    made = str(shtab.complete(_whole(), shell=shell))
    if shell == BASH:  # the second name has the same
        return re.sub(
            rf"(?m)^(complete .*){re.escape(program.SCRIPT)}$", rf"\g<0>\n\1{program.COMMAND}", made
        )
    return made.replace(f"#compdef {program.SCRIPT}", f"#compdef {program.SCRIPT} {program.COMMAND}")


def _whole() -> argparse.ArgumentParser:
    """One parser with all verbs, as completion wants it."""
    whole = argparse.ArgumentParser(prog=program.SCRIPT)
    for action in _actions(cli.command_line()):
        if action.option_strings:
            whole._add_action(action)
    verbs = whole.add_subparsers(metavar="VERB")
    for verb in cli.VERBS:
        parents = [_without_help(verb.parser())] if verb.parser else []
        verbs.add_parser(verb.name, help=verb.help, parents=parents)
    return whole


def _without_help(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    other = argparse.ArgumentParser(add_help=False)
    for action in _actions(parser):
        other._add_action(action)
    return other


def _fish() -> str:
    verbs = " ".join(verb.name for verb in cli.VERBS)
    lines = []
    for name in (program.SCRIPT, program.COMMAND):
        before = f"complete -c {name} -n 'not __fish_seen_subcommand_from {verbs}'"
        for action in _actions(cli.command_line()):
            lines += [f"{before} {_fish_option(action)}"] if action.option_strings else []
        lines += [f"{before} -a {verb.name} -d {_quoted(verb.help)}" for verb in cli.VERBS]
        for verb in cli.VERBS:
            behind = f"complete -c {name} -n '__fish_seen_subcommand_from {verb.name}'"
            actions = _actions(verb.parser()) if verb.parser else []
            lines += [f"{behind} {_fish_option(action)}" for action in actions if action.option_strings]
    return "\n".join(lines) + "\n"


def _fish_option(action: argparse.Action) -> str:
    parts = [f"-l {name[2:]}" for name in action.option_strings if name.startswith("--")]
    parts += [f"-s {name[1:]}" for name in action.option_strings if not name.startswith("--")]
    if action.nargs != 0:
        parts.append(f"-x -a '{' '.join(map(str, action.choices))}'" if action.choices is not None else "-r")
    return " ".join([*parts, f"-d {_quoted((action.help or '').partition(':')[0])}"])


def _quoted(text: str) -> str:
    said = text.replace("\\", "\\\\").replace("'", "\\'").replace("%%", "%")
    return f"'{said}'"
