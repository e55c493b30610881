"""Which readings can be believed, and what today's energy is (PROTOCOL 5.4 and 8).

Readings and times go in, a reading fit to publish or a refusal by name comes out. No clock, no file: the
memory of an inverter is an `Account`, a plain value that others keep.

Theory of operation. The counters are the anchor: what an inverter has produced never falls, and never
grows faster than its power allows, over a night and a restart of the program alike. `eTotal - eDay` is
what the counter stood at when the inverter began its day; when that moves up, or E-Day drops, it has
begun a new one. Until then E-Day is yesterday's, whatever the hour, and today's energy is what the total
has grown since midnight. Each reading is held against the last good one, so nothing has to be rolled
over at midnight, and a clock that was wrong for a while does no harm when it is right again.

What is refused for long, and always agrees with itself, is how the inverter now counts: it is accepted.
"""

from typing import NamedTuple

from ..events import Reading, Resting
from ..protocol import fields
from ..protocol.fields import Values

STEP = 0.25
"""kWh by which two numbers of one decimal each may differ and mean the same."""
POWER_MARGIN = 1.5
"""Inverters feed a little more than their name says; also the share of clocks that drift."""
UNKNOWN_POWER = 100_000
"""Watts, where the serial does not tell."""
ALLOWANCE = 300
"""Watts that a small inverter may be off beside the margin."""
TOTAL_STAYS, DAY_STAYS = 600.0, 60.0
"""Seconds after which a counter that was refused and agrees with itself is believed."""
SAME_FOR = 900.0
"""Seconds of feeding without a single value that moves: no roof does that."""
UNKNOWN_ABSENCE = 3600.0
"""Seconds that are assumed where no clock tells: more than can have been made in them has to stay so."""
NOON = 12
NEW_DAY_AFTER = 3 * 3600.0
"""Seconds of absence that are a night, where no clock is right."""
NEXT_READING = -1e9
"""In place of a total; a counter that was reset can make a negative one of a few kWh."""

UNSEEN, UNTRUSTED = "unseen", "untrusted"
"""In place of the day of a count: it may be today's, which will show; its E-Day does not fit the total."""

NOTHING = "E-Total of 0"
"""However long it stays so: a counter that was reset moves with the first sun."""
FELL, ROSE, DISAGREE = "E-Total fell", "E-Total rose too fast", "E-Day and E-Total disagree"
STUCK = "the same reading for ever"
RANGE, POWER = "value out of range", "more power than the inverter has"


class Moment(NamedTuple):
    """When something happens, on two clocks."""

    elapsed: float
    """Seconds on a clock that only grows, but begins anew with each start."""
    epoch: float
    """Seconds since 1970."""
    day: str
    """Local date, as 2026-11-23."""
    hour: int
    """Of the local day."""
    clock_right: bool
    """Whether epoch, day and hour are known to be right."""


class Account(NamedTuple):
    """What is known of an inverter: its last good reading, and how its day stands."""

    address: int
    inverter_type: int
    when: float
    """Seconds since 1970 of the last good reading."""
    values: Values
    """The last good reading as the inverter gave it."""
    today: str
    """The local date that `shown` is of; empty before any clock was right."""
    read_day: str
    """The local date of the last good reading."""
    count_day: str
    """The local date on which the inverter began the count that its E-Day shows; or a word of below."""
    midnight_total: float
    """kWh on the counter when `today` began; NEXT_READING until there is one of today."""
    before: float
    """kWh of today from counts that the inverter has given up since (a restart at noon)."""
    shown: float
    """kWh, today's energy as published last: it does not fall within a day."""


class Refused(NamedTuple):
    """Why a reading is not believed."""

    reason: str
    detail: str


class Held(NamedTuple):
    """The reading may be good; the next one will tell."""


class Trusted(NamedTuple):
    """A reading fit to publish, with today's energy."""

    reading: Reading
    news: str = ""
    """What the log should say: a counter that was accepted after it had stayed so."""


