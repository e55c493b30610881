"""Which readings can be believed, and what today's energy is (PROTOCOL 5.4 and 8).

Readings and times go in, a reading fit to publish or a refusal by name comes out. No clock, no file: the
memory of an inverter is an `Account`, a plain value that others keep.

Theory of operation. The counters are the anchor: what an inverter has produced never falls, and never
grows faster than its power allows, over a night and a restart of the program alike. `eTotal - eDay` is
what the counter stood at when the inverter began its day; when that moves up, or E-Day drops, it has
begun a new one. Until then E-Day is yesterday's, whatever the hour, and today's energy is what the total
has grown since midnight. Each reading is held against the last good one, so nothing has to be rolled
over at midnight, and a clock that was wrong for a while does no harm when it is right again: what was
shown of the last days is kept, so a date that comes again goes on where it was.

Without a right clock today goes on, whatever the inverter begins anew, until a night was seen to pass or
the clock is set; then its date is held against that of the last good reading.

What is refused for long, and always agrees with itself, is how the inverter now counts: it is accepted.
"""

from typing import Any, NamedTuple

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

UNSEEN, UNTRUSTED, EARLIER = "unseen", "untrusted", "earlier"
"""In place of the day of a count: perhaps today; its E-Day does not fit the total; a day before today."""
EARLIER_DAYS = 4
"""So many are kept for a clock that comes back to one of them."""
SAME_CLOCK = 600.0
"""Seconds within which two clocks go alike, so that one was not set."""
HALF_A_DAY = 12 * 3600.0
"""Seconds; a clock that was set back by less comes back to what is mostly the same day."""

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
    """Hour of the local day, 0 to 23."""
    clock_right: bool
    """True if epoch, day and hour are known to be right."""


class Account(NamedTuple):
    """One inverter as it is known: its last good reading, and how its day stands."""

    address: int
    inverter_type: int
    when: float
    """Seconds since 1970 of the last good reading."""
    values: Values
    """The last good reading as the inverter gave it."""
    today: str
    """The local date that `shown` is of; empty before any clock was right."""
    read_day: str
    """The local date of the last good reading; empty if no clock was right then."""
    count_day: str
    """The local date on which the inverter began the count that its E-Day shows; or a word of below."""
    midnight_total: float
    """kWh on the counter when `today` began; NEXT_READING until there is one of today."""
    before: float
    """kWh of today from counts that the inverter has given up since (a restart at noon)."""
    shown: float
    """kWh, today's energy as published last: it does not fall within a day."""
    earlier: dict[str, float] = {}  # noqa: RUF012 (nobody changes it)
    """Local date to what the counter stood at when it began, in kWh: of the last days before `today`."""


class Implausible(NamedTuple):
    """Why a reading is not believed."""

    reason: str
    detail: str


class Held(NamedTuple):
    """The reading may be good; the next one will tell."""


class Trusted(NamedTuple):
    """A reading fit to publish, with today's energy."""

    reading: Reading
    reason: str = ""
    """Why it was refused before, where a counter is believed because it stayed so."""
    news: str = ""
    """The same in words, for the log."""


Verdict = Trusted | Held | Implausible


class _Candidate(NamedTuple):
    """A reading that was refused or held, and since when its like come."""

    reason: str
    values: Values
    since: float
    last: float


class _Left(NamedTuple):
    """A day that the clock has left in this run of the program; perhaps it comes back to it."""

    midnight_total: float
    """kWh on the counter when it began."""
    offset: float
    """Seconds by which the time of day was ahead of the clock that only grows."""


