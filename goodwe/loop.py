"""Sleep until something is readable or due, then say so. One thread, poll(), deadlines.

A part does its step and returns; nobody sleeps and nobody waits. What has to block (a hidraw write
holds its caller for 5 s when the device does not listen, PROTOCOL 2.6; a name server likewise) is given
to a Worker, and its outcome comes back as a step of the loop.
"""

import errno
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import NoReturn, Protocol, TypeVar

from .times import NEVER as NEVER

T = TypeVar("T")

MOST_EVENTS = 0xFFFF
LONGEST_SLEEP = 86400.0
"""Seconds; poll() counts milliseconds in an int."""


class Part(Protocol):
    """Anything the loop can run."""

    @property
    def closed(self) -> bool:
        """True when it is to be dropped."""

    @property
    def deadline(self) -> float:
        """When `tick` is to be called, on the loop's clock; NEVER if nothing is due."""

    def poll_for(self) -> tuple[int, int] | None:
        """File descriptor and events of poll() to wait for; None without one."""

    def ready(self, now: float) -> bool | None:
        """The descriptor has something, errors and hang-ups included.

        True if nothing has changed by it but this part's own deadline: the loop then sleeps again without
        asking any other part.
        """

    def tick(self, now: float) -> bool | None:
        """The deadline has passed. True as for `ready`."""


class Timer:
    """The half of a part that waits for its deadline alone."""

    def poll_for(self) -> tuple[int, int] | None:
        return None

    def ready(self, now: float) -> None:
        """Nothing to read here."""


class Host(Protocol):
    """The side of a loop that parts see."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds that only grow."""

    def add(self, part: Part) -> None:
        """Run `part` from the next turn on, until it is closed."""

    def post(self, step: Callable[[], None]) -> None:
        """Call `step` in the loop's thread, soon; any thread may ask for it."""

    def call(self, step: Callable[[], object]) -> None:
        """Call `step` now, as if the loop did."""


class Group:
    """A host for an optional part of the program: parts and steps that fall together.

    What one of them raises is told to the group's owner once and never reaches the loop; all parts of
    the group are dropped then, and steps that are still to come are not made.
    """

    def __init__(self, host: Host, failed: Callable[[Exception], None]) -> None:
        """`failed` is called once, with what was raised; `host` is the loop, or a group around this one."""
        self._host = host
        self._failed = failed
        self.closed = False

    @property
    def clock(self) -> Callable[[], float]:
        return self._host.clock

    def add(self, part: Part) -> None:
        """Run `part` until it is closed, or the group is."""
        self._host.add(_Optional(part, self))

    def post(self, step: Callable[[], None]) -> None:
        """Call `step` soon, unless the group is closed then."""
        self._host.post(lambda: self.call(step))

    def call(self, step: Callable[[], object]) -> None:
        """Call `step` now; what it raises closes the group."""
        if self.closed:
            return
        try:
            step()
        except Exception as error:  # a defect in something optional: its owner says so, the rest goes on
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Close the group and tell its owner why; later failures are not told."""
        if not self.closed:
            self.closed = True
            self._failed(error)

    def close(self) -> None:
        """Drop all parts, and the steps to come."""
        self.closed = True


class _Optional:
    """A part of a group: it raises nothing.

    The loop asks each part several times in a turn: each answer is made in one piece, without further calls.
    """

    def __init__(self, part: Part, group: Group) -> None:
        """`group` is told what `part` raises, and falls by it."""
        self._part = part
        self._group = group

    @property
    def closed(self) -> bool:
        if not self._group.closed:
            try:
                return self._part.closed
            except Exception as error:  # as in Group.call, and so below
                self._group.fail(error)
        return True

    @property
    def deadline(self) -> float:
        if not self._group.closed:
            try:
                return float(self._part.deadline)
            except Exception as error:
                self._group.fail(error)
        return NEVER

    def poll_for(self) -> tuple[int, int] | None:
        if not self._group.closed:
            try:
                wanted = self._part.poll_for()
                if wanted is not None:
                    descriptor, events = wanted
                    # Else poll() would raise, in the loop.
                    if descriptor < 0 or not 0 <= events <= MOST_EVENTS:
                        raise ValueError(f"nothing that poll() can wait for: {wanted}")
                return wanted
            except Exception as error:
                self._group.fail(error)
        return None

    def ready(self, now: float) -> None:
        self._group.call(lambda: self._part.ready(now))

    def tick(self, now: float) -> None:
        self._group.call(lambda: self._part.tick(now))


class Loop:
    """Runs parts until it is told to stop.

    What a part raises leaves `turn`, and the part is dropped: the loop can go on, to say goodbye.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that only grow, as time.monotonic does."""
        self.clock = clock
        self._parts: list[Part] = []
        self._called: Part | None = None
        """The part that is being called: one that raises is dropped."""
        self.wake_ups = 0
        """Sleeps that have ended since the start."""
        self._posted: deque[Callable[[], None]] = deque()
        self._bell = -1  # should the next line fail
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def add(self, part: Part) -> None:
        """Run `part` from the next turn on, until it is closed."""
        self._parts.append(part)

    def post(self, step: Callable[[], None]) -> None:
        """Call `step` in the loop's thread, soon. The one method that other threads may call."""
        self._posted.append(step)
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def call(self, step: Callable[[], object]) -> None:
        """Call `step` now."""
        step()

    def run(self, until: Callable[[], bool]) -> None:
        """Turn until `until()` is true; it is asked before each sleep."""
        while not until():
            self.turn()

    def turn(self) -> None:
        """Sleep, and do all that is to be done after it. Raises what a part or a step raises."""
        try:
            self._turn()
        except BaseException:  # whatever it is goes on; the part would raise it in each turn
            if self._called in self._parts:
                self._parts.remove(self._called)
            self._called = None
            raise

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        parts = list(self._parts)
        deadlines: list[float] = []
        waiting: dict[int, int] = {}
        """Descriptor to the place of its part in `parts`."""
        for at, part in enumerate(parts):
            self._called = part
            deadlines.append(float(part.deadline))
            wanted = part.poll_for()
            if wanted is not None:
                poll.register(*wanted)
                waiting[wanted[0]] = at
        self._called = None
        nothing_else_changed = True
        while nothing_else_changed:
            now, ready = self._sleep(poll, min(deadlines, default=NEVER))
            late = [at for at, due in enumerate(deadlines) if due <= now]
            if len(ready) + len(late) != 1 or self._bell in dict(ready):
                self._call(ready, late, parts, waiting, now)
                break
            at = late[0] if late else waiting[ready[0][0]]
            self._called = part = parts[at]
            if part.closed:  # since the turn before
                break
            nothing_else_changed = bool(part.tick(now) if late else part.ready(now))
            if nothing_else_changed:
                deadlines[at] = float(part.deadline)
            self._called = None
        for part in list(self._parts):
            self._called = part
            if part.closed:
                self._parts.remove(part)
        self._called = None

    def _call(
        self,
        ready: list[tuple[int, int]],
        late: list[int],
        parts: list[Part],
        waiting: dict[int, int],
        now: float,
    ) -> None:
        """All that has something; each may change the others, so that they are asked again."""
        for descriptor, _ in ready:
            if descriptor == self._bell:
                self._answer_bell()
                continue
            self._called = part = parts[waiting[descriptor]]
            if _still_waits(part, descriptor):
                part.ready(now)
            self._called = None
        for at in late:  # what became due just now is for the next turn, which does not sleep then
            self._called = part = parts[at]
            if not part.closed and part.deadline <= now:
                part.tick(now)
        self._called = None

    def _sleep(self, poll: select.poll, deadline: float) -> tuple[float, list[tuple[int, int]]]:
        """Until `deadline` at most; the time then, and what is ready."""
        seconds = deadline - self.clock()
        ready = poll.poll(None if seconds == NEVER else max(0.0, min(seconds, LONGEST_SLEEP) * 1000))
        self.wake_ups += 1
        return self.clock(), ready

    def close(self) -> None:
        """Give the descriptor back; the loop cannot be used any more, and what is posted is never called."""
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    def __del__(self) -> None:
        self.close()  # as a file of Python's does: nobody can post any more

    def _answer_bell(self) -> None:
        os.eventfd_read(self._bell)
        # As many as are there now: a step that posts again is for the next turn.
        for left in reversed(range(len(self._posted))):
            try:
                self._posted.popleft()()
            except BaseException:  # whatever it is goes on; the steps behind it would be forgotten
                if left:  # for the turn after this one, if there is any
                    os.eventfd_write(self._bell, 1)
                raise


