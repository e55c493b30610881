"""The control socket: asked by well-behaved clients and by all others."""

import os
import socket
import stat
import threading
import time
from types import SimpleNamespace

import pytest

from goodwe import control
from goodwe.config import parse
from goodwe.control import ControlSocket, Feed, RequestError
from goodwe.loop import NEVER, Loop
from goodwe.service import GoodWe
from goodwe.tools.client import ask, follow

from .broker import PATIENCE, wait_for

WITHIN = 5.0


class Served:
    """A control socket on a loop in a thread; the loop's clock can be put forward."""

    def __init__(self, path):
        self.path = str(path)
        self.skipped = 0.0
        self.loop = Loop(lambda: time.monotonic() + self.skipped)
        self.asked = 0
        self.large = "x" * 3_000_000
        self.takes = []
        """Of each client that is fed, what takes a line."""
        answers = {
            "status": self._status,
            "large": lambda: self.large,
            "feed": lambda: Feed({"began": True}, self._begin),
            "refused": self._refuse,
        }
        self.control = ControlSocket(self.path, answers, loop=self.loop)
        self.loop.add(self.control)
        self._end = False
        self._thread = threading.Thread(target=lambda: self.loop.run(until=lambda: self._end), daemon=True)
        self._thread.start()

    def _status(self):
        self.asked += 1
        return {"asked": self.asked}

    def _begin(self, take):
        self.takes.append(take)
        return lambda: self.takes.remove(take)

    def _refuse(self):
        raise RequestError("not today")

    def feed(self, *lines: str) -> list[bool]:
        """Hand lines to each client that is fed; whether each could be taken."""
        taken = []
        done = threading.Event()
        self.loop.post(
            lambda: (taken.extend(take(line) for take in self.takes for line in lines), done.set())
        )
        assert done.wait(WITHIN)
        return taken

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(self.path)  # waits while the queue is full
        client.settimeout(WITHIN)
        return client

    def put_forward(self, seconds: float) -> None:
        self.skipped += seconds
        self.loop.post(lambda: None)

    def end(self) -> None:
        def finish():
            self.control.close()
            self._end = True

        self.loop.post(finish)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def served(tmp_path):
    served = Served(tmp_path / "control.sock")
    yield served
    served.end()


def lines(client: socket.socket, count: int) -> list[bytes]:
    with client.makefile("rb") as file:
        return [file.readline() for _ in range(count)]


def is_sent_away(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_request_is_answered(served):
    assert ask(served.path, "status", within=WITHIN) == {"asked": 1}
    assert ask(served.path, "status", within=WITHIN) == {"asked": 2}


def test_answer_that_is_larger_than_the_kernels_buffer_arrives_whole(served):
    assert ask(served.path, "large", within=WITHIN) == served.large


def test_several_requests_on_one_connection_in_whatever_pieces(served):
    with served.connect() as client:
        text = b'{"request": "status"}\n' * 3
        for at in range(len(text)):
            client.send(text[at : at + 1])
        assert lines(client, 3) == [b'{"ok": true, "status": {"asked": %d}}\n' % n for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"rubbish",
        b"[]",
        b"1",
        b'"status"',
        b"{}",
        b'{"request": "secrets"}',
        b'{"request": []}',
        b"\xff\0",
        b"[" * 4000,
    ],
)
def test_what_is_no_request_is_told_what_would_be_one(served, line):
    with served.connect() as client:
        client.sendall(line + b"\n")
        (reply,) = lines(client, 1)
    assert b'"ok": false' in reply
    assert b'{\\"request\\": \\"status\\"}' in reply
    assert ask(served.path, "status", within=WITHIN)


def test_endless_line_is_sent_away(served):
    with served.connect() as client:
        client.sendall(b"x" * (control.LONGEST_REQUEST + 1))
        assert is_sent_away(client)
    assert ask(served.path, "status", within=WITHIN)


def test_who_asks_nothing_is_sent_away(served):
    with served.connect() as client:
        wait_for(lambda: served.control.status(0.0)["clients"], "it is let in")
        served.put_forward(control.PATIENCE + 1)
        assert is_sent_away(client)


def test_who_never_reads_is_sent_away_and_holds_nobody(served):
    with served.connect() as client:
        client.sendall(b'{"request": "large"}\n' * 3)
        wait_for(lambda: served.control.status(0.0)["clients"], "it is let in")
        assert ask(served.path, "status", within=WITHIN)
        served.put_forward(control.PATIENCE + 1)
        wait_for(lambda: not served.control.status(0.0)["clients"], "it is sent away")


