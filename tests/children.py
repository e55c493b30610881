"""No process outlives the test that started it, however the test ended: brokers and daemons too.

Each run marks its children by a word in their environment, which a daemon keeps through both forks. What is
marked after a test is ended; a process beside the run does the same when the run itself is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

NAME = "GOODWE_TEST_RUN"
STARTS = {"subprocess.Popen", "os.fork", "os.posix_spawn"}
"""Audit events of whatever makes a process; a test without one has none to look for."""

WATCH = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.children import end_all
sys.stdin.read()
end_all(sys.argv[2])
"""
"""Waits until the run has closed its end of the pipe, which the kernel does for one that was killed."""


def marked(mark: str) -> list[int]:
    """Numbers of the processes that have `mark` in their environment."""
    wanted = f"{NAME}={mark}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            if wanted in file.read().split(b"\0"):
                found.append(int(name))
    return found


def end_all(mark: str) -> None:
    """Kill every process with that mark, and what those start meanwhile."""
    while processes := marked(mark):
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def mark() -> Iterator[str]:
    """The word in the environment of all children of this run."""
    word = uuid.uuid4().hex
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with subprocess.Popen(
        [sys.executable, "-c", WATCH, root, word],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the run
    ) as watch:
        os.environ[NAME] = word
        yield word
        end_all(word)
        del os.environ[NAME]
        assert watch.stdin is not None
        watch.stdin.close()


class _Started:
    """Notes that a process was started in this one."""

    def __init__(self) -> None:
        self.any = False
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in STARTS:
            self.any = True


@pytest.fixture(scope="session")
def started() -> _Started:
    """Notes whether a process was started; there is no way to take an audit hook back, so one for all tests."""
    return _Started()


@pytest.fixture(autouse=True)
def no_child_is_left(mark: str, started: _Started) -> Iterator[None]:
    """Set up before all other fixtures and torn down after them: theirs are ended in their own way."""
    started.any = False
    yield
    if started.any:
        end_all(mark)