class Plausibility:
    """Holds the readings of one inverter against what is known of it."""

    def __init__(self, serial: str, account: Account | None, *, now: float | None = None) -> None:
        """`serial` names the inverter; `account` is what is known from earlier, also from before a restart.

        `now` is when this run of the program began, in seconds on the clock that only grows.
        """
        self.account = account
        self._started = now
        self._serial = serial
        self._power = fields.rated_power(serial) or UNKNOWN_POWER
        """Watts that it is made for."""
        self._elapsed: float | None = None
        """When `account` was brought up to date, if in this run of the program."""
        self._clock_was_right = False
        """True if the clock was right when `account` was brought up to date."""
        self._here = False
        """True if the account is of this inverter's presence now, and not of one before an absence."""
        self._offset: float | None = None
        """Seconds by which the time of day, when last right, was ahead of the clock that only grows."""
        self._left: dict[str, _Left] = {}
        self._candidate: _Candidate | None = None
        self._moved: float | None = None
        """When a value last changed, since the inverter is here."""
        self._clock = ""
        """The time by the inverter's own clock then; empty if it has none."""

    def learn_model(self, name: str) -> None:
        """The name tells the rated power where the serial does not."""
        if self._power == UNKNOWN_POWER:
            self._power = fields.rated_power_of_model(name) or UNKNOWN_POWER

    def check(self, reading: Reading, at: Moment) -> Verdict:
        """Trusted, held for the next one, or refused."""
        refusal = self._out_of_range(reading.values) or self._against_account(reading, at)
        if refusal is not None:
            return self._stays(refusal, reading, at)
        if not self._fits_account(reading.values) and not self._confirmed(reading.values, at):
            return Held()
        self._candidate = None
        return self._trust(reading, at)

    def take(self, reading: Reading, at: Moment) -> Trusted:
        """Trust it without a check, today's energy included."""
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
        """The state to publish of an inverter that is away: nothing flows, the totals stand."""
        if self.account is None:
            return None
        account = self.account = self._in_day(self.account, at)
        idle: Values = {row.key: 0 if row.divisor == 1 else 0.0 for row in fields.FLOWS}
        values = {**account.values, **idle, "workMode": 0, "eDay": account.shown}
        kind = account.inverter_type
        return Resting(self._serial, account.address, kind, values, account.when, at.epoch)

    def status(self, at: Moment) -> dict[str, Any]:
        """Plain values: ages in seconds, energies in kWh; null for what is not known."""
        account, candidate = self.account, self._candidate
        waits: dict[str, Any] | None = None
        if candidate is not None:
            reason, since = candidate.reason or "first reading", at.elapsed - candidate.since
            waits = {"reason": reason, "since_seconds": since}
        told: dict[str, Any] = {"rated_watts": None if self._power == UNKNOWN_POWER else self._power}
        told |= {"waits_to_be_believed": waits, "last_reading_seconds": None, "values": None}
        told |= {"today_kwh": None, "total_kwh": None, "today": None, "address": None}
        if account is None:
            return told
        return told | {
            "address": account.address,
            "last_reading_seconds": self._age(account, at),
            "today_kwh": 0.0 if at.clock_right and at.day != account.today else account.shown,
            "total_kwh": account.values["eTotal"],
            "today": account.today or None,
        }

    def _age(self, account: Account, at: Moment) -> float | None:
        """Seconds since the last good reading; None where no clock tells."""
        if self._elapsed is not None:
            return at.elapsed - self._elapsed
        return max(0.0, at.epoch - account.when) if at.clock_right and account.read_day else None

    # one reading by itself

    def _out_of_range(self, values: Values) -> Implausible | None:
        for row in fields.RUNNING:
            value = values[row.key]
            if not isinstance(value, list | str) and not row.low <= value <= row.high:
                return Implausible(RANGE, f"{row.key} {value} {row.unit}".rstrip())
        power = abs(fields.number(values, "pac"))
        if power > self._power * POWER_MARGIN + ALLOWANCE:
            return Implausible(POWER, f"{power:.0f} W, rated for {self._power} W")
        return None

    # held against the last good one

    def _against_account(self, reading: Reading, at: Moment) -> Implausible | None:
        values, account = reading.values, self.account
        if account is None:
            return None
        old, new = fields.number(account.values, "eTotal"), fields.number(values, "eTotal")
        if new == 0 < old:
            return Implausible(NOTHING, f"E-Total was {old} kWh")
        if new < old - 0.05:
            return Implausible(FELL, f"from {old} to {new} kWh")
        seconds = self._seconds_since_account(at)
        since = UNKNOWN_ABSENCE if seconds is None else seconds
        if new > old + self._most(since):
            return Implausible(ROSE, f"from {old} to {new} kWh in {since:.0f} s")
        old_day, new_day = fields.number(account.values, "eDay"), fields.number(values, "eDay")
        if not _same_count(account.values, values) and new_day > new - old + STEP:
            return Implausible(DISAGREE, f"{old_day} of {old} became {new_day} of {new} kWh")
        return self._stuck(reading, at)

    def _fits_account(self, values: Values) -> bool:
        """True if what is known confirms a reading that is not refused, so that it needs no second one.

        After an absence only the very total does: in a night's time an inverter can have made anything.
        """
        if self.account is None:
            return False
        same = abs(fields.number(values, "eTotal") - fields.number(self.account.values, "eTotal")) <= STEP
        return same or self._here

    def _stuck(self, reading: Reading, at: Moment) -> Implausible | None:
        """At night the same for hours is true; where the answer has a clock, that one tells."""
        assert self.account is not None
        values = reading.values
        moves = reading.clock != self._clock if reading.clock else not fields.number(values, "pac")
        if values != self.account.values or moves or self._moved is None:
            self._moved, self._clock = at.elapsed, reading.clock
        elif at.elapsed - self._moved > SAME_FOR:
            return Implausible(STUCK, f"for {at.elapsed - self._moved:.0f} s, {values['pac']} W")
        return None

    def _seconds_since_account(self, at: Moment) -> float | None:
        """By the clock that only grows; over a restart by the time of day, if that is right."""
        assert self.account is not None
        by_clock = at.epoch - self.account.when if at.clock_right and self.account.read_day else 0.0
        if self._elapsed is None:
            return by_clock if by_clock > 0 else None
        # The machine may have slept, and the clock that only grows with it.
        return max(at.elapsed - self._elapsed, by_clock if self._clock_was_right else 0.0)

    def _absent(self, at: Moment) -> float:
        """Seconds, at the least, without a reading."""
        since = self._started if self._elapsed is None else self._elapsed
        return 0.0 if since is None else at.elapsed - since

    def _most(self, seconds: float) -> float:
        """kWh that can have been produced in so many seconds."""
        return (self._power * POWER_MARGIN + ALLOWANCE) / 1000 * seconds / 3600 + STEP

    # what comes again and again

    def _confirmed(self, values: Values, at: Moment) -> bool:
        """True if the reading before this one, while none is trusted yet, agrees with it."""
        known = self._candidate
        agrees = known is not None and known.reason == "" and self._agree(known, values, at)
        since = known.since if known is not None and agrees else at.elapsed
        self._candidate = _Candidate("", values, since, at.elapsed)
        # A total of 0 is that of a new inverter, or of one that has not read its own memory yet.
        return agrees and (fields.number(values, "eTotal") > 0 or at.elapsed - since >= TOTAL_STAYS)

    def _stays(self, refusal: Implausible, reading: Reading, at: Moment) -> Verdict:
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
        # One that rose together with its E-Day is the same counter, which was not heard for a while.
        if self.account is not None and not _same_count(self.account.values, reading.values):
            self.account = self._follow_total(self._in_day(self.account, at), refusal.reason, reading.values)
        trusted = self._trust(reading, at)
        return trusted._replace(
            reason=refusal.reason,
            news=f"{refusal.reason} ({refusal.detail}), and stayed so: believed from now on",
        )

    def _follow_total(self, account: Account, reason: str, values: Values) -> Account:
        """From a counter that was reset or does not fit: today's energy goes on by the total alone."""
        total = fields.number(account.values if reason == DISAGREE else values, "eTotal")
        counters = {key: values[key] for key in ("eTotal", "eDay")}
        if reason != DISAGREE:  # what the counter stood at when other days began says nothing any more
            self._left = {}
        nothing_today = account.midnight_total == NEXT_READING
        return account._replace(
            values={**account.values, **counters},
            count_day=UNTRUSTED,
            before=0.0,
            midnight_total=account.midnight_total if nothing_today else round(total - account.shown, 1),
            earlier=account.earlier if reason == DISAGREE else {},
        )

    def _agree(self, earlier: _Candidate, values: Values, at: Moment) -> bool:
        """True if both can be readings of one counter."""
        old, new = fields.number(earlier.values, "eTotal"), fields.number(values, "eTotal")
        if not old - 0.05 <= new <= old + self._most(at.elapsed - earlier.last):
            return False
        old_day, new_day = fields.number(earlier.values, "eDay"), fields.number(values, "eDay")
        # Where E-Day was refused, it has to stay or go on with the total; elsewhere it may begin anew.
        return earlier.reason != DISAGREE or old_day - 0.05 <= new_day <= old_day + new - old + STEP

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
            read_day=account.today if at.clock_right else "",
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
        if not at.clock_right:
            return account
        account = self._dated(account, at)
        before, self._offset = self._offset, at.epoch - at.elapsed
        if at.day == account.today:
            return account if account.read_day else account._replace(read_day=account.today)
        if not account.today and at.day not in account.earlier and self._read_today(at):
            # The clock is right for the first time, and the day without a date is this one.
            return account._replace(today=at.day, read_day=at.day, count_day=account.count_day or at.day)
        if before is not None:
            left = {day: _Left(kwh, before) for day, kwh in _midnight(account).items()}
            self._left = {**dict(list(self._left.items())[-EARLIER_DAYS:]), **left}
        return self._turn(account, at)

    def _turn(self, account: Account, at: Moment) -> Account:
        """To the day of `at`, which may be one that was shown already."""
        known = {**account.earlier, **_midnight(account)}
        turned = account._replace(
            today=at.day,
            read_day=at.day if self._read_today(at) else account.read_day,
            count_day=self._day_of_count(account, at),
            midnight_total=NEXT_READING,
            before=0.0,
            shown=0.0,
            earlier=dict(sorted((day, kwh) for day, kwh in known.items() if day < at.day)[-EARLIER_DAYS:]),
        )
        left = self._left.get(at.day)
        if left is None:
            midnight_total = known.get(at.day)
        else:  # a day of a clock that went otherwise was another one
            alike = HALF_A_DAY if at.day < account.today else SAME_CLOCK
            same = abs(at.epoch - at.elapsed - left.offset) < alike
            midnight_total = left.midnight_total if same else None
        if midnight_total is None:
            return turned
        # It goes on by the total, whatever was counted in between.
        shown = round(max(0.0, fields.number(account.values, "eTotal") - midnight_total), 1)
        return turned._replace(count_day=UNTRUSTED, midnight_total=midnight_total, shown=shown)

    def _dated(self, account: Account, at: Moment) -> Account:
        """The last reading gets its time when the clock is right for the first time after it."""
        if self._elapsed is None or self._clock_was_right:
            return account
        self._clock_was_right = True
        return account._replace(when=at.epoch - (at.elapsed - self._elapsed))

    def _day_of_count(self, account: Account, at: Moment) -> str:
        """The local date of the count that goes on, as far as it is known when a day begins."""
        if account.count_day in (UNTRUSTED, EARLIER) or "" < account.count_day <= at.day:
            return account.count_day
        # It began while no clock was right, or it has a date that is still to come.
        read_earlier = "" < account.read_day < at.day if self._elapsed is None else not self._read_today(at)
        return EARLIER if read_earlier else UNSEEN

    def _read_today(self, at: Moment) -> bool:
        """True if the last good reading is one of today, by the clock that only grows."""
        return self._elapsed is not None and at.elapsed - self._elapsed <= (at.hour + 1) * 3600.0

    def _count(self, account: Account, values: Values, at: Moment) -> Account:
        """Notice that the inverter has begun a new count."""
        old_total, old_day = fields.number(account.values, "eTotal"), fields.number(account.values, "eDay")
        new_total, new_day = fields.number(values, "eTotal"), fields.number(values, "eDay")
        begun = new_day < old_day - 0.05 or (new_total - new_day) - (old_total - old_day) > STEP
        # After a day that made next to nothing the two counts cannot be told apart, and need not be.
        first = account.read_day != account.today if at.clock_right else self._elapsed is None
        dark = first and old_day <= STEP < new_day and _begun(values, at)
        day_known = at.clock_right or not account.today
        if not begun and not dark:
            seen_now = account.count_day == UNSEEN and day_known and _begun(values, at)
            return account._replace(count_day=account.today) if seen_now else account
        if not at.clock_right and self._absent(at) >= NEW_DAY_AFTER:
            # A night, whatever the clock says; the day will be known when the clock is.
            earlier = {**account.earlier, **_midnight(account)}
            account = account._replace(today="", read_day="", before=0.0, shown=0.0, earlier=earlier)
            return account._replace(count_day="", midnight_total=NEXT_READING)
        if account.midnight_total == NEXT_READING:  # what was made before this day's first reading is not its
            before = 0.0
        else:
            unread = max(0.0, (new_total - new_day) - old_total)
            before = round(account.shown + unread, 1) if begun else 0.0
        if not day_known:
            # What was shown goes on by the total; the clock will tell whether this count is of that day.
            if account.midnight_total != NEXT_READING:
                account = account._replace(midnight_total=round(old_total - account.shown, 1))
            return account._replace(count_day=UNSEEN, before=before)
        unseen = account.read_day != account.today and new_day > STEP and not _begun(values, at)
        return account._replace(count_day=UNSEEN if unseen else account.today, before=before)


def _same_count(old: Values, new: Values) -> bool:
    """True if the inverter has not begun a new count between two readings."""
    old_total, old_day = fields.number(old, "eTotal"), fields.number(old, "eDay")
    new_total, new_day = fields.number(new, "eTotal"), fields.number(new, "eDay")
    return abs((new_total - new_day) - (old_total - old_day)) <= STEP and new_day >= old_day - 0.05


def _midnight(account: Account) -> dict[str, float]:
    """Its day to what the counter stood at when that began, if that is known."""
    if not account.today or account.midnight_total == NEXT_READING:
        return {}
    return {account.today: round(fields.number(account.values, "eTotal") - account.shown, 1)}


def _begun(values: Values, at: Moment) -> bool:
    """True if a count that was not seen to begin can be today's: it is reset before the feeding begins."""
    return fields.number(values, "pac") > 0 or (at.clock_right and at.hour >= NOON)
