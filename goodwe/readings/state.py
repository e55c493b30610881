"""What is known of each inverter, kept in a file over restarts and power cuts.

JSON, replaced as a whole: first a new file, on the disk to its last byte, then a rename.
"""

import contextlib
import logging
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import simplejson

from ..errors import FieldError
from ..protocol import fields
from ..protocol.identity import HARMFUL_LOSSES, Identity
from .plausibility import Account

log = logging.getLogger(__name__)

VERSION = 1
IDENTITY_KEYS = {row.key for row in (*fields.ID, fields.ID_SECOND_VERSION, *fields.SETTING)}
IDENTITY_KEYS |= {"safetyCountry", "safetyCountryText"}


class Memory(NamedTuple):
    """What is known of one inverter."""

    account: Account | None
    """None before its first good reading."""
    identity: Identity


def load(path: str) -> dict[str, Memory]:
    """Serial to what is known; nothing without a file. A damaged one is set aside, and that is said."""
    try:
        with open(path, encoding="ascii") as file:
            return _memories(simplejson.load(file))
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.warning("cannot read %s: %s; beginning without what it knows", path, error.strerror)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        FieldError,
    ) as error:
        aside = f"{path}.damaged"
        log.warning("%s is damaged (%s); set aside as %s, beginning anew", path, error, aside)
        with contextlib.suppress(OSError):
            os.replace(path, aside)
    return {}


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
    """What is in there is published: it must be what an inverter can have sent."""
    numbers = (account.when, account.midnight_total, account.before, account.shown)
    fits = 0 < account.address < 0x7F and account.inverter_type in (1, 3) and all(map(math.isfinite, numbers))
    if not fits or not 0 <= account.when < 2**32 or account.values.keys() != {r.key for r in fields.RUNNING}:
        raise ValueError("an account that cannot be")
    for row in fields.RUNNING:
        value = account.values[row.key]
        if row.key == fields.ERRORS:
            good = isinstance(value, list) and all(bit in range(32) for bit in value)
        else:
            good = isinstance(value, int | float) and math.isfinite(value)  # any, with plausibility = off
        if not good:
            raise ValueError(f"{row.key} {value!r:.40}")


def _check_identity(identity: Identity) -> None:
    """Texts and numbers only, and few: it is published as it stands."""
    told = {**(identity.id_info or {}), **(identity.setting_info or {})}
    for key, value in told.items():
        if isinstance(value, str):
            good = value.isprintable() and len(value) <= 40
        else:
            good = isinstance(value, int | float) and math.isfinite(value)
        if not good or key not in IDENTITY_KEYS:
            raise ValueError(f"{key} {value!r:.40}")
    if not isinstance(identity.shy, bool):
        raise ValueError(f"shy {identity.shy!r:.40}")
    if type(identity.losses) is not int or not 0 <= identity.losses <= HARMFUL_LOSSES:
        raise ValueError(f"losses {identity.losses!r:.40}")
