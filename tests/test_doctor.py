"""The doctor: each of its checks is made to fail, and to be content."""

import errno
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from goodwe.cli import Call
from goodwe.errors import ConfigError
from goodwe.outputs.mqtt.client import paho_client
from goodwe.outputs.mqtt.homeassistant import discovery_topic
from goodwe.program import HOME
from goodwe.tools import doctor
from goodwe.tools.doctor.checks import Grade, Machine, Result, ShellCommand

from .authority import CA
from .broker import Mosquitto, free_port
from .fake_broker import FakeBroker, obliging

GOLDEN = Path(__file__).parent / "golden"
USB = "/sys/bus/usb/devices"
INVERTER = {f"{USB}/1-1.4/idVendor": "0084\n", f"{USB}/1-1.4/idProduct": "0041\n"}
NODE = {
    "/sys/class/hidraw/hidraw0/device/uevent": "DRIVER=hid-generic\nHID_ID=0003:00000084:00000041\n",
    "/dev/hidraw0": "",
}
UNIT = {"/run/systemd/system/": "", "/etc/systemd/system/goodwe.service": "[Unit]\n"}
USER = {
    "/etc/passwd": "root:x:0:0::/root:/bin/sh\ngoodwe:x:990:990::/:/bin/false\n",
    "/etc/group": "goodwe:x:990:\n",
}
RULE = {"/etc/udev/rules.d/99-goodwe.rules": 'KERNELS=="*:0084:0041.*", GROUP="goodwe", MODE="0660"\n'}
STATUS = {
    "program": {"pid": 42, "version": "1.0.0"},
    "inverters": {"15000DSN000W0001": {"online": True, "last_reading_seconds": 1.0}},
    "dropped": [],
}
CONF = "/etc/goodwe.conf"


class Patient:
    """A machine of files, without a running program."""

    def __init__(self, folder):
        self.root = folder / "root"
        self.commands = {}
        self.status = None
        self.why_not = FileNotFoundError
        self.settings = folder / "root/etc/goodwe.conf"
        self.put({CONF: ""})

    def put(self, files):
        for path, text in files.items():
            target = self.root / path.lstrip("/")
            if path.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    def configure(self, text):
        self.put({CONF: text})

    def mode(self, path, mode):
        os.chmod(self.root / path.lstrip("/"), mode)

    def _ask(self, path):
        if self.status is None:
            raise self.why_not(path)
        return self.status

    def machine(self) -> Machine:
        return Machine(
            config_file=CONF,
            pidfile="/run/goodwe.pid",
            root=str(self.root),
            environ={},
            uid=0,
            run=lambda command: self.commands.get(command[0]),
            ask=self._ask,
            program="/opt/goodweusblogger/GoodWe.py",
        )

    def __call__(self, name) -> Result:
        (finding,) = doctor.examine(self.machine(), [name])
        return finding.result


@pytest.fixture
def patient(tmp_path):
    return Patient(tmp_path)


def check(result: Result, grade: Grade, words: str, remedy: str = ""):
    assert (result.grade, words in result.text) == (grade, True), result
    assert remedy in result.remedy, result
    assert bool(result.remedy) == (grade in (Grade.WARN, Grade.FAIL)), (
        "who is told of trouble is told what to do"
    )


# the program itself


def test_packages_that_are_missing_are_named_with_the_line_that_brings_them(patient, monkeypatch):
    check(patient("packages"), Grade.OK, "paho-mqtt")
    monkeypatch.setattr(
        doctor.python.importlib.util, "find_spec", lambda name: None if name == "pyudev" else 1
    )
    check(patient("packages"), Grade.FAIL, "missing: pyudev", "sudo apt-get install python3-pyudev")
    monkeypatch.setattr(doctor.python.importlib.util, "find_spec", lambda name: None)
    check(patient("packages"), Grade.FAIL, "ioctl-opt", "-m pip install paho-mqtt")


def test_python_that_is_too_old(patient, monkeypatch):
    check(patient("python-version"), Grade.OK, "Python 3.")
    monkeypatch.setattr(doctor.python, "OLDEST", (99, 0))
    check(patient("python-version"), Grade.FAIL, "Python 3.", "install Python 3.11")


def test_libudev_that_is_missing(patient, monkeypatch):
    import pyudev

    check(patient("libudev"), Grade.OK, "can be asked")

    def missing():
        raise ImportError("No library named udev")

    monkeypatch.setattr(pyudev, "Context", missing)
    check(patient("libudev"), Grade.FAIL, "No library named udev", "sudo apt-get install libudev1")


def test_two_installations_at_once(patient):
    patient.put({doctor.python.CLASSIC: ""})
    check(patient("installations"), Grade.OK, "/opt")
    patient.put({doctor.python.DEBIAN: ""})
    check(patient("installations"), Grade.WARN, "installed 2 times", "sudo apt-get remove goodwe-usb-logger")


# the configuration


def test_configuration_that_is_wrong_is_said_in_its_own_words(patient):
    check(patient("configuration"), Grade.OK, "is right")
    patient.configure("[mqtt]\nsever = nas\n")
    check(patient("configuration"), Grade.FAIL, "is server meant?", "nano /etc/goodwe.conf")
    check(patient("warnings"), Grade.SKIP, "cannot be read")


def test_configuration_that_this_user_may_not_read_is_no_mistake(patient, monkeypatch):
    def load(path, **_):
        raise ConfigError(path) from PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.checks.config, "load", load)
    check(patient("configuration"), Grade.WARN, "this user may not read it", "run this with sudo")


def test_warnings_about_the_configuration(patient):
    check(patient("warnings"), Grade.OK, "nothing odd")
    patient.configure("[inverter]\ndebug = 1\n")
    check(patient("warnings"), Grade.WARN, "debug in [inverter]", "nano /etc/goodwe.conf")


def test_secret_that_others_can_read(patient):
    check(patient("secrets"), Grade.OK, "no secret")
    patient.configure("[mqtt]\nusername = me\npassword = hunter2\n")
    patient.mode(CONF, 0o644)
    result = patient("secrets")
    check(result, Grade.WARN, "everybody can read /etc/goodwe.conf", "sudo chmod o-rwx /etc/goodwe.conf")
    assert "hunter2" not in str(result)
    patient.mode(CONF, 0o640)
    check(patient("secrets"), Grade.OK, "others can read")


def test_configuration_that_the_units_user_cannot_read(patient):
    check(patient("service-user"), Grade.SKIP, "no unit")
    patient.put({**UNIT, **USER})
    patient.commands["systemctl"] = "active\n"
    patient.mode(CONF, 0o600)
    check(patient("service-user"), Grade.FAIL, "cannot read /etc/goodwe.conf", "sudo chown root:goodwe")
    patient.mode(CONF, 0o644)
    check(patient("service-user"), Grade.OK, "can read")


@pytest.mark.parametrize("key", ["passwordfile", "cafile"])
def test_file_of_the_broker_that_the_units_user_cannot_read(patient, tmp_path, key):
    """Root, who starts nothing, may read it; each connection does so again, as the user."""
    file = tmp_path / "file"
    file.touch(mode=0o600)
    more = {"passwordfile": "username = me\n", "cafile": "tls = on\n"}[key]
    patient.put({**UNIT, **USER, CONF: f"[mqtt]\n{more}{key} = {file}\n", str(file): ""})
    patient.commands["systemctl"] = "active\n"
    patient.mode(CONF, 0o644)
    patient.mode(str(file), 0o600)
    command = f"sudo chown root:goodwe {file} && sudo chmod 640 {file} && sudo systemctl restart"
    check(patient("service-user"), Grade.FAIL, f"cannot read {file}", command)
    patient.mode(str(file), 0o644)
    check(patient("service-user"), Grade.OK, "can read")


