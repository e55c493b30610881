"""The modules that verbs and the daemon load, by name: what nobody uses costs every start, and memory for months."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .broker import PATIENCE
from .children import unmeasured
from .test_program import GOODWE, ROOT, House, topic

LISTING = """
import atexit, sys
_, listing, _, __file__, *arguments = sys.argv
sys.argv = [__file__, *arguments]
atexit.register(lambda: open(listing, "w").write(" ".join(sys.modules)))
exec(compile(open(__file__).read(), __file__, "exec"))
"""
"""Runs `LISTING-FILE PYTHON FILE ARGUMENTS` as Python would, and lists in the end what was loaded."""
PACKAGES = ("goodwe", "DaemonPy")

ANY = {"goodwe", "goodwe.cli", "goodwe.errors", "goodwe.paths"}
STOP = ANY | {
    "goodwe.instance",
    *("DaemonPy", "DaemonPy.daemonpy", "DaemonPy.notify", "DaemonPy.pidfile"),
}
STATUS = STOP | {"goodwe.tools", "goodwe.tools.client", "goodwe.tools.status"}
CHECK_CONFIG = ANY | {
    *("goodwe.config", "goodwe.config.documents", "goodwe.config.file", "goodwe.config.inverter"),
    *("goodwe.config.options", "goodwe.config.parsers", "goodwe.config.rules", "goodwe.config.source"),
    *("goodwe.events", "goodwe.guard", "goodwe.loop", "goodwe.on_demand", "goodwe.times"),
    *("goodwe.outputs", "goodwe.outputs.mqtt", "goodwe.outputs.mqtt.settings"),
    *("goodwe.protocol", "goodwe.protocol.fields", "goodwe.protocol.frame", "goodwe.protocol.texts"),
    *("goodwe.transport", "goodwe.transport.wire", "goodwe.writable"),
}
FIND_ON_USB = {"goodwe.transport.hidraw", "goodwe.transport.udev"}
DAEMON = (
    STOP
    | CHECK_CONFIG
    | {
        *("DaemonPy.logfile", "DaemonPy.signals"),
        *("goodwe.app", "goodwe.control", "goodwe.memory", "goodwe.service", "goodwe.snapshot"),
        *(
            "goodwe.ladder",
            "goodwe.link",
            "goodwe.place",
            "goodwe.recurrences",
            "goodwe.tally",
            "goodwe.traffic",
        ),
        *("goodwe.protocol.bus", "goodwe.protocol.identity"),
        *(
            "goodwe.readings",
            "goodwe.readings.clock",
            "goodwe.readings.ledger",
            "goodwe.readings.plausibility",
        ),
        "goodwe.readings.state",
        *("goodwe.transport.hidraw", "goodwe.transport.standin"),
        *(
            f"goodwe.outputs.mqtt.{name}"
            for name in (
                *("advice", "attempt", "backoff", "client", "connection", "discovery", "feature"),
                *("homeassistant", "message", "output", "payload", "pool", "probe", "suspects", "terms"),
                *("retained", "tls"),
            )
        ),
    }
)
"""With the defaults, on the stand-in."""
FOR_VERBS = {"argparse", "gettext", "logging.handlers", "pickle", "json", "sqlite3", "difflib", "asyncio"}
"""Of the standard library: nothing that the daemon needs for its work."""
FOR_PROXIES = {"http.client", "email.message", "tempfile", "shutil"}
"""Loaded by the urllib.request that paho imports."""
FOR_CONFIGURATION = {"configparser", "dataclasses", "inspect"}


def listing(into: Path) -> list[str]:
    """The words before a command line of Python, for a list of its modules in that file."""
    return [sys.executable, "-c", LISTING, str(into)]


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] in PACKAGES}


@pytest.fixture
def bare(tmp_path) -> set[str]:
    """The modules of an interpreter that does nothing: an environment may have some of its own."""
    (tmp_path / "nothing.py").touch()
    return loaded(tmp_path, str(tmp_path / "nothing.py"))


def loaded(folder: Path, *arguments: str) -> set[str]:
    """The modules that Python has loaded in the end with these arguments."""
    command = [*listing(folder / "modules"), sys.executable, *arguments]
    subprocess.run(command, env=unmeasured(), capture_output=True, timeout=60)
    return set((folder / "modules").read_text().split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--version"], ANY | {"goodwe.program"}),
        (["stop"], STOP),
        (["status"], STATUS),
        (["check-config"], CHECK_CONFIG | FIND_ON_USB | STOP),
    ],
)
def test_verb_loads_what_it_needs(arguments, expected, tmp_path, bare):
    files = ["--config", str(tmp_path / "t.conf"), "--pidfile", str(tmp_path / "goodwe.pid")]
    (tmp_path / "t.conf").touch()
    modules = loaded(tmp_path, GOODWE, *files, *arguments) - bare
    assert ours(modules) == expected
    assert not {"paho", "pyudev", "ssl", "asyncio", "difflib"} & modules
    if "check-config" not in arguments:
        assert not FOR_CONFIGURATION & modules
    if arguments in (["stop"], ["status"]):
        assert (
            not {"argparse", "logging", "threading", "ctypes", "pathlib", "shutil", "urllib", "simplejson"}
            & modules
        )


def test_daemon_loads_what_it_needs(mosquitto, subscriber, tmp_path, bare):
    house = House(tmp_path, mosquitto.port)
    # paho loads PySocks wherever it is, which brings much: what drives a browser in the page's tests has it.
    without = tmp_path / "without"
    without.mkdir()
    (without / "socks.py").write_text("raise ImportError('not in a house')\n")
    try:
        house.simulate()
        program = house.foreground(
            *listing(tmp_path / "modules"), env={**unmeasured(), "PYTHONPATH": str(without)}
        )
        subscriber.until(topic("online"), "1")
        program.send_signal(signal.SIGTERM)
        assert program.wait(PATIENCE) == 0
    finally:
        house.end()
    modules = set((tmp_path / "modules").read_text().split()) - bare
    assert ours(modules) == DAEMON, "what has to be loaded is added above; what has not, where it is used"
    others = {name.partition(".")[0] for name in modules - ours(modules)} - sys.stdlib_module_names
    assert others - {"paho", "simplejson", "org"} == set()
    assert not (FOR_VERBS | FOR_PROXIES) & modules


def test_module_on_demand_is_loaded_by_its_first_use_however_it_was_imported():
    script = """
