"""`replay`: a capture, played to the program on a socket that behaves like its inverter's node (CONTRACT 8).

Each question is answered with what the capture has next for it, at the same distance: reports as they came,
wrong ones and silences too. What came without a question comes at its time. The program asks at its own pace,
and the capture moves on with its questions for readings; with a speed, it keeps pace with the clock, and
readings are left out where that is faster. Where a capture began after the registration, that is made up.
"""

import argparse
import heapq
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from .. import program
from ..errors import GoodWeError
from ..loop import NEVER, Loop, Timer
from ..protocol import fields
from ..protocol.bus import LONGEST_ANSWER
from ..protocol.frame import KINDS, REGISTER, Frame, Splitter, to_the_ap, to_the_inverter
from ..protocol.simulator import ENVELOPE, REPORT_SIZE, Inverter
from ..traffic import NOTED, READ, WRITTEN
from .captures import CaptureFileError, CaptureReader, Record, lines_of, opened
from .simulate import SERIALS, UNPLUGGED_FOR, Outlet, above_zero, listen_path

MOST_RECORDS = 2_000_000
"""Lines that are played; a day of one inverter has some 400,000."""
UNPLUGGED = "closed: unplugged"
"""Begins what happened when the cable was pulled."""
POLL = KINDS["query_running_info"]


class Exchange(NamedTuple):
    """A frame that was written, and what came of it; or the cable that was pulled."""

    epoch: float
    """Seconds since 1970."""
    query: Frame | None
    """None where the cable was pulled."""
    reports: list[tuple[float, bytes]]
    """Seconds after the query, and the bytes."""

    @property
    def address(self) -> int:
        """The address that its answer comes from."""
        assert self.query is not None  # a pulled cable answers nothing
        is_allocation = self.query.kind == KINDS["allocate_register_address"] and self.query.data
        return self.query.data[-1] if is_allocation else self.query.destination


class Recorded(NamedTuple):
    """A capture of one wire, taken apart."""

    serial: str
    """Of the inverter; an invented one where the capture does not tell."""
    exchanges: list[Exchange]
    unasked: list[tuple[float, bytes]]
    """Reports that came without a question: seconds since the beginning, and the bytes."""

    @property
    def readings(self) -> int:
        """Questions for a reading that were answered."""
        return sum(_is_poll(exchange) and bool(exchange.reports) for exchange in self.exchanges)


class Player:
    """The inverter's end of the cable, out of a capture. Times are seconds on any clock that only grows."""

    def __init__(self, recorded: Recorded, *, speed: float | None = None) -> None:
        """`recorded` is the capture; `speed` how much faster than the clock it goes, None as it is asked."""
        self.played = 0
        """Readings that were given."""
        self.finished = False
        """True once the program asked for a reading behind the last one."""
        self.pulled = False
        """True when the cable was pulled here; whoever pulls it sets it back."""
        self._exchanges = recorded.exchanges
        self._unasked = recorded.unasked
        self._speed = speed
        self._inverter = Inverter(recorded.serial, length=fields.SINGLE_PHASE_LENGTH)
        """For the registration, where the capture has none."""
        self._at = 0
        """Index of the exchange that is next."""
        self._asked_before: dict[tuple[tuple[int, int], bytes], int] = {}
        """Of the other questions, the index behind the exchange that was played last."""
        self._began: float | None = None
        self._queue: list[tuple[float, int, bytes]] = []
        self._queued = 0

    @property
    def deadline(self) -> float:
        """When the next report is due; infinity without one."""
        return self._queue[0][0] if self._queue else NEVER

    def write(self, message: bytes, now: float) -> None:
        """Take one write(): report number 00, CC 99 n, a frame of n bytes, padding (PROTOCOL 2.2)."""
        if self._began is None:
            self._began = now
            for after, report in self._unasked:
                self._put(now + after / (self._speed or 1.0), report)
        query = _frame(message[4 : 4 + message[3]]) if message[:3] == ENVELOPE and len(message) > 3 else None
        if query is None:
            return
        exchange = self._found(query, now)
        if exchange is not None:
            for after, report in _from_address(exchange, query):
                self._put(now + after / (self._speed or 1.0), report)
        elif query.kind[0] == REGISTER and not self.pulled:
            answer = self._inverter.answer(query, now, dict)
            for n, report in enumerate(_reports(answer.encode()) if answer is not None else ()):
                self._put(now + 0.05 + n * 0.01, report)

    def reports(self, now: float) -> list[bytes]:
        """The reports that are due; they are then gone."""
        due = []
        while self._queue and self._queue[0][0] <= now:
            due.append(heapq.heappop(self._queue)[2])
        return due

    def unplug(self) -> None:
        """Lose the reports that have not been sent."""
        self._queue.clear()

    def _put(self, when: float, report: bytes) -> None:
        self._queued += 1  # keeps those of one time in their order
        heapq.heappush(self._queue, (when, self._queued, report))

    def _found(self, query: Frame, now: float) -> Exchange | None:
        """The exchange to play for a query; None for silence, or for what the capture does not have."""
        if query.kind == POLL:
            return self._next_reading(now)
        if query.kind[0] == REGISTER:
            return self._next_registration(query)
        return self._other(query)

    def _next_reading(self, now: float) -> Exchange | None:
        at = next((n for n in self._left() if _is_poll(self._exchanges[n]) or self._is_pull(n)), None)
        if at is None:
            self.finished = True
            return None
        at = self._later(at, now)
        self._at = at + 1
        if self._is_pull(at):
            self.pulled = True
            return None
        self.played += bool(self._exchanges[at].reports)
        return self._exchanges[at]

    def _later(self, at: int, now: float) -> int:
        """The last question for a reading that the clock has come to; at `at` or behind it."""
        if self._speed is None or self._began is None:
            return at
        until = self._exchanges[0].epoch + (now - self._began) * self._speed
        for n in range(at, len(self._exchanges)):
            if self._exchanges[n].epoch > until:
                break
            if _is_poll(self._exchanges[n]):
                at = n
        return at

    def _next_registration(self, query: Frame) -> Exchange | None:
        """The next of that kind, if it comes before the next reading."""
        for n in self._left():
            exchange = self._exchanges[n]
            if (_is_poll(exchange) and exchange.reports) or self._is_pull(n):
                return None  # to go on, the program has to be registered
            if exchange.query is not None and _is_same(exchange.query, query):
                self._at = n + 1
                return exchange
        self.finished = self.finished or not any(_is_poll(self._exchanges[n]) for n in self._left())
        return None

    def _other(self, query: Frame) -> Exchange | None:
        """The next answer to such a question, or the last one again."""
        key = query.kind, query.data
        answered = [
            n
            for n, each in enumerate(self._exchanges)
            if each.query is not None and (each.query.kind, each.query.data) == key and each.reports
        ]
        if not answered:
            return None
        before = self._asked_before.get(key, self._at)
        at = next((n for n in answered if n >= before), answered[-1])
        self._asked_before[key] = at + 1
        return self._exchanges[at]

    def _left(self) -> range:
        return range(self._at, len(self._exchanges))

    def _is_pull(self, at: int) -> bool:
        return self._exchanges[at].query is None


