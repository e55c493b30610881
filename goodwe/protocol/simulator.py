"""The inverter's end of the cable, for tests and for people without a roof (PROTOCOL 2, 4, 5, 8).

Three things joined by whoever uses them: `Inverter` knows the protocol, `Day` what the roof gives,
`Port` the USB reports with the habits of the real device. Times in seconds and randomness are arguments.
"""

import math
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import NamedTuple

from . import fields
from .fields import Values
from .frame import ACCEPTED, KINDS, LATER_NAMES, UNREGISTERED, Frame, Splitter, frame, to_the_inverter

FORGETS_AFTER = 600.0
"""An inverter that hears no instruction of its own for so long unregisters itself (PROTOCOL 4)."""
REPORT_SIZE = 8
ENVELOPE = b"\x00\xcc\x99"


class Inverter:
    """The device's side of the registration and its answers."""

    def __init__(self, serial: str, *, length: int, id_length: int = fields.ID_LENGTH) -> None:
        """`serial` is its number; `length` and `id_length` are bytes of its running info and ID info."""
        self.serial = serial
        self.address = UNREGISTERED
        self._length = length
        self._id_length = id_length
        self._heard = 0.0
        self._asked_for_address = False
        self._ignore = 0
        self._throttle = Throttle(fields.rated_power(serial) or UNKNOWN_POWER)
        self._back_off = int("".join(c for c in serial[-8:] if c.isdigit()) or "0")

    @property
    def registered(self) -> bool:
        """True when it has an address of its own."""
        return self.address != UNREGISTERED

    def forget(self) -> None:
        """Lose registration and power limit, as when it restarts."""
        self._unregister()
        self._throttle.release()

    def _unregister(self) -> None:
        self.address = UNREGISTERED
        self._asked_for_address = False
        self._ignore = 0

    def answer(self, query: Frame, now: float, measure: Callable[[], Values]) -> Frame | None:
        """The answer to a frame of the AP, if it gives one; `measure` gives what it measures now."""
        if self.registered and now - self._heard >= FORGETS_AFTER:
            self._unregister()
        if query.destination != self.address:
            return None
        self._heard = now
        match query.name:
            case "off_line_query" if not self.registered:
                return self._register_request(query)
            case "allocate_register_address" if query.data[:-1] == self.serial.encode():
                self.address = query.data[-1]
                self._asked_for_address = False
                return self._reply("address_confirm", query)
            case "remove_register":
                confirm = self._reply("remove_confirm", query)
                self._unregister()
                return confirm
            case "query_running_info" if self.registered:
                values = self._throttle.applied(measure())
                return self._reply("running_info", query, fields.encode_running(values, self._length))
            case "query_id_info" if self.registered:
                return self._reply("id_info", query, self._id_info())
            case "query_setting_info" if self.registered:
                return self._reply("setting_info", query, fields.encode_setting(SETTINGS))
        instruction = LATER_NAMES.get(query.kind)
        if self.registered and instruction and f"{instruction}_answer" in KINDS:
            taken = ACCEPTED if self._throttle.obey(instruction, query.data) else REFUSED
            return self._reply(f"{instruction}_answer", query, taken)
        return None

    def _register_request(self, query: Frame) -> Frame | None:
        if self._ignore:
            self._ignore -= 1
            return None
        if self._asked_for_address:
            # Its request was not followed by an address, so it takes that for a collision and stands
            # back for SN % 15 queries; SN /= 15 for the next time (PROTOCOL 4).
            self._asked_for_address = False
            self._ignore = self._back_off % 15
            self._back_off //= 15
            if self._ignore:
                self._ignore -= 1
                return None
        self._asked_for_address = True
        return self._reply("register_request", query, self.serial.encode())

    def _reply(self, name: str, query: Frame, data: bytes = b"") -> Frame:
        return frame(name, self.address, query.source, data)

    def _id_info(self) -> bytes:
        texts: Values = {
            "firmwareVersion": "1010C",
            "modelName": "GW-SIM",
            "manufacturer": "GoodWe",
            "serial": self.serial,
            "nominalVpv": "3600",
            "internalVersion": "410-04001-08",
            "safetyCountry": 32,
        }
        return fields.encode_id(texts, self._id_length)


