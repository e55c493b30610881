"""Registration and query of the inverters on one wire, as the AP sees it (PROTOCOL 4, 5 and 9).

Bytes and times in seconds go in, events come out in the order in which they happened. No file, no
clock: call `tick()` when `deadline` has passed.

Theory of operation: the wire is a bus with one master. A USB cable is the bus with one inverter on it.
One query is under way at a time. Its answer, or the silence behind its last try, decides what is next. The
states, as `BusState` has them:

    idle       no wire
       | start
    clearing   remove 11 (ours), 0x11 (the vendor program's), 0x7F; without a wait for confirmation
       |
    searching  off-line query, often at first, now and then the removes again: clearing
       |       -- silent for a minute: remove 1..126 once: clearing
       | register request
    allocated  allocate, up to three tries more -- no confirmation: forget it, clearing
       | address confirm
    registered query every interval, three tries more each -- three rounds missed: Offline, clearing
               -- first try missed: off-line query once -- register request: Offline, allocated

A wire that can carry more inverters than have registered goes on searching; those that have are queried
in any state but clearing and allocated, which take a moment. Each registration is allocated or registered.

Other questions (who are you, feed less) go into the pauses between two queries: they wait for one that is
long enough, so that no reading is late for them; an urgent one takes the next turn.

No state waits for ever: each has a deadline that leads out of it.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from ..errors import FieldError
from ..events import (
    Answer,
    Entered,
    Event,
    Found,
    Offline,
    Online,
    Outcome,
    Reading,
    Refused,
    Reply,
    Send,
    Unanswered,
)
from ..times import NEVER
from . import fields
from .frame import KINDS, OWN_ADDRESS, UNREGISTERED, Frame, Packet, Splitter, frame

FIRST_ADDRESS = 0x0B
"""The address handed out first, users see it as `address` in the JSON."""
VENDOR_ADDRESS = 0x11
"""The address that the vendor's program gives (PROTOCOL 3)."""
LAST_ADDRESS = 0x7E
REMEMBERED = 4
"""So many inverters, for each one that a wire can carry, get the same address again when they return: a
device that invents a serial each time would have all addresses removed before each search."""

ANSWER_TIME = 0.5
"""Within so many seconds an answer begins; after it the query is repeated (PROTOCOL 4)."""
LONGEST_ANSWER = 2.0
"""An answer that keeps coming in pieces is waited for so long, then its query counts as unanswered."""
QUERY_GAP = 0.5
"""Two queries are at least so far apart (PROTOCOL 9.5)."""
FRAME_GAP = 1.0
"""A frame whose rest has not come for so long is dropped (PROTOCOL 9.2)."""
LATENESS = 0.04
"""A loop comes some milliseconds after a deadline; where a question just fits, it may be late by so much."""
REMOVE_GAP = 0.1
"""Removes go to different addresses and wait for nothing; a frame takes some 10 ms on the wire."""
RETRIES = 3
ROUNDS = 3
QUESTION_TRIES = 3
ROUND_GAP = 2.0
"""The next round after a missed one begins after so many seconds at most: silence is to be known soon."""
SEARCH_OFTEN, SEARCH_SELDOM = 1.0, 10.0
"""Seconds between off-line queries, at first and later (PROTOCOL 9.5)."""
SEARCH_OFTEN_FOR = 120.0
REMOVE_AGAIN_OFTEN, REMOVE_AGAIN_SELDOM = 5.0, 60.0
"""Seconds between the removes while it stays silent: they, too, get lost."""
SWEEP_AFTER = 60.0

REGISTERED_AGAIN = "to be registered again"
"""Why an inverter is offline when somebody wants it so."""
NO_ANSWER = "no answer"
ASKS_AGAIN = "it asks for an address again"
BY_ITSELF = (NO_ANSWER, ASKS_AGAIN)
"""Why it is offline when it went away on a wire that is there."""


class BusState(Enum):
    """The state of a wire; that of one registration is ALLOCATED or REGISTERED."""

    IDLE = "idle"
    CLEARING = "clearing"
    SEARCHING = "searching"
    ALLOCATED = "allocated"
    REGISTERED = "registered"


