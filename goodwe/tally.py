"""How often each kind of bad input came, and when that is worth a line in the log."""

from collections import Counter

from .times import NEVER

QUIET_FOR, QUIET_FOR_AT_MOST = 600.0, 86400.0
"""Seconds without a reason after which its next time is a new beginning; doubled with each of those."""
MOST_REASONS = 200
OTHERS = "others"
"""Under this is counted what comes when there are so many reasons: a reason can hold an inverter's serial."""


class Tally:
    """Counts by reason. Times are seconds on any clock that only grows."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._last: dict[str, float] = {}
        self._quiet_for: dict[str, float] = {}

    def add(self, reason: str, now: float, count: int = 1) -> bool:
        """Count it; True when it begins: at first, or after ten quiet minutes, then twenty and so on."""
        if reason not in self.counts and len(self.counts) >= MOST_REASONS:
            reason = OTHERS
        quiet, wanted = now - self._last.get(reason, -NEVER), self._quiet_for.get(reason, QUIET_FOR)
        begins = quiet >= wanted
        if begins and reason in self._last:
            longer = QUIET_FOR if quiet >= QUIET_FOR_AT_MOST else 2 * wanted
            self._quiet_for[reason] = min(longer, QUIET_FOR_AT_MOST)
        self._last[reason] = now
        self.counts[reason] += count
        return begins

    def __str__(self) -> str:
        return ", ".join(f"{reason}: {count}" for reason, count in sorted(self.counts.items())) or "none"
