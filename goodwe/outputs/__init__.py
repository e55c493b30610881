"""Where readings go: what an output is, and how one's trouble stays its own."""

import logging
from typing import Protocol

from ..events import Happening

log = logging.getLogger(__name__)


class Output(Protocol):
    """A consumer of readings."""

    def handle(self, event: Happening) -> None:
        """Take the event, at once; whatever has to wait, waits elsewhere."""

    def stop(self, now: float) -> None:
        """The program ends: say goodbye. Called after the last Offline."""

    @property
    def stopped(self) -> bool:
        """Whether everything has been said, so that the program may end."""


class Fanout:
    """Gives each event to every output; a broken one does not keep it from the others."""

    def __init__(self, outputs: list[Output]) -> None:
        self._outputs = outputs
        self._failures = dict.fromkeys(range(len(outputs)), 0)

    def handle(self, event: Happening) -> None:
        """Give `event` to all."""
        for number, output in enumerate(self._outputs):
            try:
                output.handle(event)
            except Exception:  # a defect of ours: shown once in full, and the others go on
                self._failures[number] += 1
                if self._failures[number] == 1:
                    log.exception("%s failed; later failures are counted only", type(output).__name__)

    def stop(self, now: float) -> None:
        """Tell all that the program ends; how often one failed is said now."""
        for number, output in enumerate(self._outputs):
            output.stop(now)
            if self._failures[number] > 1:
                log.error("%s failed %d times", type(output).__name__, self._failures[number])

    @property
    def stopped(self) -> bool:
        """Whether all have said what they had to say."""
        return all(output.stopped for output in self._outputs)
