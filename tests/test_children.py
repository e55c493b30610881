"""A test run leaves nothing behind, whether a test fails or the run is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .broker import wait_for

ROOT = Path(__file__).parents[1]

CONFTEST = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.conftest import mark, no_child_is_left, started
"""
TEST = """
import subprocess, sys, time
from pathlib import Path
from tests.broker import Mosquitto

def test_that_fails(tmp_path):
    here = Path(__file__).parent
    sleep = subprocess.Popen(["sleep", "300"])
    broker = Mosquitto(tmp_path).start()
    daemon = "import os, time; os.setsid(); os.fork() and os._exit(0); print(os.getpid(), flush=True); time.sleep(300)"
    process = subprocess.Popen([sys.executable, "-c", daemon], stdout=subprocess.PIPE, text=True)
    (here / "new").write_text(f"{sleep.pid} {broker._process.pid} {process.stdout.readline()}")
    (here / "new").rename(here / "pids")
    time.sleep(float((here / "seconds").read_text()))
    raise AssertionError
"""


def ended(pid: str) -> bool:
    """A zombie has ended as well; its parent is somebody else's affair."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("killed", [False, True])
def test_failed_test_and_killed_run_leave_no_process(tmp_path, killed):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / "seconds").write_text("300" if killed else "0")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_it.py")]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        wait_for((tmp_path / "pids").exists, "it is in the test")
        if killed:
            run.send_signal(signal.SIGKILL)
        else:
            assert "1 failed" in run.communicate(timeout=60)[0]
        pids = (tmp_path / "pids").read_text().split()
        assert len(pids) == 3
        wait_for(lambda: all(map(ended, pids)), "sleep, broker and daemon are gone")
