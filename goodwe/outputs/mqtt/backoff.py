"""Which server is tried next, and when. Pure: times and chance come in.

Servers are tried in turn; after the last of a round comes a pause. A failed connection to a machine costs
nobody anything, so it is tried again within 5 s however long the outage: then the first value is there within
5 s of the broker. A login that is refused, a TLS handshake that fails, a name server or a broker that asks
for calm are asked less and less often, each server for itself. All pauses are spread by chance over seconds,
so that a thousand loggers that lost their broker in one moment do not come back in one.
"""

from enum import Enum
from random import Random

from ...times import NEVER

SOONEST = 0.25
"""Seconds at least between the end of an attempt and the next round."""
FIRST_PERIOD, PERIOD = 1.0, 4.0
"""Seconds at most from the beginning of a round to that of the next, where its attempts took less."""
FIRST_PAUSE = 4.0
"""Seconds at most before a server is tried again that is to be asked seldom; doubled each time."""
CONTESTED_PAUSE = 60.0


class Failure(Enum):
    """Why an attempt, or the connection it made, came to its end; and the longest pause it leads to."""

    AWAY = "away"
    """No connection, no answer, or a file of ours that cannot be read; costs next to nothing."""
    LOST = "lost"
    """The connection stood for a while."""
    DROPPED = "dropped"
    """The connection stood for some seconds only."""
    NAME = "name"
    TLS = "tls"
    REFUSED = "refused"
    """The broker lets us not in: login, client id, version."""
    BUSY = "busy"
    """The broker asks for calm."""
    CONTESTED = "contested"
    """Another program uses our client id; holds for all servers."""


LONGEST_PAUSE = {
    Failure.NAME: 15.0,
    Failure.TLS: 60.0,
    Failure.REFUSED: 60.0,
    Failure.BUSY: 15.0,
    Failure.CONTESTED: CONTESTED_PAUSE,
}
"""Seconds; of the failures that are to be tried seldom."""


class Backoff:
    """The order of the attempts of one connection."""

    def __init__(self, servers: int, random: Random) -> None:
        """`servers` is how many there are, `random` spreads the pauses."""
        self.server = 0
        """The one whose turn it is, counted from 0."""
        self._random = random
        self._not_before = [-NEVER] * servers
        """When each may be tried again."""
        self._pauses = [FIRST_PAUSE] * servers
        """The next pause of each that is to be asked seldom."""
        self._period = FIRST_PERIOD
        """The next one, doubled each time: what starts beside us is soon there."""
        self._began = -NEVER
        """When this round began."""
        self.is_first_of_round = True
        """True when this attempt is the first of a round over all servers."""

    def began(self, now: float) -> None:
        """An attempt begins now."""
        if self.is_first_of_round:
            self._began = now

    def lasted(self) -> None:
        """The connection to this server proved good: its pauses are short again."""
        self._pauses[self.server] = FIRST_PAUSE
        self._period = PERIOD

    def may_be_asked(self, now: float) -> list[int]:
        """The server of this attempt, and the others that are not to be left in peace."""
        return [n for n, at in enumerate(self._not_before) if at <= now or n == self.server]

    def turn_to(self, server: int) -> None:
        """It is the turn of this server, with which a round begins."""
        self.server = server
        self.is_first_of_round = True

    def failed(self, why: Failure, now: float) -> float:
        """When the next attempt is to be made, at `server`; on the clock of `now`."""
        longest = LONGEST_PAUSE.get(why)
        if why is Failure.CONTESTED:
            pause = self._spread(CONTESTED_PAUSE)
            self._not_before = [now + pause for _ in self._not_before]
        elif longest is not None:
            pause = self._pauses[self.server]
            self._pauses[self.server] = min(2 * pause, longest)
            self._not_before[self.server] = now + self._spread(min(pause, longest))
        else:
            self._pauses[self.server] = FIRST_PAUSE
            self._not_before[self.server] = now
        return self._next(why, now)

    def _next(self, why: Failure, now: float) -> float:
        count = len(self._not_before)
        later = [server for server in range(self.server + 1, count) if self._not_before[server] <= now]
        if later and why is not Failure.LOST:
            self.is_first_of_round = False
            self.server = later[0]
            return now
        self.is_first_of_round = True
        earliest = min(self._not_before)
        at = max(now + SOONEST, earliest if earliest > now else self._round_at(why, now))
        first = self.server + 1 if why is Failure.LOST else 0
        turns = (server % count for server in range(first, first + count))
        self.server = next(server for server in turns if self._not_before[server] <= at)
        return at

    def _round_at(self, why: Failure, now: float) -> float:
        """When the next round may begin, for its servers' own pauses aside."""
        if why is Failure.LOST:  # everybody has lost it now
            return now + self._random.uniform(SOONEST, PERIOD)
        if why is Failure.DROPPED:  # what it cost was more than a connection
            return now + self._random.uniform(PERIOD / 4, PERIOD)
        period, self._period = self._period, min(2 * self._period, PERIOD)
        return self._began + self._random.uniform(period / 2, period)

    def _spread(self, pause: float) -> float:
        return pause * self._random.uniform(0.5, 1.0)