class Replay(Timer):
    """A part of the loop: joins player and socket, and pulls the cable where it was pulled."""

    def __init__(self, path: str, player: Player, loop: Loop) -> None:
        """`path` is where to listen, `loop` runs it. `player` is the inverter's end. Raises ListenError."""
        self.closed = False
        self._plug_in_again = NEVER
        self._player = player
        self._outlet = Outlet(path, player, lambda now: True, loop)

    @property
    def finished(self) -> bool:
        """True when all was played, and was read."""
        return self._player.finished and self._player.deadline == NEVER

    @property
    def deadline(self) -> float:
        return -NEVER if self._player.pulled else self._plug_in_again

    def tick(self, now: float) -> None:
        """Pull the cable where it was pulled, or plug it in again."""
        if self._player.pulled:
            self._player.pulled = False
            self._outlet.pull()
            self._plug_in_again = now + UNPLUGGED_FOR
        else:
            self._plug_in_again = NEVER
            self._outlet.open()

    def stop(self) -> None:
        """The end: the cable is out and the socket's file is gone."""
        self._outlet.pull()


def taken_apart(
    records: Iterable[Record], serials: Callable[[], Mapping[str, str]], *, wire: str = ""
) -> Recorded:
    """The capture of one wire: of that name, or of the first that something was read from or written to.

    `serials` gives the serial of an inverter by the name of its wire, once all records are read. Raises
    GoodWeError.
    """
    exchanges: list[Exchange] = []
    unasked: list[tuple[float, bytes]] = []
    serial = ""
    began: float | None = None
    for number, record in enumerate(records):
        if number >= MOST_RECORDS:
            raise GoodWeError(f"more than {MOST_RECORDS:,} lines; play a part of it, cut with head or grep")
        if record.mark != NOTED:
            wire = wire or record.wire
        if record.wire != wire:
            continue
        began = record.epoch if began is None else began
        if record.mark == WRITTEN and (query := _frame(record.data)) is not None:
            exchanges.append(Exchange(record.epoch, query, []))
            serial = _serial(query) or serial
        elif record.mark == READ:
            last = exchanges[-1] if exchanges else None
            if last is not None and last.query is not None and record.epoch - last.epoch <= LONGEST_ANSWER:
                last.reports.append((max(0.0, record.epoch - last.epoch), record.data))
            else:
                unasked.append((record.epoch - began, record.data))
        elif record.mark == NOTED and record.text.startswith(UNPLUGGED):
            exchanges.append(Exchange(record.epoch, None, []))
    if not exchanges and not unasked:
        raise GoodWeError(f"nothing of {wire or 'a wire'} is in it")
    return Recorded(serial or serials().get(wire, "") or SERIALS[1], exchanges, unasked)