# the machine


def test_clock_that_nobody_keeps_right(patient, monkeypatch):
    from goodwe.readings import clock

    monkeypatch.setattr(clock, "clock_is_right", lambda: False)
    check(patient("clock"), Grade.WARN, "nobody keeps the clock right", "sudo timedatectl set-ntp true")
    monkeypatch.setattr(clock, "clock_is_right", lambda: True)
    check(patient("clock"), Grade.OK, "kept right")


@pytest.mark.parametrize(
    ("free", "grade"), [(5_000_000, Grade.FAIL), (50_000_000, Grade.WARN), (5_000_000_000, Grade.OK)]
)
def test_disk_that_is_full(patient, monkeypatch, free, grade):
    from collections import namedtuple

    usage = namedtuple("usage", "free")(free)
    monkeypatch.setattr(doctor.system.shutil, "disk_usage", lambda path: usage)
    assert patient("disk").grade is grade


def test_disk_that_cannot_be_written_to(patient):
    patient.put({"/proc/mounts": "/dev/root / ext4 rw,noatime 0 0\n"})
    check(patient("read-only"), Grade.OK, "can be written")
    patient.put({"/proc/mounts": "/dev/root / ext4 ro,noatime 0 0\n"})
    check(patient("read-only"), Grade.WARN, "mounted read-only", "sudo dmesg")


def test_log_that_nobody_keeps_small(patient):
    check(patient("log"), Grade.OK, "not there yet")
    patient.put({"/var/log/goodwe.log": ""})
    os.truncate(patient.root / "var/log/goodwe.log", 60_000_000)
    check(patient("log"), Grade.WARN, "has 60 MB", "/etc/logrotate.d/goodwe")
    patient.put({"/etc/logrotate.d/goodwe": ""})
    check(patient("log"), Grade.OK, "has 60 MB")


def test_statefile_that_was_damaged_or_is_none(patient):
    check(patient("statefile"), Grade.OK, "state.json")
    patient.put({"/var/lib/goodwe/state.json.damaged": "x"})
    check(patient("statefile"), Grade.WARN, "was set aside", "sudo rm")
    patient.configure("[inverter]\nstatefile =\n")
    check(patient("statefile"), Grade.WARN, "forgotten at each restart", "set statefile")


@pytest.mark.parametrize(
    ("files", "grade"),
    [
        ({}, Grade.SKIP),
        ({"/sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n"}, Grade.WARN),
        ({"/sys/devices/platform/soc/soc:firmware/get_throttled": "0\n"}, Grade.OK),
        (
            {"/sys/class/hwmon/hwmon1/name": "rpi_volt\n", "/sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"},
            Grade.WARN,
        ),
        (
            {"/sys/class/hwmon/hwmon1/name": "rpi_volt\n", "/sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n"},
            Grade.OK,
        ),
    ],
)
def test_machine_with_too_little_voltage(patient, files, grade):
    patient.put(files)
    assert patient("voltage").grade is grade


def test_container_without_news_of_devices(patient):
    check(patient("container"), Grade.OK, "no container")
    patient.put({"/.dockerenv": ""})
    check(patient("container"), Grade.WARN, "in a container (docker) without udev", "--device-cgroup-rule")
    patient.put({"/run/udev/control": ""})
    check(patient("container"), Grade.OK, "with udev")


# the inverter's USB side


def test_machine_without_usb(patient):
    check(patient("usb-bus"), Grade.FAIL, "no USB bus", "modprobe")
    patient.put(INVERTER)
    check(patient("usb-bus"), Grade.OK, "1 devices")


def test_inverter_that_is_not_on_the_bus(patient):
    patient.put({f"{USB}/1-2/idVendor": "046d\n", f"{USB}/1-2/idProduct": "c534\n"})
    check(patient("inverter"), Grade.FAIL, "0084:0041 is not on the bus", "another cable")
    patient.put(INVERTER)
    check(patient("inverter"), Grade.OK, "is on the bus")


def test_serial_adapter_in_place_of_an_inverter(patient):
    patient.put({f"{USB}/1-2/idVendor": "1a86\n", f"{USB}/1-2/idProduct": "7523\n"})
    check(patient("inverter"), Grade.FAIL, "a serial adapter is: 1a86:7523 (WCH)", "real USB socket")


def test_hub_without_power(patient):
    patient.put(INVERTER)
    hub = {"bDeviceClass": "09\n", "bmAttributes": "e0\n", "product": "USB2.0 Hub\n"}
    patient.put({f"{USB}/1-1/{name}": text for name, text in hub.items()})
    check(patient("hub"), Grade.OK, "no weak hub")
    patient.put({f"{USB}/1-1/bmAttributes": "80\n"})
    check(patient("hub"), Grade.WARN, "behind USB2.0 Hub", "into the machine")


def test_port_that_may_be_put_to_sleep(patient):
    patient.put({**INVERTER, f"{USB}/1-1.4/power/control": "auto\n"})
    check(patient("autosuspend"), Grade.WARN, "to sleep", f"echo on | sudo tee {USB}/1-1.4/power/control")
    patient.put({f"{USB}/1-1.4/power/control": "on\n"})
    check(patient("autosuspend"), Grade.OK, "stays awake")


def test_kernel_without_hidraw(patient):
    check(patient("modules"), Grade.FAIL, "no hidraw", "sudo modprobe usbhid")
    patient.put(NODE)
    check(patient("modules"), Grade.OK, "hidraw")


def test_inverter_without_a_node(patient):
    check(patient("node"), Grade.SKIP, "no inverter")
    patient.put(INVERTER)
    check(patient("node"), Grade.FAIL, "has no hidraw node", "sudo modprobe usbhid")
    patient.put(NODE)
    check(patient("node"), Grade.OK, "/dev/hidraw0")


def test_device_of_the_configuration_that_is_not_there(patient):
    patient.configure("[inverter]\ndevice = /dev/hidraw7\n")
    check(patient("node"), Grade.FAIL, "/dev/hidraw7 is not there", "leave device empty")


def test_node_that_the_group_may_not_open_or_that_everybody_may(patient):
    check(patient("rights"), Grade.SKIP, "no node")
    patient.put({**NODE, **USER})
    patient.mode("/dev/hidraw0", 0o600)
    check(patient("rights"), Grade.WARN, "the group goodwe may not open /dev/hidraw0", "etc/99-goodwe.rules")
    patient.put({"/etc/passwd": "", "/etc/group": ""})
    check(patient("rights"), Grade.OK, "right")
    patient.mode("/dev/hidraw0", 0o666)
    check(patient("rights"), Grade.WARN, "everybody may write", "etc/99-goodwe.rules")


