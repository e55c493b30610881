"""Commands from others, on topics of their own (CONTRACT 6): poll, register, limit and so on.

    <commandtopic>/<serial>/<command>     or `all` for every inverter, and for the program itself
    <commandtopic>/<serial>/reply         what became of it, unless MQTT 5 names another topic

The payload is empty, a plain value, or {"value": ..., "id": ...}; the id comes back in the reply. Each
command gets one reply, good or bad, unless they come faster than anybody has a use for.
"""

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import simplejson

from ...config.parsers import MOST_SLASHES, is_below
from ...errors import StartError
from ...events import Happening, Offline, Outcome, Reading, Resting, Unanswered
from ...protocol.frame import ACCEPTED
from ...tally import Tally
from .. import Actions
from .feature import ALL, Feature, Hub, PublishedInverter
from .message import Message, Received

if TYPE_CHECKING:
    from .settings import MqttSettings

log = logging.getLogger(__name__)

REPLY = "reply"
LARGEST = 1024
"""Bytes of a payload that is looked at."""
LONGEST_ID = 64
BURST, PER_SECOND = 10.0, 2.0
"""Commands that are obeyed at once, and how fast that many are allowed again."""
CONTROL_EVERY = 2.0
"""Seconds between two instructions to one inverter."""
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
INSTRUCTIONS = {"limit": "limit_power", "start": "start_inverter", "stop": "stop_inverter"}
"""Command to the frame that carries it (PROTOCOL 7)."""
COMMANDS = ("poll", "register", "discovery", "loglevel", *INSTRUCTIONS)


class CommandError(Exception):
    """A command that is not obeyed; the text goes back to whoever gave it."""


class _Command(NamedTuple):
    serial: str
    name: str
    value: Any
    id: Any
    reply_to: str
    correlation: bytes


