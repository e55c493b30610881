"""Golden output of `reload`, `capture` and `replay` on a terminal, narrow and wide: no line of theirs is cut."""

import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .broker import PATIENCE
from .test_program import GOODWE, SERIAL
from .test_status import answering, listening, on_a_terminal, shown_on_a_terminal

GOLDEN = Path(__file__).parent / "golden"
REPORT = {
    "changed": [
        "[inverter] pollinterval = 5000, was 2500",
        "section [web] is new",
        "[mqtt] password has changed",
    ],
    "at_restart": ["[inverter] user = goodwe, was (empty)"],
    "warnings": ["/etc/goodwe.conf: everybody can read it, and the password in it"],
    "error": "",
}
FACTS = {
    "version": 1,
    "program": "1.0.0",
    "began_epoch": 1_764_125_400.0,
    "wires": ["/dev/hidraw0"],
    "inverters": [{"serial": SERIAL, "model": "GW-SIM", "wire": "/dev/hidraw0"}],
}
TRAFFIC = (
    "(1764125400.100000) /dev/hidraw0 > aa55800b010100018c (query_running_info)\n"
    "(1764125400.200000) /dev/hidraw0 ! 3 lines dropped, read too slowly\n"
)


@pytest.fixture(params=[40, 120])
def columns(request) -> int:
    width: int = request.param
    return width


def reply(name: str, answer: object, behind: str = "") -> Callable:
    return answering(json.dumps({"ok": True, name: answer}).encode() + f"\n{behind}".encode())


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, GOODWE, "--pidfile", str(folder / "goodwe.pid"), *arguments]


def plain(text: str, folder: Path) -> str:
    """The text with one name for what differs from run to run."""
    return re.sub(r"\S*GoodWe\.py", "GoodWe.py", text.replace(str(folder), "/tmp"))


def test_reload_on_a_terminal(tmp_path, columns):
    with listening(tmp_path / "goodwe.sock", reply("reload", REPORT)):
        text = shown_on_a_terminal(command(tmp_path, "reload"), columns)
    assert plain(text, tmp_path) == (GOLDEN / "reload.txt").read_text()


def test_capture_and_replay_on_a_terminal(tmp_path, columns):
    file, node = str(tmp_path / "one.capture"), f"unix:{tmp_path}/inv.sock"
    with listening(tmp_path / "goodwe.sock", reply("capture", FACTS, TRAFFIC)):
        text = shown_on_a_terminal(command(tmp_path, "capture", file), columns)
    assert plain(text, tmp_path) == (GOLDEN / "capture.txt").read_text()
    replay = command(tmp_path, "replay", file, "--listen", node)
    with (
        on_a_terminal(replay, columns, 24) as (process, terminal),
        open(terminal, "rb", closefd=False) as lines,
    ):
        said = lines.readline()
        process.send_signal(signal.SIGTERM)
        said += lines.readline()
        assert process.wait(PATIENCE) == 0
    assert plain(said.decode().replace("\r\n", "\n"), tmp_path) == (GOLDEN / "replay.txt").read_text()