def test_rule_that_is_missing_or_opens_too_much(patient):
    check(patient("rule"), Grade.SKIP, "none is needed")
    patient.put(USER)
    check(patient("rule"), Grade.FAIL, "no udev rule", "udevadm control --reload")
    patient.put({"/etc/udev/rules.d/10-x.rules": '#KERNELS=="*:0084:0041.*"\n'})
    check(patient("rule"), Grade.FAIL, "no udev rule", "udevadm control --reload")
    patient.put(RULE)
    check(patient("rule"), Grade.OK, "/etc/udev/rules.d/99-goodwe.rules")
    patient.put({"/etc/udev/rules.d/99-goodwe.rules": 'ATTRS{idVendor}=="0084", MODE="0666"\n'})
    check(patient("rule"), Grade.WARN, "lets everybody write", "sudo cp")


def test_two_readers_of_one_node(patient):
    patient.put(
        {
            **NODE,
            "/proc/41/comm": "python3\n",
            "/proc/41/fd/": "",
            "/proc/42/comm": "cat\n",
            "/proc/42/fd/": "",
        }
    )
    check(patient("holder"), Grade.OK, "nobody")
    os.symlink("/dev/hidraw0", patient.root / "proc/41/fd/7")
    check(patient("holder"), Grade.OK, "read by python3, pid 41")
    os.symlink("/dev/hidraw0", patient.root / "proc/42/fd/3")
    check(patient("holder"), Grade.FAIL, "cat (pid 42)", "sudo kill 42")


def test_stand_in_needs_no_usb(patient):
    patient.configure("[inverter]\ndevice = unix:/tmp/inv.sock\n")
    assert {patient(name).grade for name in ("usb-bus", "inverter", "modules")} == {Grade.SKIP}


# what runs


def test_program_that_does_not_run_answer_or_live(patient):
    check(patient("program"), Grade.WARN, "does not run", "start")
    patient.put({"/run/goodwe.pid": "999999\n"})
    check(patient("program"), Grade.FAIL, "it is dead", "start")
    patient.status = STATUS
    check(patient("program"), Grade.OK, "pid 42, version 1.0.0")


def test_program_that_this_user_may_not_ask_is_not_one_that_hangs(patient):
    patient.why_not = PermissionError
    check(patient("program"), Grade.WARN, "does not run", "start")
    patient.put(UNIT)
    patient.commands["systemctl"] = "active\n"
    check(patient("program"), Grade.WARN, "this user may not ask it", "run this with sudo")


def test_files_of_the_command_line_may_be_relative(monkeypatch, tmp_path):
    (tmp_path / "t.conf").write_text("[mqtt]\nserver = nas\n")
    monkeypatch.chdir(tmp_path)
    machine = Machine(config_file="t.conf", pidfile="pid", program="./GoodWe.py", ask=lambda path: None)
    assert f"sudo {tmp_path}/GoodWe.py start" in doctor.running.program(machine).remedy
    assert machine.settings.mqtt.server == ("nas",)
    assert machine.sockets[0] == str(tmp_path / "pid.sock")


def test_unit_that_runs_and_does_not_answer(patient):
    patient.put(UNIT)
    patient.commands["systemctl"] = "active\n"
    check(patient("program"), Grade.FAIL, "does not answer", "sudo systemctl restart goodwe")


@pytest.mark.parametrize(
    ("word", "grade"), [("active", Grade.OK), ("failed", Grade.FAIL), ("inactive", Grade.WARN)]
)
def test_unit_as_systemd_has_it(patient, word, grade):
    check(patient("unit"), Grade.SKIP, "no unit")
    patient.put(UNIT)
    patient.commands["systemctl"] = f"{word}\n"
    assert patient("unit").grade is grade


RESTARTD = 'goodwe "GoodWe.py" "cd /opt/goodweusblogger; ./GoodWe.py restart"\n'


def test_restartd_that_has_it_once_or_twice(patient):
    check(patient("restartd"), Grade.SKIP, "no restartd")
    patient.put({"/etc/restartd.conf": "# GoodWe.py\n"})
    check(patient("restartd"), Grade.SKIP, "does not look")
    patient.put({"/etc/restartd.conf": RESTARTD})
    check(patient("restartd"), Grade.OK, "starts it again")
    patient.put({"/etc/restartd.conf": RESTARTD * 2})
    check(patient("restartd"), Grade.WARN, "more than once", "nano /etc/restartd.conf")


def test_two_ways_of_starting_it(patient):
    check(patient("one-way"), Grade.OK, "one way")
    patient.put({**UNIT, "/etc/restartd.conf": RESTARTD})
    patient.commands["systemctl"] = "active\n"
    check(patient("one-way"), Grade.FAIL, "both systemd and restartd", "/etc/restartd.conf")


def test_two_of_it_at_once(patient):
    patient.put({"/proc/7/cmdline": "python3\0GoodWe.py\0start\0", "/proc/8/cmdline": "vi\0GoodWe.py\0"})
    check(patient("one-way"), Grade.OK, "one way")
    patient.put({"/proc/9/cmdline": "python3\0/opt/goodweusblogger/GoodWe.py\0foreground\0"})
    check(patient("one-way"), Grade.FAIL, "pids 7, 9", "sudo kill 9")
    patient.put({"/run/goodwe.pid": "9\n"})
    check(patient("one-way"), Grade.FAIL, "pids 7, 9", "sudo kill 7")
    patient.put({"/run/goodwe.pid": "7\n"})
    patient.status = {**STATUS, "program": {"pid": 9, "version": "1.0.0"}}
    check(patient("one-way"), Grade.FAIL, "pids 7, 9", "sudo kill 7")


@pytest.mark.parametrize(
    ("words", "alike"),
    [
        ("sudo ./GoodWe.py foreground", False),
        ("timeout 60 python3 GoodWe.py foreground", False),
        ("python3 GoodWe.py --config /etc/second.conf start", False),
        ("python3 GoodWe.py --config=/tmp/demo.conf foreground", False),
        ("python3 GoodWe.py --config /etc/goodwe.conf start", True),
        ("python3 GoodWe.py --config goodwe.conf start", True),
        ("python3 GoodWe.py --config other.conf start", False),
        ("/opt/goodweusblogger/.venv/bin/python /opt/goodweusblogger/GoodWe.py restart", True),
    ],
)
def test_what_counts_as_another_one_of_it(patient, words, alike):
    patient.put({"/proc/7/cmdline": "python3\0GoodWe.py\0start\0"})
    patient.put({"/proc/9/cmdline": words.replace(" ", "\0")})
    assert patient("one-way").grade is (Grade.FAIL if alike else Grade.OK)


@pytest.mark.parametrize(
    ("inverters", "grade", "words"),
    [
        ({}, Grade.WARN, "no inverter has given a reading"),
        ({"A": {"online": False}}, Grade.WARN, "away: A"),
        ({"A": {"online": True, "last_reading_seconds": 99.0}}, Grade.WARN, "no reading for long: A"),
        ({"A": {"online": True, "last_reading_seconds": 2.0}}, Grade.OK, "1 read"),
    ],
)
def test_readings_as_the_running_program_knows_them(patient, inverters, grade, words):
    check(patient("readings"), Grade.SKIP, "does not run")
    patient.status = {**STATUS, "inverters": inverters}
    assert (patient("readings").grade, words in patient("readings").text) == (grade, True)
    assert "kill -USR1" not in patient("readings").remedy or "kill -USR1 42 " in patient("readings").remedy


def test_readings_that_are_far_apart_on_purpose_are_not_late(patient):
    patient.status = {**STATUS, "inverters": {"A": {"online": True, "last_reading_seconds": 290.0}}}
    patient.configure("[inverter]\npollinterval = 300000\n")
    check(patient("readings"), Grade.OK, "1 read")


