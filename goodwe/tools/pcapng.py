"""A capture as pcapng, for Wireshark: USB as Linux's usbmon shows it (LINKTYPE_USB_LINUX_MMAPPED).

Reports read are interrupt transfers of endpoint 0x81, frames written are SET_REPORTs with the CC 99 n of
PROTOCOL 2.2. Bus and device number are not in a capture: the first wire is device 1 of bus 1, the next is
device 2.
"""

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from functools import partial

from ..errors import GoodWeError
from ..traffic import NOTED, READ
from ..transport.hidraw import REPORT_NUMBER, wrap
from .captures import CaptureReader, Record

SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
"""Types of blocks."""
USB_LINUX_MMAPPED = 220
BYTE_ORDER = 0x1A2B3C4D
COMMENT = 1
"""Code of an option that every block can have."""
INTERRUPT, CONTROL = 1, 2
SET_REPORT = struct.Struct("<BBHHH")
URB = struct.Struct("<QBBBBHBBqiiII8siiII")
"""struct mon_bin_hdr of the kernel's usbmon."""
PRESENT, ABSENT = b"\0", b"-"
LONGEST_FRAME = 0xFF
"""CC 99 n has one byte for it."""


def main(reader: CaptureReader, path: str) -> int:
    """Write the records to a new file at `path`; the exit code is 0. Raises GoodWeError."""
    try:
        file = open(path, "xb")  # noqa: SIM115 (what a close raises is to be told from what reading does)
    except FileExistsError:
        raise GoodWeError(f"{path} is there already; name another file") from None
    except OSError as error:
        raise GoodWeError(f"cannot write {path}: {error.strerror}; name another file") from error
    try:
        for block in blocks(reader):
            _doing(path, partial(file.write, block))
        _doing(path, file.close)
    except BaseException:  # whatever it is goes on; half a file is of no use
        with contextlib.suppress(OSError):
            file.close()
        os.unlink(path)
        raise
    return 0


def blocks(reader: CaptureReader) -> Iterator[bytes]:
    """The blocks of the file: section, interface, then one for each record with bytes."""
    yield _block(SECTION, struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1))
    yield _block(INTERFACE, struct.pack("<HHI", USB_LINUX_MMAPPED, 0, 0))
    devices: dict[str, int] = {}
    notes: list[str] = []
    for record in reader:
        device = devices.setdefault(record.wire, len(devices) + 1)
        if record.mark == NOTED:  # stands as a comment beside the packet that follows
            notes.append(f"{record.wire}: {record.text}")
            continue
        yield _packet(record, device & 0x7F, "; ".join(notes))
        notes.clear()


def _packet(record: Record, device: int, comment: str) -> bytes:
    microseconds = round(record.epoch * 1_000_000)
    seconds, rest = divmod(microseconds, 1_000_000)
    setup = bytes(SET_REPORT.size)
    if record.mark == READ:
        kind, transfer, endpoint, has_setup, data = b"C", INTERRUPT, 0x81, ABSENT, record.data
    else:
        data = record.data if len(record.data) > LONGEST_FRAME else wrap(record.data)[len(REPORT_NUMBER) :]
        kind, transfer, endpoint, has_setup = b"S", CONTROL, 0, PRESENT
        setup = SET_REPORT.pack(0x21, 0x09, 0x0200, 0, len(data))
    urb = URB.pack(
        microseconds,
        kind[0],
        transfer,
        endpoint,
        device,
        1,
        has_setup[0],
        PRESENT[0],
        seconds,
        rest,
        0,
        len(data),
        len(data),
        setup,
        0,
        0,
        0,
        0,
    )
    packet = urb + data
    high, low = divmod(microseconds, 1 << 32)
    head = struct.pack("<IIIII", 0, high & 0xFFFFFFFF, low, len(packet), len(packet))
    return _block(PACKET, head + _padded(packet) + (_option(COMMENT, comment) if comment else b""))


def _option(code: int, text: str) -> bytes:
    raw = text.encode()[:0xFFFF]
    return struct.pack("<HH", code, len(raw)) + _padded(raw) + struct.pack("<HH", 0, 0)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _doing(path: str, step: Callable[[], object]) -> None:
    try:
        step()
    except OSError as error:
        raise GoodWeError(f"cannot write {path}: {error.strerror}") from error
