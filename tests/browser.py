"""Chromium for the tests of the page: without a window, with a profile of its own, and no word to anybody else.

What it needs is Debian's chromium and chromium-driver.
"""

import base64
import json
import shutil
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--lang=en",
)
PATIENCE = 20.0
"""Seconds in which a page must be as it is expected."""


class Look(NamedTuple):
    """A screen, and the colours that its owner likes."""

    name: str
    width: int
    height: int
    dark: bool
    mobile: bool = False

    def __str__(self) -> str:
        return f"{self.name}-{'dark' if self.dark else 'light'}"


PHONE, DESKTOP = (390, 844), (1280, 900)
LOOKS = tuple(
    look
    for dark in (False, True)
    for look in (Look("phone", *PHONE, dark, mobile=True), Look("desktop", *DESKTOP, dark))
)
LARGE = Look("4k", 3840, 2160, False)


class Seen(NamedTuple):
    """The doings of a browser since it was asked last."""

    urls: list[str]
    """All that it has asked for."""
    failed: list[str]
    """The answers among these that are errors, each with its status."""
    complaints: list[str]
    """Of its console."""


def missing() -> str:
    """The programs that this machine has not got; empty if it can be run."""
    return ", ".join(name for name in ("chromium", "chromedriver") if shutil.which(name) is None)


class Browser:
    """Chromium until it is closed."""

    def __init__(self, profile: Path) -> None:
        """`profile` is an empty folder."""
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)

    def close(self) -> None:
        """End it."""
        self.driver.quit()

    def call(self, command: str, **arguments: Any) -> Any:
        """A command of Chromium's own protocol, and its answer."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def look(self, look: Look) -> None:
        """Have that size and that scheme of colours."""
        self.size(look.width, look.height, mobile=look.mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if look.dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Have that size in pixels, of which one is one of the page."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def scripts(self, allowed: bool) -> None:
        """Run the scripts of pages or not."""
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """The first answer that is true. Raises TimeoutException."""
        waiting = WebDriverWait(self.driver, PATIENCE, poll_frequency=0.1)
        return waiting.until(lambda _: condition(), what)

    def follow(self, how: str, what: str) -> None:
        """Click on the element that leads to another page, and wait for that: the click does not always."""
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

        before = self.driver.find_element("css selector", "footer")
        self.driver.find_element(how, what).click()

        def is_there() -> bool:
            try:
                return bool(self.driver.find_element("css selector", "footer") != before)
            except (NoSuchElementException, StaleElementReferenceException):
                return False

        self.wait(is_there, f"the page behind {what}")

    def picture(self, path: Path, *, height: int | None = None) -> None:
        """Keep the whole page as PNG, or its first so many pixels."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def seen(self) -> Seen:
        """Its doings since the last time."""
        urls, failed = [], []
        for entry in self._log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
            elif message["method"] == "Network.responseReceived":
                answer = message["params"]["response"]
                if answer["status"] >= 400:
                    failed.append(f"{answer['status']} {answer['url']}")
        return Seen(urls, failed, [entry["message"] for entry in self._log("browser")])

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries


def host_of(url: str) -> str:
    """Host and port of an address."""
    return urllib.parse.urlsplit(url).netloc