def test_device_that_the_running_program_cannot_open_is_named(patient):
    patient.status = {**STATUS, "inverters": {}, "places": [{"trouble": "cannot open /dev/hidraw0"}]}
    check(patient("readings"), Grade.FAIL, "cannot open /dev/hidraw0", "checks above")


def test_what_comes_and_is_never_whole_is_told_from_silence(patient):
    places = [{"trouble": "", "refused": {"checksum error": 7, "garbage": 2}}, {"refused": {"garbage": 1}}]
    patient.status = {**STATUS, "inverters": {}, "places": places}
    check(patient("readings"), Grade.FAIL, "no reading of it is whole: checksum error 7, garbage 3", "cable")


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ({"history": {"state": "in trouble", "trouble": "disk I/O error"}}, "history: disk I/O error"),
        ({"web": {"state": "waiting", "why_not": "Address already in use"}}, "web: Address already in use"),
    ],
)
def test_output_that_cannot_work_now_is_named_with_its_reason(patient, output, told):
    patient.status = {**STATUS, "outputs": {"mqtt": {"connections": {}}, **output}}
    check(patient("parts"), Grade.WARN, told, "sudo nano /etc/goodwe.conf")


def test_part_that_has_failed(patient):
    check(patient("parts"), Grade.SKIP, "does not run")
    patient.status = STATUS
    check(patient("parts"), Grade.OK, "all parts work")
    patient.status = {**STATUS, "dropped": [{"part": "mqtt", "error": "KeyError"}]}
    check(patient("parts"), Grade.FAIL, "mqtt", "report it")


# the broker


@pytest.fixture
def at_broker(patient, mosquitto):
    """The patient with a broker that takes everybody, and one inverter in its state file."""
    patient.put({"/state.json": json.dumps({"inverters": {SERIAL: {}}})})
    patient.port = mosquitto.port
    patient.configure(
        f"[inverter]\nstatefile = /state.json\n[mqtt]\nserver = 127.0.0.1\nport = {mosquitto.port}\n"
    )
    return patient


SERIAL = "15000DSN000W0001"


def test_broker_that_is_well(at_broker):
    check(at_broker("broker-name"), Grade.OK, "127.0.0.1")
    check(at_broker("broker-port"), Grade.OK, "is open")
    check(at_broker("tls"), Grade.SKIP, "off")
    check(at_broker("login"), Grade.OK, "lets us in")
    check(at_broker("takes"), Grade.SKIP, "protocol = 5")


def test_broker_whose_name_is_not_known(patient):
    patient.configure("[mqtt]\nserver = no-such-host.invalid\n")
    check(patient("broker-name"), Grade.FAIL, "no-such-host.invalid", "getent hosts no-such-host.invalid")
    patient.configure("[mqtt]\nserver = 127.0.0.1, no-such-host.invalid\n")
    check(patient("broker-name"), Grade.WARN, "no-such-host.invalid", "getent hosts")


def test_name_server_that_never_answers(patient, monkeypatch):
    monkeypatch.setattr(doctor.broker, "WITHIN", 0.01)
    gate = threading.Event()
    monkeypatch.setattr(doctor.broker.socket, "getaddrinfo", lambda *_, **__: gate.wait(5))
    check(patient("broker-name"), Grade.FAIL, "nobody answers what localhost is", "resolvectl")
    gate.set()


def test_broker_that_does_not_run(patient):
    port = free_port()
    patient.configure(f"[mqtt]\nserver = localhost\nport = {port}\n")
    check(patient("broker-port"), Grade.FAIL, f"nothing listens at localhost:{port}", "install mosquitto")
    check(patient("login"), Grade.FAIL, "nothing listens there", "above")
    patient.configure(f"[mqtt]\nserver = 127.0.0.2\nport = {port}\n")
    check(patient("broker-port"), Grade.FAIL, f"127.0.0.2:{port}", "ping 127.0.0.2")


