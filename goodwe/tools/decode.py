"""`decode`: hexadecimal bytes in, one JSON object a line for each frame found (CONTRACT 8)."""

import argparse
import re
import sys
from typing import TextIO

import simplejson

from .. import program
from ..errors import FieldError
from ..protocol import fields
from ..protocol.fields import Values
from ..protocol.frame import Frame, Packet, Splitter, either_way
from ..transport.hidraw import ENVELOPE

PREFIX_LENGTH = len(ENVELOPE) + 1
"""CC 99 n in front of a frame that goes to the inverter."""
LOGGED = re.compile(r" [<>] ((?:[0-9a-f]{2})+)(?: \(.*)?$", re.MULTILINE)
"""Bytes in a line of our own log, from the inverter or to it."""


def main(
    arguments: list[str],
    *,
    source: TextIO | None = sys.stdin,
    out: TextIO = sys.stdout,
    err: TextIO = sys.stderr,
) -> int:
    """Decode the arguments, or the source without any; 0 if there was at least one frame."""
    parser = argparse.ArgumentParser(
        prog=f"{program.name()} decode", description="Explain bytes of the wire."
    )
    source_help = "bytes, two digits each; none: standard input, which may also be our log"
    parser.add_argument("hex", nargs="*", metavar="HEX", help=source_help)
    arguments = parser.parse_args(arguments).hex
    try:
        text = " ".join(arguments) if arguments else _read(source)
        text = " ".join(LOGGED.findall(text)) or text
        data = bytes.fromhex(re.sub(r"0[xX]|[\s,]", "", text))
    except ValueError:  # also of bytes that are no text
        print("decode: not hexadecimal bytes, two digits each, such as AA55807F00000001FE", file=err)
        return 1
    except OSError as error:
        print(f"decode: cannot read standard input: {error.strerror}", file=err)
        return 1
    splitter = Splitter(either_way)
    packets = splitter.feed(data)
    while splitter.collecting:
        packets += splitter.expire()
    dropped = len(splitter.take_skipped())
    prefixes = 0
    for packet in packets:
        prefix = _prefix(packet)
        prefixes += prefix
        dropped += len(packet.skipped) - prefix
        print(simplejson.dumps(described(packet.frame, packet.offset - prefixes)), file=out)
    summary = {"frames": len(packets), "droppedBytes": dropped, "checksumErrors": splitter.checksum_errors}
    print(simplejson.dumps(summary), file=out, flush=True)
    return 0 if packets else 1


def _read(source: TextIO | None) -> str:
    """All of it; a standard input that was closed is none. Raises OSError, ValueError."""
    return source.read() if source is not None else ""


def described(frame: Frame, offset: int) -> dict[str, object]:
    """A frame in the keys of CONTRACT 8."""
    return {
        "name": frame.name,
        "offset": offset,
        "source": frame.source,
        "destination": frame.destination,
        "control": frame.control,
        "function": frame.function,
        "length": len(frame.data),
        "values": _values(frame),
    }


def _prefix(packet: Packet) -> int:
    """Bytes of CC 99 n right in front of the frame: part of it on USB, so neither counted nor dropped."""
    length = len(packet.frame.encode())
    if length > 0xFF:  # n is one byte: such a frame, not of USB, has none
        return 0
    return PREFIX_LENGTH if packet.skipped.endswith(ENVELOPE + bytes([length])) else 0


def _values(frame: Frame) -> Values:
    """The decoded payload; what cannot be decoded says why."""
    try:
        match frame.name:
            case "running_info":
                return {"function": frame.function, **fields.decode_running(frame.data)}
            case "id_info":
                return fields.decode_id(frame.data)
            case "setting_info":
                return fields.decode_setting(frame.data)
            case "register_request":
                return {"serial": fields.decode_serial(frame.data)}
            case "allocate_register_address":
                return {"serial": fields.decode_serial(frame.data[:-1]), "address": frame.data[-1]}
    except (FieldError, IndexError) as error:
        return {"error": str(error), "data": frame.data.hex()}
    return {"data": frame.data.hex()} if frame.data else {}
