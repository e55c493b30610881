"""Captures: what the program tells of its wires to who captures them, and the verbs that write, play and count them."""

import errno
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from goodwe.capture import MISSED, CaptureFeed, facts
from goodwe.protocol import fields
from goodwe.protocol.frame import frame
from goodwe.tools import capture, captures, client, decode, pcapng, summary
from goodwe.tools.capture import CaptureError, CaptureWriter
from goodwe.tools.captures import CaptureReader, Frames, lines_of
from goodwe.traffic import Line, Tap, packed, unpacked

from .broker import PATIENCE, free_port, wait_for
from .captures import FILES
from .children import unmeasured
from .test_link import SERIAL, Plugged
from .test_program import GOODWE, House
from .test_replay import simulated

GOLDEN = Path(__file__).parent / "golden"
BAD_WIRE = next(path for path in FILES if path.stem == "simulated-bad-wire")

# what the running program tells


def heard(tap: Tap) -> list[tuple[float, str, str, str]]:
    """All that a listener at the tap will hear."""
    lines = []
    tap.listeners.append(lambda *line: lines.append(line))
    return lines


def test_who_listens_hears_what_is_read_and_written_and_what_befalls_the_wire():
    tap = Tap()
    lines = heard(tap)
    plugged = Plugged(tap=tap)
    plugged.register()
    plugged.read()
    plugged.wire.write_error = OSError(5, "Input/output error")
    plugged.run(4.0)
    plugged.link.stop("the program ends", gone=True)
    assert {wire for _, wire, _, _ in lines} == {"wire"}
    assert [when for when, *_ in lines] == sorted(when for when, *_ in lines)
    assert lines[0] == (0.0, "wire", "!", "opened")
    assert lines[1] == (0.0, "wire", ">", "aa55800b000200018c (remove_register)")
    assert next(text for _, _, mark, text in lines if mark == "<").startswith("aa557f800080")
    notes = [text for _, _, mark, text in lines if mark == "!"]
    assert notes[0:2] == ["opened", f"online {SERIAL} at address 11"]
    assert notes[2] == "write failed: Input/output error"
    assert notes[-2:] == [f"offline {SERIAL}: the program ends", "closed: the program ends"]


def test_nobody_listening_costs_no_line():
    plugged = Plugged(tap=Tap())
    plugged.register()
    plugged.read()
    assert plugged.published


def test_note_has_one_line_whatever_an_inverter_calls_itself():
    tap = Tap()
    lines = heard(tap)
    tap.note(1.0, "wire", "online 1500\n(1.0) wire < ff\x1b[2J at address 11")
    assert lines == [(1.0, "wire", "!", "online 1500?(1.0) wire < ff?[2J at address 11")]


def test_line_of_the_feed_has_the_time_of_day():
    taken = []
    CaptureFeed(lambda line: taken.append(line) or True, 1_764_125_400.0)(0.25, "/dev/hidraw0", "<", "00aa")
    assert taken == ["(1764125400.250000) /dev/hidraw0 < 00aa"]


def test_what_is_not_taken_is_counted_and_told_in_front_of_the_next_line():
    taken, room = [], []

    def take(line):
        if not room:
            return False
        room.pop()
        taken.append(line)
        return True

    feed = CaptureFeed(take, 0.0)
    for n in range(3):
        feed(float(n), "wire", "<", f"0{n}")
    room.extend([1])
    feed(3.0, "wire", "<", "03")
    assert taken == [f"(3.000000) wire ! 3 {MISSED}"], "there was room for that alone"
    room.extend([1, 1])
    feed(4.0, "wire", "<", "04")
    assert taken[1:] == [f"(4.000000) wire ! 1 {MISSED}", "(4.000000) wire < 04"]


def test_facts_name_each_wire_and_who_is_on_it():
    status = {
        "links": [
            {"name": "/dev/hidraw0", "bus": {"inverters": {SERIAL: {}}}},
            {"name": "/dev/hidraw1", "bus": {"inverters": {}}},
        ],
        "inverters": {SERIAL: {"model": "GW-SIM"}},
    }
    told = facts(12.5, status)
    assert (told["version"], told["began_epoch"]) == (1, 12.5)
    assert told["wires"] == ["/dev/hidraw0", "/dev/hidraw1"]
    assert told["inverters"] == [{"serial": SERIAL, "model": "GW-SIM", "wire": "/dev/hidraw0"}]