def main(
    arguments: list[str],
    stop_on_signal: Callable[[Loop, Callable[[], None]], None],
    *,
    say: Callable[[str], None] = lambda text: print(text, flush=True),
) -> int:
    """Play until the end or a signal; `stop_on_signal` adds to a loop what calls back when one comes.

    `say` tells a person. Raises GoodWeError.
    """
    options = parse(arguments)
    recorded = load(options.file, wire=options.wire, complain=say)
    player = Player(recorded, speed=options.speed)
    loop = Loop(time.monotonic)
    stopped: list[bool] = []
    stop_on_signal(loop, lambda: stopped.append(True))
    replay = Replay(options.listen, player, loop)
    loop.add(replay)
    say(
        f"{options.file}, {recorded.readings} readings of {recorded.serial}, is played on {options.listen};"
        " press Ctrl-C to end it."
    )
    try:
        loop.run(until=lambda: bool(stopped) or replay.finished)
    finally:
        replay.stop()
        loop.close()
    say(f"{'Stopped' if stopped else 'Played to the end'}: {player.played} readings given.")
    return 0


def load(path: str, *, wire: str = "", complain: Callable[[str], None]) -> Recorded:
    """The capture in a file, see `taken_apart`; lines of it that are damaged are told to `complain`.

    Raises GoodWeError that says what is wrong with it, and where.
    """
    with opened(path) as file:
        reader = CaptureReader(lines_of(file, path), path)
        try:
            recorded = taken_apart(reader, reader.serials, wire=wire)
        except CaptureFileError:
            raise
        except GoodWeError as error:
            raise GoodWeError(f"{path}: {error}") from error
    if reader.damaged:
        complain(f"{reader.damage}; {reader.damaged} left out")
    return recorded


def parser() -> argparse.ArgumentParser:
    """The words and options that may stand behind the verb."""
    made = argparse.ArgumentParser(
        prog=f"{program.name()} replay",
        description="Play a capture, or a log with loglevel = DEBUG, as an inverter for device = unix:PATH.",
        epilog="exit code: 0; 1 the file or the socket cannot be used; 2 wrong arguments",
    )
    made.add_argument("file", metavar="FILE", help="the capture")
    made.add_argument(
        "--listen", type=listen_path, required=True, metavar="unix:PATH", help="the socket, for `device`"
    )
    made.add_argument(
        "--speed",
        type=above_zero,
        metavar="N",
        help="keep pace with N times the clock; without it, as fast as readings are asked for",
    )
    made.add_argument("--wire", default="", metavar="NAME", help="of several in it; the first by default")
    return made


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    return parser().parse_args(arguments)


def _is_same(recorded: Frame, query: Frame) -> bool:
    """True if one can be answered with what came of the other; removes go to different addresses."""
    return recorded.kind == query.kind and (query.kind != KINDS["remove_register"] or recorded == query)


def _is_poll(exchange: Exchange) -> bool:
    return exchange.query is not None and exchange.query.kind == POLL


def _frame(data: bytes) -> Frame | None:
    """The frame that was written; None for what is none."""
    packets = Splitter(to_the_inverter).feed(data)
    return packets[0].frame if packets else None


def _serial(query: Frame) -> str:
    """The serial that an allocation names; empty for another query."""
    is_allocation = query.kind == KINDS["allocate_register_address"]
    serial = query.data[:-1].decode("ascii", "replace") if is_allocation else ""
    return serial if len(serial) == fields.SERIAL_LENGTH and serial.isascii() else ""


def _from_address(exchange: Exchange, query: Frame) -> list[tuple[float, bytes]]:
    """The reports of an exchange, as if the inverter had the address that it is asked at now."""
    old, new = exchange.address, exchange._replace(query=query).address
    if old == new:
        return exchange.reports
    stream = bytearray(b"".join(report for _, report in exchange.reports))
    for packet in Splitter(to_the_ap).feed(bytes(stream)):
        raw = packet.frame._replace(source=new).encode() if packet.frame.source == old else b""
        stream[packet.offset : packet.offset + len(raw)] = raw
    cut, at = [], 0
    for after, report in exchange.reports:
        cut.append((after, bytes(stream[at : at + len(report)])))
        at += len(report)
    return cut


def _reports(raw: bytes) -> Sequence[bytes]:
    """The bytes of an answer in whole reports."""
    whole = raw + bytes(-len(raw) % REPORT_SIZE)
    return [whole[at : at + REPORT_SIZE] for at in range(0, len(whole), REPORT_SIZE)]
