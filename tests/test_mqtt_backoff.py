"""Which server is tried next, and when: literal times, no connection."""

import itertools
from collections import Counter
from random import Random

import pytest

from goodwe.outputs.mqtt.backoff import LONGEST_PAUSE, PERIOD, Backoff, Failure

SELDOM = list(LONGEST_PAUSE)
SOON = [failure for failure in Failure if failure not in LONGEST_PAUSE]


def attempts(backoff: Backoff, failures: list[Failure], spent: float = 0.0) -> list[tuple[int, float]]:
    """The server of each attempt and when it begins, when each takes so many seconds and fails like this."""
    now, found = 100.0, []
    for failure in failures:
        backoff.began(now)
        found.append((backoff.server, now))
        now = backoff.failed(failure, now + spent)
    return [*found, (backoff.server, now)]


def pauses(found: list[tuple[int, float]]) -> list[float]:
    return [later[1] - earlier[1] for earlier, later in itertools.pairwise(found)]


@pytest.mark.parametrize("failure", SOON)
@pytest.mark.parametrize("seed", range(20))
def test_broker_that_is_back_is_found_within_five_seconds_however_long_it_was_away(failure, seed):
    found = pauses(attempts(Backoff(1, Random(seed)), [failure] * 500))
    assert max(found) <= 4.0
    assert min(found) >= 0.25


@pytest.mark.parametrize("spent", [0.1, 1.0, 3.0, 4.0, 10.0])
def test_time_that_an_attempt_took_counts_as_pause(spent):
    """A machine that is off costs the 4 s until we give up, and hardly any more."""
    found = pauses(attempts(Backoff(1, Random(1)), [Failure.AWAY] * 100, spent))
    assert max(found) <= max(PERIOD, spent + 0.25)
    assert all(pause > max(spent + 0.249, PERIOD / 2 if at > 1 else 0.5) for at, pause in enumerate(found))


@pytest.mark.parametrize(
    ("failure", "longest"),
    [(Failure.NAME, 15.0), (Failure.TLS, 60.0), (Failure.REFUSED, 60.0), (Failure.BUSY, 15.0)],
)
def test_what_is_to_be_asked_seldom_is_asked_less_and_less(failure, longest):
    found = pauses(attempts(Backoff(1, Random(3)), [failure] * 12))
    for at, pause in enumerate(found):
        full = min(4.0 * 2**at, longest)
        assert full / 2 <= pause <= full


def test_contested_name_is_tried_about_once_a_minute_on_all_servers():
    found = attempts(Backoff(3, Random(1)), [Failure.CONTESTED] * 5)
    assert all(30.0 <= pause <= 60.0 for pause in pauses(found))


def test_pauses_are_short_again_after_a_connection_that_lasted():
    backoff = Backoff(1, Random(1))
    attempts(backoff, [Failure.REFUSED] * 10)
    backoff.lasted()
    assert pauses(attempts(backoff, [Failure.REFUSED]))[0] <= 4.0


def test_pauses_are_short_again_when_something_else_fails():
    backoff = Backoff(1, Random(1))
    attempts(backoff, [Failure.TLS] * 10)
    found = pauses(attempts(backoff, [Failure.AWAY, Failure.TLS]))
    assert max(found) <= 4.0


def test_servers_are_tried_in_turn_without_a_pause_between_them():
    found = attempts(Backoff(3, Random(1)), [Failure.AWAY] * 8)
    assert [server for server, _ in found] == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert [pause == 0.0 for pause in pauses(found)] == [True, True, False] * 2 + [True, True]


def test_server_that_refuses_us_keeps_nobody_from_the_one_that_is_only_away():
    backoff, now, found = Backoff(2, Random(1)), 0.0, []
    while now < 600.0:
        backoff.began(now)
        found.append((backoff.server, now))
        now = backoff.failed(Failure.REFUSED if backoff.server == 0 else Failure.AWAY, now + 0.1)
    away = [at for server, at in found if server == 1]
    assert max(later - earlier for earlier, later in itertools.pairwise(away)) <= 4.5
    assert sum(server == 0 for server, _ in found) < 30


def test_next_server_follows_on_one_that_was_lost_after_a_pause_by_chance():
    backoff = Backoff(2, Random(1))
    found = attempts(backoff, [Failure.LOST, Failure.LOST, Failure.LOST])
    assert [server for server, _ in found] == [0, 1, 0, 1]
    assert all(0.25 <= pause <= 4.0 for pause in pauses(found))


def test_servers_of_a_cluster_follow_at_once_on_one_that_drops_us():
    """RabbitMQ drops us from its other nodes too when one has died."""
    found = attempts(Backoff(3, Random(1)), [Failure.DROPPED] * 3)
    assert [server for server, _ in found] == [0, 1, 2, 0]
    assert [pause == 0.0 for pause in pauses(found)] == [True, True, False]


@pytest.mark.parametrize("failure", [Failure.LOST, Failure.BUSY, Failure.DROPPED])
def test_thousand_loggers_do_not_come_back_in_one_second(failure):
    """They lost their broker in the same moment; a second gets about what the spread gives each."""
    firsts = [pauses(attempts(Backoff(1, Random(seed)), [failure]))[0] for seed in range(1000)]
    seconds = Counter(int(10 * first) for first in firsts)
    busiest = max(sum(seconds[tenth + n] for n in range(10)) for tenth in range(40))
    assert busiest < 600
    assert max(seconds.values()) < 150, "in any tenth of a second"


@pytest.mark.parametrize("outage", [0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 30.0])
def test_broker_that_is_back_gets_a_thousand_loggers_over_seconds_however_short_it_was_away(outage):
    arrivals = []
    for seed in range(1000):
        backoff = Backoff(1, Random(seed))
        backoff.lasted()
        found = attempts(backoff, [Failure.LOST] + [Failure.AWAY] * 20)
        arrivals.append(next(at for _, at in found[1:] if at >= 100.0 + outage) - 100.0 - outage)
    tenths = Counter(int(10 * at) for at in arrivals)
    assert max(sum(tenths[first + n] for n in range(10)) for first in range(40)) < 600, "in any second"
    assert max(arrivals) <= 4.0


@pytest.mark.parametrize("failure", SOON)
def test_outage_spreads_a_thousand_loggers_over_all_the_period(failure):
    arrivals = []
    for seed in range(1000):
        found = attempts(Backoff(1, Random(seed)), [failure] * 30)
        arrivals.append(next(at for _, at in found if at >= 140.0))
    seconds = Counter(int(at) for at in arrivals)
    assert max(seconds.values()) < 500
    assert max(arrivals) < 145.0