# the minute before a loss, kept


def test_minute_before_a_loss_is_kept_whole_and_small():
    chance = random.Random(1)
    lines, now = [], 1000.0
    for _ in range(
        24
    ):  # a minute at the usual rate: a query, an answer of 11 reports, with the jitter of a loop
        lines.append(Line(now, ">", bytes.fromhex("aa55800b010100018c")))
        now += 0.05 + chance.random() / 500
        for _ in range(11):
            lines.append(Line(now, "<", chance.randbytes(4) + bytes(4)))
            now += 0.01 + chance.random() / 500
        now += 2.3
    kept = packed(lines, now)
    assert len(kept) < 5000
    again = unpacked(kept)
    assert [line[1:] for line in again] == [line[1:] for line in lines]
    assert [line.when for line in again] == pytest.approx([line.when - now for line in lines], abs=1e-6)
    assert unpacked(packed([], now)) == []


# the file


def text_of(lines, *facts_):
    return "\n".join(["# GoodWeUSBLogger capture, form 1", *facts_, *lines]) + "\n"


def read(text):
    reader = CaptureReader(lines_of(io.StringIO(text), "test"), "test")
    return reader, list(reader)


def test_head_and_facts_are_read_as_they_were_written():
    told = {
        "version": 1,
        "program": "1.0.0",
        "began_epoch": 1_764_125_400.0,
        "wires": ["/dev/hidraw0"],
        "inverters": [{"serial": SERIAL, "model": None, "wire": "unix:/with, on/and space"}],
    }
    later = captures.inverter(SERIAL, "GW-SIM", "/dev/hidraw0")
    reader, records = read(captures.head(told) + f"(1.5) /dev/hidraw0 < 00ff\n{later}\n# ended: after 1 s\n")
    assert records == [captures.Record(1.5, "/dev/hidraw0", "<", b"\0\xff")]
    assert (reader.fact("program"), reader.fact("wire"), reader.fact("ended")) == (
        "1.0.0",
        "/dev/hidraw0",
        "after 1 s",
    )
    assert reader.fact("unheard-of") == ""
    assert reader.serials()["/dev/hidraw0"] == SERIAL
    assert reader.damaged == 0


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ("(12.5) /dev/hidraw0 < 00ff", (12.5, "/dev/hidraw0", "<", b"\0\xff", "")),
        ("  (12.5) /dev/hidraw0 > 00ff (remove_register)\r", (12.5, "/dev/hidraw0", ">", b"\0\xff", "")),
        ("(12.5) unix:/a path < with > marks < 00", (12.5, "unix:/a path < with > marks", "<", b"\0", "")),
        ("(12.5) wire ! closed: silent", (12.5, "wire", "!", b"", "closed: silent")),
        ("(12.5) wire ! offline 1 ! 2 < 00", (12.5, "wire", "!", b"", "offline 1 ! 2 < 00")),
    ],
)
def test_line_of_traffic(line, record):
    # The last one could be a report of a wire with a strange name; a note that ends so has none of ours.
    reader, records = read(text_of([line]))
    if line.endswith("2 < 00"):
        assert records[0].mark == "<"
    else:
        assert records == [captures.Record(*record)]
    assert reader.damaged == 0


@pytest.mark.parametrize("line", ["(12.5) wire < 0", "(12.5) wire < ", "(1e9) wire < 00", "12.5 wire < 00", "(12.5) < 00", "x" * 20_000])  # fmt: skip
def test_line_that_is_damaged_is_counted_and_named(line):
    reader, records = read(text_of(["(1.0) wire < 00", line, "(2.0) wire < 01"]))
    assert [record.data for record in records] == [b"\0", b"\1"]
    assert reader.damage == "test:3: not a line of a capture"
    assert reader.damaged == (1 if len(line) < 8192 else 3)


def test_lines_that_grep_left_are_a_capture():
    day = simulated(poll=2.5)
    day.run(30.0)
    grepped = [line for line in day.lines if " > " in line]
    reader, records = read("\n".join(grepped))
    assert len(records) == len(grepped)
    assert reader.damaged == 0