def test_broker_that_accepts_and_never_answers(patient, monkeypatch):
    monkeypatch.setattr(doctor.broker, "WITHIN", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        patient.configure(f"[mqtt]\nserver = 127.0.0.1\nport = {deaf.getsockname()[1]}\n")
        check(patient("login"), Grade.FAIL, "it does not answer", "above")


def test_broker_that_answers_no_subscription_is_not_said_to_keep_nothing(at_broker, monkeypatch):
    monkeypatch.setattr(doctor.broker, "WITHIN", 0.3)
    broker = FakeBroker(obliging(on_subscribe=lambda talk, topics: True))
    try:
        at_broker.configure(
            f"[inverter]\nstatefile = /state.json\n[mqtt]\nserver = 127.0.0.1\nport = {broker.port}\n"
        )
        check(at_broker("login"), Grade.FAIL, "lets us in, and does not answer", "above")
        check(at_broker("discovery"), Grade.SKIP, "does not let us look")
    finally:
        broker.close()


def test_login_that_is_refused(patient, tmp_path):
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    passwords.chmod(0o600)
    broker = Mosquitto(tmp_path, lines=f"allow_anonymous false\npassword_file {passwords}\n").start()
    try:
        patient.configure(f"[mqtt]\nserver = 127.0.0.1\nport = {broker.port}\n")
        check(patient("login"), Grade.FAIL, "it refuses us", "nano")
    finally:
        broker.stop()


def test_second_server_takes_over_here_as_well(at_broker, mosquitto):
    at_broker.configure(
        f"[inverter]\nstatefile = /state.json\n[mqtt]\nserver = 127.0.0.2, 127.0.0.1\nport = {mosquitto.port}\n"
    )
    check(at_broker("broker-port"), Grade.WARN, "127.0.0.2", "ping")
    check(at_broker("login"), Grade.OK, "127.0.0.1 lets us in")
    check(at_broker("discovery"), Grade.WARN, f"was not told of {SERIAL}", "prefix")


def test_login_that_works_for_the_running_program_is_not_tried(patient):
    """Some brokers admit a login under one client id only, and ours is taken."""
    patient.configure(f"[mqtt]\nserver = 127.0.0.1\nport = {free_port()}\n")
    patient.status = connection(connected_seconds=5.0, server="nas:1883")
    check(patient("login"), Grade.OK, "connected to nas:1883")
    check(patient("discovery"), Grade.SKIP, "does not let us look")


def test_login_of_a_program_with_another_configuration_says_nothing_about_this_one(patient):
    port = free_port()
    patient.configure(f"[mqtt]\nserver = 127.0.0.1\nport = {port}\n")
    patient.status = connection(connected_seconds=5.0, server="nas:1883")
    patient.status["program"] = {**STATUS["program"], "configuration": CONF, "configuration_seconds": 5.0}
    check(patient("login"), Grade.OK, "connected to nas:1883")
    patient.status["program"]["configuration"] = "/etc/other.conf"
    check(patient("login"), Grade.FAIL, "nothing listens there")
    check(patient("client-id"), Grade.SKIP, "only the running program")


def test_what_is_not_asked_costs_no_loading(patient, monkeypatch):
    """On a small machine that is busy it took eleven seconds, and was told as a broker without an answer."""
    for name in ("advice", "homeassistant"):
        monkeypatch.setitem(sys.modules, f"goodwe.outputs.mqtt.{name}", None)
    patient.configure("[mqtt]\nserver = 127.0.0.1\n[homeassistant]\ndiscovery = off\n")
    patient.status = connection(connected_seconds=5.0, server="nas:1883")
    check(patient("tls"), Grade.SKIP, "TLS is off")
    check(patient("login"), Grade.OK, "connected to nas:1883")
    check(patient("discovery"), Grade.SKIP, "discovery is off")


def test_network_that_is_missing_is_no_fault_of_the_broker(patient, monkeypatch):
    patient.configure("[mqtt]\nserver = 127.0.0.1\n")
    there_is_none = OSError(errno.ENETUNREACH, "Network is unreachable")
    monkeypatch.setattr("goodwe.tools.doctor.broker._knock", lambda host, port: throw(there_is_none))
    check(patient("broker-port"), Grade.FAIL, "Network is unreachable", "ping 127.0.0.1")


def throw(error):
    raise error


def test_password_that_only_the_unit_can_read_hides_nothing_else(patient):
    patient.configure("[mqtt]\nserver = 127.0.0.1\nusername = me\npasswordfile = mqtt-password\n")
    check(patient("configuration"), Grade.OK, "is right")
    check(patient("warnings"), Grade.OK, "nothing odd")
    check(patient("broker-name"), Grade.OK, "127.0.0.1")
    for name in ("login", "takes", "discovery"):
        assert patient(name).grade is Grade.SKIP
    check(patient("login"), Grade.SKIP, "only the program can read the password")


def test_name_that_cannot_be_one_is_not_known(patient, monkeypatch, capfd):
    def getaddrinfo(*_, **__):
        raise UnicodeError("label too long")

    monkeypatch.setattr(doctor.broker.socket, "getaddrinfo", getaddrinfo)
    check(patient("broker-name"), Grade.FAIL, "localhost: not known", "getent")
    assert capfd.readouterr().err == ""


def test_certificate_that_is_not_trusted_or_ends_soon(patient, tmp_path):
    authority = CA()
    certificate = authority.issue_cert("127.0.0.1", days=5)
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    certificate.cert_pem.write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    lines = f"allow_anonymous true\ncertfile {cert}\nkeyfile {key}\n"
    broker = Mosquitto(tmp_path, lines=lines).start()
    where = f"server = 127.0.0.1\nport = {broker.port}\ntls = on\n"
    try:
        patient.configure(f"[mqtt]\n{where}cafile = {ca}\n")
        check(patient("tls"), Grade.WARN, "ends in 4 days", "renew")
        check(patient("login"), Grade.OK, "lets us in")
        patient.configure(f"[mqtt]\n{where}")
        check(patient("tls"), Grade.FAIL, "not trusted", "openssl s_client")
    finally:
        broker.stop()


def test_broker_that_allows_too_little(patient, tmp_path):
    broker = Mosquitto(
        tmp_path, lines="allow_anonymous true\nmax_packet_size 3000\nretain_available true\n"
    ).start()
    try:
        text = f"[mqtt]\nserver = 127.0.0.1\nport = {broker.port}\nprotocol = 5\n"
        patient.configure(text)
        check(patient("takes"), Grade.WARN, "3000 bytes", "16 kB")
    finally:
        broker.stop()
    broker = Mosquitto(tmp_path, lines="allow_anonymous true\nretain_available false\n").start()
    try:
        patient.configure(f"[mqtt]\nserver = 127.0.0.1\nport = {broker.port}\nprotocol = 5\n")
        check(patient("takes"), Grade.FAIL, "no retained messages", "allow them")
    finally:
        broker.stop()


def connection(**changes):
    mine = {"client_id": "goodwe-usb", "why_not": "", "refused": [], "left_out": [], **changes}
    return {**STATUS, "outputs": {"mqtt": {"connections": {"": mine}}}}


def test_what_the_running_program_was_refused(patient):
    patient.status = connection(refused=["goodwe/x/data"])
    check(patient("takes"), Grade.FAIL, "goodwe/x/data", "right to write")
    patient.status = connection(left_out=["homeassistant/x"])
    check(patient("takes"), Grade.FAIL, "homeassistant/x", "largest packet")


def test_client_id_that_another_program_uses(patient):
    check(patient("client-id"), Grade.SKIP, "only the running program")
    patient.status = connection()
    check(patient("client-id"), Grade.OK, "nobody else")
    patient.status = connection(why_not="another program connects as goodwe-usb: ...")
    check(patient("client-id"), Grade.FAIL, "connects as goodwe-usb", "change clientid")


def test_discovery_that_home_assistant_was_not_told(at_broker, mosquitto):
    check(at_broker("discovery"), Grade.WARN, f"was not told of {SERIAL}", "prefix = homeassistant")
    client = paho_client("announcer")
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    client.publish(discovery_topic("homeassistant", SERIAL), b"{}", qos=1, retain=True).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()
    check(at_broker("discovery"), Grade.OK, "was told of 1")
    at_broker.configure("[homeassistant]\ndiscovery = off\n")
    check(at_broker("discovery"), Grade.SKIP, "off")


# remedies, carried out


def carried_out(patient, name):
    """The finding after its command was given to a shell, with sudo and what it starts left out."""
    command = patient(name).remedy
    assert isinstance(command, ShellCommand), command
    here, _, _ = command.partition("  #")
    words = here.replace("sudo systemctl", "true").replace("sudo /opt/goodweusblogger/GoodWe.py", "true")
    words = words.replace("sudo ", "").replace(CONF, shlex.quote(str(patient.root / CONF.lstrip("/"))))
    subprocess.run(["sh", "-ec", words], check=True)
    return patient(name)


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("[mqtt]\nSever = nas\n", "[mqtt]\nserver = nas\n"),
        ("[mqt]\nserver = nas\n", "[mqtt]\nserver = nas\n"),
        (
            "\ufeff\n[inverter]\n# fast\npolinterval: 1000\n",
            "\ufeff\n[inverter]\n# fast\npollinterval: 1000\n",
        ),
        ("[mqtt]\nport = many\nqos = 1\n", "[mqtt]\n#port = many\nqos = 1\n"),
        ("[mqtt]\nqos = 1\nqos = 2\n", "[mqtt]\nqos = 1\n#qos = 2\n"),
        ("[mqtt]\nhello\n", "[mqtt]\n#hello\n"),
        ("hello\n[mqtt]\n", "#hello\n[mqtt]\n"),
        ("[mqtt]\nx-y-z = 1\n", "[mqtt]\n#x-y-z = 1\n"),
    ],
)
def test_mistake_in_the_configuration_is_mended_by_the_command(patient, text, mended):
    patient.configure(text)
    check(carried_out(patient, "configuration"), Grade.OK, "is right")
    assert patient.settings.read_text() == mended


@pytest.mark.parametrize(
    "text",
    [
        "[mqtt]\nserver = mqtt://nas\n",  # the default is another broker
        "[mqtt]\ncafile = /nowhere.pem\ntls = on\n",
        "[mqtt]\n[inverter]\n[mqtt]\n",
        "[something]\nqos = 1\n",
    ],
)
def test_what_only_its_owner_knows_is_left_to_him(patient, text):
    patient.configure(text)
    result = patient("configuration")
    assert result.grade is Grade.FAIL
    assert not isinstance(result.remedy, ShellCommand)
    assert "sudo nano " in result.remedy