Verdict = Trusted | Held | Refused


class _Candidate(NamedTuple):
    """A reading that was refused or held, and since when its like come."""

    reason: str
    values: Values
    since: float
    last: float


class Judge:
    """Decides about the readings of one inverter."""

    def __init__(self, serial: str, account: Account | None) -> None:
        """`account` is what is known from earlier, also from before a restart."""
        self.account = account
        self._serial = serial
        self._power = fields.rated_power(serial) or UNKNOWN_POWER
        """Watts that it is made for."""
        self._elapsed: float | None = None
        """When `account` was brought up to date, if in this run of the program."""
        self._clock_was_right = False
        """Then."""
        self._here = False
        """Whether the account is of this inverter's presence now, and not of one before an absence."""
        self._candidate: _Candidate | None = None
        self._moved: float | None = None
        """When a value last changed, since the inverter is here."""
        self._clock = ""
        """What the inverter's own clock showed then; empty if it has none."""

    def learn_model(self, name: str) -> None:
        """The name tells the rated power where the serial does not."""
        if self._power == UNKNOWN_POWER:
            self._power = fields.rated_power_of_model(name) or UNKNOWN_POWER

    def judge(self, reading: Reading, at: Moment) -> Verdict:
        """Trusted, held for the next one, or refused."""
        refusal = self._out_of_range(reading.values) or self._against_account(reading, at)
        if refusal is not None:
            return self._stays(refusal, reading, at)
        if not self._fits_account(reading.values) and not self._confirmed(reading.values, at):
            return Held()
        self._candidate = None
        return self._trust(reading, at)

    def believe(self, reading: Reading, at: Moment) -> Trusted:
        """Whatever it says, today's energy included."""
        self._trust(reading, at)
        assert self.account is not None  # by _trust
        self.account = self.account._replace(before=0.0, shown=fields.number(reading.values, "eDay"))
        return Trusted(reading)

    def away(self) -> None:
        """The inverter is gone: what was refused counts no more. One that was held may be confirmed later."""
        if self._candidate is not None and self._candidate.reason:
            self._candidate = None
        self._here = False
        self._moved = None

    def resting(self, at: Moment) -> Resting | None:
        """What to publish of an inverter that is away: nothing flows, the totals stand."""
        if self.account is None:
            return None
        account = self.account = self._in_day(self.account, at)
        idle: Values = {row.key: 0 if row.divisor == 1 else 0.0 for row in fields.FLOWS}
        values = {**account.values, **idle, "workMode": 0, "eDay": account.shown}
        kind = account.inverter_type
        return Resting(self._serial, account.address, kind, values, account.when, at.epoch)

    # one reading by itself

    def _out_of_range(self, values: Values) -> Refused | None:
        for row in fields.RUNNING:
            value = values[row.key]
            if not isinstance(value, list | str) and not row.low <= value <= row.high:
                return Refused(RANGE, f"{row.key} {value} {row.unit}".rstrip())
        power = abs(fields.number(values, "pac"))
        if power > self._power * POWER_MARGIN + ALLOWANCE:
            return Refused(POWER, f"{power:.0f} W, rated for {self._power} W")
        return None

    # held against the last good one

    def _against_account(self, reading: Reading, at: Moment) -> Refused | None:
        values, account = reading.values, self.account
        if account is None:
            return None
        old, new = fields.number(account.values, "eTotal"), fields.number(values, "eTotal")
        if new == 0 < old:
            return Refused(NOTHING, f"E-Total was {old} kWh")
        if new < old - 0.05:
            return Refused(FELL, f"from {old} to {new} kWh")
        seconds = self._seconds_since_account(at)
        since = UNKNOWN_ABSENCE if seconds is None else seconds
        if new > old + self._most(since):
            return Refused(ROSE, f"from {old} to {new} kWh in {since:.0f} s")
        old_day, new_day = fields.number(account.values, "eDay"), fields.number(values, "eDay")
        same_count = abs((new - new_day) - (old - old_day)) <= STEP and new_day >= old_day - 0.05
        if not same_count and new_day > new - old + STEP:
            return Refused(DISAGREE, f"{old_day} of {old} became {new_day} of {new} kWh")
        return self._stuck(reading, at)

    def _fits_account(self, values: Values) -> bool:
        """Whether what is known confirms a reading that is not refused, so that it needs no second one.

        After an absence only the very total does: in a night's time an inverter can have made anything.
        """
        if self.account is None:
            return False
        same = abs(fields.number(values, "eTotal") - fields.number(self.account.values, "eTotal")) <= STEP
        return same or self._here

    def _stuck(self, reading: Reading, at: Moment) -> Refused | None:
        """At night the same for hours is true; where the answer has a clock, that one tells."""
        assert self.account is not None
        values = reading.values
        moves = reading.clock != self._clock if reading.clock else not fields.number(values, "pac")
        if values != self.account.values or moves or self._moved is None:
            self._moved, self._clock = at.elapsed, reading.clock
        elif at.elapsed - self._moved > SAME_FOR:
            return Refused(STUCK, f"for {at.elapsed - self._moved:.0f} s, {values['pac']} W")
        return None

    def _seconds_since_account(self, at: Moment) -> float | None:
        """By the clock that only grows; over a restart by the time of day, if that is right."""
        assert self.account is not None
        by_clock = at.epoch - self.account.when if at.clock_right else 0.0
        if self._elapsed is None:
            return by_clock if by_clock > 0 else None
        # The machine may have slept, and the clock that only grows with it.
        return max(at.elapsed - self._elapsed, by_clock if self._clock_was_right else 0.0)

    def _most(self, seconds: float) -> float:
        """kWh that can have been produced in so many seconds."""
        return (self._power * POWER_MARGIN + ALLOWANCE) / 1000 * seconds / 3600 + STEP

    # what comes again and again

    def _confirmed(self, values: Values, at: Moment) -> bool:
        """Whether the reading before this one, while none is trusted yet, agrees with it."""
        known = self._candidate
        agrees = known is not None and known.reason == "" and self._agree(known, values, at)
        since = known.since if known is not None and agrees else at.elapsed
        self._candidate = _Candidate("", values, since, at.elapsed)
        # A total of 0 is that of a new inverter, or of one that has not read its own memory yet.
        return agrees and (fields.number(values, "eTotal") > 0 or at.elapsed - since >= TOTAL_STAYS)

    def _stays(self, refusal: Refused, reading: Reading, at: Moment) -> Verdict:
        """Refuse, unless the same was refused for so long, in agreement with itself, that it is true."""
        patience = {FELL: TOTAL_STAYS, ROSE: TOTAL_STAYS, DISAGREE: DAY_STAYS}.get(refusal.reason)
        if patience is None:
            self._candidate = None
            return refusal
        known = self._candidate
        since = at.elapsed
        if known and known.reason == refusal.reason and self._agree(known, reading.values, at):
            since = known.since
        self._candidate = _Candidate(refusal.reason, reading.values, since, at.elapsed)
        if at.elapsed - since < patience:
            return refusal
        self._candidate = None
        if self.account is not None:
            self.account = self._follow_total(self._in_day(self.account, at), refusal.reason, reading.values)
        trusted = self._trust(reading, at)
        return trusted._replace(
            news=f"{refusal.reason} ({refusal.detail}), and stayed so: believed from now on"
        )

    def _follow_total(self, account: Account, reason: str, values: Values) -> Account:
        """From a counter that was reset or does not fit: today's energy goes on by the total alone."""
        total = fields.number(account.values if reason == DISAGREE else values, "eTotal")
        counters = {key: values[key] for key in ("eTotal", "eDay")}
        return account._replace(
            values={**account.values, **counters},
            count_day=UNTRUSTED,
            before=0.0,
            midnight_total=round(total - account.shown, 1),
        )

    def _agree(self, earlier: _Candidate, values: Values, at: Moment) -> bool:
        """Whether both can be readings of one counter."""
        old, new = fields.number(earlier.values, "eTotal"), fields.number(values, "eTotal")
        return old - 0.05 <= new <= old + self._most(at.elapsed - earlier.last)

    # today's energy

    def _trust(self, reading: Reading, at: Moment) -> Trusted:
        values = reading.values
        if self.account is None:
            account = self._open(reading, at)
        else:
            account = self._count(self._in_day(self.account, at), values, at)
        total, raw = fields.number(values, "eTotal"), fields.number(values, "eDay")
        if account.midnight_total == NEXT_READING:
            account = account._replace(midnight_total=total)
        # Else the inverter still shows an earlier day.
        begun = account.count_day == account.today
        day = raw + account.before if begun else total - account.midnight_total
        shown = round(max(day, account.shown), 1)
        self.account = account._replace(
            address=reading.address,
            inverter_type=reading.inverter_type,
            when=reading.when,
            values=values,
            read_day=account.today,
            shown=shown,
        )
        self._elapsed, self._clock_was_right, self._here = at.elapsed, at.clock_right, True
        return Trusted(reading._replace(values={**values, "eDay": shown}))

    def _open(self, reading: Reading, at: Moment) -> Account:
        """The first reading ever of this inverter."""
        today = at.day if at.clock_right else ""
        total = fields.number(reading.values, "eTotal")
        count_day = today if _begun(reading.values, at) else UNSEEN
        kind = reading.inverter_type
        return Account(reading.address, kind, reading.when, {}, today, today, count_day, total, 0.0, 0.0)

    def _in_day(self, account: Account, at: Moment) -> Account:
        """The account as it stands at that moment: a new day begins with nothing."""
        if not at.clock_right or at.day == account.today:
            return account
        # The clock may be right for the first time; was the last reading one of today?
        read_today = self._elapsed is not None and at.elapsed - self._elapsed <= (at.hour + 1) * 3600.0
        if not account.today and read_today:
            return account._replace(today=at.day, read_day=at.day, count_day=account.count_day or at.day)
        dated = account.today if self._elapsed is None else self._clock_was_right
        count_day = account.count_day if dated else UNSEEN
        return account._replace(
            today=at.day, midnight_total=NEXT_READING, before=0.0, shown=0.0, count_day=count_day
        )

    def _count(self, account: Account, values: Values, at: Moment) -> Account:
        """Notice that the inverter has begun a new count."""
        old_total, old_day = fields.number(account.values, "eTotal"), fields.number(account.values, "eDay")
        new_total, new_day = fields.number(values, "eTotal"), fields.number(values, "eDay")
        begun = new_day < old_day - 0.05 or (new_total - new_day) - (old_total - old_day) > STEP
        # After a day that made next to nothing the two counts cannot be told apart, and need not be.
        dark = account.read_day != account.today and old_day <= STEP < new_day and _begun(values, at)
        if not begun and not dark:
            seen_now = account.count_day == UNSEEN and _begun(values, at)
            return account._replace(count_day=account.today) if seen_now else account
        if not at.clock_right and (self._seconds_since_account(at) or NEW_DAY_AFTER) >= NEW_DAY_AFTER:
            # A night, whatever the clock says; the day will be known when the clock is.
            account = account._replace(today="", read_day="", before=0.0, shown=0.0)
        elif account.count_day == account.today:  # a second one on the same day: it was restarted
            unread = max(0.0, (new_total - new_day) - old_total)
            return account._replace(before=round(account.shown + unread, 1))
        unseen = account.read_day != account.today and new_day > STEP and not _begun(values, at)
        return account._replace(count_day=UNSEEN if unseen else account.today, before=account.shown)


def _begun(values: Values, at: Moment) -> bool:
    """Whether a count that was not seen to begin can be today's: it is reset before the feeding begins."""
    return fields.number(values, "pac") > 0 or at.hour >= NOON
