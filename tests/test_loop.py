"""The loop on real descriptors, and the worker's thread."""

import errno
import os
import select
import threading
import time

import pytest

from goodwe.loop import NEVER, Loop, Worker

PATIENCE = 10.0


class Reader:
    """A part that reads a pipe."""

    def __init__(self) -> None:
        self.closed = False
        self.deadline = NEVER
        self.read_end, self.write_end = os.pipe()
        self.got: list[bytes] = []
        self.ticks: list[float] = []

    def poll_for(self):
        return self.read_end, select.POLLIN

    def ready(self, now):
        self.got.append(os.read(self.read_end, 100))

    def tick(self, now):
        self.ticks.append(now)
        self.deadline = NEVER


@pytest.fixture
def loop():
    loop = Loop(time.monotonic)
    yield loop
    loop.close()


def turn_until(loop: Loop, condition) -> None:
    end = time.monotonic() + PATIENCE
    watch = Reader()
    watch.deadline = end
    loop.add(watch)
    loop.run(until=lambda: condition() or time.monotonic() >= end)
    assert condition()
    watch.closed = True


def test_deadline_in_a_year_is_one_that_poll_can_be_told(loop):
    part = Reader()
    part.deadline = time.monotonic() + 365 * 86400.0
    loop.add(part)
    os.write(part.write_end, b"hello")
    loop.turn()
    assert part.got == [b"hello"]


def test_part_is_told_when_its_descriptor_is_readable(loop):
    first, second = Reader(), Reader()
    loop.add(first)
    loop.add(second)
    os.write(second.write_end, b"hello")
    loop.turn()
    assert (first.got, second.got) == ([], [b"hello"])


def test_part_is_told_at_its_deadline_and_not_before(loop):
    part = Reader()
    due = part.deadline = time.monotonic() + 0.05
    loop.add(part)
    turn_until(loop, lambda: part.ticks)
    assert part.ticks[0] >= due


def test_hang_up_is_readiness(loop):
    part = Reader()
    loop.add(part)
    os.close(part.write_end)
    loop.turn()
    assert part.got == [b""]


def test_descriptor_given_up_in_the_same_turn_is_not_told(loop):
    class Door(Reader):
        open = True

        def poll_for(self):
            return super().poll_for() if self.open else None

    part = Door()
    loop.add(part)
    os.write(part.write_end, b"knock")
    loop.post(lambda: setattr(part, "open", False))
    loop.turn()
    assert part.got == []
    part.open = True
    loop.turn()
    assert part.got == [b"knock"]


def test_closed_part_is_dropped_and_not_told_again(loop):
    part = Reader()
    loop.add(part)
    os.write(part.write_end, b"1")
    loop.turn()
    part.closed = True
    part.deadline = 0.0
    os.write(part.write_end, b"2")
    loop.post(lambda: None)
    loop.turn()
    loop.post(lambda: None)
    loop.turn()
    assert part.got == [b"1"]
    assert part.ticks == []


@pytest.mark.parametrize("how", ["due", "readable"])
def test_part_that_was_closed_between_two_turns_is_not_told_though_it_is_the_only_one(loop, how):
    part = Reader()
    loop.add(part)
    loop.post(lambda: None)
    loop.turn()
    part.closed = True
    if how == "due":
        part.deadline = 0.0
    else:
        os.write(part.write_end, b"1")
    loop.turn()
    assert (part.got, part.ticks) == ([], [])


def test_part_whose_deadline_is_no_number_is_dropped_at_once_or_when_it_has_ticked(loop):
    for ticks in (False, True):
        part = Reader()
        part.deadline = 0.0 if ticks else None
        part.tick = lambda now, part=part: setattr(part, "deadline", None) or True
        loop.add(part)
        with pytest.raises(TypeError):
            loop.turn()
        loop.post(lambda: None)
        loop.turn()