def test_left_over_keys_go_by_the_command(patient):
    patient.configure("[inverter]\ndev = /dev/hidraw0\ndebug = 1\npollinterval = 5000\n")
    check(carried_out(patient, "warnings"), Grade.OK, "nothing odd")
    assert (
        patient.settings.read_text() == "[inverter]\n#dev = /dev/hidraw0\n#debug = 1\npollinterval = 5000\n"
    )


def test_device_that_is_not_there_goes_by_the_command(patient):
    patient.put({**INVERTER, **NODE})
    patient.configure("[inverter]\ndevice = /dev/hidraw7\n")
    check(carried_out(patient, "node"), Grade.OK, "/dev/hidraw0")


def test_statefile_comes_back_by_the_command(patient):
    patient.configure("[inverter]\nstatefile =\n")
    check(carried_out(patient, "statefile"), Grade.OK, "/var/lib/goodwe/state.json")


def test_module_that_is_held_back_is_let_in(patient):
    patient.put({"/sys/class/hidraw/": ""})
    check(patient("modules"), Grade.OK, "hidraw")
    patient.put({"/etc/modprobe.d/a.conf": "# blacklist usbhid\nblacklist pcspkr\nblacklist usbhid-extra\n"})
    check(patient("modules"), Grade.OK, "hidraw")
    text = "options x y=1\nblacklist hid-generic\n  install usbhid /bin/false\nblacklist pcspkr\n"
    patient.put({"/etc/modprobe.d/b.conf": text})
    check(patient("modules"), Grade.FAIL, "/etc/modprobe.d/b.conf", "sudo modprobe usbhid")
    sed = patient("modules").remedy.split(" && ")[0].removeprefix("sudo ")
    file = patient.root / "etc/modprobe.d/b.conf"
    subprocess.run(["sh", "-ec", sed.replace("/etc/modprobe.d/b.conf", shlex.quote(str(file)))], check=True)
    assert file.read_text() == "options x y=1\nblacklist pcspkr\n"


def test_restartd_has_one_line_left(patient):
    patient.put({"/etc/restartd.conf": f'# GoodWe.py\n{RESTARTD}other "x" "y"\n{RESTARTD}{RESTARTD}'})
    sed = patient("restartd").remedy.split(" && ")[0].removeprefix("sudo ")
    file = patient.root / "etc/restartd.conf"
    subprocess.run(["sh", "-ec", sed.replace("/etc/restartd.conf", shlex.quote(str(file)))], check=True)
    assert file.read_text() == f'# GoodWe.py\n{RESTARTD}other "x" "y"\n'


def test_node_comes_back_as_if_plugged_in_anew(patient):
    patient.put(INVERTER)
    words = "echo 1-1.4 | sudo tee /sys/bus/usb/drivers/usb/unbind && echo 1-1.4 | sudo tee /sys/bus/usb/drivers/usb/bind"
    check(patient("node"), Grade.FAIL, "no hidraw node", words)


def test_files_of_ours_are_named_with_their_folder(patient):
    patient.put({**NODE, **USER})
    assert f"sudo cp {HOME}/etc/99-goodwe.rules /etc/udev/rules.d/" in patient("rule").remedy
    for name in ("99-goodwe.rules", "goodwe.logrotate"):
        assert (HOME / "etc" / name).exists()


def test_container_is_mended_from_outside(patient):
    patient.put({**INVERTER, "/.dockerenv": ""})
    result = patient("node")
    check(result, Grade.FAIL, "no hidraw node", "on the machine that this container runs on: sudo modprobe")
    assert not isinstance(result.remedy, ShellCommand)


def test_secret_is_closed_to_others_and_open_to_the_unit(patient):
    patient.put(USER)
    patient.configure("[mqtt]\nusername = me\npassword = hunter2\n")
    patient.mode(CONF, 0o644)
    check(
        patient("secrets"),
        Grade.WARN,
        "everybody can read",
        f"sudo chown root:goodwe {CONF} && sudo chmod 640",
    )


def test_user_of_the_unit_that_is_missing(patient):
    patient.put({**UNIT, "/etc/systemd/system/goodwe.service": "[Service]\nUser=goodwe\n"})
    patient.commands["systemctl"] = "activating\n"
    check(patient("service-user"), Grade.FAIL, "there is no user goodwe", "sudo adduser --system --group")


# the way in which it is started


def systemctl(**properties):
    """A systemd that knows these properties of the unit."""
    return lambda command: f"{properties.get(command[3], '')}\n" if command[0] == "systemctl" else None


def with_unit(patient, **properties):
    patient.put(UNIT)
    machine = patient.machine()
    machine.run = systemctl(**properties)
    return lambda name: next(doctor.examine(machine, [name])).result


def test_unit_that_would_not_be_there_after_a_boot(patient):
    ask = with_unit(patient, ActiveState="active", UnitFileState="disabled")
    check(ask("unit"), Grade.WARN, "after a boot", "sudo systemctl enable --now goodwe")
    ask = with_unit(patient, ActiveState="active", UnitFileState="enabled")
    check(ask("unit"), Grade.OK, "is active")


def test_unit_that_is_masked(patient):
    ask = with_unit(patient, ActiveState="inactive", UnitFileState="masked", LoadState="masked")
    check(ask("unit"), Grade.FAIL, "masked", "unmask goodwe && sudo systemctl enable --now goodwe")
    assert ask("program").remedy == ask("unit").remedy, "not a daemon beside it"
    file = patient.root / "etc/systemd/system/goodwe.service"
    file.unlink()
    os.symlink("/dev/null", file)
    ask = with_unit_as_it_is(patient, ActiveState="inactive", LoadState="masked")
    check(ask("unit"), Grade.FAIL, "masked", "unmask goodwe && sudo /opt/goodweusblogger/GoodWe.py install")


def with_unit_as_it_is(patient, **properties):
    machine = patient.machine()
    machine.run = systemctl(**properties)
    return lambda name: next(doctor.examine(machine, [name])).result


def test_unit_that_is_not_what_starts_it(patient):
    """Who enables it beside a daemon, or beside restartd, has two of them."""
    patient.put({"/run/goodwe.pid": "999999\n"})
    ask = with_unit(patient, ActiveState="inactive", UnitFileState="disabled")
    check(ask("unit"), Grade.SKIP, "not what starts it")
    check(ask("program"), Grade.FAIL, "it is dead", "sudo /opt/goodweusblogger/GoodWe.py start")
    (patient.root / "run/goodwe.pid").unlink()
    patient.put({"/etc/restartd.conf": RESTARTD})
    ask = with_unit(patient, ActiveState="inactive", UnitFileState="disabled")
    check(ask("unit"), Grade.SKIP, "not what starts it")
    check(ask("program"), Grade.WARN, "does not run", "sudo /opt/goodweusblogger/GoodWe.py start")


def test_unit_that_is_installed_is_what_is_started(patient):
    ask = with_unit(patient, ActiveState="inactive", UnitFileState="disabled")
    check(ask("program"), Grade.WARN, "does not run", "sudo systemctl enable --now goodwe")
    ask = with_unit(patient, ActiveState="failed", UnitFileState="enabled")
    check(ask("unit"), Grade.FAIL, "is failed", "sudo systemctl restart goodwe  # why it is so: journalctl")


