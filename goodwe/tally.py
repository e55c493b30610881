"""How often each kind of bad input came, and when that is worth a line in the log."""

from collections import Counter

QUIET_FOR = 600.0
"""Seconds without a reason after which its next time is a new beginning."""


class Tally:
    """Counts by reason. Times are seconds on any clock that only grows."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._last: dict[str, float] = {}

    def add(self, reason: str, now: float, count: int = 1) -> bool:
        """Count it; True when it begins, that is, at first or after ten quiet minutes."""
        begins = now - self._last.get(reason, -QUIET_FOR) >= QUIET_FOR
        self._last[reason] = now
        self.counts[reason] += count
        return begins

    def __str__(self) -> str:
        return ", ".join(f"{reason}: {count}" for reason, count in sorted(self.counts.items())) or "none"