def test_frames_of_wires_and_directions_are_kept_apart():
    """A frame of ours between the reports of an answer does not break it."""
    frames, found = Frames(), []
    for record in CaptureReader(lines_of(io.StringIO(BAD_WIRE.read_text()), "test"), "test"):
        found += frames.feed(record)
    one = len(found)
    frames, found = Frames(), []
    for record in CaptureReader(lines_of(io.StringIO(BAD_WIRE.read_text()), "test"), "test"):
        for name in ("one", "other"):
            found += frames.feed(record._replace(wire=name))
    assert len(found) == 2 * one > 100


# decode


def decoded(*arguments, source=""):
    out, err = io.StringIO(), io.StringIO()
    code = decode.main(list(arguments), source=io.StringIO(source), out=out, err=err)
    return code, out.getvalue(), err.getvalue()


def test_decode_of_a_capture_has_time_and_wire_of_each_frame():
    code, out, err = decoded(str(BAD_WIRE))
    first, *frames, total = map(json.loads, out.splitlines())
    assert (code, err) == (0, "")
    assert list(first) == [
        "time",
        "wire",
        "name",
        "offset",
        "source",
        "destination",
        "control",
        "function",
        "length",
        "values",
    ]
    assert (first["name"], first["wire"]) == ("remove_register", "unix:/tmp/inverter.sock")
    assert total["frames"] == 1 + len(frames) > 100
    assert total["checksumErrors"] == 2
    times = [frame["time"] for frame in frames]
    assert times == sorted(times)
    assert sum(frame["name"] == "running_info" for frame in frames) == 35


def test_decode_of_a_capture_on_the_standard_input_is_the_same():
    assert decoded(source=BAD_WIRE.read_text()) == decoded(str(BAD_WIRE))


def test_decode_of_a_file_of_bytes_or_a_log_is_that_of_the_standard_input(tmp_path):
    path = tmp_path / "some.log"
    path.write_text("\n\nAA55807F\n00000001FE\n")
    assert decoded(str(path)) == decoded(source=path.read_text())
    path.write_text("2026 run(1) - DEBUG: /dev/hidraw0 < aa55807f00000001fe (off_line_query 80>7f)\n")
    assert decoded(str(path)) == decoded(source=path.read_text())
    assert json.loads(decoded(str(path))[1].splitlines()[0])["name"] == "off_line_query"


def test_decode_of_a_capture_that_ends_in_an_answer_finds_what_is_in_it():
    confirm = frame("remove_confirm", 0x0B, 0x80).encode().hex()
    lines = ["(1.0) wire < aa550b80018142", f"(1.1) wire < {confirm}aa"]
    code, out, _ = decoded(source=text_of(lines))
    found = [json.loads(line).get("name") for line in out.splitlines()]
    assert code == 0
    assert "remove_confirm" in found


@pytest.mark.parametrize("option", [(), ("--summary",), ("--pcapng", "OUT")])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "decode: cannot read FILE: No such file or directory\n"),
        (b"# GoodWeUSBLogger capture, form 1\n", "decode: FILE: a capture without a line of traffic in it\n"),
        (b"# GoodWeUSBLogger capture, form 9\n(1.0) w < 00\n", "decode: FILE: written by a newer version"),
        (b"# GoodWeUSBLogger capture, form 1\n\xff\xfe(1.0\n", "decode: FILE:2: not a line of a capture\n"),
    ],
)
def test_decode_says_what_is_wrong_with_a_file_and_where(content, said, option, tmp_path):
    path = tmp_path / "one.capture"
    if content is not None:
        path.write_bytes(content)
    out = tmp_path / "out"
    code, _, err = decoded(*(str(out) if word == "OUT" else word for word in option), str(path))
    assert code == 1
    assert err.startswith(said.replace("FILE", str(path)))
    assert "Traceback" not in err
    assert not out.exists()