def test_second_one_is_ended_and_not_the_units(patient):
    patient.put(
        {
            "/proc/7/cmdline": "python3\0GoodWe.py\0start\0",
            "/proc/9/cmdline": "python3\0GoodWe.py\0foreground\0",
        }
    )
    patient.put({"/run/goodwe.pid": "7\n"})
    patient.status = {**STATUS, "program": {"pid": 7, "version": "1.0.0"}}
    ask = with_unit(patient, ActiveState="active", MainPID="9")
    check(ask("one-way"), Grade.FAIL, "pids 7, 9", "sudo kill 7")
    for pid in (7, 9):
        patient.put({**NODE, f"/proc/{pid}/comm": "python3\n", f"/proc/{pid}/fd/": ""})
        os.symlink("/dev/hidraw0", patient.root / f"proc/{pid}/fd/7")
    patient.put({"/proc/11/comm": "cat\n", "/proc/11/fd/": ""})
    os.symlink("/dev/hidraw0", patient.root / "proc/11/fd/3")
    check(ask("holder"), Grade.FAIL, "cat (pid 11), python3 (pid 7)", "sudo kill 7 11")


def test_command_has_the_options_that_the_doctor_was_given(patient, tmp_path):
    call = Call("my.conf", "/run/my.pid", [])
    machine = Machine(config_file="my.conf", pidfile="/run/my.pid", program="GoodWe.py", options=call.options)
    wanted = f"sudo GoodWe.py --config {os.path.abspath('my.conf')} --pidfile /run/my.pid start"
    assert doctor.running.program(machine).remedy == wanted
    assert Call(None, "/var/run/goodwecomm.pid", []).options == []


def test_configuration_that_was_changed_since_it_was_read(patient):
    path = str(patient.settings)
    began = os.stat(path).st_mtime
    machine = patient.machine()
    patient.status = {
        **STATUS,
        "taken_epoch": began + 60.0,
        "program": {**STATUS["program"], "configuration_seconds": 50.0},
    }
    patient.status["program"]["configuration"] = CONF
    check(patient("program"), Grade.OK, "it runs")
    patient.status["program"]["configuration_seconds"] = 70.0
    check(patient("program"), Grade.WARN, "was changed after it had read it", "GoodWe.py restart")
    patient.status["program"]["configuration"] = "/etc/other.conf"
    check(patient("program"), Grade.WARN, "it runs with /etc/other.conf", "--config /etc/other.conf doctor")
    assert machine.settings is not None


# extras


def test_library_that_an_output_of_the_file_needs(patient, tmp_path, monkeypatch):
    """By its own imports, whatever the output is."""
    (tmp_path / "sky.py").write_text(
        "import json\nfrom goodwe.config import OutputSection\n"
        "class SkySettings(OutputSection):\n    NAME = 'sky'\nSECTIONS = (SkySettings,)\n"
        "def make(settings, context):\n    import no_such_library.web\n"
        "    try:\n        import no_such_speedup\n    except ImportError:\n        pass\n"
    )
    from goodwe import outputs

    monkeypatch.setattr(outputs, "__path__", [*outputs.__path__, str(tmp_path)])
    check(patient("extras"), Grade.OK, "have what they need")
    patient.configure("[sky]\n")
    command = "sudo apt-get install python3-no-such-library"
    monkeypatch.setattr(doctor.python.sys, "prefix", doctor.python.sys.base_prefix)
    check(patient("extras"), Grade.FAIL, "[sky] needs no_such_library: not installed", command)
    monkeypatch.setattr(doctor.python.sys, "prefix", "/opt/goodweusblogger/.venv")
    check(patient("extras"), Grade.FAIL, "[sky]", "-m pip install 'goodwe-usb-logger[sky]' && ")
    patient.configure("[sky]\nenabled = off\n")
    check(patient("extras"), Grade.OK, "have what they need")


def test_output_that_was_left_out_for_want_of_a_library(patient):
    why = "waitress is not installed; run pip install 'goodwe-usb-logger[web]'"
    patient.status = {**STATUS, "dropped": [{"part": "web", "error": why}]}
    check(patient("parts"), Grade.FAIL, "left out: web", "extras")


# deadlines, with real sockets


@pytest.mark.parametrize("more", ["", "tls = on\ntransport = websockets\nprotocol = 5\n"])
def test_broker_that_accepts_and_never_answers_holds_nobody_up(patient, more):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        patient.configure(f"[mqtt]\nserver = 127.0.0.1, localhost\nport = {port}\n{more}")
        began = time.monotonic()
        out = io.StringIO()
        assert doctor.main([], patient.machine(), out=out) == 2
        assert time.monotonic() - began < 30
    assert "\nFAIL  login " in out.getvalue()


def test_check_that_never_ends_is_left_to_itself(patient, monkeypatch):
    gate = threading.Event()
    rows = (doctor.Check("stuck", "?", lambda machine: gate.wait(60)), *doctor.python.CHECKS[:1])
    monkeypatch.setattr(doctor, "CHECK_WITHIN", 0.05)
    findings = list(doctor.examine(patient.machine(), groups={"program": rows}))
    gate.set()
    assert [finding.result.grade for finding in findings] == [Grade.FAIL, Grade.OK]
    assert "no answer within" in findings[0].result.text


# a broker on this machine


TCP = "  sl  local_address rem_address   st\n   0: 0100007F:{:04X} 00000000:0000 0A\n   1: 0100007F:0050 0100007F:0051 01\n"


def test_broker_of_this_machine_is_the_one_that_is_meant(patient):
    patient.put({"/proc/net/tcp": TCP.format(1883)})
    patient.configure("[mqtt]\nserver = no-such-host.invalid\n")
    check(patient("broker-name"), Grade.FAIL, "no-such-host.invalid", "2s|[=:].*|= localhost|")
    patient.put({"/proc/net/tcp6": TCP.format(1883), "/proc/net/tcp": ""})
    port = free_port()
    patient.configure(f"[mqtt]\nserver = localhost\nport = {port}\n")
    check(patient("broker-port"), Grade.FAIL, f"localhost:{port}", "3s|[=:].*|= 1883|")


def test_mosquitto_that_is_installed_is_started_and_not_installed_again(patient):
    patient.put({"/lib/systemd/system/mosquitto.service": "", "/run/systemd/system/": ""})
    port = free_port()
    patient.configure(f"[mqtt]\nserver = localhost\nport = {port}\n")
    check(patient("broker-port"), Grade.FAIL, f"localhost:{port}", "sudo systemctl restart mosquitto")
    patient.commands["systemctl"] = "masked\n"
    check(patient("broker-port"), Grade.FAIL, f"localhost:{port}", "sudo systemctl unmask mosquitto")
    patient.put(
        {"/etc/mosquitto/conf.d/x.conf": "listener 1999 127.0.0.1\n", "/proc/net/tcp": TCP.format(1999)}
    )
    check(patient("broker-port"), Grade.FAIL, f"localhost:{port}", "3s|[=:].*|= 1999|")


def test_password_is_given_to_the_broker_of_this_machine(patient, tmp_path):
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    passwords.chmod(0o600)
    broker = Mosquitto(tmp_path, lines=f"allow_anonymous false\npassword_file {passwords}\n").start()
    try:
        patient.put({"/etc/mosquitto/conf.d/x.conf": f"# password_file /no\npassword_file {passwords}\n"})
        patient.configure(
            f"[mqtt]\nserver = 127.0.0.1\nport = {broker.port}\nusername = sun\npassword = hunter2\n"
        )
        result = patient("login")
        check(result, Grade.FAIL, "it refuses us", f"sudo mosquitto_passwd {passwords} sun")
        assert "hunter2" not in result.remedy
    finally:
        broker.stop()


