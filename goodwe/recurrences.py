"""Which registrations, and which absences, get a line each in the log.

A usual day has one or two, and people look for their lines (CONTRACT 5). An inverter that registers again and
again (its address never confirmed, its answers damaged, silent every few readings), or one of which a reading
can be believed only now and then, would write thousands a day: that is said when it begins, counted after
that, and said when it is over.

    told --(more than a usual day has)--> counted --(one lasts, or there is none for an hour)--> told
"""

from typing import NamedTuple

from .times import NEVER

AT_ONCE = 7
"""So many are told one behind the other: at dawn an inverter may wake up three times, and whoever sets it up
pulls the cable some times more."""
ONE_MORE_AFTER = 14400.0
"""Seconds after which another one may be told: with its six lines a day has fewer than a hundred."""
STAYS_FIRST, STAYS_AT_MOST = 60.0, 3600.0
"""Seconds with readings after which it is over; doubled each time it was not."""
QUIET_FOR = 3600.0
"""Seconds without another one after which it is over, too."""
DAY = 86400.0


class Begun(NamedTuple):
    """How one is to be told."""

    told: bool
    """True when it gets its own lines, False when it is only counted."""
    first_counted: bool
    """True when it is the first that is only counted."""
    counted_before: int
    """How many were only counted before it, where that is over now; else 0."""


class Recurrences:
    """The recurrences at one place, or of one inverter. Times are seconds on any clock that only grows."""

    def __init__(self) -> None:
        self.counted = 0
        """How many got no line since it began; 0 when each gets its lines."""
        self._left = float(AT_ONCE)
        self._left_at = 0.0
        self._begun_at = -NEVER
        self._read_since = NEVER
        self._stays = STAYS_FIRST
        self._over_at = -NEVER

    @property
    def any(self) -> bool:
        """True when there ever was one."""
        return self._begun_at > -NEVER

    def begins(self, now: float) -> Begun:
        """Here is one more."""
        self._left = min(AT_ONCE, self._left + (now - self._left_at) / ONE_MORE_AFTER)
        self._left_at = now
        quiet = now - self._begun_at >= QUIET_FOR and self._left >= 1
        counted_before = self._over(now) if quiet else 0
        self._begun_at, self._read_since = now, NEVER
        if not self.counted and self._left >= 1:
            self._left -= 1
            return Begun(told=True, first_counted=False, counted_before=counted_before)
        if now - self._over_at >= DAY:
            self._stays = STAYS_FIRST
        self.counted += 1
        return Begun(told=False, first_counted=self.counted == 1, counted_before=counted_before)

    def reading(self, now: float) -> int:
        """A good reading has come; how many were only counted, if that is over now, else 0."""
        self._read_since = min(self._read_since, now)
        if not self.counted or now - self._read_since < self._stays:
            return 0
        self._stays = min(2 * self._stays, STAYS_AT_MOST)
        return self._over(now)

    def _over(self, now: float) -> int:
        counted, self.counted = self.counted, 0
        if counted:
            self._over_at = now
        return counted
