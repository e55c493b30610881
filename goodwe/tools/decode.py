"""`decode`: hexadecimal bytes or a capture in, one JSON object a line for each frame found (CONTRACT 8)."""

import argparse
import io
import os
import re
import sys
from collections.abc import Iterator
from itertools import chain
from typing import TextIO

import simplejson

from .. import program
from ..errors import FieldError, GoodWeError
from ..protocol import fields
from ..protocol.fields import Values
from ..protocol.frame import Frame, Packet, Splitter, either_way
from ..transport.hidraw import ENVELOPE
from . import pcapng, summary
from .captures import CaptureReader, Frames, is_capture, lines_of, opened, unreadable

PREFIX_LENGTH = len(ENVELOPE) + 1
"""CC 99 n in front of a frame that goes to the inverter."""
LOGGED = re.compile(r" [<>] ((?:[0-9a-f]{2})+)(?: \(.*)?$", re.MULTILINE)
"""Bytes in a line of our own log, from the inverter or to it."""
DIGITS = re.compile(r"[0-9a-fA-FxX,\s]+")
STDIN, STDIN_SIGN = "standard input", "-"
MOST_TEXT = 100_000_000
"""Characters of a text that is no capture; it is decoded as a whole."""


def main(
    arguments: list[str],
    *,
    source: TextIO | None = sys.stdin,
    out: TextIO = sys.stdout,
    err: TextIO = sys.stderr,
) -> int:
    """Decode the arguments, or the source without any; 0 if there was at least one frame."""
    options = parse(arguments)
    path = _file_counted(options) if options.summary or options.pcapng else _file_among(options.hex)
    try:
        if options.hex and path is None and not (options.summary or options.pcapng):
            return _decoded(" ".join(options.hex), out)
        if path is None:
            with io.StringIO(_all_of(source)) as file:
                return _explained(file, STDIN, options, out, err)
        with opened(path) as file:
            return _explained(file, path, options, out, err)
    except ValueError:  # also of bytes that are no text
        where = f"{path}: " if path is not None else ""
        wanted = "not hexadecimal bytes, two digits each, such as AA55807F00000001FE"
        print(f"decode: {where}{wanted}{', nor a capture' if where else ''}", file=err)
        return 1
    except GoodWeError as error:
        print(f"decode: {error}", file=err)
        return 1


def parser() -> argparse.ArgumentParser:
    """The words and options that may stand behind the verb."""
    made = argparse.ArgumentParser(
        prog=f"{program.name()} decode",
        description="Explain bytes of the wire, of a capture or of a log with loglevel = DEBUG.",
        epilog="exit code: 0 if there was a frame, else 1",
    )
    source_help = "bytes, two digits each, or a file; none: standard input, which may also be our log"
    made.add_argument("hex", nargs="*", metavar="HEX|FILE", help=source_help)
    which = made.add_mutually_exclusive_group()
    which.add_argument("--summary", action="store_true", help="count what a capture or a log has in it")
    which.add_argument("--pcapng", metavar="OUT", help="write a capture to OUT, for Wireshark")
    return made


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    return parser().parse_args(arguments)


def _file_counted(options: argparse.Namespace) -> str | None:
    """The file that is counted or converted, whatever its name; None for the standard input."""
    if len(options.hex) > 1:
        parser().error("--summary and --pcapng take one file")
    return next((path for path in options.hex if path != STDIN_SIGN), None)


def _file_among(arguments: list[str]) -> str | None:
    """The argument that is the path of a file; None if they are bytes."""
    if len(arguments) != 1 or DIGITS.fullmatch(arguments[0]):
        return None
    (argument,) = arguments
    return argument if os.path.exists(argument) or re.search(r"[./]", argument) else None


def _all_of(source: TextIO | None) -> str:
    """The text of the standard input; one that was closed has none. Raises GoodWeError, ValueError."""
    try:
        return source.read() if source is not None else ""
    except OSError as error:
        raise unreadable(STDIN, error) from error


def _explained(file: TextIO, path: str, options: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    """Decode, count or convert what is in a file. Raises GoodWeError, ValueError."""
    lines = lines_of(file, path)
    first = list(_up_to_text(lines))
    lines = chain(first, lines)
    if options.summary or options.pcapng or (first and is_capture(first[-1])):
        reader = CaptureReader(lines, path)
        if options.summary:
            code = summary.main(reader, out)
        elif options.pcapng:
            code = pcapng.main(reader, options.pcapng)
        else:
            code = _decoded_capture(reader, out)
        if reader.damaged:
            print(f"decode: {reader.damage}; {reader.damaged} left out", file=err)
        return code
    text, size = [], 0
    for line in lines:
        text.append(line)
        size += len(line)
        if size > MOST_TEXT:
            raise GoodWeError(f"{path}: too large for one that is no capture")
    return _decoded("".join(text), out)


def _up_to_text(lines: Iterator[str]) -> Iterator[str]:
    """The lines up to the first that is not blank."""
    for line in lines:
        yield line
        if line.strip():
            return


def _decoded_capture(reader: CaptureReader, out: TextIO) -> int:
    """Print each frame of a capture with its time and wire, and the sum; 0 if there was one."""
    frames = Frames()
    found = dropped = 0
    for record in reader:
        for packet in frames.feed(record):
            found, dropped = found + 1, dropped + len(packet.skipped)
            told = {"time": record.epoch, "wire": record.wire, **described(packet.frame, packet.offset)}
            print(simplejson.dumps(told), file=out)
    for wire, packet in frames.finish():
        found, dropped = found + 1, dropped + len(packet.skipped)
        told = {"time": record.epoch, "wire": wire, **described(packet.frame, packet.offset)}
        print(simplejson.dumps(told), file=out)
    _print_sum(found, dropped + len(frames.take_skipped()), frames.checksum_errors, out)
    return 0 if found else 1


def _print_sum(frames: int, dropped: int, checksum_errors: int, out: TextIO) -> None:
    total = {"frames": frames, "droppedBytes": dropped, "checksumErrors": checksum_errors}
    print(simplejson.dumps(total), file=out, flush=True)


def _decoded(text: str, out: TextIO) -> int:
    """Print each frame in a text of hexadecimal bytes, or in a log, and the sum; 0 if there was one.

    Raises ValueError.
    """
    text = " ".join(LOGGED.findall(text)) or text
    data = bytes.fromhex(re.sub(r"0[xX]|[\s,]", "", text))
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
    _print_sum(len(packets), dropped, splitter.checksum_errors, out)
    return 0 if packets else 1


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