def test_mqtt_that_is_off_is_not_looked_at(patient):
    patient.configure("[mqtt]\nenabled = off\nserver = no-such-host.invalid\n")
    for name in ("broker-name", "broker-port", "tls", "login", "takes", "discovery"):
        check(patient(name), Grade.SKIP, "[mqtt] is off")


def test_certificate_that_ends_tomorrow(patient, tmp_path):
    authority = CA()
    certificate = authority.issue_cert("127.0.0.1", days=1)
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    certificate.cert_pem.write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    broker = Mosquitto(tmp_path, lines=f"allow_anonymous true\ncertfile {cert}\nkeyfile {key}\n").start()
    try:
        patient.configure(f"[mqtt]\nserver = 127.0.0.1\nport = {broker.port}\ntls = on\ncafile = {ca}\n")
        check(patient("tls"), Grade.WARN, "ends in less than a day", "renew")
    finally:
        broker.stop()


@pytest.mark.parametrize(
    ("acl", "grade", "words"),
    [
        ("topic readwrite #\n", Grade.OK, "takes and keeps"),
        ("topic read #\n", Grade.FAIL, "goodwe/15000DSN000W0001/online"),
        ("topic write #\n", Grade.FAIL, "does not give back"),
        ("topic read #\ntopic readwrite homeassistant/#\n", Grade.WARN, "does not give back"),
    ],
)
def test_broker_that_drops_without_a_word_what_it_does_not_allow(patient, tmp_path, acl, grade, words):
    """MQTT 3.1.1 has no word for it: only what is not there afterwards tells."""
    rights = tmp_path / "acl"
    rights.write_text(acl)
    rights.chmod(0o600)
    broker = Mosquitto(tmp_path, lines=f"allow_anonymous true\nacl_file {rights}\n").start()
    try:
        client = paho_client("goodwe-usb")
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        for topic in (discovery_topic("homeassistant", SERIAL), f"goodwe/{SERIAL}/online"):
            client.publish(topic, b"1", qos=1, retain=True).wait_for_publish(5)
        client.disconnect()
        client.loop_stop()
        patient.configure(f"[mqtt]\nserver = 127.0.0.1\nport = {broker.port}\n")
        patient.status = connection(connected_seconds=5.0, server="127.0.0.1")
        check(patient("takes"), grade, words)
    finally:
        broker.stop()


# the whole


def test_what_is_printed_is_trouble_and_a_line_for_each_group(patient):
    patient.put({**INVERTER, **NODE})
    patient.configure(f"[mqtt]\nserver = 127.0.0.1\nport = {free_port()}\n")
    patient.status = {**STATUS, "inverters": {}}
    out = io.StringIO()
    code = doctor.main([], patient.machine(), out=out)
    lines = out.getvalue().splitlines()
    assert code == 2, "there is no broker"
    assert "WARN  readings       it runs, and no inverter has given a reading yet" in lines
    assert lines[-1] == "It cannot work like that."
    assert [line.split()[0] for line in lines[-1 - len(doctor.GROUPS) : -1]] == list(doctor.GROUPS)


def test_all_is_well_fits_on_a_screen(patient):
    patient.put({**INVERTER, **NODE, "/proc/mounts": ""})
    patient.status = STATUS
    out = io.StringIO()
    names = ["usb", "running", "settings"]
    assert doctor.main([word for name in names for word in ("--only", name)], patient.machine(), out=out) == 0
    assert len(out.getvalue().splitlines()) < 24
    assert out.getvalue().endswith("All is well.\n")


class Terminal(io.StringIO):
    """One that a person sees."""

    def isatty(self):
        return True


def in_trouble(patient):
    """A house of which nothing is as it should be: what it says is known to the letter."""
    hub = {f"{USB}/1-1/bDeviceClass": "09\n", f"{USB}/1-1/bmAttributes": "80\n"}
    patient.put({**INVERTER, **hub, **NODE, **USER, **UNIT, f"{USB}/1-1/product": "USB2.0 \x1b[31mHub\n"})
    patient.put({f"{USB}/1-1.4/power/control": "auto\n", "/etc/restartd.conf": RESTARTD})
    patient.mode("/dev/hidraw0", 0o600)
    patient.configure("[inverter]\ndebug = 1\n[mqtt]\nusername = me\npassword = hunter2\n")
    patient.mode(CONF, 0o644)
    patient.commands["systemctl"] = "active\n"
    patient.status = {**STATUS, "inverters": {}, "dropped": [{"part": "mqtt sums", "error": "KeyError: 'x'"}]}
    return [word for name in ("settings", "usb", "running") for word in ("--only", name)]


def printed(patient, *arguments, out):
    assert doctor.main([*in_trouble(patient), *arguments], patient.machine(), out=out) == 2
    return out.getvalue().replace(str(HOME), "/opt/goodweusblogger")


@pytest.mark.parametrize("width", [40, 120])
def test_what_a_person_reads_is_the_golden_text(patient, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    text = printed(patient, out=Terminal())
    assert text == (GOLDEN / f"doctor-{width}.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("      $ ")]
    assert max(map(len, lines)) <= width, "only what is to be copied may be longer"
    assert "\x1b" not in text, "what a device calls itself commands no terminal"


def test_what_a_program_reads_is_the_golden_json(patient):
    told = json.loads(printed(patient, "--json", out=io.StringIO()))
    assert told == json.loads((GOLDEN / "doctor.json").read_text("utf-8"))
    assert all(
        check["command"] is False or check["remedy"].startswith(("sudo ", "echo "))
        for check in told["checks"]
    )


def test_json_has_every_check_with_its_remedy(patient):
    patient.configure(f"[mqtt]\nserver = 127.0.0.1\nport = {free_port()}\n")
    out = io.StringIO()
    assert doctor.main(["--json"], patient.machine(), out=out) == 2
    told = json.loads(out.getvalue())
    assert told["version"] == 1
    assert {check["name"] for check in told["checks"]} == {
        c.name for cs in doctor.GROUPS.values() for c in cs
    }
    inverter = next(check for check in told["checks"] if check["name"] == "inverter")
    assert (inverter["state"], inverter["group"]) == ("FAIL", "usb")
    assert "cable" in inverter["remedy"]


def test_check_that_fails_itself_hides_no_other(patient):
    def broken(machine):
        raise KeyError("x")

    rows = (doctor.Check("broken", "?", broken), *doctor.python.CHECKS[:1])
    findings = list(doctor.examine(patient.machine(), groups={"program": rows}))
    assert [finding.result.grade for finding in findings] == [Grade.FAIL, Grade.OK]
    assert "KeyError" in findings[0].result.text


def test_what_there_is_no_time_for_is_skipped(patient):
    times = iter([0.0, 1.0, *[1e9] * 100])
    findings = list(doctor.examine(patient.machine(), clock=lambda: next(times)))
    assert findings[0].result.grade is Grade.OK
    assert {finding.result.text for finding in findings[1:]} == {"no time left"}


def test_names_are_told_once():
    names = [check.name for checks in doctor.GROUPS.values() for check in checks]
    assert len(names) == len(set(names))
    assert not set(names) & set(doctor.GROUPS)
