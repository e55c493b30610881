"""`decode --summary`: what a capture has in it, counted: frames by kind, faults, readings, losses."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from typing import TextIO

from ..errors import FieldError
from ..events import Reading
from ..protocol import fields
from ..protocol.fields import SERIAL_LENGTH, Values
from ..protocol.frame import KINDS, Frame
from ..readings.plausibility import Held, Implausible, Moment, Plausibility
from ..traffic import NOTED, READ, WRITTEN
from .captures import ENDED, INVERTER, CaptureReader, Frames, Record

UNKNOWN_SERIAL = ""
"""Of an inverter that the capture does not name; its power is not known then."""
MOST_LOSSES = 20
"""Shown; all are counted."""
LOST = "offline "
"""Begins what happened when an inverter was lost."""
UNLIMITED = 10_000
"""Characters of a line where the output is no terminal."""
NAMES_WIDE, NAMES_NARROW = 32, 26
"""Characters of the column with names."""
NARROW = 60


class CaptureCount:
    """Counts the records of a capture."""

    def __init__(self, reader: CaptureReader) -> None:
        """`reader` gives the records and the facts."""
        self.frames: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Readings by the reason why they are not believed."""
        self.believed = self.held = 0
        self.unanswered = 0
        """Queries without an answer of their kind before the next query."""
        self.outside = 0
        """Bytes outside a frame that are not zero."""
        self.records = 0
        self.first: Record | None = None
        self.last: Record | None = None
        self.readings: list[tuple[float, Values]] = []
        """The first and the last that were believed, with their times."""
        self.losses: list[tuple[float, str]] = []
        self.notes: Counter[str] = Counter()
        self.cut = Frames()
        self._reader = reader
        self._serials: dict[str, str] = {}
        """By wire; who is on it at the time."""
        self._checks: dict[tuple[str, str], Plausibility] = {}
        """By wire and serial."""
        self._sent: dict[str, list[bytes]] = {}
        """By wire, the last two frames written: what a stale tail can be made of (PROTOCOL 2.3)."""
        self._asked: dict[str, Frame | None] = {}
        """By wire, the query that is not answered yet."""
        self._count()

    def _count(self) -> None:
        for record in self._reader:
            self.records += 1
            self.first, self.last = self.first or record, record
            if record.mark == NOTED:
                self._happened(record)
            for packet in self.cut.feed(record):
                self._skipped(packet.skipped, record.wire)
                self._frame(packet.frame, record.wire, record.epoch, record.mark)
        assert self.last is not None  # else the reader would have raised
        for wire, packet in self.cut.finish():
            self._skipped(packet.skipped, wire)
            self._frame(packet.frame, wire, self.last.epoch, READ)

    def _skipped(self, run: bytes, wire: str) -> None:
        """Count bytes in front of a frame that are neither zeros nor left of a frame of ours."""
        rubbish = run.strip(b"\0")
        if not any(rubbish in sent for sent in self._sent.get(wire, [b""])):
            self.outside += len(rubbish)

    def _happened(self, record: Record) -> None:
        if record.text.startswith(LOST):
            self.losses.append((record.epoch, record.text.removeprefix(LOST)))
            for check in self._checks.values():
                check.away()
        elif not record.text.startswith("online"):
            name = record.text.partition(":")[0]
            self.notes[" ".join(word for word in name.split() if not word.isdigit())] += _times(record.text)

    def _frame(self, frame: Frame, wire: str, epoch: float, mark: str) -> None:
        self.frames[frame.name] += 1
        if mark == WRITTEN:
            self._sent[wire] = [*self._sent.get(wire, [])[-1:], frame.encode()]
            self.unanswered += self._asked.get(wire) is not None
            self._asked[wire] = None if frame.name == "remove_register" else frame
        elif (asked := self._asked.get(wire)) is not None and frame.function == asked.function | 0x80:
            self._asked[wire] = None
        if frame.name == "register_request":
            self._serials[wire] = frame.data.decode("latin-1")
        elif frame.name == "running_info":
            self._reading(frame, wire, epoch)
        elif frame.name == "id_info":
            self._identity(frame, wire)

    def _check_of(self, wire: str) -> tuple[str, Plausibility]:
        serial = self._serials.get(wire) or self._reader.serials().get(wire, UNKNOWN_SERIAL)
        if (wire, serial) not in self._checks:
            self._checks[wire, serial] = Plausibility(serial, None)
        return serial, self._checks[wire, serial]

    def _identity(self, frame: Frame, wire: str) -> None:
        try:
            values = fields.decode_id(frame.data)
        except FieldError:
            return
        self._check_of(wire)[1].learn_model(str(values.get("modelName", "")))

    def _reading(self, frame: Frame, wire: str, epoch: float) -> None:
        serial, check = self._check_of(wire)
        try:
            values = fields.decode_running(frame.data)
        except FieldError as error:
            self.refused[error.reason] += 1
            return
        phases = fields.phases(len(frame.data))
        clock = fields.decode_clock(frame.data)
        reading = Reading(serial, frame.source, phases, values, epoch, clock)
        match check.check(reading, _moment(epoch)):
            case Implausible(reason, _):
                self.refused[reason] += 1
            case Held():
                self.held += 1
            case _:
                self.believed += 1
                self.readings = [*self.readings[:1], (epoch, values)]


