"""What several test files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .broker import Mosquitto, Subscriber


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