import sys
from goodwe.on_demand import load_on_demand
load_on_demand("urllib.request")
load_on_demand("urllib.parse")
import urllib.request
from urllib import parse as by_name
import urllib.request as again
print("http.client" in sys.modules, urllib.request is again)
print(again.Request("http://sun/").host, urllib.request.getproxies is again.getproxies, by_name.quote("a b"))
print("http.client" in sys.modules, type(sys.modules["urllib.request"]).__name__)
load_on_demand("urllib.request")
print(type(sys.modules["urllib.request"]).__name__)
try:
    again.nothing
except AttributeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "False True",
        "sun True a%20b",
        "True module",
        "module",
        "module 'urllib.request' has no attribute 'nothing'",
    ]


def test_module_on_demand_that_two_threads_use_first_is_loaded_once(tmp_path):
    """As connections ask for a proxy, each in its thread: the second one comes while the first one loads."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/__init__.py").write_text("import threading\nbegun, loads = threading.Event(), []\n")
    (tmp_path / "slow/late.py").write_text(
        "import slow, threading\nslow.loads.append(1)\nslow.begun.set()\nthreading.Event().wait(0.5)\nanswer = 42\n"
    )
    script = """
import linecache, sys, threading
from concurrent.futures import ThreadPoolExecutor
from goodwe import on_demand
import slow
on_demand.load_on_demand("slow.late")
late = sys.modules["slow.late"]
looked = threading.Event()

def trace(frame, what, argument):
    if frame.f_code.co_filename != on_demand.__file__:
        return None
    if what == "line" and linecache.getline(on_demand.__file__, frame.f_lineno).strip().startswith("del "):
        looked.set()
        slow.begun.wait(0.5)  # for the other one, as far as it comes
    return trace

def second():
    sys.settrace(trace)
    return late.answer

with ThreadPoolExecutor() as threads:
    later = threads.submit(second)
    looked.wait(10)
    print(late.answer, later.result(), slow.loads)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.stdout, done.stderr) == ("42 42 [1]\n", "")
