"""The steps taken while an inverter that is plugged in does not answer (PROTOCOL 2.5, 9.5 and 9.6).

The bus takes the first ones itself: the query again, the registration anew, the sweep of all addresses. When
these have had their time, the node is closed and opened, then the port is reset if that is allowed, and so
on for ever, with growing pauses. A night is silent, too: a step every quarter of an hour costs nothing.
"""

from enum import Enum
from typing import Any

from .times import NEVER

FIRST_PAUSE = 120.0
"""Seconds for the steps of the bus itself: its sweep is over after 73."""
LONGEST_PAUSE = 900.0
"""An inverter that answers only after a reset does so for the first light, too."""
LEFT_ALONE = 10.0
"""Seconds that an inverter has for its first reading when it registers just before a step is due."""


class Step(Enum):
    """Something to try with the wire."""

    REOPEN = "open it again"
    RESET = "reset its port, and open it again"


class Ladder:
    """The steps for one place where an inverter is plugged in. Times: seconds on a clock that only grows."""

    def __init__(self, *, reset_allowed: bool) -> None:
        """`reset_allowed`: every second step resets the port."""
        self.steps = 0
        """Taken since the inverter was last heard."""
        self.trouble = ""
        """Why the last step could not be made, as said in the log."""
        self.deadline = NEVER
        """When `step()` is to be called."""
        self._reset_allowed = reset_allowed
        self._pause = FIRST_PAUSE
        self._latest = NEVER
        """Until when the step can be put off."""

    def status(self, now: float) -> dict[str, Any]:
        """Plain values: steps taken, seconds to the next (None when it is heard), why the last one failed."""
        due = None if self.deadline == NEVER else max(0.0, self.deadline - now)
        return {"steps": self.steps, "next_step_seconds": due, "trouble": self.trouble or None}

    def allow_reset(self, allowed: bool) -> None:
        """From now on every second step resets the port, or does not."""
        self._reset_allowed = allowed

    def silent(self, now: float) -> None:
        """The wire was opened, or the inverter went silent: the bus has its time."""
        if self.deadline == NEVER:
            self.deadline = now + self._pause
            self._latest = self.deadline + LEFT_ALONE

    def registered(self, now: float) -> None:
        """It has an address: it is not interrupted now, though that alone is no answer."""
        self.deadline = min(max(self.deadline, now + LEFT_ALONE), max(self.deadline, self._latest))

    def pause(self) -> None:
        """The wire is not there: nothing is due until `silent()` says that it is."""
        self.deadline = NEVER

    def heard(self) -> None:
        """The inverter answered a query: no step is due."""
        self.steps = 0
        self._pause = FIRST_PAUSE
        self.deadline = NEVER

    def step(self) -> Step:
        """The step to take now; `silent()` follows when the wire is open again."""
        self.steps += 1
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self.deadline = NEVER
        return Step.RESET if self._reset_allowed and self.steps % 2 == 0 else Step.REOPEN
