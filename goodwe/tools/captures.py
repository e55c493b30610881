"""The file of a capture: what stands in it, written and read back.

    # GoodWeUSBLogger capture, form 1
    # program: 1.0.0
    # began: 2026-11-26T02:50:00+01:00
    # wire: /dev/hidraw0
    # inverter: 15000SIM268W0001, model GW-SIM, on /dev/hidraw0
    (1764125400.123456) /dev/hidraw0 > aa55800b010100018c (query_running_info)
    (1764125400.183456) /dev/hidraw0 < 00000000aa550b80
    (1764125401.000000) /dev/hidraw0 ! offline 15000SIM268W0001: no answer
    # ended: after 600 s

The first line names the form; lines with # are facts, wherever they stand; all others are of traffic.py:
bytes read (<), written (>), or something that happened (!), with the time in seconds since 1970. A frame is
written without the CC 99 n in front of it. Lines that grep left of a capture are one, too; and so is a log of
ours with `loglevel = DEBUG`, whose other lines are passed over.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO

from .. import capture
from ..errors import MAY_NOT_READ, GoodWeError
from ..protocol.fields import SERIAL_LENGTH
from ..protocol.frame import Packet, Splitter, checksum, either_way, to_the_ap, to_the_inverter
from ..traffic import NOTED, READ, WRITTEN

FORM = re.compile(r"# GoodWeUSBLogger capture, form (\d{1,9})\b")
FACT = re.compile(r"# ([a-z]+): (.*)")
BYTES = r"((?:[0-9a-f]{2})+)(?: \(.*)?"
TRAFFIC = re.compile(rf"\((\d{{1,12}}\.\d{{1,9}})\) (.+) ([<>]) {BYTES}")
HAPPENED = re.compile(r"\((\d{1,12}\.\d{1,9})\) (.+?) (!) (.*)")
LOGGED = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) \S+ - [A-Z]+: (?:(\S.*?)(?: [+-][\d.]+ s)? ([<>]) "
    rf"{BYTES}|(Inverter now online\.|Marking inverter @ .*))"
)
LONGEST_LINE = 8192
"""Characters; the longest that we write has some 700."""
FRAME_GAP = 1.0
"""Seconds after which the rest of a frame does not come any more (PROTOCOL 9.2)."""
ENDED, INVERTER = "ended", "inverter"
"""Facts that are looked for."""


class CaptureFileError(GoodWeError):
    """A file that is no capture; the text says what it is, and where."""


class Record(NamedTuple):
    """A line of traffic."""

    epoch: float
    """Seconds since 1970."""
    wire: str
    mark: str
    data: bytes
    """Empty for what happened."""
    text: str = ""
    """Of something that happened, the words for it."""


class CaptureReader:
    """The records of one file, in their order; what is between them is remembered."""

    def __init__(self, lines: Iterable[str], path: str) -> None:
        """`lines` are those of the file, of LONGEST_LINE characters at most; `path` is for messages."""
        self.path = path
        self.facts: list[tuple[str, str]] = []
        """Name and value of each fact, as far as it was read."""
        self.damaged = 0
        """Lines that are none of a capture."""
        self.damage = ""
        """Where the first of them is."""
        self._lines = lines
        self._is_capture = False

    def fact(self, name: str) -> str:
        """The last value of a fact; empty if there is none."""
        return next((value for found, value in reversed(self.facts) if found == name), "")

    def serials(self) -> Mapping[str, str]:
        """The serial of an inverter by the name of its wire, as the facts have it."""
        found = {}
        for value in (value for name, value in self.facts if name == INVERTER):
            found[value[SERIAL_LENGTH:].rpartition(", on ")[2]] = value[:SERIAL_LENGTH]
        return found

    def __iter__(self) -> Iterator[Record]:
        """The records. Raises CaptureFileError for a file that has none, or cannot be read."""
        records = lines = 0
        for number, line in enumerate(self._lines, 1):
            text = line.strip()
            lines += bool(text)
            record = self._record(text)
            if record is not None:
                records += 1
                yield record
            elif text and not self._is_fact(text) and self._is_capture:
                self.damaged += 1
                self.damage = self.damage or f"{self.path}:{number}: not a line of a capture"
        if not records:
            raise CaptureFileError(self._none(lines))

    def _record(self, text: str) -> Record | None:
        if found := TRAFFIC.fullmatch(text):
            self._is_capture = True
            return Record(float(found[1]), found[2], found[3], bytes.fromhex(found[4]))
        if found := HAPPENED.fullmatch(text):
            self._is_capture = True
            return Record(float(found[1]), found[2], NOTED, b"", found[4])
        return None if self._is_capture else _logged(text)

    def _is_fact(self, text: str) -> bool:
        if form := FORM.match(text):
            if int(form[1]) > capture.VERSION:
                newer = f"written by a newer version of this program (form {form[1]}); update this one"
                raise CaptureFileError(f"{self.path}: {newer}")
            self._is_capture = True
        elif fact := FACT.fullmatch(text):
            self.facts.append((fact[1], fact[2]))
        return text.startswith("#")

    def _none(self, lines: int) -> str:
        if not lines:
            return f"{self.path}: it is empty"
        if self._is_capture:
            return self.damage or f"{self.path}: a capture without a line of traffic in it"
        return f"{self.path}: neither a capture nor a log of ours with loglevel = DEBUG"


def _logged(text: str) -> Record | None:
    """The record in a line of our log, if there is one."""
    found = LOGGED.fullmatch(text)
    if found is None:
        return None
    try:
        epoch = time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S")) + int(found[2]) / 1000
    except (ValueError, OverflowError):
        return None
    if found[4]:
        return Record(epoch, found[3], found[4], bytes.fromhex(found[5]))
    text = "online" if found[6].startswith("Inverter") else f"offline {found[6].partition('@ ')[2]}"
    return Record(epoch, "log", NOTED, b"", text)


def is_capture(line: str) -> bool:
    """True if the first line of a text is one of a capture."""
    text = line.strip()
    return bool(FORM.match(text) or TRAFFIC.fullmatch(text) or HAPPENED.fullmatch(text))


def lines_of(file: TextIO, path: str) -> Iterator[str]:
    """The lines of a file, the longest cut in pieces. Raises CaptureFileError when it cannot be read."""
    while True:
        try:
            line = file.readline(LONGEST_LINE)
        except OSError as error:
            raise unreadable(path, error) from error
        if not line:
            return
        yield line


def opened(path: str) -> TextIO:
    """The file at a path, as text. Raises CaptureFileError."""
    try:
        return open(path, encoding="utf-8", errors="replace")
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> CaptureFileError:
    """The error for a file that cannot be read."""
    remedy = f"; {MAY_NOT_READ}" if isinstance(error, PermissionError) else ""
    return CaptureFileError(f"cannot read {path}: {error.strerror}{remedy}")


# --- frames out of the records


class Frames:
    """Cuts the records into frames: each wire and direction is a stream of its own."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str], tuple[Splitter, float]] = {}
        """By wire and mark; with the time of the last bytes."""

    def feed(self, record: Record) -> list[Packet]:
        """The frames that a record completes, behind what could not become one."""
        if record.mark not in (READ, WRITTEN):
            return []
        key = record.wire, record.mark
        new = Splitter(to_the_ap if record.mark == READ else to_the_inverter)
        splitter, last = self._streams.get(key) or (new, record.epoch)
        packets = splitter.expire() if splitter.collecting and record.epoch - last >= FRAME_GAP else []
        self._streams[key] = splitter, record.epoch
        return packets + splitter.feed(record.data)

    def finish(self) -> list[tuple[str, Packet]]:
        """The frames that are left behind what never became one, each with its wire."""
        left = []
        for (wire, _), (splitter, _) in self._streams.items():
            while splitter.collecting:
                left += [(wire, packet) for packet in splitter.expire()]
        return left

    def take_skipped(self) -> bytes:
        """The bytes of all streams behind their last frames; they are then forgotten."""
        return b"".join(splitter.take_skipped() for splitter, _ in self._streams.values())

    @property
    def checksum_errors(self) -> int:
        """Headers with as many bytes behind them as they promise, and a wrong sum."""
        return sum(splitter.checksum_errors for splitter, _ in self._streams.values())

    @property
    def partial_frames(self) -> int:
        """Frames whose end never came."""
        return sum(splitter.partial_frames for splitter, _ in self._streams.values())