class Throttle:
    """The limit that the inverter was told to keep (PROTOCOL 7)."""

    def __init__(self, rated: int) -> None:
        """`rated` is its power in watts, of which the limit is a share."""
        self._rated = rated
        self._limit = 1.0
        self._stopped = False
        self._total: float | None = None
        """kWh on the counter as it would stand without a limit."""
        self._lost = self._lost_today = 0.0
        """kWh that were not made because of the limit."""

    def obey(self, instruction: str, data: bytes) -> bool:
        """Take an instruction; False when it is unknown, or its data make no sense."""
        match instruction:
            case "limit_power" if len(data) == 1 and data[0] <= 100:
                self._limit = data[0] / 100
            case "start_inverter" | "stop_inverter":
                self._stopped = instruction == "stop_inverter"
            case _:
                return False
        return True

    def release(self) -> None:
        """As it is after a restart; the counters stay."""
        self._limit, self._stopped = 1.0, False

    def applied(self, values: Values) -> Values:
        """The measured values under the limit; `values` are those that the roof would give."""
        if not values:  # it boots
            return values
        power = fields.number(values, "pac")
        # Without a limit a script may show more than the inverter has.
        most = 0.0 if self._stopped else self._limit * self._rated if self._limit < 1 else math.inf
        share = 1.0 if power <= most else most / power
        total = fields.number(values, "eTotal")
        made = 0.0 if self._total is None else max(0.0, total - self._total)
        self._total = total
        self._lost += made * (1 - share)
        self._lost_today = self._lost_today + made * (1 - share) if fields.number(values, "eDay") else 0.0
        if share == 1 and not self._lost:
            return values
        scaled: Values = {
            key: round(fields.number(values, key) * share, 1) for key in CURRENTS if key in values
        }
        counters: Values = {
            "eTotal": round(total - self._lost, 1),
            "eDay": round(max(0.0, fields.number(values, "eDay") - self._lost_today), 1),
        }
        feeding = {"pac": round(power * share), "workMode": values.get("workMode", 0) if share else 0}
        return {**values, **scaled, **counters, **feeding}


UNKNOWN_POWER = 5000
"""Watts, where the serial does not tell."""
REFUSED = b"\x15"
"""Data of an answer that refuses; no real one is known, so anything but ACCEPTED will do."""
CURRENTS = ("ipv1", "ipv2", "iac1", "iac2", "iac3")

SETTINGS: Values = {
    "vpvStart": 120.0,
    "tStart": 60,
    "vacMin": 196.0,
    "vacMax": 264.5,
    "facMin": 47.5,
    "facMax": 51.5,
}


@lru_cache(maxsize=4096)
def _clear_sky(seed: int, day: int) -> float:
    return Random(f"{seed} day {day}").uniform(0.4, 1.0)


@lru_cache(maxsize=64)
def _energy_before(day: "Day", number: int) -> float:
    """kWh of all days before day `number`."""
    return sum(day._energy(d, 86400.0) for d in range(number))


class Day(NamedTuple):
    """The yield of a roof: the same for the same seed, day and time.

    The curve is one half of a sine between sunrise and sunset, so energy has a closed form and the
    counters fit the power exactly, at any speed and with any gap between two looks.
    """

    phases: int
    peak: float = 3000.0
    """Watts at noon of a clear day."""
    sunrise: float = 6 * 3600.0
    sunset: float = 20 * 3600.0
    total_before: float = 4360.0
    """kWh on the counter when day 0 began."""
    hours_before: int = 8000
    seed: int = 1

    def is_light(self, time: float) -> bool:
        """True when the panels feed the inverter at this time, in seconds since midnight of day 0."""
        return self.sunrise <= time % 86400 < self.sunset

    def total(self, time: float) -> float:
        """kWh on the counter at `time`."""
        day, second = divmod(time, 86400)
        before = self.total_before + _energy_before(self, int(day))
        return round(before + self._energy(int(day), second), 1)

    def values(self, time: float) -> Values:
        """The measured values at `time`; at night those that it would send if it could."""
        day, second = divmod(time, 86400)
        power = round(self._power(int(day), second))
        today = self._energy(int(day), second)
        # It resets E-Day when it wakes, not at midnight (PROTOCOL 8).
        shown = today if second >= self.sunrise else self._energy(int(day) - 1, 86400.0)
        light = self.is_light(time)
        noise = Random(f"{self.seed} {int(time)}")
        phases = range(1, self.phases + 1)
        voltage = {f"vac{n}": round(230 + noise.uniform(-2, 2), 1) for n in phases}
        pv = round(300 + noise.uniform(-15, 15), 1) if light else 0.0
        hours_today = max(0.0, min(second, self.sunset) - self.sunrise) / 3600
        values: Values = {
            "vpv1": pv,
            "vpv2": round(pv * 0.95, 1),
            "ipv1": round(power / 2 / pv, 1) if light else 0.0,
            "ipv2": round(power / 2 / (pv * 0.95), 1) if light else 0.0,
            **voltage,
            **{f"iac{n}": round(power / self.phases / voltage[f"vac{n}"], 1) for n in phases},
            **{f"fac{n}": round(50 + noise.uniform(-0.03, 0.03), 2) for n in phases},
            "pac": power,
            "workMode": 1 if power else 0,
            "temp": round(15 + 30 * power / self.peak, 1),
            "errorMessage": [],
            "eTotal": self.total(time),
            "hTotal": self.hours_before + int(day * (self.sunset - self.sunrise) / 3600 + hours_today),
            "eDay": round(shown, 1),
        }
        return values

    def _clear_sky(self, day: int) -> float:
        """How much of the peak this day gives."""
        return _clear_sky(self.seed, day)

    def _power(self, day: int, second: float) -> float:
        if not self.sunrise <= second < self.sunset:
            return 0.0
        height = math.sin(math.pi * (second - self.sunrise) / (self.sunset - self.sunrise))
        return self.peak * self._clear_sky(day) * height

    def _energy(self, day: int, second: float) -> float:
        """kWh from the day's sunrise to `second`: the integral of the power."""
        if day < 0:
            return 0.0
        length = self.sunset - self.sunrise
        part = min(max(second - self.sunrise, 0.0), length) / length
        hours = length / 3600 / math.pi * (1 - math.cos(math.pi * part))
        return self.peak * self._clear_sky(day) * hours / 1000


