"""Frames recorded from real inverters, each with its source: see captures.json."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ALL: dict[str, dict[str, Any]] = {
    capture["id"]: capture for capture in json.loads((FOLDER / "captures.json").read_text("utf-8"))
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
