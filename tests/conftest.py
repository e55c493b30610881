"""What several test files share."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .broker import Mosquitto, Subscriber
from .children import mark, no_child_is_left, started
from .mqtt import Running, settings

__all__ = ["mark", "mosquitto", "no_child_is_left", "run", "started", "subscriber"]

CHECKED = pytest.StashKey[list[int]]()
"""How many messages each simulated year, or part of one, has checked."""


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    checked = config.stash.get(CHECKED, [])
    if checked:
        terminalreporter.write_line(f"{sum(checked)} messages of simulated inverters held against the truth")


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
