"""Runs the scenarios inside the guest and tells the host by the second serial line.

Lines out: READY, BEGIN name, FIGURE name what value, PASS name seconds, FAIL name seconds, `| text` behind a
FAIL, LEFT name program of a scenario whose program this Debian does not have, DONE. A scenario that needs a reboot raises Reboot; where it was is kept in a file.
"""

import importlib
import json
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.system import kit  # noqa: E402 (the path is set above)

LINE = Path("/dev/ttyS1")
ONLY, WITHOUT = "goodwe.only=", "goodwe.without="
"""Words of the kernel's command line, with parts of names behind them."""
HOME = "goodwe.home"
"""There if a Home Assistant looks at this machine's broker."""
STATE = Path("/var/lib/system-tests.json")
SCENARIO_WITHIN = 400


class Line:
    """The way to the host."""

    def __init__(self) -> None:
        subprocess.run(["stty", "-F", str(LINE), "raw", "-echo"], check=False)
        self._out = LINE.open("w", buffering=1)

    def say(self, *words: object) -> None:
        print(*words, file=self._out, flush=True)


class Late(Exception):
    """A scenario that hangs."""


def late_after(seconds: int) -> Callable[..., None]:
    """The handler of an alarm that was set to so many seconds."""

    def hang(*_: Any) -> None:
        raise Late(f"not done after {seconds} s")

    return hang


def scenarios() -> list[str]:
    """Names in the order in which they run: that of the numbers in front of the file names."""
    return sorted(path.stem for path in (HERE / "scenarios").glob("s[0-9]*.py"))


def main() -> None:
    """All scenarios that are wanted, or the rest of them after a reboot."""
    if "goodwe.shell" in Path("/proc/cmdline").read_text():
        return
    line = Line()
    state: dict[str, Any] = json.loads(STATE.read_text()) if STATE.exists() else {"done": [], "step": 0}
    if not state["done"] and not state["step"]:
        line.say("READY")
    words = Path("/proc/cmdline").read_text().split()
    for name in scenarios():
        if name in state["done"] or not is_wanted(name, words):
            continue
        play(name, state, line)
        state = {"done": [*state["done"], name], "step": 0}
        STATE.write_text(json.dumps(state))
    line.say("DONE")
    subprocess.run(["systemctl", "poweroff", "--no-block"], check=False)


def is_wanted(name: str, words: list[str]) -> bool:
    """True if a scenario is to run by the words of the command line; the installation always is."""
    only, without = (
        [part for word in words if word.startswith(key) for part in word.removeprefix(key).split(",")]
        for key in (ONLY, WITHOUT)
    )
    if name.endswith("_install"):
        return True
    if name.endswith("_home_assistant") and HOME not in words:
        return False
    return not any(part in name for part in without) and (not only or any(part in name for part in only))


def play(name: str, state: dict[str, Any], line: Line) -> None:
    """One scenario, or the part of it that comes after the reboot it asked for."""
    scenario = importlib.import_module(f"tests.system.scenarios.{name}")
    needed = getattr(scenario, "NEEDS", None)
    if needed and not shutil.which(needed, path="/usr/sbin:/usr/bin"):
        line.say("LEFT", name, needed)
        return
    house = kit.House(lambda what, value: line.say("FIGURE", name, json.dumps([what, value])))
    line.say("BEGIN", name)
    began = time.monotonic()
    within = getattr(scenario, "WITHIN", SCENARIO_WITHIN)
    signal.signal(signal.SIGALRM, late_after(within))
    signal.alarm(within)
    parts = getattr(scenario, "PARTS", None) or [scenario.scenario]
    try:
        parts[state["step"]](house)
        if state["step"] + 1 < len(parts):
            reboot(state, line)
        line.say("PASS", name, f"{time.monotonic() - began:.1f}")
    except (Exception, Late) as error:  # whatever it is, the report has it and the next one runs
        line.say("FAIL", name, f"{time.monotonic() - began:.1f}")
        report(error, line)
    finally:
        signal.alarm(0)
    if not name.endswith("_install"):
        house.reset()


def reboot(state: dict[str, Any], line: Line) -> None:
    """Come up again and go on with the scenario's next part."""
    STATE.write_text(json.dumps({**state, "step": state["step"] + 1}))
    line.say("REBOOT")
    subprocess.run(["sync"], check=False)
    subprocess.run(["systemctl", "reboot"], check=False)
    time.sleep(300)


def report(error: BaseException, line: Line) -> None:
    """Why it failed, and what log and journal say."""
    texts = [
        "".join(traceback.format_exception(error)),
        "log:",
        kit.LOG.read_text() if kit.LOG.exists() else "none",
    ]
    journal = ["journalctl", "-b", "-n", "60", "--no-pager", "-o", "short-monotonic"]
    texts += ["journal:", subprocess.run(journal, capture_output=True, text=True, check=False).stdout]
    for text in texts:
        for row in text.splitlines()[-60:]:
            line.say("|", row)


if __name__ == "__main__":
    main()
