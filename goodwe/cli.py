"""The command line: every verb is a row; help, usage and the table in etc/doc come from the rows."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from . import paths
from .errors import ConfigError, GoodWeError, StartError

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from .config import Config
    from .service import GoodWe
    from .tools.doctor.checks import Machine

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a standard output that takes no more."""


class Call(NamedTuple):
    """A command line, understood: the options before the verb, and what stands behind it."""

    config_file: str | None
    """The value of --config; None for the default path, where a missing file means the defaults."""
    pidfile: str
    rest: list[str]

    @property
    def path(self) -> str:
        """Path of the configuration file, which may not exist."""
        return self.config_file or paths.CONFIGURATION

    @property
    def options(self) -> list[str]:
        """The ones before the verb that are not the default, for a command that is typed elsewhere."""
        given = ["--config", os.path.abspath(self.config_file)] if self.config_file is not None else []
        return [
            *given,
            *(["--pidfile", os.path.abspath(self.pidfile)] if self.pidfile != paths.PIDFILE else []),
        ]

    def load(self, *, to_run: bool = True, logs_in: bool = True) -> tuple["Config", list[str]]:
        """The settings in force, and warnings about them, as config.load() has them. Raises ConfigError."""
        from . import config

        settings, warnings = config.load(
            self.path, required=self.config_file is not None, to_run=to_run, logs_in=logs_in
        )
        if settings.mqtt.tls and logs_in:
            from .outputs.mqtt.tls import tls_for  # here, since only TLS needs it before the fork

            try:
                tls_for(settings.mqtt)
            except StartError as error:
                raise ConfigError(f"{self.path}: {error}") from error
        return settings, warnings


class Usage(NamedTuple):
    """One way to call a verb: a row of the table in etc/doc/commands.md."""

    arguments: str
    """Behind the verb, as a person types them."""
    does: str
    exits: str
    """The exit codes and their meaning."""


class Verb(NamedTuple):
    """One thing that the program does."""

    name: str
    help: str
    """A line of `--help`."""
    run: Callable[[Call], int]
    """Does it; gives the exit code. Raises GoodWeError."""
    usages: tuple[Usage, ...]
    parser: Callable[[], "ArgumentParser"] | None = None
    """For a verb that parses what stands behind it by itself: what it does that with."""


# --- what runs a verb; a verb imports what it needs itself: the daemon loads no tools, and no verb waits for
# what others need


def _start(call: Call) -> int:
    return _background(call, _daemon(call).start)


def _restart(call: Call) -> int:
    return _background(call, _daemon(call).restart)


def _background(call: Call, start: Callable[[], int]) -> int:
    from .instance import holder_of

    code = start()
    if code:
        with contextlib.suppress(StartError):
            if not holder_of(call.pidfile).locked:
                _remove_socket_left(call)
    return code


def _foreground(call: Call) -> int:
    return _program(call).foreground()


def _stop(call: Call) -> int:
    # Without the configuration: it must work whatever is wrong with that.
    from .instance import known_daemon

    code = known_daemon(call.pidfile).stop()
    if code == 0:
        _remove_socket_left(call)
    return code


def _remove_socket_left(call: Call) -> None:
    """Remove a control socket that nobody listens on: one that went on as another user may not do so."""
    socket = paths.socket_beside(os.path.abspath(call.pidfile))
    if os.path.exists(socket):
        from . import control

        with contextlib.suppress(OSError):
            control.remove_stale(socket)


def _reload(call: Call) -> int:
    from .tools import reload

    return reload.main(call.pidfile)


def _status(call: Call) -> int:
    from .instance import known_daemon
    from .tools import status

    return status.main(call.rest, known_daemon(call.pidfile), call.pidfile)


def _check_config(call: Call) -> int:
    from . import config

    settings, warnings = call.load(to_run=False)
    for trouble, is_chosen in _refused_by_start(call, settings):
        if is_chosen:
            raise ConfigError(trouble)
        warnings = [*warnings, f"{trouble}; start needs it, foreground does not"]
    warnings += _left_out(call, settings)
    print(config.shown(settings), end="")
    if not os.path.exists(call.path):
        warnings = [f"{call.path}: no such file; these are the defaults", *warnings]
    for warning in warnings:
        print(warning, file=sys.stderr)
    return 0