@pytest.mark.parametrize("option", [("--summary",), ("--pcapng", "out")])
@pytest.mark.parametrize("name", ["nosuch", "AA55"])
def test_whatever_stands_behind_such_an_option_is_a_file(option, name, tmp_path, monkeypatch, capsys):
    """It was left out where it had neither a dot nor a slash, and the standard input was read."""
    monkeypatch.chdir(tmp_path)
    said = f"decode: cannot read {name}: No such file or directory\n"
    text = text_of(["(1.0) wire < aa55807f00000001fe"])
    assert decoded(*option, name, source=text) == (1, "", said)
    with pytest.raises(SystemExit) as ended:
        decoded(*option, name, name, source=text)
    assert (ended.value.code, "take one file" in capsys.readouterr().err) == (2, True)
    assert "cannot read" not in decoded(*option, "-", source=text)[2]


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\x7fELF\x02\x01", b"hello\n", random.Random(1).randbytes(100_000)]
)
def test_summary_of_a_foreign_file_says_so(content, tmp_path):
    path = tmp_path / "foreign"
    path.write_bytes(content)
    code, out, err = decoded("--summary", str(path))
    assert (code, out) == (1, "")
    assert re.search(
        r"decode: .*foreign: (it is empty|neither a capture nor a log of ours with loglevel = DEBUG)\n", err
    )


def test_decode_of_a_folder_and_of_what_it_may_not_read(tmp_path):
    assert "cannot read" in decoded(str(tmp_path))[2]
    code, _, err = decoded(str(tmp_path / "none.capture"))
    assert (code, "No such file" in err) == (1, True)


def test_file_that_may_not_be_read_is_told_with_what_helps():
    denied = PermissionError(errno.EACCES, "Permission denied")
    told = str(captures.unreadable("one.capture", denied))
    assert told.startswith("cannot read one.capture: Permission denied; run this with sudo, or let")


def test_decode_of_a_huge_file_that_is_no_capture_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MOST_TEXT", 1000)
    path = tmp_path / "huge"
    path.write_text("AA55807F00000001FE\n" * 100)
    assert decoded(str(path))[2] == f"decode: {path}: too large for one that is no capture\n"


def test_decode_of_a_huge_capture_costs_no_memory():
    lines = BAD_WIRE.read_text().splitlines(keepends=True)
    many = (line for _ in range(40) for line in lines)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = summary.CaptureCount(CaptureReader(many, "test"))
    assert count.frames["running_info"] == 40 * 35
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


def test_damaged_lines_are_told_beside_what_is_good():
    text = BAD_WIRE.read_text().splitlines()
    text[30] = text[30][:-1]
    code, out, err = decoded("--summary", source="\n".join(text))
    assert code == 0
    assert re.search(r"lines damaged +1\b", out)
    assert err == "decode: standard input:31: not a line of a capture; 1 left out\n"


# the summary


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def utc(zone):
    zone("UTC")


