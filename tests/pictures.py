"""Make the pictures of the README, of the first page of the demo: python -m tests.pictures [FOLDER]

Needs what tests/browser.py needs.
"""

import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from .browser import Browser, Look

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "etc" / "pictures"
SIZE = 1080, 860
DEMO = ("--web", "--start", "14:50", "--speed", "60")
LOOKS = {"now.png": Look("picture", *SIZE, dark=False), "now-dark.png": Look("picture", *SIZE, dark=True)}


def make(folder: Path) -> list[Path]:
    """The pictures, made in `folder`."""
    command = [sys.executable, str(ROOT / "GoodWe.py"), "demo", *DEMO]
    with (
        tempfile.TemporaryDirectory() as profile,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo,
    ):
        try:
            browser = Browser(Path(profile))
            try:
                return _made(browser, _address(demo), folder)
            finally:
                browser.close()
        finally:
            demo.send_signal(signal.SIGINT)
            demo.communicate(timeout=60)


def _address(demo: subprocess.Popen[str]) -> str:
    assert demo.stdout is not None
    for line in demo.stdout:
        if found := re.match(r"Page: +(\S+)", line):
            return found[1]
    raise SystemExit("the demo has ended")


def _made(browser: Browser, address: str, folder: Path) -> list[Path]:
    browser.look(LOOKS["now.png"])
    browser.driver.get(address)
    there = "return document.querySelectorAll('.wide .line').length > 0 && !!document.querySelector('.good')"
    browser.wait(lambda: browser.run(there), "a reading, the curve and the broker")
    for name, look in LOOKS.items():
        browser.look(look)
        browser.picture(folder / name)
    return [folder / name for name in LOOKS]


if __name__ == "__main__":
    for path in make(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(f"{path} ({path.stat().st_size // 1000} kB)")