class Question(NamedTuple):
    """A question to an inverter besides its readings."""

    name: str
    """The document's word for it."""
    frame: Frame
    urgent: bool
    """True when a reading may be late for it."""
    not_before: float
    answered: Callable[[Outcome], object]
    """To be called with what came of it."""
    tries: int = 0

    @property
    def answer(self) -> tuple[int, int]:
        """Control and function code of its answer."""
        return self.frame.control, self.frame.function | 0x80


class Registration:
    """One inverter that has asked for an address."""

    def __init__(self, serial: str, address: int) -> None:
        """`serial` asked for an address, `address` is the one that it is given."""
        self.serial = serial
        self.address = address
        self.state = BusState.ALLOCATED
        self.next_query = NEVER
        self.missed_rounds = 0
        self.questions: list[Question] = []
        """To be asked one after the other, the urgent ones first."""


class Query(NamedTuple):
    """A frame that was sent: the answer that counts, and how often and when it was sent."""

    frame: Frame
    answer: tuple[int, int]
    source: int
    registration: Registration | None
    """None for the off-line query, whose answer nobody is known to give."""
    tries: int
    sent: float
    question: Question | None = None
    then: "Query | None" = None
    """The query that an off-line query was put in front of: it goes on when that is not answered."""

    @property
    def polls(self) -> bool:
        """True when it asks a registered inverter for its reading."""
        return (
            self.registration is not None
            and self.registration.state is BusState.REGISTERED
            and self.question is None
        )