# --- written


def head(facts: Mapping[str, Any]) -> str:
    """The lines in front of a capture; `facts` are those of goodwe/capture.py."""
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(facts["began_epoch"]))
    lines = [
        f"# GoodWeUSBLogger capture, form {facts['version']}",
        fact("program", facts["program"]),
        fact("began", began),
        *(fact("wire", wire) for wire in facts["wires"]),
        *(inverter(each["serial"], each["model"], each["wire"]) for each in facts["inverters"]),
    ]
    return "".join(f"{line}\n" for line in lines)


def inverter(serial: str, model: str | None, wire: str) -> str:
    """The line that says which inverter is on a wire."""
    return fact(INVERTER, f"{serial}, model {model or 'unknown'}, on {wire}")


def fact(name: str, value: object) -> str:
    """A line with a fact."""
    return f"# {name}: {''.join(c if c.isprintable() else '?' for c in str(value))}"


# --- with other serials


def with_serials(text: str, others: Mapping[str, str]) -> str:
    """The text of a capture or a log, its bytes included, with other serials of the same length."""
    lines = text.split("\n")
    streams: dict[tuple[str, str], list[int]] = {}
    for number, line in enumerate(lines):
        if found := IN_LINE.search(line):
            streams.setdefault((found[1], found[2]), []).append(number)
    for numbers in streams.values():
        parts = [IN_LINE.search(lines[number]) for number in numbers]
        raw = [bytes.fromhex(part[3]) for part in parts if part is not None]
        stream, at = _replaced(b"".join(raw), others), 0
        for number, part, old in zip(numbers, parts, raw, strict=True):
            assert part is not None  # found above
            lines[number] = (
                lines[number][: part.start(3)]
                + stream[at : at + len(old)].hex()
                + lines[number][part.end(3) :]
            )
            at += len(old)
    return "\n".join(lines)


IN_LINE = re.compile(r"(\S+)(?: [+-][\d.]+ s)? ([<>]) ((?:[0-9a-f]{2})+)")
"""Wire, mark and bytes in a line of a capture or of our log."""


def _replaced(stream: bytes, others: Mapping[str, str]) -> bytes:
    """The same bytes with other serials, and sums that are as right or wrong as before."""
    new = stream
    for serial, other in others.items():
        new = new.replace(serial.encode(), other.encode())
    out = bytearray(new)
    splitter = Splitter(either_way)
    packets = splitter.feed(stream)
    while splitter.collecting:
        packets += splitter.expire()
    for packet in packets:
        end = packet.offset + len(packet.frame.encode())
        out[end - 2 : end] = checksum(bytes(out[packet.offset : end - 2]))
    return bytes(out)
