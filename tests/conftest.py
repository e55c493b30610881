"""Fixtures that several test files share."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .broker import Mosquitto, Subscriber
from .children import end_all, none_left
from .mqtt import Running, settings

CHECKED = pytest.StashKey[list[int]]()
"""How many messages each simulated year, or part of one, has checked."""


def pytest_configure() -> None:
    # A shell starts what is in the background without SIGINT, and so would be every program of the tests.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    checked = config.stash.get(CHECKED, [])
    if checked:
        terminalreporter.write_line(f"{sum(checked)} messages of simulated inverters held against the truth")


STARTS = {"subprocess.Popen", "os.fork", "os.posix_spawn"}
"""Audit events of whatever makes a process; a test without one has none to look for."""


class Started:
    """Notes that a process was started in this one."""

    def __init__(self) -> None:
        self.any = False
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in STARTS:
            self.any = True


@pytest.fixture(scope="session")
def started() -> Started:
    """One for all tests: there is no way to take an audit hook back."""
    return Started()


@pytest.fixture(scope="session")
def mark() -> Iterator[str]:
    """The word in the environment of all children of this run."""
    with none_left() as word:
        yield word


@pytest.fixture(autouse=True)
def no_child_is_left(mark: str, started: Started) -> Iterator[None]:
    """Set up before all other fixtures and torn down after them: theirs are ended in their own way."""
    started.any = False
    yield
    if started.any:
        end_all(mark)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker that takes everybody."""
    broker = Mosquitto(tmp_path).start()
    yield broker
    broker.stop()


@pytest.fixture
def subscriber(mosquitto: Mosquitto) -> Iterator[Subscriber]:
    """A subscriber of everything."""
    subscriber = Subscriber(mosquitto.port)
    yield subscriber
    subscriber.close()


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    """Starts an MQTT output for a broker's port; further arguments are settings, those of `options` its own."""
    running: list[Running] = []

    def start(port: int, options: dict[str, Any] | None = None, **changes: Any) -> Running:
        running.append(Running(settings(port, **changes), **(options or {})))
        return running[-1]

    yield start
    for one in running:
        one.end()


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Moves the house to a time zone, such as Europe/Amsterdam."""

    def move(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()