def main(reader: CaptureReader, out: TextIO) -> int:
    """Print what the capture has in it; 0 if there was a frame. Raises CaptureFileError."""
    count = CaptureCount(reader)
    width = shutil.get_terminal_size().columns if out.isatty() else UNLIMITED
    print(shown(count, reader, width), file=out, flush=True)
    return 0 if count.frames else 1


def shown(count: CaptureCount, reader: CaptureReader, width: int) -> str:
    """The lines for a person, none longer than `width` characters."""
    lines = [line for part in (_about, _counted, _read) for line in part(count, reader, width)]
    return "\n".join(line if len(line) <= width else f"{line[: width - 1]}…" for line in lines)


# --- the lines


def _about(count: CaptureCount, reader: CaptureReader, width: int) -> Iterator[str]:
    yield _plain(reader.path)
    told = {}  # of an inverter what was known last
    for name, value in reader.facts:
        told[name, value[:SERIAL_LENGTH] if name == INVERTER else value] = value
    for (name, _), value in told.items():
        if name not in (ENDED, "began"):
            yield f"  {name} {_plain(value)}"
    if count.first is not None and count.last is not None:
        seconds = count.last.epoch - count.first.epoch
        yield f"  from {_date(count.first.epoch)}"
        yield f"  to   {_date(count.last.epoch)}"
        yield f"  {count.records} lines in {seconds:.0f} s"
    yield f"  ended {_plain(reader.fact(ENDED)) or 'before its end: cut off, or still being written'}"


def _counted(count: CaptureCount, reader: CaptureReader, width: int) -> Iterator[str]:
    yield "frames"
    for name in sorted(count.frames, key=_order):
        yield _row(name, count.frames[name], width)
    yield "faults"
    yield _row("queries without an answer", count.unanswered, width)
    yield _row("checksum errors", count.cut.checksum_errors, width)
    yield _row("frames without an end", count.cut.partial_frames, width)
    yield _row("bytes outside a frame", count.outside, width)
    yield _row("lines damaged", reader.damaged, width)
    yield "wire"
    for name, times in sorted(count.notes.items()):
        yield _row(_plain(name), times, width)


def _read(count: CaptureCount, reader: CaptureReader, width: int) -> Iterator[str]:
    yield "readings"
    yield _row("believed", count.believed, width)
    yield _row("held for the next one", count.held, width)
    for reason, times in sorted(count.refused.items()):
        yield _row(f"refused: {reason}", times, width)
    for epoch, values in count.readings:
        told = [f"{values['pac']} W", f"today {values['eDay']} kWh", f"total {values['eTotal']} kWh"]
        yield from _moment_row(epoch, ", ".join(told), width)
    yield "losses"
    yield _row("inverter went away", len(count.losses), width)
    for epoch, why in count.losses[-MOST_LOSSES:]:
        yield from _moment_row(epoch, _plain(why), width)


def _row(name: str, number: int, width: int) -> str:
    return f"  {name:{NAMES_NARROW if width < NARROW else NAMES_WIDE}} {number:7}"


def _moment_row(epoch: float, text: str, width: int) -> Iterator[str]:
    """When, and what; in two lines where one is too narrow."""
    if width < NARROW:
        yield f"  {_date(epoch)}"
        yield f"    {text}"
    else:
        yield f"  {_date(epoch)}  {text}"


def _order(name: str) -> tuple[int, ...]:
    """As they come in a conversation; what is unknown is the last."""
    return KINDS.get(name, (0x100,))


def _times(text: str) -> int:
    """How many lines a note says were dropped; once for any other."""
    first = text.partition(" ")[0]
    return int(first) if first.isdigit() and len(first) < 10 else 1


def _date(epoch: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))
    except (OverflowError, OSError, ValueError):
        return f"{epoch:.0f} s"


def _moment(epoch: float) -> Moment:
    try:
        local = time.localtime(epoch)
    except (OverflowError, OSError, ValueError):
        return Moment(epoch, epoch, "", 0, False)
    return Moment(epoch, epoch, time.strftime("%Y-%m-%d", local), local.tm_hour, True)


def _plain(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)
