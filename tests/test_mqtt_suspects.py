"""Which message a broker closes at: literal times, no connection."""

import pytest

from goodwe.outputs.mqtt.message import Message
from goodwe.outputs.mqtt.suspects import (
    ANSWERED_AFTER,
    LEFT_OUT_FOR,
    LONGEST_LEFT_OUT,
    PASSED_AFTER,
    Suspects,
    Treatment,
)

BAD, GOOD = "goodwe/bad", "goodwe/good"


class House:
    """A connection to a broker that closes at messages for which `closes` is true; its own clock."""

    def __init__(self, closes) -> None:
        self.suspects = Suspects()
        self.now = 1000.0
        self.connections = 0
        self.taken: list[Message] = []
        self.verdicts: list[Treatment] = []
        self._closes = closes

    def connect(self, *messages: Message) -> bool:
        """One connection in which these are to be sent; whether it still stands at the end."""
        self.connections += 1
        for wanted in messages:
            message = self.suspects.as_taken(wanted, self.now)
            size = len(message.payload)
            if self.suspects.leaves_out(message.topic, size, self.now):
                continue
            while self.suspects.must_wait(message.topic, size, self.now):
                self.now += 0.1
                self.suspects.tick(self.now)
            answered = message.qos > 0
            self.suspects.sent(
                message.topic, size, self.now, qos=message.qos, retain=message.retain, answered=answered
            )
            if self._closes(message):
                self.verdicts += self.suspects.lost(self.now + 0.01) or []
                self.now += 2.0
                return False
            if answered:
                self.suspects.acknowledged(message.topic)
            self.taken.append(message)
        return True

    def until_it_stands(self, *messages: Message) -> int:
        """How many connections it took."""
        before = self.connections
        while not self.connect(*messages):
            assert self.connections < before + 30
        return self.connections - before


def test_topic_that_is_not_taken_is_found_and_left_out():
    house = House(lambda message: message.topic == BAD)
    assert house.until_it_stands(Message(GOOD, "1"), Message(BAD, "1"), Message(GOOD + "2", "1")) == 4
    assert house.verdicts[-1] == Treatment(BAD, 2, True, left_out=True)
    assert {message.topic for message in house.taken} == {GOOD, GOOD + "2"}
    assert house.suspects.left_out(house.now) == [BAD]


def test_each_of_several_is_found():
    bad = [f"goodwe/{n}" for n in (1, 4, 7)]
    house = House(lambda message: message.topic in bad)
    house.until_it_stands(*(Message(f"goodwe/{n}", "1") for n in range(10)))
    assert house.suspects.left_out(house.now) == bad


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("taken", [0, 1])
def test_less_qos_is_tried_before_anything_is_left_out(qos, taken):
    house = House(lambda message: message.topic == BAD and message.qos > taken)
    house.until_it_stands(Message(GOOD, "1", 1), Message(BAD, "1", qos))
    assert house.taken[-1] == Message(BAD, "1", min(qos, taken))
    assert house.suspects.left_out(house.now) == []


def test_not_retained_is_tried_then():
    house = House(lambda message: message.retain)
    house.until_it_stands(Message(BAD, "1", 1, retain=True))
    assert house.taken[-1] == Message(BAD, "1", 0, retain=False)


def test_message_that_is_too_large_is_left_out_and_a_smaller_one_of_its_topic_is_not():
    house = House(lambda message: len(message.payload) > 100)
    house.until_it_stands(Message(GOOD, "x" * 50), Message(BAD, "x" * 200))
    assert house.suspects.leaves_out(BAD, 200, house.now)
    house.now += LEFT_OUT_FOR
    assert house.connect(Message(BAD, "x" * 90)), "tried again"