class _Budget:
    """How many commands are looked at: some at once, then so many a second."""

    def __init__(self) -> None:
        self._left = BURST
        self._counted_at = 0.0

    def take(self, now: float) -> bool:
        """True if one more is allowed now."""
        self._left = min(BURST, self._left + (now - self._counted_at) * PER_SECOND)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Commands(Feature):
    """Takes commands, has them carried out, and replies. Times are seconds on a clock that only grows."""

    def __init__(
        self,
        settings: "MqttSettings",
        actions: Actions,
        *,
        announce: Callable[[], None],
        publish: Callable[[str, Message], object],
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        """`settings` are in force, `actions` carries commands out. `announce` says discovery again.

        `publish` sends for a serial, or for `all`; `call` calls a step and takes what it raises on itself.
        """
        self._call = call
        self._root = settings.commandtopic
        self._topic = settings.topic
        self._actions = actions
        self._announce = announce
        self._publish = publish
        self._control = settings.control
        self._tally = Tally()
        self._known_ones, self._others = _Budget(), _Budget()
        self._kept: set[str] = set()
        """Topics on which the broker keeps a command: an empty message there is its removal."""
        self._instructed_at: dict[str, float] = {}
        self._waiting: dict[tuple[str, str], _Command] = {}
        """Serial and instruction to the command that waits for its answer."""
        self._listening: set[str] = set()
        """Serials whose topics are subscribed to, and `all`."""
        self._online: set[str] = set()
        self._limits: dict[str, str] = {}
        """Serial to the limit that is known; `None`, as Home Assistant has it, where it is not."""

    def subscriptions(self, serial: str) -> list[str]:
        """All below an inverter, or `all`: what is no command gets a reply, too."""
        self._listening.add(serial)
        return [f"{self._root}/{serial}/+"]

    def handle(self, event: Happening) -> None:
        match event:
            case Reading(serial):
                self.online(serial, is_online=True)
            case Resting(serial) | Offline(serial):
                self.online(serial, is_online=False)

    def caught_up(self, inverter: PublishedInverter) -> None:
        self.say_state(inverter.serial)

    def forget(self, inverter: PublishedInverter) -> None:
        serial = inverter.serial
        self._listening.discard(serial)
        self._limits.pop(serial, None)
        self._instructed_at.pop(serial, None)
        self._kept = {topic for topic in self._kept if not is_below(topic, f"{self._root}/{serial}")}

    def status(self, now: float) -> dict[str, Any]:
        return {"refused": dict(self._tally.counts), "limits": dict(self._limits)}

    def online(self, serial: str, *, is_online: bool) -> None:
        """The inverter came or went; when it comes, nobody knows what limit it has."""
        if not is_online:
            self._online.discard(serial)
        elif serial not in self._online:
            self._online.add(serial)
            self._limit_is(serial, "None")

    def say_state(self, serial: str) -> None:
        """Publish what is known of the inverter's limit: there is a connection again."""
        if serial in self._limits:
            state = Message(f"{self._root}/{serial}/limit/state", self._limits[serial], 1, retain=True)
            self._publish(serial, state)

    def _limit_is(self, serial: str, limit: str) -> None:
        if self._control:
            self._limits[serial] = limit
            self.say_state(serial)

    def received(self, message: Received, now: float) -> bool:
        root, serial, name = (["", "", *message.topic.rsplit("/", 2)])[-3:]
        if root != self._root or serial not in self._listening:
            return False  # of a broker that delivers what nobody asked for
        if name != REPLY:  # which is our own
            self._heard(message, serial, name, now)
        return True

    def _heard(self, message: Received, serial: str, name: str, now: float) -> None:
        is_known = name in COMMANDS and not message.retained
        if not (self._known_ones if is_known else self._others).take(now):
            if self._tally.add("too many commands", now):
                log.warning("More than %d commands at once on %s; the rest is dropped", BURST, self._root)
            return
        reply_to = message.reply_to if self._may_reply_to(message.reply_to) else ""
        command = _Command(serial, name[:LONGEST_ID], "", None, reply_to, message.correlation)
        try:
            self._check_kept(message, name)
            command = _with_payload(command, message)
            log.info("Command %r for %s, value %.64r", command.name, serial, command.value)
            if self._carry_out(command, now):
                self._reply(command, "")
        except CommandError as error:
            if self._tally.add(f"bad command {name if name in COMMANDS else ''}", now):
                log.warning("Bad command %r for %s: %s; counted from now on", command.name, serial, error)
            self._reply(command, str(error))

    def _taken(self, command: _Command, outcome: Outcome) -> None:
        """Called from the wire, which has nothing to do with our defects."""
        self._call(lambda: self._answered(command, outcome))

    def _answered(self, command: _Command, event: Outcome) -> None:
        """Reply to the command, if that was not done before."""
        waiting = event.serial, event.question
        if self._waiting.get(waiting) is not command:
            return
        del self._waiting[waiting]
        if isinstance(event, Unanswered):
            self._reply(command, "the inverter did not answer; perhaps it does not know this command")
        elif event.data != ACCEPTED:
            self._reply(command, f"the inverter refused it ({event.data.hex() or 'no reason'})")
        else:
            if command.name == "limit":
                self._limit_is(command.serial, str(_per_cent(command.value)))
            self._reply(command, "")

    def _check_kept(self, message: Received, name: str) -> None:
        """Raises CommandError for what the broker keeps, and for the message that takes it away there."""
        if message.retained:
            if name in COMMANDS:
                self._kept.add(message.topic)
            raise CommandError("retained: a command that is kept would be obeyed again at each connection")
        if message.topic in self._kept and not message.payload:
            self._kept.discard(message.topic)
            raise CommandError("taken for the removal of the retained one; if it is meant, give it again")

    def _may_reply_to(self, topic: str) -> bool:
        """Not among the values, whose readers would take it for one, and not where nobody may publish."""
        if is_below(topic, self._topic) or topic.count("/") > MOST_SLASHES:
            return False
        return not any(c in "+#" or not c.isprintable() for c in topic)

    def _carry_out(self, command: _Command, now: float) -> bool:
        """True when it is done, False when an answer follows. Raises CommandError."""
        match command.name:
            case "poll":
                self._each(command.serial, self._actions.poll)
            case "register":
                self._each(command.serial, self._actions.register)
            case "discovery":
                self._announce()
            case "loglevel" if command.serial != ALL:
                raise CommandError("one level is for the whole program: all in place of the serial")
            case "loglevel":
                level = str(command.value).upper()
                if level not in LEVELS:
                    raise CommandError(f"the value must be one of {', '.join(LEVELS)}")
                logging.getLogger().setLevel(level)
            case "limit" | "start" | "stop":
                self._instruct(command, now)
                return False
            case _:
                raise CommandError(f"unknown; known are {', '.join(COMMANDS)}")
        return True

    def _each(self, serial: str, action: Callable[[str], bool]) -> None:
        """For one inverter, which must be here, or for all that are."""
        if serial == ALL:
            for known in sorted(self._online):
                action(known)
        elif not action(serial):
            raise CommandError("the inverter is away")

    def _instruct(self, command: _Command, now: float) -> None:
        if not self._control:
            raise CommandError("control in [mqtt] is off")
        if command.serial == ALL:
            raise CommandError("an instruction is for one inverter: its serial in place of all")
        data = bytes([_per_cent(command.value)]) if command.name == "limit" else b""
        if now - self._instructed_at.get(command.serial, -CONTROL_EVERY) < CONTROL_EVERY:
            raise CommandError(f"too soon; one instruction every {CONTROL_EVERY:.0f} s")
        instruction = INSTRUCTIONS[command.name]
        if not self._actions.ask(
            command.serial, instruction, data, urgent=True, answered=partial(self._taken, command)
        ):
            raise CommandError("the inverter is away")
        self._instructed_at[command.serial] = now
        before = self._waiting.pop((command.serial, instruction), None)
        if before is not None:
            self._reply(before, "another command came before it was answered")
        self._waiting[command.serial, instruction] = command

    def _reply(self, command: _Command, error: str) -> None:
        reply: dict[str, Any] = {"command": command.name, "ok": not error}
        if command.value != "":
            reply["value"] = command.value
        if error:
            reply["error"] = error
        if command.id is not None:
            reply["id"] = command.id
        topic = command.reply_to or f"{self._root}/{command.serial}/{REPLY}"
        text = simplejson.dumps(reply, sort_keys=True, ignore_nan=True)
        self._publish(command.serial, Message(topic, text, 1, correlation=command.correlation))


def _with_payload(command: _Command, message: Received) -> _Command:
    """With value and id out of the payload. Raises CommandError."""
    if len(message.payload) > LARGEST:
        raise CommandError(f"a payload of {len(message.payload)} bytes, at most {LARGEST} are looked at")
    try:
        text = message.payload.decode().strip()
    except UnicodeDecodeError:
        raise CommandError("a payload that is not UTF-8 text") from None
    if not text.startswith("{"):
        return command._replace(value=text)
    try:
        given = simplejson.loads(text)
    except (ValueError, RecursionError):
        raise CommandError("a payload that begins as JSON and is none") from None
    unknown = given.keys() - {"value", "id"}
    if unknown:
        raise CommandError("unknown keys; known are value and id")
    value, number = given.get("value", ""), given.get("id")
    if not isinstance(value, str | int | float):
        raise CommandError("the value must be a text or a number")
    if not isinstance(number, str | int | float | None) or len(str(number)) > LONGEST_ID:
        raise CommandError(f"the id must be a text or a number of at most {LONGEST_ID} characters")
    return command._replace(value=value, id=number)


def _per_cent(value: Any) -> int:
    """0 to 100. Raises CommandError."""
    # Not int(): that also takes 1_0 and digits of other scripts.
    digits = re.fullmatch(r"([0-9]{1,3})(?:\.0*)?", str(value).strip())
    if digits is None or int(digits[1]) > 100:
        raise CommandError("the value must be a whole number of per cent, 0 to 100")
    return int(digits[1])


def make(hub: Hub) -> Commands:
    """The feature, of `commands` in the section [mqtt]. Raises StartError without anybody to obey."""
    actions = hub.context.actions
    if actions is None:
        raise StartError("commands in [mqtt] need a program that obeys them")

    def announce() -> None:
        for inverter in hub.inverters.values():
            hub.tell_anew(inverter)

    call = hub.context.loop.call
    return Commands(hub.settings, actions, announce=announce, publish=hub.publish, call=call)
