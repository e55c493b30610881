"""Rules for any section that has such options: secrets and their files, TLS and its files."""

import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from ..paths import LOCK
from ..transport import STAND_IN
from .options import Complaint, Config, Option, Section
from .parsers import (
    COMMENT,
    OF_FILES,
    QUOTES,
    WRITTEN,
    OutOfReach,
    Secret,
    existing_file,
    log_file,
    password_file,
    read_password,
)

OUT_OF_REACH = "is not known here; to run, it"
"""Words of the warning about a secret that only the daemon can read."""
SWITCH_WORDS = {*("on", "off", "yes", "no", "true", "false", "none", "null", "disabled", "enabled")}
"""Typed by people where a name is wanted."""
ONE_FILE = "are one file; name another"
ANSWER_WITHIN = 5.0
"""Seconds for the kernel to say who may read a file, which can be on a network."""


class SecretRow(NamedTuple):
    """A secret option, and the one that names a file in place of it, if there is one."""

    option: Option
    file: Option | None


def secrets(section: Section) -> list[SecretRow]:
    """The secret options of a section."""
    options = {option.attribute: option for option in section.options()}
    return [SecretRow(one, options.get(f"{key}file")) for key, one in options.items() if one.secret]


def stands_in_the_file(section: Section) -> bool:
    """True if the configuration file itself has a secret of this section in it."""
    return any(_value(section, row.option) and not _value(section, row.file) for row in secrets(section))


def read_secrets(section: Section, path: str, *, to_run: bool) -> tuple[Section, list[Complaint]]:
    """The section with the secrets out of their files, and what is to be said about those.

    `path` is the configuration's.
    Without `to_run` a secret that is out of our reach is a warning.
    """
    complaints: list[Complaint] = []
    for row in secrets(section):
        if row.file is None or not _value(section, row.file):
            continue
        key, name, file = row.option.attribute, row.file.key, _value(section, row.file)
        if _value(section, row.option):
            complaints.append(Complaint(name, f"{name} is set, and so is {row.option.key}; delete one"))
            continue
        try:
            secret, mode = read_password(file, configuration=path)
        except OutOfReach as error:
            why = str(error) if to_run else f"the {key} {OUT_OF_REACH} {error}"
            complaints.append(Complaint(name, why, is_warning=not to_run, with_value=True))
        except ValueError as error:
            complaints.append(Complaint(name, str(error), with_value=True))
        else:
            section = replace(section, **{key: secret})
            complaints += _about_file(row.option.key, name, file, secret, mode)
    return section, complaints


def _about_file(key: str, name: str, file: str, secret: Secret, mode: int) -> Iterator[Complaint]:
    if not secret:
        yield Complaint(name, f"the {key} is empty: there is nothing in {file}", is_warning=True)
    if "\n" in secret:
        why = f"{file} has several lines; all of them are taken for the {key}"
        yield Complaint("", why, is_warning=True)
    if mode & stat.S_IROTH:
        yield Complaint("", f"{file} can be read by everybody; chmod 600 it", is_warning=True)


def own_files(config: Config) -> list[str]:
    """The paths of the files that the program makes and replaces, besides its log."""
    return [
        _value(section, option)
        for section in config.sections.values()
        for option in section.options()
        if option.parse in WRITTEN and option.parse is not log_file and _value(section, option)
    ]


def files_apart(config: Config, path: str) -> Iterator[tuple[Section, Complaint]]:
    """Yield what names a file that we write and something else names as well; `path` is the configuration.

    A file that holds something else than it should is set aside as damaged: a second name would lose it.
    """
    named = {os.path.realpath(path): ("this configuration", False)}
    for section, key, label, file, is_written in _named(config):
        if not file.startswith("/"):
            continue
        other, other_is_written = named.setdefault(os.path.realpath(file), (label, is_written))
        if other != label and (is_written or other_is_written):
            yield section, Complaint(key, f"{label} and {other} {ONE_FILE}")


def apart_from(config: Config, path: str, others: Mapping[str, str]) -> Iterator[str]:
    """Yield what names one of the `others`, which are paths and what they are of.

    They are files that a daemon makes besides; `path` is the configuration.
    """
    taken = {os.path.realpath(other): of for other, of in others.items()}
    named = [(label, file.removeprefix(STAND_IN)) for _, _, label, file, _ in _named(config)]
    for label, file in (("this configuration", os.path.abspath(path)), *named):
        if file.startswith("/") and (of := taken.get(os.path.realpath(file))):
            yield f"{path}: {label} and {of} {ONE_FILE}"


