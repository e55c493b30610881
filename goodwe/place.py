"""A place where an inverter is plugged in: what is remembered of it while links come and go."""

from typing import Any

from .ladder import Ladder
from .recurrences import Recurrences
from .tally import Tally


class Place:
    """One node, or one socket."""

    def __init__(self, *, reset_allowed: bool) -> None:
        """`reset_allowed` is whether its port may be reset when nothing else helps."""
        self.tally = Tally()
        """Bad input that came from it, by reason."""
        self.registrations = Recurrences()
        self.ladder = Ladder(reset_allowed=reset_allowed)
        self.trouble: str | None = None
        """Why it cannot be opened, as said in the log."""
        self._reset_allowed = reset_allowed

    def status(self, now: float) -> dict[str, Any]:
        """Plain values: why it cannot be opened, None if it can; bad input by reason."""
        return {"trouble": self.trouble, "refused": dict(self.tally.counts)}

    def allow_reset(self, allowed: bool) -> None:
        """From now on its port may be reset, or may not."""
        self._reset_allowed = allowed
        self.ladder.allow_reset(allowed)

    def unplugged(self) -> bool:
        """Nothing is there any more; False when nothing needs to be remembered of it either."""
        if self.ladder.steps:  # perhaps it is our own reset: the pauses go on when it is back
            self.ladder.pause()
            return True
        self.ladder = Ladder(reset_allowed=self._reset_allowed)
        self.trouble = None
        return self.registrations.any  # perhaps it is a loose contact: what is counted goes on, too