def test_a_thousand_clients_get_their_turn_a_few_at_a_time(served):
    idle = [served.connect() for _ in range(control.MOST_CLIENTS)]
    wait_for(lambda: served.control.status(0.0)["clients"] == control.MOST_CLIENTS, "all places are taken")
    before = len(os.listdir("/proc/self/fd"))
    waiting = served.connect()
    waiting.sendall(b'{"request": "status"}\n')
    idle.pop().close()
    assert lines(waiting, 1) == [b'{"ok": true, "status": {"asked": 1}}\n']
    for client in (*idle, waiting):
        client.close()
    for _ in range(1000):
        served.connect().close()
    assert ask(served.path, "status", within=WITHIN) == {"asked": 2}
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("request_of_theirs", [b"", b'{"request": "large"}\n', b"rubbish\n" * 400])
def test_whoever_comes_gets_the_place_of_who_asks_nothing_or_never_reads(served, request_of_theirs):
    """Many who sit there, for hours, keep nobody from asking."""
    before = len(os.listdir("/proc/self/fd"))
    staying = []
    for _ in range(100):
        staying.append(served.connect())
        staying[-1].send(request_of_theirs)
    assert ask(served.path, "status", within=WITHIN) == {"asked": 1}
    assert served.control.status(0.0)["clients"] <= control.MOST_CLIENTS
    for client in staying:
        client.close()
    assert ask(served.path, "status", within=WITHIN) == {"asked": 2}
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before, "their descriptors are given back")


def test_owner_and_group_may_ask_and_nobody_else(served):
    assert stat.S_IMODE(os.stat(served.path).st_mode) == 0o660


def test_file_is_gone_after_the_end(served):
    served.loop.post(served.control.close)
    wait_for(lambda: not os.path.exists(served.path), "the file is gone")


def test_file_of_a_program_that_followed_is_left_alone(served, tmp_path):
    os.unlink(served.path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(served.path)
        served.loop.post(served.control.close)
        wait_for(lambda: served.control.closed, "it is closed")
        assert os.path.exists(served.path)


def test_stale_file_is_replaced_and_another_programs_socket_is_not(tmp_path):
    path = tmp_path / "control.sock"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(path))
    left.close()
    served = Served(path)
    try:
        with pytest.raises(OSError, match="another program listens there"):
            ControlSocket(str(path), {}, loop=served.loop)
        assert ask(served.path, "status", within=WITHIN)
    finally:
        served.end()


def test_file_that_is_no_socket_is_not_replaced(tmp_path):
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="is no socket"):
        ControlSocket(str(path), {}, loop=Loop(time.monotonic))
    assert path.read_text() == "precious"


