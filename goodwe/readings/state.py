"""The file that keeps what is known of each inverter, over restarts and power cuts.

JSON, replaced as a whole: first a new file, on the disk to its last byte, then a rename.
"""

import errno
import logging
import math
import os
import re
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

import simplejson

from ..errors import FieldError
from ..protocol import fields
from ..protocol.identity import HARMFUL_LOSSES, Identity
from .plausibility import EARLIER, UNSEEN, UNTRUSTED, Account

log = logging.getLogger(__name__)

VERSION = 1
LONGEST = 16 * 2**20
"""Bytes; an inverter takes two thousand of them."""
MOST_ENERGY = 1e9
"""kWh; no counter gets there, and all below is exact to a tenth."""
MOST_SECONDS = 1e12
"""Before or after 1970: a clock can say anything, and what it said must not be taken for damage."""
ELSEWHERE = "name another place with [inverter] statefile"
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
IDENTITY_KEYS = {row.key for row in (*fields.ID, fields.ID_SECOND_VERSION, *fields.SETTING)}
IDENTITY_KEYS |= {"safetyCountry", "safetyCountryText"}


class Memory(NamedTuple):
    """One inverter as it is known."""

    account: Account | None
    """None before its first good reading."""
    identity: Identity


def load(path: str) -> dict[str, Memory]:
    """Serial to what is known; nothing without a file. A damaged one is set aside, and that is said."""
    try:
        return _memories(simplejson.loads(_read(path)))
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.warning("cannot read %s: %s; beginning without what it knows", path, remedy(path, error))
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        FieldError,
    ) as error:
        _set_aside(path, f"{error!s:.200}")
    return {}


def remedy(path: str, error: OSError) -> str:
    """The reason of the error in a few words, and the remedy."""
    reason = error.strerror or str(error)
    match error.errno:
        case errno.EACCES | errno.EPERM:
            from ..users import name_of  # here, since only trouble needs it

            user, folder = name_of(os.geteuid()), os.path.dirname(path) or "."
            if os.path.isfile(path) and not os.access(path, os.R_OK):
                return f"{reason} (sudo chown {user} {path})"
            return f"{reason} ({user} must be able to write to {folder}; or {ELSEWHERE})"
        case errno.EROFS | errno.ENOTDIR | errno.EISDIR | errno.EINVAL | errno.ENAMETOOLONG:
            return f"{reason} ({ELSEWHERE})"
        case errno.ENOSPC | errno.EDQUOT:
            return f"{reason} (make room there, or {ELSEWHERE})"
    return reason


def _read(path: str) -> str:
    """The text of a file. Raises OSError, and ValueError for what cannot be text of ours."""
    with open(path, "rb", opener=_open) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        if status.st_size > LONGEST:
            raise ValueError(f"{status.st_size} bytes")
        return file.read(LONGEST).decode("ascii")


def _open(path: str, flags: int) -> int:
    """Not blocking: nobody may ever write to a pipe of this name."""
    return os.open(path, flags | os.O_NONBLOCK)


def _set_aside(path: str, damage: str) -> None:
    aside = f"{path}.damaged"
    try:
        os.replace(path, aside)
    except OSError as error:
        log.warning("%s is damaged (%s), and cannot be set aside: %s", path, damage, remedy(path, error))
    else:
        log.warning("%s is damaged (%s); set aside as %s, beginning anew", path, damage, aside)


def save(path: str, memories: Mapping[str, Memory]) -> None:
    """Replace the file. Raises OSError; the old one is whole then."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    content = {"version": VERSION, "inverters": {serial: _facts(m) for serial, m in memories.items()}}
    new = f"{path}.new"
    with open(new, "w", encoding="ascii") as file:
        simplejson.dump(content, file, sort_keys=True, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def _facts(memory: Memory) -> dict[str, Any]:
    account = memory.account
    return {**(account._asdict() if account else {}), "identity": memory.identity.facts()}


def _memories(content: object) -> dict[str, Memory]:
    """The content of a file. Raises one of the errors above for anything else than what save() writes."""
    if not isinstance(content, dict) or content["version"] != VERSION:
        raise ValueError("of another version")
    # One of nothing but blanks was taken once (CONTRACT 1); what is known of the others stays.
    inverters = {serial: facts for serial, facts in content["inverters"].items() if serial.strip()}
    return {_serial(serial): _memory(facts) for serial, facts in inverters.items()}


def _memory(facts: dict[str, Any]) -> Memory:
    identity = Identity.recalled(facts.pop("identity"))
    account = Account(**facts)
    for value, kind in zip(account, Account.__annotations__.values(), strict=True):
        allowed = (int, float) if kind is float else dict if kind not in (int, str) else kind
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise ValueError(f"{value!r:.40} in place of a {getattr(kind, '__name__', kind)}")
    _check(account)
    _check_identity(identity)
    return Memory(account, identity)


def _serial(text: str) -> str:
    return fields.decode_serial(text.encode("ascii"))


def _check(account: Account) -> None:
    """Raise ValueError for what no inverter can have sent: what is in there is published."""
    days = (account.today, account.read_day, *account.earlier)
    energies = (account.midnight_total, account.before, account.shown, *account.earlier.values())
    fits = (
        0 < account.address < 0x7F
        and account.inverter_type in (1, 3)
        and all(day == "" or DATE.fullmatch(day) for day in days)
        and (account.count_day in ("", UNSEEN, UNTRUSTED, EARLIER) or DATE.fullmatch(account.count_day))
        and all(_is_number(kwh) and abs(kwh) <= MOST_ENERGY for kwh in energies)
        and account.shown >= 0
        and _is_number(account.when)
        and abs(account.when) <= MOST_SECONDS
        and account.values.keys() == {row.key for row in fields.RUNNING}
    )
    if not fits:
        raise ValueError("an account that cannot be")
    for row in fields.RUNNING:
        value = account.values[row.key]
        if row.key == fields.ERRORS:
            good = isinstance(value, list) and [(int, bit) for bit in range(32) if bit in value] == [
                (type(bit), bit) for bit in value
            ]
        else:  # any that the words can hold, with plausibility = off
            most = 2 ** (16 * row.words)
            least = -most / 2 if row.signed else 0
            good = _is_number(value) and least <= value * row.divisor < most
        if not good:
            raise ValueError(f"{row.key} {value!r:.40}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_identity(identity: Identity) -> None:
    """Texts and numbers only, and few: it is published as it stands."""
    told = {**(identity.id_info or {}), **(identity.setting_info or {})}
    for key, value in told.items():
        if isinstance(value, str):
            good = value.isprintable() and len(value) <= 40
        else:
            good = _is_number(value) and abs(value) < 2**32
        if not good or key not in IDENTITY_KEYS:
            raise ValueError(f"{key} {value!r:.40}")
    if not isinstance(identity.shy, bool):
        raise ValueError(f"shy {identity.shy!r:.40}")
    if type(identity.losses) is not int or not 0 <= identity.losses <= HARMFUL_LOSSES:
        raise ValueError(f"losses {identity.losses!r:.40}")
