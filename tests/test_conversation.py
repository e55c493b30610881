"""Both ends of the cable joined, on a wire as bad as one can be: time is a number, nothing sleeps."""

from random import Random

import pytest

from goodwe.events import Answer, Event, Offline, Online, Outcome, Reading, Reply, Send, Unanswered
from goodwe.protocol import fields
from goodwe.protocol.bus import Bus
from goodwe.protocol.frame import ACCEPTED, UNREGISTERED
from goodwe.protocol.simulator import SETTINGS, Day, Habits, Inverter, Port
from goodwe.transport.hidraw import wrap

SERIAL = "15000DTU166W0157"
NOON = 12 * 3600.0


class Joined:
    """A bus and a port on one clock, which jumps from deadline to deadline."""

    def __init__(self, habits: Habits, seed: int, address: int = UNREGISTERED) -> None:
        """`address` is one that the inverter believes to have when the cable is plugged in."""
        self.day = Day(3, seed=seed)
        self.inverter = Inverter(SERIAL, length=66)
        self.inverter.address = address
        self.port = Port(self.inverter, lambda now: self.day.values(NOON + now), habits, Random(seed))
        self.bus = Bus(2.5)
        self.now = 0.0
        self.happened: list[tuple[float, Event | Outcome]] = []
        self._carry_out(self.bus.start(0.0))

    def run(self, until: float) -> None:
        while (due := min(self.bus.deadline, self.port.deadline)) <= until:
            self.now = max(due, self.now)
            for report in self.port.reports(self.now):
                self._carry_out(self.bus.receive(report, self.now))
            if self.bus.deadline <= self.now:
                self._carry_out(self.bus.tick(self.now))
        self.now = until

    def ask(self, question: str, data: bytes = b"", *, urgent: bool = False) -> bool:
        return self.bus.ask(SERIAL, question, data, now=self.now, urgent=urgent, answered=self._answered)

    def _answered(self, outcome: Outcome) -> None:
        self.happened.append((self.now, outcome))

    def times(self, kind: type) -> list[float]:
        return [at for at, event in self.happened if isinstance(event, kind)]

    def _carry_out(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Reply):
                event.answered(event.outcome)
                continue
            self.happened.append((self.now, event))
            if isinstance(event, Send):
                self.port.write(wrap(event.frame.encode()), self.now)


def test_good_wire_gives_every_reading():
    joined = Joined(Habits(), seed=1)
    joined.run(60.0)
    assert len(joined.times(Online)) == 1
    assert len(joined.times(Reading)) == 24
    assert joined.times(Offline) == []


@pytest.mark.parametrize("seed", range(30))
def test_wire_that_loses_and_corrupts_30_percent_still_gives_true_readings(seed):
    joined = Joined(Habits(lose=0.3, corrupt=0.3, garbage=0.3), seed)
    joined.run(1800.0)
    readings = [event for _, event in joined.happened if isinstance(event, Reading)]
    # Two of three answers are lost or wrong in one way or the other; the retries make up for it.
    assert len(readings) > 400
    assert joined.times(Reading)[0] < 120.0
    expected = {str(joined.day.values(NOON + at)) for at, event in joined.happened if isinstance(event, Send)}
    for reading in readings:
        measured = {key: reading.values[key] for key in joined.day.values(NOON)}
        assert str(measured) in expected, "a reading that the inverter did not give"


@pytest.mark.parametrize("seed", range(20))
def test_it_comes_back_after_every_restart_of_the_inverter(seed):
    joined = Joined(Habits(lose=0.2), seed)
    for n in range(1, 11):
        joined.run(n * 120.0)
        joined.inverter.forget()
        joined.run(n * 120.0 + 60.0)
        assert joined.times(Reading)[-1] > n * 120.0, "no reading within a minute"


def test_inverter_whose_confirmation_was_lost_is_found_without_waiting_ten_minutes():
    joined = Joined(Habits(), seed=1, address=0x0B)
    joined.run(5.0)
    assert joined.times(Reading)


def test_inverter_registered_at_an_unknown_address_is_found_by_the_sweep():
    joined = Joined(Habits(), seed=1, address=0x42)
    joined.run(90.0)
    assert 60.0 < joined.times(Reading)[0] < 90.0


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.45, 0.7, 1.2])
def test_slow_answers_still_give_readings(delay):
    joined = Joined(Habits(delay=delay, report_interval=0.02), seed=2)
    joined.run(120.0)
    assert len(joined.times(Reading)) >= 40
    assert joined.times(Offline) == []


def test_values_survive_both_ends_exactly():
    joined = Joined(Habits(), seed=9)
    joined.run(30.0)
    for _, event in joined.happened:
        if isinstance(event, Reading):
            assert fields.decode_running(fields.encode_running(event.values, 66)) == event.values


# questions between the readings


def asked(joined: Joined, *questions: str, urgent: bool = False) -> list[Event]:
    """The outcomes of questions that are put one after the other, a minute apart."""
    for question in questions:
        joined.run(joined.now + 60.0)
        data = b"\x32" if question == "limit_power" else b""
        assert joined.ask(question, data, urgent=urgent)
    joined.run(joined.now + 60.0)
    return [event for _, event in joined.happened if isinstance(event, Answer | Unanswered)]


def test_questions_are_answered_and_cost_no_reading():
    plain, asking = Joined(Habits(), seed=1), Joined(Habits(), seed=1)
    answers = asked(asking, "query_id_info", "query_setting_info")
    assert [type(event) for event in answers] == [Answer, Answer]
    assert fields.decode_id(answers[0].data)["serial"] == SERIAL
    assert fields.decode_setting(answers[1].data) == SETTINGS
    plain.run(asking.now)
    assert asking.times(Reading) == pytest.approx(plain.times(Reading), abs=0.02), "not one is late"


@pytest.mark.parametrize("seed", range(20))
def test_questions_on_a_bad_wire_end_one_way_or_the_other_and_readings_go_on(seed):
    joined = Joined(Habits(lose=0.3, corrupt=0.3, garbage=0.3), seed)
    joined.run(180.0)
    for n in range(20):
        joined.run(joined.now + 30.0)
        joined.ask("query_id_info")
        joined.ask("limit_power", bytes([n]), urgent=True)
    joined.run(joined.now + 120.0)
    ends = [event for _, event in joined.happened if isinstance(event, Answer | Unanswered)]
    assert len(ends) >= 20
    for event in ends:
        if isinstance(event, Answer) and event.question == "query_id_info":
            assert fields.decode_id(event.data)["serial"] == SERIAL
    assert len(joined.times(Reading)) > joined.now / 2.5 / 2


def test_limit_is_obeyed_until_the_inverter_restarts():
    joined = Joined(Habits(), seed=1)
    (answer,) = asked(joined, "limit_power", urgent=True)
    assert answer == Answer(SERIAL, "limit_power", ACCEPTED)
    limited = [
        event.values["pac"] for at, event in joined.happened if isinstance(event, Reading) and at > 61.0
    ]
    assert max(limited) <= 2500, "half of the 5000 W of its serial"