def _refused_by_start(call: Call, settings: "Config") -> Iterator[tuple[str, bool]]:
    """Yield what `start` would refuse besides a mistake in the file, and whether that is a path of one's own.

    The default paths need not be right where only `foreground` is run: in a container, in a unit of systemd.
    """
    from .config.rules import may
    from .instance import why_no_start, why_not_as
    from .writable import why_not_now

    for trouble in _one_file_twice(call, settings):
        yield trouble, True
    user = settings.inverter.user
    # Another than root goes on as itself, and root as root may read everything.
    if user and os.geteuid() == 0 and (why := why_not_as(user, lambda path: may(user, "-r", path))):
        yield f"{call.path}: {why}", True
    log = settings.inverter.logfile
    if why := why_not_now(log):
        yield f"{call.path}: logfile = {log}: cannot be written ({why})", log != paths.LOG
    if why := why_no_start(call.pidfile):
        yield f"--pidfile {call.pidfile}: cannot be used ({why})", call.pidfile != paths.PIDFILE


def _left_out(call: Call, settings: "Config") -> Iterator[str]:
    """Yield a warning for each output that lacks a library. Raises ConfigError if no output can begin."""
    from . import outputs
    from .config import Section

    whys, is_all = outputs.that_cannot_begin(settings)
    if is_all:
        raise ConfigError(f"{call.path}: no output can begin: {'; '.join(whys.values())}")
    for name, why in whys.items():
        if type(settings.sections[name]) is not Section:  # else its section could not be read, which is said
            yield f"{call.path}: [{name}] is left out: {why}"


def _one_file_twice(call: Call, settings: "Config") -> Iterator[str]:
    """Yield what names the pid file or the control socket beside it: neither can be a second file as well.

    `foreground` makes no pid file.
    """
    from . import config

    pidfile = os.path.abspath(call.pidfile)
    ours = {paths.socket_beside(pidfile): "the control socket", pidfile: "the pid file"}
    yield from config.apart_from(settings, call.path, {path: f"{of} {path}" for path, of in ours.items()})


def _discovery(call: Call) -> int:
    from .tools import discovery

    # Before the configuration: a person who asks for help need not have one.
    discovery.parse(call.rest)
    return discovery.main(call.rest, call.load()[0])


def _history(call: Call) -> int:
    from .tools import history

    return history.main(call.rest, lambda: call.load(to_run=False, logs_in=False)[0])


def _doctor(call: Call) -> int:
    from .tools import doctor

    return doctor.main(call.rest, _machine(call))


def _bundle(call: Call) -> int:
    from .tools import bundle

    return bundle.main(call.rest, _machine(call))


def _capture(call: Call) -> int:
    from .tools import capture

    return capture.main(call.rest, call.pidfile, lambda: call.load(to_run=False, logs_in=False)[0])


def _decode(call: Call) -> int:
    from .tools import decode

    return decode.main(call.rest)


def _replay(call: Call) -> int:
    from .service import stop_on_signal
    from .tools import replay

    return replay.main(call.rest, stop_on_signal)


def _simulate(call: Call) -> int:
    from .service import stop_on_signal
    from .tools import simulate

    return simulate.main(call.rest, stop_on_signal, lambda: call.load()[0])


def _demo(call: Call) -> int:
    from .tools import demo

    return demo.main(call.rest)


def _install(call: Call) -> int:
    from .tools import install

    return install.main("install", call.rest, call.pidfile)


def _uninstall(call: Call) -> int:
    from .tools import install

    return install.main("uninstall", call.rest, call.pidfile)


def _setup(call: Call) -> int:
    from .tools import setup

    return setup.main(call.rest, _machine(call))


def _machine(call: Call) -> "Machine":
    """The machine as the doctor looks at it."""
    from . import program
    from .tools.doctor.checks import Machine

    return Machine(
        config_file=call.config_file,
        pidfile=call.pidfile,
        program=program.command(),
        options=call.options,
    )


def _daemon(call: Call) -> "GoodWe":
    """The program, to run in the background."""
    return _program(call, _load_for_daemon)


def _load_for_daemon(call: Call) -> tuple["Config", list[str]]:
    settings, warnings = call.load()
    for trouble in _one_file_twice(call, settings):
        raise ConfigError(trouble)
    return settings, warnings


def _program(call: Call, load: Callable[[Call], tuple["Config", list[str]]] = Call.load) -> "GoodWe":
    settings, warnings = load(call)
    from .service import GoodWe

    full = call._replace(
        config_file=call.config_file and os.path.abspath(call.config_file),
        pidfile=os.path.abspath(call.pidfile),
    )
    try:
        started_in = os.getcwd()
    except FileNotFoundError:  # it was deleted, and then all paths are from / on
        started_in = "/"

    def again() -> tuple["Config", list[str]]:
        from .config import parsers

        with parsers.relative_to(started_in):
            return load(full)

    return GoodWe(call.pidfile, settings, warnings, configuration=call.path, load=again)