def test_what_interrupts_a_later_sleep_of_a_turn_takes_no_part_with_it(loop, monkeypatch):
    collector = Collector()
    loop.add(collector)
    os.write(collector.write_end, b"a")
    sleep = loop._sleep

    def interrupted(poll, deadline):
        if collector.got:
            raise KeyboardInterrupt
        return sleep(poll, deadline)

    monkeypatch.setattr(loop, "_sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.turn()
    monkeypatch.undo()
    os.write(collector.write_end, b".")
    loop.post(lambda: None)
    loop.turn()
    assert collector.got == [b"a", b"."]


def test_part_that_another_closed_in_the_same_turn_is_not_told(loop):
    victim = Reader()

    class Closer(Reader):
        def ready(self, now):
            victim.closed = True

    closer = Closer()
    loop.add(closer)
    loop.add(victim)
    os.write(closer.write_end, b"!")
    os.write(victim.write_end, b"!")
    loop.turn()
    assert victim.got == []


class Collector(Reader):
    """Reads a letter at a time; all but the full stop are only a beginning."""

    asked = 0

    def __init__(self, deadline=NEVER, own=NEVER):
        """`own` is the deadline after the first letter."""
        super().__init__()
        self.deadline, self._own = deadline, own

    def poll_for(self):
        self.asked += 1
        return super().poll_for()

    def ready(self, now):
        self.got.append(os.read(self.read_end, 1))
        self.deadline = min(self.deadline, self._own)
        return self.got[-1] != b"."


def test_other_parts_are_not_asked_between_the_pieces_of_one_answer(loop):
    collector, other = Collector(), Collector()
    for part in (collector, other):
        loop.add(part)
    os.write(collector.write_end, b"ans.wer")
    loop.turn()
    assert collector.got == [b"a", b"n", b"s", b"."]
    assert (collector.asked, other.asked) == (1, 1)
    assert loop.wake_ups == 4


def test_other_parts_are_not_asked_after_a_deadline_that_changed_nothing_else(loop):
    class Ticker(Reader):
        def tick(self, now):
            self.ticks.append(now)
            self.deadline = now + 0.01 if len(self.ticks) < 5 else NEVER
            return len(self.ticks) < 5

    ticker, other = Ticker(), Collector()
    ticker.deadline = 0.0
    for part in (ticker, other):
        loop.add(part)
    loop.turn()
    assert (len(ticker.ticks), other.asked, loop.wake_ups) == (5, 1, 5)


def test_parts_that_are_due_together_are_asked_again_each(loop):
    first, second = Reader(), Reader()
    first.deadline = second.deadline = 0.0
    first.tick = lambda now: setattr(second, "closed", True) or True
    for part in (first, second):
        loop.add(part)
    loop.turn()
    assert second.ticks == []


def test_pieces_without_an_end_hold_no_deadline_of_another_and_none_of_their_own(loop):
    soon = time.monotonic() + 0.05
    for own, others in ((NEVER, soon), (soon, NEVER)):
        collector, other = Collector(own=own), Reader()
        other.deadline = others
        for part in (collector, other):
            loop.add(part)
        os.write(collector.write_end, b"x" * 60000)
        turn_until(loop, lambda collector=collector, other=other: collector.ticks or other.ticks)
        assert soon <= time.monotonic() < soon + 1.0
        assert len(collector.got) < 60000
        collector.closed = other.closed = True


def test_posted_step_and_another_descriptor_come_between_the_pieces(loop):
    collector, other = Collector(), Reader()
    for part in (collector, other):
        loop.add(part)
    os.write(collector.write_end, b"abc")
    os.write(other.write_end, b"x")
    done = []
    loop.post(lambda: done.append(True))
    loop.turn()
    assert (collector.got, other.got, done) == ([b"a"], [b"x"], [True])
    loop.post(lambda: done.append(True))
    loop.turn()
    assert (collector.got, done) == ([b"a", b"b"], [True, True])


def test_posted_steps_run_in_order_in_the_loops_thread(loop):
    ran = []
    for n in range(3):
        loop.post(lambda n=n: ran.append((n, threading.current_thread() is threading.main_thread())))
    loop.turn()
    assert ran == [(0, True), (1, True), (2, True)]


def test_step_that_posts_again_runs_in_the_next_turn(loop):
    ran = []
    loop.post(lambda: (ran.append(1), loop.post(lambda: ran.append(2))))
    loop.turn()
    assert ran == [1]
    loop.turn()
    assert ran == [1, 2]


def test_post_from_another_thread_ends_the_sleep(loop):
    ran = []
    threading.Timer(0.05, lambda: loop.post(lambda: ran.append(1))).start()
    turn_until(loop, lambda: ran)


@pytest.mark.parametrize("entry", ["poll_for", "ready", "tick", "deadline", "closed"])
def test_part_that_raises_ends_the_turn_and_is_dropped_so_that_others_go_on(loop, entry):
    def fail(*_):
        raise ZeroDivisionError("a defect")

    attribute = property(fail, lambda *_: None) if entry in ("deadline", "closed") else fail
    broken, good = type("Broken", (Reader,), {entry: attribute})(), Reader()
    if entry != "deadline":
        broken.deadline = 0.0
    loop.add(broken)
    loop.add(good)
    os.write(broken.write_end, b"!")
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    os.write(good.write_end, b"hello")
    loop.turn()
    assert good.got == [b"hello"]
    assert loop._parts == [good]


def test_step_that_raises_takes_no_later_one_with_it(loop):
    ran = []
    loop.post(lambda: 1 / 0)
    loop.post(lambda: ran.append(1))
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    loop.turn()
    assert ran == [1]


def test_worker_gives_results_and_errors_back_in_order(loop):
    worker = Worker(loop.post, "test")
    outcomes = []

    def then(outcome):
        try:
            outcomes.append(outcome())
        except ValueError as error:
            outcomes.append(str(error))

    def fail():
        raise ValueError("no")

    worker.do(lambda: threading.current_thread().name, then)
    worker.do(fail, then)
    worker.do(lambda: 3, then)
    turn_until(loop, lambda: len(outcomes) == 3)
    assert outcomes == ["test", "no", 3]
    worker.finish()


def test_worker_may_be_told_to_give_failures_back_alone(loop):
    worker = Worker(loop.post, "test")
    outcomes, done = [], []

    def fail():
        raise OSError(errno.EIO, "no")

    for call in (str, fail):
        worker.do(call, outcomes.append, only_if_it_fails=True)
    worker.do(str, done.append)
    turn_until(loop, lambda: done)
    assert len(outcomes) == 1
    with pytest.raises(OSError, match="no"):
        outcomes[0]()


def test_worker_without_a_thread_fails_its_call_and_does_the_next_when_there_can_be_one(loop, monkeypatch):
    def refused(thread):
        raise RuntimeError("can't start new thread")

    worker = Worker(loop.post, "test")
    outcomes = []

    def then(outcome):
        try:
            outcomes.append(outcome())
        except OSError as error:
            outcomes.append(str(error))

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refused)
        worker.do(lambda: "never", then)
        turn_until(loop, lambda: outcomes)
    assert outcomes == [f"[Errno {errno.EAGAIN}] cannot start a thread (can't start new thread)"]
    worker.do(lambda: "made", then)
    turn_until(loop, lambda: len(outcomes) == 2)
    assert outcomes[1] == "made"
    worker.finish()


def test_worker_that_hangs_does_not_keep_the_loop(loop):
    worker = Worker(loop.post, "hanging")
    release = threading.Event()
    done = []
    worker.do(lambda: release.wait(PATIENCE), lambda outcome: done.append(outcome()))
    part = Reader()
    loop.add(part)
    os.write(part.write_end, b"still here")
    loop.turn()
    assert part.got == [b"still here"]
    assert done == []
    release.set()
    turn_until(loop, lambda: done)
    worker.finish()


def test_worker_thread_ends_when_it_is_finished(loop):
    worker = Worker(loop.post, "short")
    worker.do(lambda: None, lambda outcome: None)
    worker.finish()
    assert worker._thread is not None
    worker._thread.join(PATIENCE)
    assert not worker._thread.is_alive()