def test_it_is_tried_again_later_and_later_up_to_a_day():
    house = House(lambda message: message.topic == BAD and house.now < 400_000.0)
    terms = [LEFT_OUT_FOR * 2**n for n in range(8)] + [LONGEST_LEFT_OUT] * 2
    for term in terms:
        house.until_it_stands(Message(BAD, "1", 1, retain=True))
        (known,) = house.suspects.left_out(house.now)
        assert known == BAD
        house.now += term - 60.0
        assert house.suspects.leaves_out(BAD, 1, house.now)
        house.now += 61.0
    house.now = 500_000.0
    assert house.connect(Message(BAD, "1", 1, retain=True))
    assert house.taken[-1] == Message(BAD, "1", 1, retain=True)


def test_term_is_short_again_after_it_was_taken():
    bad = [BAD]
    house = House(lambda message: message.topic in bad)
    for _ in range(3):
        bad[:] = [BAD]
        house.until_it_stands(Message(BAD, "1", 1))
        house.now += LEFT_OUT_FOR + 1.0
        bad.clear()
        assert house.connect(Message(BAD, "1", 1))
        assert house.taken[-1] == Message(BAD, "1", 1)


def test_strike_that_led_to_nothing_lengthens_no_term():
    house = House(lambda message: message.topic == BAD and house.connections in (1, 2, 4, 5, 6))
    house.until_it_stands(Message(BAD, "1"))
    house.now += LEFT_OUT_FOR * 3
    house.connections = 3
    house.until_it_stands(Message(BAD, "1"))
    assert house.suspects.left_out(house.now) == [BAD]
    assert house.suspects.left_out(house.now + LEFT_OUT_FOR) == []


def test_nothing_is_left_out_of_which_something_else_was_the_cause():
    house = House(lambda message: message.topic == BAD)
    house.until_it_stands(Message(BAD, "1", 1))
    house.suspects.acquit()
    assert house.suspects.left_out(house.now) == []
    assert house.suspects.as_taken(Message(BAD, "1", 1), house.now) == Message(BAD, "1", 1)
    assert not house.suspects.is_careful(house.now)


def test_topic_that_was_taken_before_is_found_as_well():
    forbidden: list[str] = []
    house = House(lambda message: message.topic in forbidden)
    assert house.connect(Message(GOOD, "1", 1), Message(BAD, "1", 1))
    forbidden.append(BAD)
    house.until_it_stands(Message(GOOD, "1", 1), Message(BAD, "1", 1))
    assert house.suspects.left_out(house.now) == [BAD]
    assert not house.suspects.leaves_out(GOOD, 1, house.now)


def test_end_long_after_everything_passed_blames_nobody():
    suspects = Suspects()
    suspects.sent(GOOD, 10, 0.0)
    assert suspects.lost(PASSED_AFTER) is None
    suspects.sent(GOOD, 10, 10.0, qos=1, answered=True)
    assert suspects.lost(10.0 + ANSWERED_AFTER) is None


def test_end_right_after_a_message_blames_nobody_yet():
    suspects = Suspects()
    suspects.sent(GOOD, 10, 0.0)
    assert suspects.lost(0.1) == []
    assert suspects.left_out(0.1) == []


def test_acknowledged_message_is_above_suspicion():
    suspects = Suspects()
    suspects.sent(GOOD, 10, 0.0, qos=1, answered=True)
    suspects.acknowledged(GOOD)
    assert suspects.lost(0.1) is None


def test_end_with_another_cause_is_no_strike():
    suspects = Suspects()
    for at in range(10):
        suspects.sent(GOOD, 10, float(at))
        suspects.forget_sent()
    assert suspects.lost(20.0) is None
    assert suspects.left_out(20.0) == []


def test_network_that_is_cut_now_and_then_makes_nobody_guilty():
    """Every minute a cut hits what is just on its way; the topic passes in between."""
    suspects, now = Suspects(), 0.0
    for _ in range(50):
        suspects.sent(GOOD, 10, now)
        assert suspects.lost(now + 0.1) == []
        suspects.sent(GOOD, 10, now + 1.0)
        suspects.tick(now + 2.0)
        now += 30.0
    assert suspects.left_out(now) == []


def test_memory_is_bounded():
    suspects = Suspects()
    for at in range(5000):
        suspects.sent(f"goodwe/{at}", 10, 0.0)
    assert len(suspects._topics) == 2000