class Bus:
    """The AP's end of one wire."""

    def __init__(self, interval: float, *, capacity: int = 1) -> None:
        """`interval` is the time in seconds between two queries of one inverter.

        `capacity` is how many inverters the wire can carry: one on a USB cable.
        """
        self._interval = interval
        self._capacity = capacity
        self._most_addresses = min(REMEMBERED * capacity, LAST_ADDRESS - FIRST_ADDRESS)
        self._splitter = Splitter()
        self._state = BusState.IDLE
        self._entered_at = 0.0
        self._addresses: dict[str, int] = {}
        """Serial to address; kept when an inverter goes, so that it gets the same again."""
        self._registrations: dict[str, Registration] = {}
        self._query: Query | None = None
        self._last_query = -NEVER
        self._last_data = -NEVER
        self._removes: list[int] = []
        self._next_remove = NEVER
        self._next_search = NEVER
        self._next_clearing = 0.0
        self._search_since = 0.0
        self._next_sweep = NEVER
        self._sent: list[bytes] = []
        """The last two frames written: what a stale tail can be made of (PROTOCOL 2.3)."""
        self._checksum_errors_told = 0
        self._partial_frames_told = 0

    @property
    def deadline(self) -> float:
        """When `tick()` has something to do, on the clock that the calls are given."""
        due = [self._partial_frame_deadline()]
        if self._state is BusState.IDLE:
            return NEVER
        if self._state is BusState.CLEARING:
            due.append(self._next_remove)
        elif self._query is not None:
            due.append(self._answer_deadline(self._query))
        else:
            due.append(max(self._next_poll(), self._last_query + QUERY_GAP))
            due += [self._fits_at(question) for _, question in self._questions()]
        return min(due)

    def start(self, now: float) -> list[Event]:
        """The wire is there: clear what earlier programs left, and search."""
        return self._clear(now)

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Bytes that arrived, however cut."""
        self._last_data = now
        return self._take(self._splitter.feed(data), now)

    def tick(self, now: float) -> list[Event]:
        """Do what is due. Harmless when nothing is."""
        events: list[Event] = []
        if self._state is BusState.IDLE:
            return events
        if now >= self._partial_frame_deadline():
            events += self._drop_partial_frame(now)
        if self._state is BusState.CLEARING:
            events += self._remove_next(now)
        elif self._query is not None:
            if now >= self._answer_deadline(self._query):
                events += self._no_answer(now)
        else:
            events += self._next(now)
        return events

    @property
    def has_registered(self) -> bool:
        """True while an inverter is registered here, and queried."""
        return any(one.state is BusState.REGISTERED for one in self._registrations.values())

    def change_interval(self, interval: float, now: float) -> None:
        """From now on this is the time in seconds between two queries of one inverter."""
        self._interval = interval
        for registration in self._registrations.values():
            if registration.state is BusState.REGISTERED:
                registration.next_query = min(registration.next_query, now + interval)

    def poll(self, serial: str) -> bool:
        """Query this inverter as soon as the rules allow, not only when its interval is over.

        False if it is not registered here.
        """
        registration = self._registered(serial)
        if registration is not None:
            registration.next_query = self._last_query + QUERY_GAP
        return registration is not None

    def ask(
        self,
        serial: str,
        question: str,
        data: bytes = b"",
        *,
        now: float,
        urgent: bool = False,
        answered: Callable[[Outcome], object],
    ) -> bool:
        """Put the question that the document calls so: a Reply to `answered` follows.

        False, and nothing follows, if this inverter is not registered here. An urgent one takes the next
        turn. Any other waits for a pause between two readings that is long enough, and is forgotten, without
        a reply, with the registration.
        """
        registration = self._registered(serial)
        if registration is None:
            return False
        out = frame(question, OWN_ADDRESS, registration.address, data)
        urgent_ones = sum(other.urgent for other in registration.questions)
        at = urgent_ones if urgent else len(registration.questions)
        registration.questions.insert(at, Question(question, out, urgent, now, answered))
        return True

    def register(self, serial: str, now: float) -> list[Event]:
        """Take the inverter's address away and begin anew; nothing if it is not registered here."""
        registration = self._registered(serial)
        if registration is None:
            return []
        return self._forget(registration, REGISTERED_AGAIN) + self._clear(now)

    def stop(self, now: float, reason: str) -> list[Event]:
        """The end of this wire: say goodbye to every inverter on it."""
        events: list[Event] = []
        for registration in list(self._registrations.values()):
            events += self._send(frame("remove_register", OWN_ADDRESS, registration.address))
            events += self._forget(registration, reason)
        self._query = None
        self._removes = []
        self._next_search = NEVER
        return events + self._enter(BusState.IDLE, now)

    def status(self, now: float) -> dict[str, Any]:
        """Plain values: the state for so many seconds, each inverter by its serial, refusals by reason."""
        return {
            "state": self._state.value,
            "state_seconds": now - self._entered_at,
            "capacity": self._capacity,
            "searching_seconds": None if self._next_search == NEVER else now - self._search_since,
            "inverters": {
                registration.serial: {
                    "address": registration.address,
                    "state": registration.state.value,
                    "missed_rounds": registration.missed_rounds,
                    "questions": [question.name for question in registration.questions],
                }
                for registration in self._registrations.values()
            },
            "checksum_errors": self._splitter.checksum_errors,
            "partial_frames": self._splitter.partial_frames,
        }

    def _enter(self, state: BusState, now: float) -> list[Event]:
        """The one way from state to state; an event, unless it is there already."""
        if state is self._state:
            return []
        self._state, self._entered_at = state, now
        return [Entered(state.value)]

    def _registered(self, serial: str) -> Registration | None:
        registration = self._registrations.get(serial)
        known = registration is not None and registration.state is BusState.REGISTERED
        return registration if known else None

    # what is sent

    def _send(self, out: Frame) -> list[Event]:
        self._sent = [*self._sent[-1:], out.encode()]
        return [Send(out)]

    def _ask(self, query: Query, now: float) -> list[Event]:
        self._query = query._replace(tries=query.tries + 1, sent=now)
        self._last_query = now
        return self._send(query.frame)

    def _next(self, now: float) -> list[Event]:
        """The query that has been due longest, or a question that fits in; none if nothing is due."""
        if now < self._last_query + QUERY_GAP:
            return []
        for registration, question in self._questions():
            if self._fits(question, max(now, question.not_before)):
                if now >= question.not_before:
                    return self._put(question, registration, now)
            else:
                # No time for it any more; another look when the reading that comes first was taken.
                registration.questions[0] = question._replace(not_before=self._next_poll())
        due = min(
            self._registrations.values(), key=lambda registration: registration.next_query, default=None
        )
        if due is not None and due.next_query <= min(now, self._next_search):
            return self._query_running_info(due, now)
        if self._next_search <= now:
            return self._search(now)
        return []

    def _query_running_info(self, registration: Registration, now: float) -> list[Event]:
        registration.next_query = _next_time(registration.next_query, self._interval, now)
        out = frame("query_running_info", OWN_ADDRESS, registration.address)
        return self._ask(Query(out, KINDS["running_info"], registration.address, registration, 0, now), now)

    def _next_poll(self) -> float:
        """When the next query or search is due."""
        return min(
            [self._next_search, *(registration.next_query for registration in self._registrations.values())]
        )

    def _questions(self) -> list[tuple[Registration, Question]]:
        """The next question to each inverter that has one."""
        return [
            (registration, registration.questions[0])
            for registration in self._registrations.values()
            if registration.questions
        ]

    def _fits_at(self, question: Question) -> float:
        at = max(self._last_query + QUERY_GAP, question.not_before)
        return at if self._fits(question, at) else NEVER

    def _fits(self, question: Question, at: float) -> bool:
        """True when its answer comes before the next query is due, if it is put at that time."""
        return question.urgent or at + ANSWER_TIME <= self._next_poll() + LATENESS

    def _put(self, question: Question, registration: Registration, now: float) -> list[Event]:
        tried = registration.questions[0] = question._replace(tries=question.tries + 1)
        query = Query(
            question.frame, question.answer, registration.address, registration, RETRIES, now, tried
        )
        return self._ask(query, now)

    def _search(self, now: float) -> list[Event]:
        searched = now - self._search_since
        if now >= self._next_sweep and not self._registrations:
            # It may count itself registered at an address that somebody else gave (PROTOCOL 9.6).
            self._next_sweep = NEVER
            return self._remove(list(range(1, UNREGISTERED)), now)
        often = searched < SEARCH_OFTEN_FOR
        if now >= self._next_clearing:
            self._next_clearing = now + (REMOVE_AGAIN_OFTEN if often else REMOVE_AGAIN_SELDOM)
            return self._remove(self._usual_addresses(), now)
        self._next_search = _next_time(self._next_search, SEARCH_OFTEN if often else SEARCH_SELDOM, now)
        return self._ask(_off_line_query(now), now)

    def _clear(self, now: float) -> list[Event]:
        """Begin the search with the removes.

        An inverter whose confirmation was lost counts itself registered and ignores the off-line query
        for ten minutes (PROTOCOL 9.6).
        """
        self._next_clearing = now + REMOVE_AGAIN_OFTEN
        self._query = None
        self._search_since = now
        self._next_sweep = now + SWEEP_AFTER
        self._next_search = now
        return self._remove(self._usual_addresses(), now)

    def _remove(self, addresses: list[int], now: float) -> list[Event]:
        """Begin to take these addresses away, whoever has them."""
        self._removes = addresses
        self._next_remove = now
        return self._enter(BusState.CLEARING, now) + self._remove_next(now)

    def _usual_addresses(self) -> list[int]:
        """The addresses that an inverter may think it has: ours, the vendor program's, none."""
        taken = {registration.address for registration in self._registrations.values()}
        own = {FIRST_ADDRESS, *self._addresses.values()}
        return [a for a in (*sorted(own), VENDOR_ADDRESS, UNREGISTERED) if a not in taken]

    def _remove_next(self, now: float) -> list[Event]:
        if now < self._next_remove:
            return []
        address = self._removes.pop(0)
        self._next_remove = now + REMOVE_GAP
        if not self._removes:
            # The query that follows keeps the same distance.
            self._last_query = max(self._last_query, now + REMOVE_GAP - QUERY_GAP)
            searching = self._enter(BusState.SEARCHING, now)
        else:
            searching = []
        return self._send(frame("remove_register", OWN_ADDRESS, address)) + searching

    # what does not come

    def _answer_deadline(self, query: Query) -> float:
        deadline = query.sent + ANSWER_TIME
        if self._splitter.collecting:
            deadline = max(deadline, min(self._last_data + ANSWER_TIME, query.sent + LONGEST_ANSWER))
            if query.question is not None and not query.question.urgent:
                deadline = min(deadline, self._next_poll())
        return deadline

    def _partial_frame_deadline(self) -> float:
        return self._last_data + FRAME_GAP if self._splitter.collecting else NEVER

    def _drop_partial_frame(self, now: float) -> list[Event]:
        self._last_data = now
        return self._take(self._splitter.expire(), now)

    def _no_answer(self, now: float) -> list[Event]:
        unanswered = self._query
        # The answer may stand behind something that only looked like a header.
        events = self._drop_partial_frame(now) if self._splitter.collecting else []
        query = self._query
        if query is None or query is not unanswered:  # the answer was there, or something new is under way
            return events
        if query.then is not None:
            return events + self._ask(query.then, now)
        if query.polls and query.tries == 1:
            # Perhaps it has restarted, and knows of no address: then it hears this and nothing else. A
            # registered inverter ignores it (PROTOCOL 4).
            return events + self._ask(_off_line_query(now, then=query), now)
        if query.tries <= RETRIES:
            return events + self._ask(query, now)
        self._query = None
        registration = query.registration
        if registration is None:
            return events
        if query.question is not None:
            events += self._not_answered(query.question, registration, now)
            return events + self._next(now)
        registration.missed_rounds += 1
        if registration.state is BusState.REGISTERED and registration.missed_rounds < ROUNDS:
            registration.next_query = min(registration.next_query, now + ROUND_GAP)
            return events + self._next(now)  # which may be due at the same moment
        reason = NO_ANSWER if registration.state is BusState.REGISTERED else "no confirmation of its address"
        return events + self._forget(registration, reason) + self._clear(now)

    def _not_answered(self, question: Question, registration: Registration, now: float) -> list[Event]:
        at = registration.questions.index(question)
        if question.tries < QUESTION_TRIES:
            registration.questions[at] = question._replace(not_before=now)
            return []
        del registration.questions[at]
        return [Reply(question.answered, Unanswered(registration.serial, question.name))]

    def _forget(self, registration: Registration, reason: str) -> list[Event]:
        del self._registrations[registration.serial]
        events: list[Event] = [
            Reply(question.answered, Unanswered(registration.serial, question.name))
            for question in registration.questions
            if question.urgent
        ]
        if registration.state is BusState.REGISTERED:
            events.append(Offline(registration.serial, registration.address, reason))
        return events

    # what comes

    def _take(self, packets: list[Packet], now: float) -> list[Event]:
        events = self._tell_refused(packets)
        for packet in packets:
            events += self._answer(packet.frame, now)
        return events

    def _answer(self, answer: Frame, now: float) -> list[Event]:
        """Addressee, kind, state, payload: the order of the checks is that of the counters."""
        if answer.destination != OWN_ADDRESS:
            return [Refused("frame for another AP", str(answer))]
        if answer.kind == KINDS["remove_confirm"]:
            return []  # nobody waits for it; the off-line query comes next in any case
        query = self._query
        # Also a late one, to an off-line query that is no longer waited for.
        expected = query is None or query.registration is None or (query.polls and query.tries > 1)
        if expected and (answer.kind, answer.source) == (KINDS["register_request"], UNREGISTERED):
            return self._register_request(answer, now)
        query = query and (query.then or query)  # an answer may be as late as the off-line query behind it
        if query is not None and (answer.kind, answer.source) == (query.answer, query.source):
            assert query.registration is not None  # only the off-line query has none
            if answer.kind == KINDS["address_confirm"]:
                return self._address_confirm(query.registration, now)
            if query.question is None:
                return self._running_info(query.registration, answer)
            self._query = None
            return self._question_answered(query.registration, query.question, answer)
        for registration in self._registrations.values():
            for question in registration.questions:  # also late, while the next reading is under way
                if question.tries and (answer.kind, answer.source) == (question.answer, registration.address):
                    return self._question_answered(registration, question, answer)
        return [Refused("frame that nobody asked for", str(answer))]

    def _register_request(self, answer: Frame, now: float) -> list[Event]:
        try:
            serial = fields.decode_serial(answer.data)
        except FieldError as error:
            return [Refused(error.reason, error.detail)]
        if serial not in self._registrations and len(self._registrations) >= self._capacity:
            return [Refused("register request on a full wire", serial)]
        address = self._address_of(serial)
        known = self._registrations.get(serial)
        events = self._forget(known, ASKS_AGAIN) if known is not None else []
        registration = self._registrations[serial] = Registration(serial, address)
        self._removes = []
        self._next_search = NEVER
        out = frame("allocate_register_address", OWN_ADDRESS, UNREGISTERED, answer.data + bytes([address]))
        query = Query(out, KINDS["address_confirm"], address, registration, 0, now)
        entered = self._enter(BusState.ALLOCATED, now)
        return [*events, *entered, Found(serial, address), *self._ask(query, now)]

    def _address_of(self, serial: str) -> int:
        """The one that it had, or a free one; few are remembered of inverters that are not here."""
        address = self._addresses.pop(serial, None)
        if address is None:
            gone = [other for other in self._addresses if other not in self._registrations]
            for other in gone[: max(0, len(self._addresses) + 1 - self._most_addresses)]:
                del self._addresses[other]
            taken = {*self._addresses.values(), VENDOR_ADDRESS}
            address = next(a for a in range(FIRST_ADDRESS, LAST_ADDRESS + 1) if a not in taken)
        self._addresses[serial] = address  # the last one seen is the last to be forgotten
        return address

    def _address_confirm(self, registration: Registration, now: float) -> list[Event]:
        self._query = None
        registration.state = BusState.REGISTERED
        registration.next_query = max(now, self._last_query + QUERY_GAP)
        if len(self._registrations) < self._capacity:
            self._search_since = now
            self._next_search = now
        state = BusState.REGISTERED if self._next_search == NEVER else BusState.SEARCHING
        return [*self._enter(state, now), Online(registration.serial, registration.address)]

    def _running_info(self, registration: Registration, answer: Frame) -> list[Event]:
        try:
            values = fields.decode_running(answer.data)
        except FieldError as error:
            if error.reason == fields.ALL_ZERO:
                self._answered(registration)  # it booted, it is there, it has nothing to say yet
            return [Refused(error.reason, error.detail)]
        self._answered(registration)
        phases = fields.phases(len(answer.data))
        clock = fields.decode_clock(answer.data)
        return [Reading(registration.serial, registration.address, phases, values, clock=clock)]

    def _question_answered(
        self, registration: Registration, question: Question, answer: Frame
    ) -> list[Event]:
        registration.questions.remove(question)
        return [Reply(question.answered, Answer(registration.serial, question.name, answer.data))]

    def _answered(self, registration: Registration) -> None:
        self._query = None
        registration.missed_rounds = 0

    # what is refused

    def _tell_refused(self, packets: list[Packet]) -> list[Event]:
        """Tell of the bytes that the splitter refused since it was last asked."""
        events: list[Event] = []
        wrong = self._splitter.checksum_errors - self._checksum_errors_told
        partial = self._splitter.partial_frames - self._partial_frames_told
        self._checksum_errors_told += wrong
        self._partial_frames_told += partial
        runs = [*(packet.skipped for packet in packets), self._splitter.take_skipped()]
        skipped = [run for run in runs if run]
        if not (skipped or wrong or partial):
            return events
        shown = b"".join(skipped)[:24].hex()
        if wrong:
            events.append(Refused("wrong checksum", shown, wrong))
        if partial:
            events.append(Refused("frame without an end", shown, partial))
        if not (wrong or partial):
            events += [
                Refused("bytes outside a frame", run[:24].hex(), len(run))
                for run in skipped
                if not self._expected_filling(run)
            ]
        return events

    def _expected_filling(self, run: bytes) -> bool:
        """Zeros, and what a short answer leaves standing of our own last report (PROTOCOL 2.3)."""
        return any(run.strip(b"\0") in sent for sent in self._sent) or not any(run)


def _off_line_query(now: float, then: Query | None = None) -> Query:
    """The question who is there without an address; once, for an inverter that ignores it is counting."""
    out = frame("off_line_query", OWN_ADDRESS, UNREGISTERED)
    return Query(out, KINDS["register_request"], UNREGISTERED, None, RETRIES, now, then=then)


def _next_time(due: float, interval: float, now: float) -> float:
    """On a fixed grid, so that the rate does not drift; without catching up after a suspended machine."""
    return due + interval if due + interval > now else now + interval