def _named(config: Config) -> Iterator[tuple[Section, str, str, str, bool]]:
    """Yield each file that the configuration names, and the lock beside one.

    The section, the key, what a message calls it, the value, and True if we write it.
    """
    for section in config.sections.values():
        for option in section.options():
            if option.parse in OF_FILES:
                yield section, option.key, option.key, _value(section, option), option.parse in WRITTEN
    if statefile := config.inverter.statefile:
        yield config.inverter, "statefile", "the lock of statefile", f"{statefile}{LOCK}", True


def out_of_reach_of_user(config: Config) -> Iterator[tuple[Section, Complaint]]:
    """Yield a warning for each file that `user` may not read when it is read anew, though root may.

    Only root can find that out.
    """
    name = config.inverter.user
    if not name or os.geteuid() != 0:
        return
    for section in config.sections.values():
        for option in section.options():
            path = _value(section, option)
            if option.parse in (existing_file, password_file) and path and not may(name, "-r", path):
                why = f"{name}, as whom the program goes on, may not read {path}"
                yield section, Complaint(option.key, f"{why}; {_opening(name, path)}", is_warning=True)


def _opening(name: str, path: str) -> str:
    """The commands that let the user read the file, and nobody else."""
    import pwd

    folder = os.path.dirname(os.path.realpath(path))
    if not may(name, "-x", folder):
        return f"put it into a folder that {name} may enter: not {folder}"
    return opening_to(pwd.getpwnam(name).pw_gid, path)


def opening_to(number: int, path: str) -> str:
    """The commands that let the group of that number read the file, and nobody else but its owner."""
    import grp

    try:
        group = grp.getgrgid(number).gr_name
    except KeyError:  # it has no name, as in a container
        group = str(number)
    file = shlex.quote(path)
    return f"sudo chgrp {group} {file} && sudo chmod 640 {file}"


def may(name: str, right: str, path: str) -> bool:
    """True if the user has a right of test(1); the kernel knows, with all groups and lists. For root."""
    import pwd  # here, as the next one, since few have the option
    import subprocess

    user = pwd.getpwnam(name)
    groups = os.getgrouplist(name, user.pw_gid)
    try:
        done = subprocess.run(
            ["test", right, path],
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=groups,
            cwd="/",
            timeout=ANSWER_WITHIN,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):  # nobody can say
        return True
    return done.returncode == 0


def check(section: Section) -> Iterator[Complaint]:
    """Yield the settings of a section that do not fit together."""
    yield from _tls(section)
    yield from _switch_words(section)
    for row in secrets(section):
        yield from _secret(section, row)


def _tls(section: Section) -> Iterator[Complaint]:
    keys = {option.attribute for option in section.options()}
    given = [key for key in ("cafile", "certfile", "keyfile") if key in keys and getattr(section, key)]
    for one, other in (("certfile", "keyfile"), ("keyfile", "certfile")):
        if one in given and other in keys and other not in given:
            yield Complaint(one, f"{one} is set; {other} must be set too")
    if given and "tls" in keys and not getattr(section, "tls"):  # noqa: B009 (not every section has it)
        yield Complaint(given[0], f"{given[0]} is set, but TLS is off; add tls = on")


def _switch_words(section: Section) -> Iterator[Complaint]:
    """Yield what was probably meant as a switch, and is a name here: there can be such a name."""
    for option in section.options():
        if option.no_switch:
            value = getattr(section, option.attribute)
            for word in value if isinstance(value, tuple) else (value,):
                if word.lower() in SWITCH_WORDS:
                    why = f"{option.key} = {word} is taken for a name; {option.no_switch}"
                    yield Complaint(option.key, why, is_warning=True)


def _secret(section: Section, row: SecretRow) -> Iterator[Complaint]:
    """Warn of a secret that is probably not meant so; it may be, and the older program took it as well."""
    key, secret = row.option.key, _value(section, row.option)
    if secret and getattr(section, "username", None) == "":
        why = f"a {key} is set, but username is not, so it is not used; add username"
        yield Complaint(key, why, is_warning=True)
        return
    in_quotes = len(secret) > 1 and secret[0] == secret[-1] and secret[0] in QUOTES
    if stands_in_the_file(section) and (in_quotes or COMMENT.search(secret)):
        why = f"quotes around a {key}, or a comment behind it, are taken as a part of it"
        yield Complaint(key, why, is_warning=True)


def _value(section: Section, option: Option | None) -> str:
    """The value itself, also of a secret; empty without an option."""
    return getattr(section, option.attribute) if option is not None else ""