class Habits(NamedTuple):
    """How the wire and the device misbehave; probabilities from 0 to 1, times in seconds."""

    leading_zeros: bool = True
    """3 or 4 zeros in front of a frame, now and then a whole report of them (PROTOCOL 2.3)."""
    stale_tail: bool = True
    """Behind an answer stands what is left of the AP's own last report."""
    lose: float = 0.0
    """A query, or an answer, that gets lost."""
    corrupt: float = 0.0
    """An answer with a wrong byte."""
    garbage: float = 0.0
    """An answer with a report of rubbish in front of it."""
    delay: float = 0.05
    """From a query to the first report of its answer."""
    report_interval: float = 0.01


class Port:
    """The USB side of an inverter: writes to a hidraw node in, 8-byte reports out."""

    def __init__(
        self, inverter: Inverter, measure: Callable[[float], Values], habits: Habits, random: Random
    ) -> None:
        """`inverter` is behind it, `measure` gives the values that it measures at a time.

        `habits` say how wire and device misbehave, by the chance of `random`.
        """
        self.ignored: Counter[str] = Counter()
        """Writes that the device makes nothing of, by reason."""
        self._inverter = inverter
        self._measure = measure
        self._habits = habits
        self._random = random
        self._reports: list[tuple[float, bytes]] = []
        self._last_write = b""

    @property
    def deadline(self) -> float:
        """When the next report is due; infinity without one."""
        return self._reports[0][0] if self._reports else math.inf

    def write(self, message: bytes, now: float) -> None:
        """One write(): report number 00, CC 99 n, a frame of n bytes, padding (PROTOCOL 2.2)."""
        query = self._unwrap(message)
        if query is None:
            return
        self._last_write = message[1:]
        if self._chance(self._habits.lose):
            return
        answer = self._inverter.answer(query, now, lambda: self._measure(now))
        if answer is None or self._chance(self._habits.lose):
            return
        self._queue(self._stream(answer.encode()), now + self._habits.delay)

    def reports(self, now: float) -> list[bytes]:
        """The reports that are due; they are then gone."""
        due = [report for when, report in self._reports if when <= now]
        del self._reports[: len(due)]
        return due

    def unplug(self) -> None:
        """Lose the reports that have not been sent."""
        self._reports.clear()

    def _unwrap(self, message: bytes) -> Frame | None:
        if message[:3] != ENVELOPE or len(message) < 4:
            self.ignored["no report number and CC 99 in front"] += 1
            return None
        length = message[3]
        packets = Splitter(to_the_inverter).feed(message[4 : 4 + length])
        if not packets or len(packets[0].frame.encode()) != length:
            self.ignored["no frame of the length it says"] += 1
            return None
        return packets[0].frame

    def _stream(self, raw: bytes) -> bytes:
        """The bytes of an answer as they come out of the device, in whole reports."""
        habits, random = self._habits, self._random
        if self._chance(habits.corrupt):
            at = random.randrange(len(raw))
            raw = raw[:at] + bytes([raw[at] ^ random.randrange(1, 256)]) + raw[at + 1 :]
        stream = bytearray(raw)
        if habits.leading_zeros:
            stream[:0] = bytes(random.choice((3, 4)))
        if habits.stale_tail:
            # The answer is written over the last output report, from its start on (PROTOCOL 2.3).
            stream += self._last_write[len(raw) :]
        if habits.leading_zeros and self._chance(0.1):
            stream[:0] = bytes(REPORT_SIZE)
        if self._chance(habits.garbage):
            stream[:0] = random.randbytes(REPORT_SIZE)
        stream += bytes(-len(stream) % REPORT_SIZE)
        return bytes(stream)

    def _queue(self, stream: bytes, when: float) -> None:
        if self._reports:
            when = max(when, self._reports[-1][0] + self._habits.report_interval)
        for at in range(0, len(stream), REPORT_SIZE):
            self._reports.append((when, stream[at : at + REPORT_SIZE]))
            when += self._habits.report_interval

    def _chance(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability
