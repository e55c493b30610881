"""A USB device that is not there: the device side of USB/IP on the kernel's vhci_hcd.

Runs in the guest, as root: python3 virtual_usb.py STAND_IN_SOCKET [VENDOR PRODUCT]. It plugs in a device
with the inverter's descriptors; behind it is whoever listens on the stand-in's socket (the project's
simulator). SIGTERM pulls the plug. Standard library only.

What reaches the device by SET_REPORT goes to the socket as a hidraw write would: the report number (from
wValue: the kernel has taken it off the data) and the data. What the socket sends is an input report.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import sys
from collections import deque
from pathlib import Path

VENDOR, PRODUCT = (int(number, 16) for number in sys.argv[2:4] or ("0084", "0041"))
VHCI = Path("/sys/devices/platform/vhci_hcd.0")
FULL_SPEED = 2
PORT_IS_FREE = "004"

# 8-byte input and output reports of a vendor's page, without report numbers (PROTOCOL 2.1, 2.3)
REPORT_DESCRIPTOR = bytes.fromhex("0600ff0901a101150026ff007508950809018102950809019102c0")
DEVICE_DESCRIPTOR = struct.pack(
    "<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0, 0, 0, 8, VENDOR, PRODUCT, 0x0100, 1, 2, 0, 1
)
HID_DESCRIPTOR = struct.pack("<BBHBBBH", 9, 0x21, 0x0111, 0, 1, 0x22, len(REPORT_DESCRIPTOR))
_INTERFACE = struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 1, 3, 0, 0, 0)
_ENDPOINT = struct.pack("<BBBBHB", 7, 5, 0x81, 3, 8, 10)  # interrupt IN, 8 bytes, every 10 ms; no OUT
_PARTS = _INTERFACE + HID_DESCRIPTOR + _ENDPOINT
CONFIGURATION_DESCRIPTOR = struct.pack("<BBHBBBBB", 9, 2, 9 + len(_PARTS), 1, 1, 0, 0x80, 50) + _PARTS
STRINGS = {1: "GoodWe", 2: "Virtual inverter"}

SUBMIT, UNLINK, RET_SUBMIT, RET_UNLINK = 1, 2, 3, 4
HEADER = struct.Struct(">IIIIIIIIII8s")
"""Command, number, device, direction, endpoint, then flags, length, frame, packets, interval and setup."""
UNLINKED = -104  # -ECONNRESET
STALL = -32  # -EPIPE


def descriptor(kind: int, index: int) -> bytes | None:
    """The answer to GET_DESCRIPTOR."""
    if kind == 3:
        if index == 0:
            return struct.pack("<BBH", 4, 3, 0x0409)
        text = STRINGS.get(index, "").encode("utf-16-le")
        return bytes((2 + len(text), 3)) + text
    fixed = {1: DEVICE_DESCRIPTOR, 2: CONFIGURATION_DESCRIPTOR, 0x21: HID_DESCRIPTOR, 0x22: REPORT_DESCRIPTOR}
    return fixed.get(kind)


class Device:
    """Answers the kernel's requests on one end of a socket pair; the other end is vhci's."""

    def __init__(self, kernel: socket.socket, inverter: socket.socket) -> None:
        self._kernel = kernel
        self._inverter = inverter
        self._reports: deque[bytes] = deque()
        self._waiting: deque[int] = deque()
        """Numbers of the interrupt requests that nothing has answered yet."""

    def run(self) -> None:
        """Until one of the two ends is closed."""
        while True:
            ready, _, _ = select.select([self._kernel, self._inverter], [], [])
            if self._inverter in ready:
                report = self._inverter.recv(4096)
                if not report:
                    return
                self._reports.append(report)
                self._answer_waiting()
            if self._kernel in ready and not self._request():
                return

    def _request(self) -> bool:
        header = self._receive(HEADER.size)
        if header is None:
            return False
        command, number, _, direction, endpoint, flags, length, _, _, _, setup = HEADER.unpack(header)
        if command == UNLINK:
            self._unlink(number, unlinked=flags)
            return True
        data = b""
        if direction == 0 and length:
            received = self._receive(length)
            if received is None:
                return False
            data = received
        if endpoint == 0:
            self._control(number, setup, data)
        else:
            self._waiting.append(number)
            self._answer_waiting()
        return True

    def _control(self, number: int, setup: bytes, data: bytes) -> None:
        kind, request, value, _, length = struct.unpack("<BBHHH", setup)
        if kind & 0x80:
            answer = descriptor(value >> 8, value & 0xFF) if request == 6 else None
            if answer is None:
                self._reply(number, STALL)
            else:
                self._reply(number, 0, answer[:length])
            return
        if (kind, request) == (0x00, 9):  # SET_CONFIGURATION: plugged in, or its port was reset
            print("configured", flush=True)
        if (kind, request) == (0x21, 9):  # SET_REPORT
            with contextlib.suppress(OSError):
                self._inverter.send(bytes([value & 0xFF]) + data)
        self._reply(number, 0, actual=len(data))

    def _answer_waiting(self) -> None:
        while self._reports and self._waiting:
            self._reply(self._waiting.popleft(), 0, self._reports.popleft())

    def _unlink(self, number: int, *, unlinked: int) -> None:
        there = unlinked in self._waiting
        if there:
            self._waiting.remove(unlinked)
        self._kernel.sendall(struct.pack(">IIIIIi24x", RET_UNLINK, number, 0, 0, 0, UNLINKED if there else 0))

    def _reply(self, number: int, status: int, data: bytes = b"", actual: int = 0) -> None:
        length = actual or len(data)
        header = struct.pack(">IIIIIiIIII8x", RET_SUBMIT, number, 0, 0, 0, status, length, 0, 0, 0)
        self._kernel.sendall(header + data)

    def _receive(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            part = self._kernel.recv(size - len(data))
            if not part:
                return None
            data += part
        return data


def free_port() -> int:
    """Number of a port of the virtual hub that nothing is plugged into."""
    for line in (VHCI / "status").read_text().splitlines()[1:]:
        _, port, state, *_ = line.split()
        if state == PORT_IS_FREE:
            return int(port)
    raise SystemExit("no free port on vhci_hcd")


def main(path: str) -> None:
    """Plug in, serve, and unplug at SIGTERM or when the stand-in is gone."""
    inverter = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    inverter.connect(path)
    ours, kernels = socket.socketpair()
    port = free_port()
    (VHCI / "attach").write_text(f"{port} {kernels.fileno()} {0x10000 + port} {FULL_SPEED}")
    kernels.close()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"plugged into port {port}", flush=True)
    try:
        Device(ours, inverter).run()
    finally:
        with contextlib.suppress(OSError):
            (VHCI / "detach").write_text(str(port))
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
