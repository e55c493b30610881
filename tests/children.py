"""No process outlives the run that started it, however that ends: brokers, daemons and machines too.

A run marks its children by a word in their environment, which a daemon keeps through both forks. What is marked
is ended with the run; a process beside it does the same when the run itself is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

NAME = "GOODWE_TEST_RUN"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

WATCH = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.children import end_all
sys.stdin.read()
end_all(sys.argv[2])
"""
"""Waits until the run has closed its end of the pipe, which the kernel does for one that was killed."""


def marked(word: str) -> list[int]:
    """Numbers of the processes that have `word` among the marks in their environment."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            for variable in file.read().split(b"\0"):
                if variable.startswith(f"{NAME}=".encode()) and word.encode() in variable:
                    found.append(int(name))
    return found


def end_all(word: str) -> None:
    """Kill every process with that mark, and what those start meanwhile."""
    while processes := marked(word):
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def unmeasured() -> dict[str, str]:
    """The environment for a child that coverage leaves alone: it loads modules, and writes files beside our sources.

    Given to the child as `env`: where Python code runs between fork and exec (`preexec_fn`), coverage puts itself
    into the environment that a child without one of its own inherits.
    """
    return {name: text for name, text in os.environ.items() if "COVERAGE" not in name}


@contextlib.contextmanager
def none_left() -> Iterator[str]:
    """End all that is started in here; gives the word that marks it. A run within a run has both marks."""
    word = uuid.uuid4().hex
    before = os.environ.get(NAME)
    with subprocess.Popen(
        [sys.executable, "-c", WATCH, ROOT, word],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the run
    ) as watch:
        os.environ[NAME] = f"{before},{word}" if before else word
        try:
            yield word
        finally:
            end_all(word)
            if before is None:
                del os.environ[NAME]
            else:
                os.environ[NAME] = before
            assert watch.stdin is not None
            watch.stdin.close()