# --- the table


def _parser_of(tool: str, *arguments: str) -> Callable[[], "ArgumentParser"]:
    """The parser of a module of tools, which is imported when it is asked for."""

    def made() -> "ArgumentParser":
        import importlib

        module = importlib.import_module(f".tools.{tool}", __package__)
        parser: ArgumentParser = module.parser(*arguments)
        return parser

    return made


VERBS = (
    Verb(
        "start",
        "run in the background",
        _start,
        (
            Usage(
                "",
                "runs in the background; returns when it is up",
                "0; 1 already running or could not start; 2 bad configuration",
            ),
        ),
    ),
    Verb(
        "stop",
        "end the one in the background",
        _stop,
        (Usage("", "ends it, cleanly", "0; 1 could not be stopped"),),
    ),
    Verb("restart", "stop, then start", _restart, (Usage("", "stop, then start", "as start"),)),
    Verb(
        "reload",
        "have the running one read its configuration again",
        _reload,
        (
            Usage(
                "",
                "has the running program, however it was started, read its configuration again, and says what"
                " changed; what is wrong is refused, and all stays as it was. SIGHUP does the same for the"
                " daemon and under systemd",
                "0, also when a change waits for a restart, which is said; 1 not running, cannot be asked, or"
                " a part did not begin; 2 bad configuration, the one before stays in force",
            ),
        ),
    ),
    Verb(
        "status",
        "say whether it runs, and how things stand",
        _status,
        (
            Usage(
                "",
                "says whether it runs; on a terminal, or with `--long`, also how inverters and broker stand."
                " `--watch` renews that, `--json` is for programs",
                "0 running; 1 dead, its pid file remains; 3 not running; 4 there, but it cannot be asked",
            ),
        ),
        parser=_parser_of("status"),
    ),
    Verb(
        "foreground",
        "run here, until Ctrl-C; for systemd",
        _foreground,
        (
            Usage(
                "",
                "runs here, logs to the terminal; not while another one has its state file",
                "0 ended; 1 could not start; 2 bad configuration",
            ),
        ),
    ),
    Verb(
        "check-config",
        "check the configuration and show what is in force",
        _check_config,
        (Usage("", "checks the configuration and shows what is in force", "0; 2"),),
    ),
    Verb(
        "setup",
        "ask for the broker's host, user and password, try them, and write them down",
        _setup,
        (
            Usage(
                "",
                "asks for the broker's host, user and password, tries them as `doctor` does, writes them into"
                " the configuration, whose other lines stay as they are, and has the running program read it",
                "0; 1 nothing was written; 2 wrong arguments or configuration",
            ),
            Usage(
                "--server HOST --username NAME --password-stdin",
                "the same without questions; `--port`; `--no-test` writes what was not tried",
                "as above",
            ),
        ),
        parser=_parser_of("setup"),
    ),
    Verb(
        "doctor",
        "find out what is wrong, and say what mends it",
        _doctor,
        (
            Usage(
                "[--all] [--only NAME] [--json]",
                "looks at Python, configuration, machine, USB, the running program and the broker, and says"
                " what mends each trouble; starts and changes nothing",
                "0 all is well; 1 with warnings; 2 with failures",
            ),
        ),
        parser=_parser_of("doctor"),
    ),
    Verb(
        "bundle",
        "gather what a bug report needs, in one file",
        _bundle,
        (
            Usage(
                "[FILE] [--anonymous] [--yes]",
                "gathers for a bug report what the doctor finds, status, configuration and log without"
                " secrets, and the traffic before the last losses; says what is in it, and asks",
                "0; 1 nothing was written; 2 wrong arguments",
            ),
        ),
        parser=_parser_of("bundle"),
    ),
    Verb(
        "capture",
        "write what goes over the wire to a file",
        _capture,
        (
            Usage(
                "FILE [--seconds N] [--megabytes N]",
                "writes what goes over the wire to a file, a line each, for a bug report or for `replay`:"
                " from the running program, or where none runs from the inverter itself; `-` for the"
                " standard output",
                "0; 1 nothing was captured, or it could not be written; 2",
            ),
        ),
        parser=_parser_of("capture"),
    ),
    Verb(
        "history",
        "what was made and what happened, as [history] keeps it; imports and corrections",
        _history,
        (
            Usage(
                "day [DATE]",
                "shows what was made, as a table with bars; `month`, `year` and `all` likewise; `--csv` and"
                " `--json` for programs",
                "0; 1; 2 wrong arguments",
            ),
            Usage("events", "shows faults and what else has happened, with times", "0; 1; 2"),
            Usage(
                "import FILE.csv",
                "takes days out of a spreadsheet, of PVOutput or of its own `export`; says how it understands"
                " them, refuses what it does not; `--dry-run`",
                "0; 1; 2",
            ),
            Usage("correct DATE KWH", "sets the energy of a day; `none` takes that back", "0; 1; 2"),
            Usage("replace OLD NEW", "lets the totals of a replaced inverter go on", "0; 1; 2"),
            Usage("name SERIAL NAME", "gives an inverter a name", "0; 1; 2"),
            Usage("export [WHAT]", "gives days, slots or events as CSV", "0; 1; 2"),
            Usage("check", "is the file whole, do its sums agree, what is missing", "0; 1 if not; 2"),
        ),
        parser=_parser_of("history"),
    ),
    Verb(
        "decode",
        "explain bytes of the wire, or a capture",
        _decode,
        (
            Usage(
                "[HEX ...\\|FILE]",
                "explains bytes of the wire, one JSON object a line, or a capture, or a log with `loglevel ="
                " DEBUG`; `decode < FILE`, too",
                "0 if there was a frame, else 1",
            ),
            Usage("--summary FILE", "counts what a capture has in it", "0 if there was a frame, else 1"),
            Usage("--pcapng OUT FILE", "writes a capture for Wireshark", "0; 1"),
        ),
        parser=_parser_of("decode"),
    ),
    Verb(
        "replay",
        "be an inverter out of a capture, on a socket",
        _replay,
        (
            Usage(
                "FILE --listen unix:PATH [--speed N]",
                "is an inverter, for `device = unix:PATH`, that gives the answers of a capture; ends when all"
                " were given. With `statefile =` (empty), as with `simulate`",
                "0; 1 the file or the socket cannot be used; 2 wrong arguments",
            ),
        ),
        parser=_parser_of("replay"),
    ),
    Verb(
        "simulate",
        "be an inverter, on a socket; or a fleet of programs, for a broker",
        _simulate,
        (
            Usage(
                "--listen unix:PATH",
                "is an inverter, for `device = unix:PATH`; `simulate --help`. Its totals begin anew with each"
                " start: `statefile =` (empty) goes with it",
                "0; 1; 2 wrong arguments",
            ),
            Usage("--fleet N", "is N programs, for a broker", "0; 1 if a reading was lost"),
        ),
        parser=_parser_of("simulate"),
    ),
    Verb(
        "discovery",
        "clear: take back what Home Assistant was told, and all that the broker keeps of ours",
        _discovery,
        (
            Usage(
                "clear [SERIAL]",
                "takes back what the broker keeps of ours, discovery first",
                "0; 1; 2 wrong arguments",
            ),
        ),
        parser=_parser_of("discovery"),
    ),
    Verb(
        "demo",
        "show it all: simulated inverter, broker, values; nothing is installed",
        _demo,
        (
            Usage(
                "",
                "shows the whole way: a simulated inverter, a broker, the program between them,"
                " and a line for each message",
                "0",
            ),
            Usage("--web", "the same with the page, at an address that it says", "0"),
        ),
        parser=_parser_of("demo"),
    ),
    Verb(
        "install",
        "put udev rule, unit, user, configuration and log rotation in place, and start it",
        _install,
        (
            Usage(
                "[--no-service] [--dry-run]",
                "puts udev rule, unit, user, configuration and log rotation in place, and starts the unit;"
                " says each step, may be repeated, never overwrites what was edited; without root it says"
                " what it would do",
                "0; 1 something is left to do, or could not be done; 2 wrong arguments",
            ),
        ),
        parser=_parser_of("install"),
    ),
    Verb(
        "uninstall",
        "take away what install has put there",
        _uninstall,
        (
            Usage(
                "[--purge] [--dry-run]",
                "takes that away again; configuration, totals, log and user only with `--purge`",
                "as install",
            ),
        ),
        parser=_parser_of("install", "uninstall"),
    ),
)


