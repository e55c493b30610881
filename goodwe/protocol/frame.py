"""AA55 frames: bytes of a wire in, frames with a right checksum out, and back (PROTOCOL 3).

     0    1    2        3             4         5          6        7 ..       7+N
    +----+----+--------+-------------+---------+----------+--------+----------+----------+
    | AA | 55 | source | destination | control | function | length | data (N) | checksum |
    +----+----+--------+-------------+---------+----------+--------+----------+----------+

The checksum is the 16-bit sum of all bytes before it, high byte first.

Theory of operation: a wire is a stream. Zeros stand in front of a frame and stale bytes behind it
(2.3), and AA 55 may be data (3). So a header is believed until its checksum has spoken: nothing
inside a frame that is being collected is looked at; when the checksum is wrong, the search goes on at
the byte after the failed header, and nothing that arrived is lost.
"""

from collections.abc import Callable
from typing import NamedTuple

HEADER = b"\xaa\x55"
OVERHEAD = 9
"""Bytes of a frame around its data: seven in front, two behind."""

OWN_ADDRESS = 0x80
"""Our address as the AP: the vendor program's (PROTOCOL 3)."""
UNREGISTERED = 0x7F
"""Where an inverter without an address of its own listens."""

REGISTER, READ, EXECUTE = 0x00, 0x01, 0x03

NAMES = {
    (REGISTER, 0x00): "off_line_query",
    (REGISTER, 0x80): "register_request",
    (REGISTER, 0x01): "allocate_register_address",
    (REGISTER, 0x81): "address_confirm",
    (REGISTER, 0x02): "remove_register",
    (REGISTER, 0x82): "remove_confirm",
    (READ, 0x01): "query_running_info",
    (READ, 0x81): "running_info",
    (READ, 0x02): "query_id_info",
    (READ, 0x82): "id_info",
    (READ, 0x03): "query_setting_info",
    (READ, 0x83): "setting_info",
}
"""(control code, function code) to the document's word (tables of PROTOCOL 4 and 5)."""
LATER_NAMES = {
    (EXECUTE, 0x1B): "start_inverter",
    (EXECUTE, 0x1C): "stop_inverter",
    (EXECUTE, 0x1E): "limit_power",
    (EXECUTE, 0x9B): "start_inverter_answer",
    (EXECUTE, 0x9C): "stop_inverter_answer",
    (EXECUTE, 0x9E): "limit_power_answer",
}
"""The same for what later documents add (PROTOCOL 7); `decode` calls these unknown (CONTRACT 8)."""
KINDS = {name: kind for kind, name in (NAMES | LATER_NAMES).items()}
ACCEPTED = b"\x06"
"""Data of the answer to an instruction that is obeyed; anything else refuses it (PROTOCOL 7)."""


class Frame(NamedTuple):
    """One packet; `data` are the bytes between length and checksum."""

    source: int
    destination: int
    control: int
    function: int
    data: bytes = b""

    @property
    def kind(self) -> tuple[int, int]:
        """Control and function code: what the frame is about."""
        return self.control, self.function

    @property
    def name(self) -> str:
        """The document's word for the kind, `unknown` without one."""
        return NAMES.get(self.kind, "unknown")

    def encode(self) -> bytes:
        """The frame as it goes on a wire."""
        body = HEADER + bytes((self.source, self.destination, self.control, self.function, len(self.data)))
        body += self.data
        return body + checksum(body)

    def __str__(self) -> str:
        name = LATER_NAMES.get(self.kind, self.name)
        return f"{name} {self.source:02x}>{self.destination:02x} {self.data.hex()}".rstrip()


def frame(name: str, source: int, destination: int, data: bytes = b"") -> Frame:
    """A frame of the kind that the document calls `name`."""
    control, function = KINDS[name]
    return Frame(source, destination, control, function, data)


def checksum(body: bytes) -> bytes:
    """Sum of all bytes, header included, as a big-endian 16-bit number (PROTOCOL 3)."""
    return (sum(body) & 0xFFFF).to_bytes(2, "big")


def to_the_ap(source: int, destination: int) -> bool:
    """True when an inverter is speaking to an AP: bit 7 marks the AP's side (PROTOCOL 3).

    The look-alikes of PROTOCOL 7, Modbus RTU behind AA 55, have a 03 for a destination.
    """
    return destination >= 0x80 > source


def to_the_inverter(source: int, destination: int) -> bool:
    """True when an AP is speaking to an inverter."""
    return source >= 0x80 > destination


def either_way(source: int, destination: int) -> bool:
    """True when exactly one of the two is an AP, as on any wire that one listens to."""
    return to_the_ap(source, destination) or to_the_inverter(source, destination)


class Packet(NamedTuple):
    """A frame, where in the stream it began, and the bytes passed over since the one before."""

    frame: Frame
    offset: int
    skipped: bytes


class Splitter:
    """Cuts a stream of bytes into frames whose two addresses `accepts` takes."""

    def __init__(self, accepts: Callable[[int, int], bool] = to_the_ap) -> None:
        """`accepts` says of a source and a destination whether they can be those of a frame."""
        self._accepts = accepts
        self._buffer = bytearray()
        self._offset = 0
        self._skipped = bytearray()
        self.checksum_errors = 0
        """Headers with as many bytes behind them as they promise, and a wrong sum."""
        self.partial_frames = 0
        """Frames whose end never came."""

    @property
    def collecting(self) -> bool:
        """True when the start of a frame is here and its end is not."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Packet]:
        """The frames that `data`, behind all that was fed before, completes."""
        self._buffer += data
        return self._split()

    def expire(self) -> list[Packet]:
        """Give up the frame being collected; what stands behind its header is searched again.

        To be called when nothing has come for longer than a gap in a frame can be (PROTOCOL 9.2).
        """
        if not self._buffer:
            return []
        self.partial_frames += 1
        self._skip(1)
        return self._split()

    def take_skipped(self) -> bytes:
        """The bytes passed over since the last frame that belong to none; they are then forgotten."""
        skipped = bytes(self._skipped)
        self._skipped.clear()
        return skipped

    def _split(self) -> list[Packet]:
        packets: list[Packet] = []
        while self._find_header():
            end = OVERHEAD + self._buffer[6] if len(self._buffer) > 6 else OVERHEAD
            if len(self._buffer) < end:
                break
            raw = bytes(self._buffer[:end])
            if checksum(raw[:-2]) != raw[-2:]:
                self.checksum_errors += 1
                self._skip(1)
                continue
            packets.append(
                Packet(Frame(raw[2], raw[3], raw[4], raw[5], raw[7:-2]), self._offset, self.take_skipped())
            )
            del self._buffer[:end]
            self._offset += end
        return packets

    def _find_header(self) -> bool:
        """Move the start of the buffer to the next thing that can be a header; False if there is none."""
        while self._buffer:
            at = self._buffer.find(HEADER[:1])
            if at != 0:
                self._skip(len(self._buffer) if at < 0 else at)
                if not self._buffer:
                    return False
            start = bytes(self._buffer[:4])
            second_fits = len(start) < 2 or start[1] == HEADER[1]
            if second_fits and (len(start) < 4 or self._accepts(start[2], start[3])):
                return True
            self._skip(1)
        return False

    def _skip(self, count: int) -> None:
        self._skipped += self._buffer[:count]
        del self._buffer[:count]
        self._offset += count