def _still_waits(part: Part, descriptor: int) -> bool:
    """False after another part or a posted step has closed it, in this turn."""
    if part.closed:
        return False
    wanted = part.poll_for()
    return wanted is not None and wanted[0] == descriptor


class Worker:
    """A thread for calls that may block, one after the other; their outcomes go back to the loop."""

    def __init__(self, post: Callable[[Callable[[], None]], None], name: str) -> None:
        """`post` is the loop's; `name` is the thread's."""
        self._post = post
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(
        self,
        call: Callable[[], T],
        then: Callable[[Callable[[], T]], None],
        *,
        only_if_it_fails: bool = False,
    ) -> None:
        """Make the call in the thread, then `then(outcome)` in the loop; if so wanted, only if it fails.

        `outcome()` gives what the call returned, or raises what it raised, or an OSError when there can be no
        thread now.
        """
        if self._thread is None:
            # A daemon thread: the end of the program waits for no device and no name server.
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:
                # No memory, or too many threads already: like too many open files, and may be over later.
                trouble = OSError(errno.EAGAIN, f"cannot start a thread ({error})")
                self._post(lambda: then(_raiser(trouble)))
                return
            self._thread = thread
        self._jobs.put(lambda: self._make(call, then, only_if_it_fails))

    def finish(self) -> None:
        """End the thread when it has done what it was given so far."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _make(
        self, call: Callable[[], T], then: Callable[[Callable[[], T]], None], only_if_it_fails: bool
    ) -> None:
        outcome: Callable[[], T]
        try:
            result = call()
        except Exception as error:  # not handled here: raised again in the loop, where it is expected
            outcome = _raiser(error)
        else:
            if only_if_it_fails:
                return
            outcome = lambda: result  # noqa: E731 (mypy cannot see a def with the generic type)
        self._post(lambda: then(outcome))


def _raiser(error: Exception) -> Callable[[], NoReturn]:
    def outcome() -> NoReturn:
        raise error

    return outcome
