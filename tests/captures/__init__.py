"""Frames recorded from real inverters, each with its source: see captures.json.

A file that `capture` wrote is put beside it as NAME.capture, as it is: its frames are in ALL as well, and whole
it is played by test_replay.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goodwe.protocol.frame import Packet
from goodwe.tools.captures import CaptureReader, Frames, lines_of, opened
from goodwe.traffic import READ

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.capture"))
KINDS = {
    "off_line_query": "off-line query",
    "register_request": "register request",
    "allocate_register_address": "allocate address",
    "address_confirm": "address confirm",
    "remove_register": "remove register",
    "query_running_info": "query running info",
    "running_info": "running info",
    "id_info": "ID info",
}
"""The name of a frame to its kind in captures.json."""
MOST = 3
"""Frames of one kind that are taken out of a file."""


def _frames(path: Path) -> Iterator[tuple[str, Packet]]:
    frames = Frames()
    with opened(str(path)) as file:
        for record in CaptureReader(lines_of(file, str(path)), str(path)):
            yield from ((record.mark, packet) for packet in frames.feed(record))
    yield from ((READ, packet) for _, packet in frames.finish())


def _out_of(path: Path) -> Iterator[dict[str, Any]]:
    """Some frames of each kind in a file, in the form of captures.json."""
    seen: dict[str, set[bytes]] = {}
    for mark, (frame, _, skipped) in _frames(path):
        raw, known = frame.encode(), seen.setdefault(frame.name, set())
        if raw in known or len(known) == MOST:
            continue
        known.add(raw)
        yield {
            "id": f"{path.stem}-{frame.name}-{len(known)}",
            "direction": "inv->AP" if mark == READ else "AP->inv",
            "hex": ((b"" if any(skipped) else skipped) + raw).hex(),
            "kind": KINDS.get(frame.name, frame.name),
            "checksum_ok": True,
            "decoded": {
                "src": f"{frame.source:02x}",
                "dst": f"{frame.destination:02x}",
                "ctrl": f"{frame.control:02x}",
                "func": f"{frame.function:02x}",
                "len": len(frame.data),
            },
        }


ALL: dict[str, dict[str, Any]] = {
    capture["id"]: capture
    for capture in [
        *json.loads((FOLDER / "captures.json").read_text("utf-8")),
        *(frame for path in FILES for frame in _out_of(path)),
    ]
}
GOLDEN_JSON = (FOLDER / "golden_usb66.json").read_text("utf-8")


def raw(name: str) -> bytes:
    """The bytes of a capture, with what stood around the frame."""
    return bytes.fromhex(ALL[name]["hex"])


def data(name: str) -> bytes:
    """The data part of the frame in a capture; of the captures that are only that, all."""
    stream = raw(name)
    at = stream.find(b"\xaa\x55")
    return stream if at < 0 else stream[at + 7 : at + 7 + stream[at + 6]]