@pytest.mark.parametrize("columns", [40, 120])
def test_summary_on_a_terminal(columns, utc, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(BAD_WIRE.parent)
    out = Terminal()
    assert decode.main(["--summary", BAD_WIRE.name], out=out) == 0
    golden = GOLDEN / f"decode-summary-{columns}.txt"
    assert out.getvalue() == golden.read_text()
    assert max(map(len, out.getvalue().splitlines())) <= columns


def test_summary_counts_what_the_program_believed(utc):
    day = simulated(poll=2.5)
    day.run(60.0)
    count = summary.CaptureCount(CaptureReader(day.lines, "test"))
    assert count.believed + count.held == len(day.values)
    assert (count.unanswered, count.outside, count.cut.checksum_errors) == (0, 0, 0)
    assert count.losses == []


def test_summary_names_the_reason_of_each_refused_reading():
    day = simulated(poll=2.5)
    day.run(60.0)
    lines = list(day.lines)
    for values in ({"eTotal": 12.0}, {"temp": 999.9}):
        reading = {**day.values[-1], **values}
        raw = frame("running_info", 0x0B, 0x80, fields.encode_running(reading, 66)).encode()
        lines.append(f"({1_764_111_700.0:.6f}) wire < {raw.hex()}")
    lines.append(
        f"({1_764_111_700.0:.6f}) wire < {frame('running_info', 0x0B, 0x80, bytes(66)).encode().hex()}"
    )
    count = summary.CaptureCount(CaptureReader(lines, "test"))
    assert set(count.refused) == {"E-Total fell", "value out of range", fields.ALL_ZERO}


def test_summary_tells_of_lines_that_were_missed_and_of_a_file_that_was_cut():
    lines = [
        "(1.0) wire < 00",
        f"(2.0) wire ! 17 {MISSED}",
        f"(3.0) wire ! 3 {MISSED}",
        "(4.0) wire ! write failed: x",
    ]
    code, out, _ = decoded("--summary", source=text_of(lines))
    assert code == 1, "no frame"
    assert re.search(rf"{MISSED} +20\n", out)
    assert "write failed   " in out
    assert "ended before its end: cut off, or still being written" in out


def test_summary_shows_no_terminal_what_it_would_obey():
    lines = ["(1.0) wire < 00", "(2.0) wire ! offline \x1b[2J: no answer", "(999999999999.0) wire < 00"]
    _, out, _ = decoded("--summary", source=text_of(lines, "# note: \x1b[31m"))
    assert "\x1b" not in out


# for Wireshark


def test_pcapng_has_each_line_as_usbmon_has_it(tmp_path):
    day = simulated(poll=2.5)
    day.run(10.0)
    path = tmp_path / "one.pcapng"
    assert decoded("--pcapng", str(path), source="\n".join(day.lines))[0] == 0
    data, packets = path.read_bytes(), []
    while data:
        kind, length = struct.unpack("<II", data[:8])
        assert struct.unpack("<I", data[length - 4 : length]) == (length,)
        if kind == pcapng.PACKET:
            _, high, low, captured, _ = struct.unpack("<IIIII", data[8:28])
            packets.append(((high << 32 | low) / 1e6, data[28 : 28 + captured]))
        data = data[length:]
    records = [record for record in CaptureReader(day.lines, "test") if record.mark != "!"]
    assert len(packets) == len(records)
    for (when, packet), record in zip(packets, records, strict=True):
        assert when == pytest.approx(record.epoch, abs=1e-5)
        payload = packet[pcapng.URB.size :]
        if record.mark == "<":
            assert (packet[8:11], payload) == (b"C\x01\x81", record.data)
        else:
            assert packet[8:11] == b"S\x02\x00"
            assert payload == b"\xcc\x99" + bytes([len(record.data)]) + record.data


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_pcapng_is_read_by_wireshark(tmp_path):
    path = tmp_path / "one.pcapng"
    assert decoded("--pcapng", str(path), str(BAD_WIRE))[0] == 0
    said = subprocess.run(
        ["tshark", "-r", path, "-T", "fields", "-e", "usb.transfer_type", "-e", "usb.endpoint_address", "-e", "usb.capdata"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    rows = [row.split("\t") for row in said.splitlines()]
    lines = [line for line in BAD_WIRE.read_text().splitlines() if " < " in line or " > " in line]
    assert len(rows) == len(lines)
    assert {row[1] for row in rows} == {"0x81", "0x00"}


def test_pcapng_replaces_no_file_and_leaves_no_half_one(tmp_path):
    path = tmp_path / "one.pcapng"
    path.write_text("precious")
    assert (
        decoded("--pcapng", str(path), str(BAD_WIRE))[2]
        == f"decode: {path} is there already; name another file\n"
    )
    assert path.read_text() == "precious"
    assert "cannot write /nowhere/x: No such file" in decoded("--pcapng", "/nowhere/x", str(BAD_WIRE))[2]
    assert decoded("--pcapng", "/nowhere/x", str(BAD_WIRE))[2].endswith("; name another file\n")


# the verb


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path, free_port())
    house.configure(house.port, mqtt="enabled = off\n")
    yield house
    house.end()


class Capturing:
    """`capture` as a process."""

    def __init__(self, house, file, *options, **kwargs):
        self.file = file
        self.house = house
        command = [sys.executable, GOODWE, "--config", str(house.config), "--pidfile", str(house.pidfile)]
        self.process = subprocess.Popen(
            [*command, "capture", str(file), *map(str, options)], stderr=subprocess.PIPE, text=True, **kwargs
        )
        house.running.append(self.process)

    def holds(self, words):
        wait_for(lambda: self.file.exists() and words in self.file.read_text(), f"{words!r} is captured")

    def end(self):
        """The words that it said, and its exit code."""
        said = self.process.communicate(timeout=PATIENCE)[1]
        return said, self.process.returncode


def test_capture_from_the_inverter_itself_where_no_program_runs(house):
    house.config.write_text(house.config.read_text().replace("pollinterval = 500", "pollinterval = 1000"))
    house.simulate("--delay", "0", "--report-interval", "0")
    one = Capturing(house, house.folder / "one.capture", "--seconds", 7)
    said, code = one.end()
    assert code == 0
    assert said.startswith(
        f"Capturing from the inverter itself, no program runs, to {one.file}, for 7 s; Ctrl-C ends it.\n"
    )
    assert re.search(rf"\d+ lines \(after 7 s\)\. .* decode --summary {one.file} counts them\.\n$", said)
    text = one.file.read_text()
    head = text.splitlines()[:4]
    assert head[0] == "# GoodWeUSBLogger capture, form 1"
    assert (head[1].partition(": ")[0], head[3]) == ("# program", f"# wire: unix:{house.socket}")
    count = summary.CaptureCount(reader := CaptureReader(lines_of(io.StringIO(text), "test"), "test"))
    assert count.believed > 3
    assert reader.serials() == {f"unix:{house.socket}": "15000SIM268W0001"}
    assert reader.fact("inverter") == f"15000SIM268W0001, model GW-SIM, on unix:{house.socket}"
    assert reader.fact("ended").startswith("after 7 s, ")
    assert count.frames["remove_register"] == 4, "three at first, and the inverter is free again at the end"
    assert (count.cut.checksum_errors, count.outside, reader.damaged) == (0, 0, 0)
    assert not (house.folder / "state.json").exists(), "it only looks"


def test_capture_asks_no_inverter_that_is_never_to_be_asked(house):
    house.config.write_text(house.config.read_text().replace("pollinterval = 500", "pollinterval = 1000"))
    shy = {"identity": {"id_info": None, "setting_info": None, "shy": True, "losses": 3}}
    kept = json.dumps({"version": 1, "inverters": {"15000SIM268W0001": shy}})
    (house.folder / "state.json").write_text(kept)
    house.simulate("--delay", "0", "--report-interval", "0")
    one = Capturing(house, house.folder / "one.capture", "--seconds", 7)
    assert one.end()[1] == 0
    text = one.file.read_text()
    count = summary.CaptureCount(CaptureReader(lines_of(io.StringIO(text), "test"), "test"))
    assert count.believed > 3
    assert not {"query_id_info", "query_setting_info"} & {*count.frames}
    assert (house.folder / "state.json").read_text() == kept


def test_who_may_be_asked_is_known_by_the_state_file(tmp_path):
    path = tmp_path / "state.json"
    assert not capture._is_shy("", SERIAL)
    assert not capture._is_shy(str(path), SERIAL)
    for content in ("", "[]", '{"inverters": {}}', "\xff", '{"inverters": 1}'):
        path.write_text(content, encoding="latin-1")
        assert not capture._is_shy(str(path), SERIAL)
    path.write_text(json.dumps({"inverters": {SERIAL: {"identity": {"shy": True}}}}))
    assert capture._is_shy(str(path), SERIAL)
    assert capture._is_shy(str(tmp_path), SERIAL), "what cannot be read may say so"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_capture_that_is_interrupted_is_a_whole_file(house, number):
    house.simulate()
    one = Capturing(house, house.folder / "one.capture")
    one.holds("running_info")
    one.process.send_signal(number)
    said, code = one.end()
    assert (code, "(interrupted)" in said) == (0, True)
    last = one.file.read_text().splitlines()[-1]
    assert re.fullmatch(r"# ended: interrupted, \d+ lines", last)


def test_two_captures_of_a_running_program_at_once_and_no_third(house):
    house.simulate()
    house.foreground()
    wait_for(lambda: (house.folder / "goodwe.sock").exists(), "it runs")
    captures_ = [Capturing(house, house.folder / f"{n}.capture") for n in range(2)]
    for one in captures_:
        one.holds("running_info")
    third, code = Capturing(house, house.folder / "third.capture").end()
    assert (third, code) == (
        f"GoodWe: no capture from {house.folder / 'goodwe.sock'}: 2 are at it already; end one of them\n",
        1,
    )
    assert not (house.folder / "third.capture").exists()
    for one in captures_:
        one.process.send_signal(signal.SIGINT)
        said, code = one.end()
        assert (code, "Capturing from the running program, to" in said) == (0, True)
        count = summary.CaptureCount(
            CaptureReader(lines_of(io.StringIO(one.file.read_text()), "test"), "test")
        )
        assert count.frames["running_info"]
        assert count.frames["off_line_query"] <= 1, "there was one conversation, the program's"


def test_capturer_that_stands_still_delays_no_reading_and_goes_on_later(house):
    house.simulate("--delay", "0", "--report-interval", "0")
    program = house.foreground()
    path = str(house.folder / "goodwe.sock")
    wait_for(lambda: os.path.exists(path), "it runs")
    one = Capturing(house, house.folder / "one.capture")
    one.holds("running_info")

    def last_reading():
        """Seconds that it is old; None before the first one is believed."""
        inverters = client.ask(path, "status", within=PATIENCE)["inverters"].values()
        return next((inverter["last_reading_seconds"] for inverter in inverters), None)

    wait_for(lambda: last_reading() is not None, "a reading")
    one.process.send_signal(signal.SIGSTOP)

    def last_readings():
        ages = []
        for _ in range(10):
            ages.append(last_reading())
            time.sleep(0.2)  # a process that stands still is the subject
        return ages

    assert max(last_readings()) < 2.0
    one.process.send_signal(signal.SIGCONT)
    program.terminate()
    said, code = one.end()
    assert (code, "(the program ended)" in said) == (0, True)
    assert one.file.read_text().splitlines()[-1].startswith("# ended: the program ended, ")


def test_capture_is_no_larger_than_it_may_be(house):
    house.simulate("--delay", "0", "--report-interval", "0")
    said, code = Capturing(house, house.folder / "one.capture", "--megabytes", "0.002").end()
    assert (code, "(as large as it may be)" in said) == (0, True)
    text = (house.folder / "one.capture").read_text()
    facts_ = sum(len(line) + 1 for line in text.splitlines() if line.startswith("#"))
    assert 1800 < len(text) - facts_ <= 2000
    assert text.endswith(" lines\n")
    assert CaptureReader(text.splitlines(), "test").damaged == 0


def test_capture_of_nothing_leaves_no_file_and_names_the_doctor(house):
    said, code = Capturing(house, house.folder / "one.capture", "--seconds", 1).end()
    assert code == 1
    assert re.search(r"after 1 s: nothing went over a wire; .*GoodWe.py doctor says why\n$", said)
    assert not (house.folder / "one.capture").exists()


def test_capture_needs_no_password_of_the_broker(house):
    house.configure(house.port, mqtt="username = me\npasswordfile = mqtt-password\n")
    said, code = Capturing(house, house.folder / "one.capture", "--seconds", 1).end()
    assert (code, "nothing went over a wire" in said) == (1, True), said


def test_capture_of_a_device_that_cannot_be_opened_says_why_at_once(house):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(house.socket))
        other.listen()
        said, code = Capturing(house, house.folder / "one.capture").end()
    why = f"{house.socket} is a socket of another kind; a stand-in's is SOCK_SEQPACKET"
    assert (code, said.splitlines()[-1]) == (1, why)
    assert not (house.folder / "one.capture").exists()


def test_capture_replaces_no_file(house):
    file = house.folder / "one.capture"
    file.write_text("precious")
    said, code = Capturing(house, file).end()
    assert (said, code) == (f"{file} is there already; name another file\n", 1)
    assert file.read_text() == "precious"
    said, code = Capturing(house, house.folder / "none" / "one.capture").end()
    assert (code, "No such file or directory; name another file" in said) == (1, True)


def test_capture_with_a_broken_configuration_leaves_no_file(house):
    house.config.write_text("[inverter]\npollinterval = soon\n")
    said, code = Capturing(house, house.folder / "one.capture").end()
    assert (code, "pollinterval" in said) == (2, True)
    assert not (house.folder / "one.capture").exists()


def test_capture_to_the_standard_output_says_when_nobody_reads_it_any_more(house):
    house.simulate("--delay", "0", "--report-interval", "0")
    one = Capturing(house, "-", stdout=subprocess.PIPE)
    assert one.process.stdout.readline() == "# GoodWeUSBLogger capture, form 1\n"
    one.process.stdout.close()
    said = one.process.stderr.read()
    assert one.process.wait(PATIENCE) == 1
    assert re.search(r"whoever read it is gone; \d+ lines were written\n$", said)
    assert "Traceback" not in said


def test_capture_to_a_full_disk_says_so(house):
    house.simulate("--delay", "0", "--report-interval", "0")
    with open("/dev/full", "w") as full:
        said, code = Capturing(house, "-", stdout=full).end()
    assert (code, said.splitlines()[-1]) == (1, "cannot write -: No space left on device; 0 lines are in it")


def test_disk_that_is_full_in_the_middle_leaves_whole_lines(house):
    house.simulate("--delay", "0", "--report-interval", "0")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    one = Capturing(house, house.folder / "one.capture", env=unmeasured(), preexec_fn=limit)
    said, code = one.end()
    assert code == 1
    assert re.search(rf"cannot write {one.file}: File too large; \d+ lines are in it\n$", said)
    assert "Traceback" not in said
    text = one.file.read_text()
    assert 3000 - max(map(len, text.splitlines())) <= len(text) <= 3000, "the next line would not have fit"
    assert text.endswith("\n")
    reader = CaptureReader(text.splitlines(), "test")
    assert f"; {sum(1 for _ in reader)} lines are in it" in said
    assert reader.damaged == 0


def test_program_that_runs_and_cannot_be_asked_is_not_gone_around(house):
    house.simulate()
    house("start")
    (house.folder / "goodwe.sock").unlink()
    said, code = Capturing(house, house.folder / "one.capture").end()
    assert code == 1
    assert said == f"GoodWe: it runs, pid {house.pid}, and cannot be asked; restart it, then it can\n"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b'{"ok": true, "capture": {"version": 1}}\n', "another program listens at"),
        (b'{"ok": true, "capture": []}\n', "another program listens at"),
        (b'{"ok": false, "error": "not a request; known are x"}\n', "does not know capture"),
        (b"HTTP/1.1 400 Bad Request\r\n", "no capture from"),
        (b"", "no capture from"),
    ],
)
def test_whatever_else_listens_there_is_told(reply, said, tmp_path):
    pidfile = tmp_path / "goodwe.pid"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "goodwe.sock"))
        listener.listen()
        answering = threading.Thread(target=_answer, args=(listener, reply), daemon=True)
        answering.start()
        with pytest.raises(CaptureError, match=said):
            capture.running(str(pidfile))
        answering.join(PATIENCE)


def _answer(listener, reply):
    connection, _ = listener.accept()
    connection.recv(1000)
    connection.sendall(reply)
    connection.close()


def test_program_that_hangs_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(capture, "WITHIN", 0.1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "goodwe.sock"))
        listener.listen()
        with pytest.raises(CaptureError, match=r"it does not answer at .*goodwe\.sock; look into its log"):
            capture.running(str(tmp_path / "goodwe.pid"))
    (tmp_path / "goodwe.sock").unlink()
    assert capture.running(str(tmp_path / "goodwe.pid")) is None


def test_writer_counts_what_the_program_dropped(tmp_path):
    writer = CaptureWriter(str(tmp_path / "one.capture"), 1000)
    for line in ("(1.0) wire < 00", f"(2.0) wire ! 17 {MISSED}", "(3.0) wire ! opened"):
        assert writer.take(line)
    writer.close()
    assert (writer.lines, writer.missed) == (3, 17)


@pytest.mark.parametrize("arguments", [[], ["x", "--seconds", "0"], ["x", "--megabytes", "much"], ["x", "y"]])
def test_wrong_arguments_are_usage_and_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        capture.parse(arguments)
    assert exit_.value.code == 2
    assert "usage: GoodWe.py capture" in capsys.readouterr().err