def test_nobody_listening_is_told_from_nobody_answering(tmp_path):
    with pytest.raises(FileNotFoundError):
        ask(str(tmp_path / "none"), "status", within=WITHIN)
    path = str(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hanging:
        hanging.bind(path)
        hanging.listen()
        with pytest.raises(TimeoutError):
            ask(path, "status", within=0.1)
    with pytest.raises(ConnectionRefusedError):
        ask(path, "status", within=WITHIN)


# lines that follow an answer


def test_lines_follow_until_the_client_goes(served):
    head, connection, rest = follow(served.path, "feed", within=WITHIN)
    with connection:
        assert (head, rest) == ({"began": True}, b"")
        assert served.feed("one", "two") == [True, True]
        assert lines(connection, 2) == [b"one\n", b"two\n"]
        assert ask(served.path, "status", within=WITHIN) == {"asked": 1}
    wait_for(lambda: not served.takes, "it has noticed")


def test_who_says_more_behind_the_request_for_lines_is_sent_away(served):
    _, connection, _ = follow(served.path, "feed", within=WITHIN)
    with connection:
        connection.sendall(b'{"request": "status"}\n')
        assert is_sent_away(connection)
    wait_for(lambda: not served.takes, "it gets nothing any more")


def test_who_does_not_read_the_lines_costs_a_bounded_queue_and_goes_at_last(served):
    _, connection, _ = follow(served.path, "feed", within=WITHIN)
    line = "x" * 999
    with connection:
        wait_for(lambda: not any(served.feed(*[line] * 20)), "the queue is full")
        (client,) = served.control._clients
        assert len(client._to_send) <= control.MOST_QUEUED
        assert ask(served.path, "status", within=WITHIN), "others are answered all the same"
        asleep = served.loop.wake_ups
        time.sleep(0.2)  # the loop is a real one: would it turn for nothing?
        assert served.loop.wake_ups - asleep < 5
        served.put_forward(control.STALLED_FOR + 1)
        wait_for(lambda: not served.takes, "it is sent away")


def test_who_reads_again_after_a_while_gets_lines_again(served):
    _, connection, _ = follow(served.path, "feed", within=WITHIN)
    with connection, connection.makefile("rb") as file:
        wait_for(lambda: not any(served.feed(*["x" * 999] * 20)), "the queue is full")
        received = threading.Thread(target=lambda: list(iter(file.readline, b"the end\n")), daemon=True)
        received.start()
        wait_for(lambda: served.feed("the end") == [True], "there is room again")
        received.join(WITHIN)
        assert not received.is_alive()
        served.put_forward(control.STALLED_FOR + 1)
        assert ask(served.path, "status", within=WITHIN)
        assert served.takes, "a quiet wire is no reason to send it away"


def test_few_are_fed_at_a_time(served):
    several = [follow(served.path, "feed", within=WITHIN)[1] for _ in range(control.MOST_FEEDS)]
    with pytest.raises(ValueError, match="2 are at it already; end one of them"):
        follow(served.path, "feed", within=WITHIN)
    several.pop().close()
    wait_for(lambda: len(served.takes) < control.MOST_FEEDS, "one has gone")
    follow(served.path, "feed", within=WITHIN)[1].close()
    several.pop().close()


def test_refusal_is_told_with_its_reason(served):
    with pytest.raises(ValueError, match=r"^not today$"):
        ask(served.path, "refused", within=WITHIN)
    with pytest.raises(ValueError, match="does not know unheard-of"):
        ask(served.path, "unheard-of", within=WITHIN)


def test_answer_that_dribbles_is_given_up_in_time(tmp_path):
    path = str(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()

        def dribble():
            connection, _ = listener.accept()
            try:
                while True:
                    connection.send(b" ")
                    time.sleep(0.05)  # a program that hangs is the subject
            except OSError:
                connection.close()

        dribbling = threading.Thread(target=dribble, daemon=True)
        dribbling.start()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(path, "status", within=0.3)
        assert time.monotonic() - began < 3.0
        dribbling.join(WITHIN)


def broken(*_, **__):
    raise ZeroDivisionError("a defect")


ENTRIES = ("__init__", "poll_for", "ready", "tick", "deadline", "closed", "close", "answer")


@pytest.mark.parametrize("entry", ENTRIES)
def test_control_socket_that_raises_is_told_once_in_full_and_the_program_goes_on(
    entry, tmp_path, monkeypatch, caplog
):
    path = tmp_path / "goodwe.sock"
    program = GoodWe(str(tmp_path / "goodwe.pid"), parse("", "test")[0], [])
    status = broken if entry == "answer" else lambda now: {"dropped": []}
    loop = Loop(time.monotonic)
    if entry in ("deadline", "closed"):
        monkeypatch.setattr(ControlSocket, entry, property(broken, lambda *_: None), raising=False)
    elif entry != "answer":
        monkeypatch.setattr(ControlSocket, entry, broken)
    if entry == "tick":
        past = property(lambda self: -NEVER, lambda *_: None)
        monkeypatch.setattr(ControlSocket, "deadline", past, raising=False)
    close = program._listen(loop, SimpleNamespace(status=status))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        if path.exists():
            client.connect(str(path))
            client.sendall(b'{"request": "status"}\n')
        for _ in range(4):
            loop.post(lambda: None)
            loop.turn()
        close()
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.getMessage() == "The control socket failed and is left out until the next start"
    assert program._dropped == [{"part": "control socket", "error": "ZeroDivisionError: a defect"}]
    loop.close()


def renewed(served: Served) -> bool:
    """As the program does it: in the thread of the loop."""
    outcome = []
    served.loop.post(lambda: outcome.append(served.control.renew()))
    wait_for(lambda: outcome, "it was tried")
    return outcome[0]


def test_socket_that_was_removed_is_made_anew(tmp_path):
    served = Served(tmp_path / "control.sock")
    try:
        assert not renewed(served)
        os.unlink(served.path)
        assert renewed(served)
        assert ask(served.path, "status", within=WITHIN) == {"asked": 1}
        assert stat.S_IMODE(os.stat(served.path).st_mode) == control.MODE
    finally:
        served.end()
    assert not os.path.exists(served.path)
    assert not served.control.renew(), "it is closed"


def test_socket_that_another_one_has_made_in_the_meantime_stays_his(tmp_path):
    served = Served(tmp_path / "control.sock")
    os.unlink(served.path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(served.path)
        assert not renewed(served)
        served.end()
        assert os.path.exists(served.path)


def test_socket_whose_folder_is_gone_is_tried_again_later(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    served = Served(folder / "control.sock")
    os.unlink(served.path)
    folder.rmdir()
    assert not renewed(served)
    folder.mkdir()
    assert renewed(served)
    served.end()