def table() -> str:
    """The table of the verbs in etc/doc/commands.md."""
    from . import program

    rows = ["| command | what it does | exit code |", "|---|---|---|"]
    for verb in VERBS:
        for usage in verb.usages:
            command = f"./{program.SCRIPT} {verb.name} {usage.arguments}".rstrip()
            rows.append(f"| `{command}` | {usage.does} | {usage.exits} |")
    return "\n".join(rows) + "\n"


# --- the command line


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code of CONTRACT 4."""
    _make_streams_usable()
    try:
        verb, call = _parse(sys.argv[1:] if arguments is None else arguments)
        code = verb.run(call)
        sys.stdout.flush()
    except ConfigError as error:
        _complain(error)
        return 2
    except GoodWeError as error:
        _complain(error)
        return 1
    except BrokenPipeError:  # whoever read our output has seen enough
        _discard_output()
        return 1
    except OSError as error:
        if error.errno == errno.ENOENT and _is_folder_gone():
            _complain("the folder that you are in was deleted; change to another, as with cd")
            return 1
        if error.errno not in UNWRITABLE:
            raise
        _discard_output()
        _complain(f"cannot write the output: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parse(arguments: list[str]) -> tuple[Verb, Call]:
    """The verb and its call. A wrong command line ends the program with usage and exit code 2."""
    name, call = _parse_plain(arguments) or _parse_any(arguments)
    verb = next(verb for verb in VERBS if verb.name == name)
    if call.rest and not verb.parser:
        _refuse_arguments(verb, call.rest)
    return verb, call


def _parse_plain(arguments: list[str]) -> tuple[str, Call] | None:
    """The verb's name and the call of a command line in which every word is written out.

    None for any other: argparse understands that, or explains it. A daemon would keep argparse and what comes
    with it for months.
    """
    given = {"--config": None, "--pidfile": paths.PIDFILE}
    at = 0
    while len(arguments) > at + 1 and arguments[at] in given and not arguments[at + 1].startswith("-"):
        given[arguments[at]] = arguments[at + 1]
        at += 2
    name, rest = "".join(arguments[at : at + 1]), arguments[at + 1 :]
    if "--" in rest or name not in (verb.name for verb in VERBS):
        return None
    return name, Call(given["--config"], given["--pidfile"] or "", rest)


def _parse_any(arguments: list[str]) -> tuple[str, Call]:
    """As `_parse_plain`, of any command line. A wrong one ends the program."""
    parser = command_line()
    names = [verb.name for verb in VERBS]
    options = parser.parse_args(arguments)
    if options.verb is None:
        parser.error(f"which verb? one of {', '.join(names)}")
    if options.verb not in names:
        from .config import nearest

        parser.error(f"unknown verb {options.verb!r}; {nearest(options.verb, names)}")
    return options.verb, Call(options.config, options.pidfile, options.rest)


def command_line() -> "ArgumentParser":
    """Understands what stands before the verb."""
    import argparse

    from . import program

    class ShowVersion(argparse.Action):
        """Asks for the version only where somebody wants to know it: a checkout asks git."""

        def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
            print(program.version())
            parser.exit()

    verbs = "\n".join(f"  {verb.name:13} {verb.help}" for verb in VERBS)
    parser = argparse.ArgumentParser(
        prog=program.name(),
        usage="%(prog)s [-h] [--config FILE] [--pidfile FILE] [--version] VERB",
        description="GoodWe solar inverters on USB, to MQTT.",
        epilog=f"verbs:\n{verbs}\n\n{program.name()} VERB --help says more about one of them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help=f"configuration, default {paths.CONFIGURATION}")
    parser.add_argument("--pidfile", metavar="FILE", default=paths.PIDFILE, help=f"default {paths.PIDFILE}")
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="say it, and end")
    parser.add_argument("verb", metavar="VERB", nargs="?", help="see below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _refuse_arguments(verb: Verb, rest: list[str]) -> None:
    """Show the help of a verb that takes no arguments, or refuse what was given to it."""
    import argparse

    from . import program

    (usage,) = verb.usages
    parser = argparse.ArgumentParser(
        prog=f"{program.name()} {verb.name}",
        description=f"{verb.help[0].upper()}{verb.help[1:]}.",
        epilog=f"exit code: {usage.exits}. --config and --pidfile stand before the verb.",
    )
    _, unknown = parser.parse_known_args(rest)
    if unknown:
        parser.error(f"{verb.name} takes no arguments; --config and --pidfile stand before it")


# --- standard streams as people have them


def _make_streams_usable() -> None:
    """Let closed streams lead nowhere, and show what the terminal's encoding lacks as an escape."""
    # A closed number would else be given to the next file, and what is printed would go into that one.
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(null)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (until the end)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test may have put another in its place
            stream.reconfigure(errors="backslashreplace")


def _complain(text: object) -> None:
    """Say it on stderr; if that is full or gone, the exit code alone says it."""
    try:
        print(text, file=sys.stderr)
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _is_folder_gone() -> bool:
    """True where the working directory was deleted: no relative path leads anywhere then."""
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def _discard_output() -> None:
    """Nothing more can be written: neither now nor when the interpreter ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
