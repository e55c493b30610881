"""The host's side of the system tests, with a script in QEMU's place: what goes wrong there ends, and says why."""

import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from .system import __main__ as runner
from .system import guest, image
from .system.image import Guest, HostError

USABLE = runner.kvm_is_usable
"""The real one; the others pretend."""

QEMU = """\
#!/usr/bin/env python3
import sys, time

arguments = sys.argv[1:]
accelerator = arguments[arguments.index("-accel") + 1]
console, line = (value.removeprefix("file:") for value in arguments if value.startswith("file:"))
script = {script!r}[accelerator]
open(console, "w").write("Loading Linux ...\\n")
with open(line, "w") as out:
    out.write(script)
if "DONE" not in script:
    time.sleep(0 if "leave" in script else 60)
"""


@pytest.fixture
def qemu(tmp_path, monkeypatch):
    """Puts a QEMU into the path that says `script` of each accelerator on the scenarios' line."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image.cache_folder().mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(runner, "kvm_is_usable", lambda: True)

    def install(kvm: str, tcg: str) -> Path:
        program = tmp_path / "qemu-system-x86_64"
        scripts = {"kvm": kvm, "tcg": tcg}
        program.write_text(QEMU.format(script=scripts))
        patience = {name: 30.0 if script else 3.0 for name, script in scripts.items()}  # an empty one hangs
        monkeypatch.setattr(runner, "BOOT_WITHIN", patience)
        program.chmod(0o755)
        return tmp_path

    return install


def boot(folder: Path) -> runner.Machine:
    nothing = folder / "nothing"
    return runner.boot(Guest(nothing, nothing, nothing), nothing, folder, "")


def test_what_is_missing_is_named_with_the_apt_line(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program, path: None)
    with pytest.raises(HostError) as caught:
        image.check_host()
    line = "apt-get install --no-install-recommends qemu-system-x86 mmdebstrap e2fsprogs debhelper dh-python"
    assert str(caught.value) == line


def test_too_little_disk_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda program, path: "/bin/true")
    monkeypatch.setattr(image.os, "getuid", lambda: 0)
    monkeypatch.setattr(image, "SPACE", 2**60)
    with pytest.raises(HostError, match="GiB free"):
        image.check_host()


def test_building_needs_root(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program, path: "/bin/true")
    monkeypatch.setattr(image.os, "getuid", lambda: 1000)
    with pytest.raises(HostError, match="needs root"):
        image.check_host()


def test_second_run_waits_its_turn_and_one_with_another_debian_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    held = image.lock("bookworm")
    with pytest.raises(HostError, match="another run with bookworm"):
        image.lock("bookworm")
    image.os.close(image.lock("trixie"))
    image.os.close(held)
    image.os.close(image.lock("bookworm"))


def test_emulation_is_taken_when_kvm_hangs_and_the_next_run_knows(qemu, capsys):
    folder = qemu(kvm="", tcg="READY\nDONE\n")
    for _ in range(2):
        machine = boot(folder)
        assert runner.follow(machine) == (0, 0)
        machine.end()
    shown = capsys.readouterr().out
    assert shown.count("does not come up with KVM") == 1
    assert shown.count("(tcg)") == 2


def test_emulation_is_taken_when_kvm_ends_at_once(qemu, capsys):
    boot(qemu(kvm="leave", tcg="READY\nDONE\n")).end()
    assert "QEMU has ended" in capsys.readouterr().out


def test_boot_that_hangs_is_given_up_with_the_console(qemu):
    with pytest.raises(runner.Hangs, match="Loading Linux"):
        boot(qemu(kvm="", tcg=""))


def test_guest_that_falls_silent_is_given_up(qemu, monkeypatch):
    monkeypatch.setattr(runner, "SILENT_FOR", 0.3)
    machine = boot(qemu(kvm="READY\nBEGIN s10\n", tcg=""))
    with pytest.raises(runner.Hangs, match="nothing for"):
        runner.follow(machine)
    machine.kill()


@pytest.mark.parametrize("node", [None, "/dev/null"])
def test_host_without_kvm_emulates_without_a_try(qemu, capsys, monkeypatch, node):
    monkeypatch.setattr(runner, "KVM", node or "/no/kvm")
    assert USABLE() == (node is not None)
    monkeypatch.setattr(runner, "kvm_is_usable", lambda: False)
    boot(qemu(kvm="leave", tcg="READY\nDONE\n")).end()
    shown = capsys.readouterr().out
    assert "KVM" not in shown
    assert "(tcg)" in shown


def test_scenario_that_hangs_is_ended_with_log_and_journal_and_the_next_one_runs(tmp_path, monkeypatch):
    log = tmp_path / "goodwe.log"
    log.write_text("Inverter now online.\n")
    monkeypatch.setattr(guest.kit, "LOG", log)
    monkeypatch.setattr(
        guest.kit, "House", lambda figure: SimpleNamespace(reset=lambda: said.append("reset"))
    )
    monkeypatch.setattr(guest, "SCENARIO_WITHIN", 1)
    journal = SimpleNamespace(stdout="usb 1-1: new device\n")
    monkeypatch.setattr(guest.subprocess, "run", lambda *arguments, **options: journal)
    scenarios = {"s98_hangs": lambda house: signal.pause(), "s99_passes": lambda house: None}
    said = []
    line = SimpleNamespace(say=lambda *words: said.append(" ".join(map(str, words))))
    before = signal.getsignal(signal.SIGALRM)
    for name, scenario in scenarios.items():
        module = SimpleNamespace(scenario=scenario)
        monkeypatch.setitem(sys.modules, f"tests.system.scenarios.{name}", module)
        guest.play(name, {"done": [], "step": 0}, line)
    signal.signal(signal.SIGALRM, before)
    assert said[0] == "BEGIN s98_hangs"
    assert said[1].startswith("FAIL s98_hangs 1.")
    for row in ("Late: not done after 1 s", "Inverter now online.", "usb 1-1: new device"):
        assert any(text.startswith("| ") and text.endswith(row) for text in said)
    assert said[-4:-1] == ["reset", "BEGIN s99_passes", "PASS s99_passes 0.0"]


def test_scenario_of_a_program_that_this_debian_has_not_is_left_out_and_said(qemu, capsys, monkeypatch):
    said = []
    module = SimpleNamespace(NEEDS="no-such-program", scenario=lambda house: said.append("played"))
    monkeypatch.setitem(sys.modules, "tests.system.scenarios.s99_other", module)
    line = SimpleNamespace(say=lambda *words: said.append(" ".join(words)))
    guest.play("s99_other", {"done": [], "step": 0}, line)
    assert said == ["LEFT s99_other no-such-program"]
    machine = boot(qemu(kvm=f"READY\n{said[0]}\nDONE\n", tcg=""))
    assert runner.follow(machine) == (0, 0)
    machine.end()
    assert "s99_other" in capsys.readouterr().out


@pytest.mark.parametrize("suite", image.SUITES)
def test_each_suite_is_a_guest_of_its_own_with_wheels_for_its_python(suite, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ran = []
    monkeypatch.setattr(image, "_run", lambda command, **options: ran.append(command))
    monkeypatch.setattr(image, "_build", lambda built, *what: ran.append(what))
    assert image.guest(suite).disk != image.guest(next(name for name in image.SUITES if name != suite)).disk
    (name, packages), _ = ran
    assert (name, "restartd" in packages) == (suite, suite == "bookworm")
    image.wheels(tmp_path / "wheels", image.SUITES[suite].python)
    assert "cp311" in ran[-1] or "cp313" in ran[-1]
    assert image.SUITES[suite].python in ran[-1]


def test_lines_of_the_guest_become_a_report(qemu, capsys):
    said = (
        'READY\nBEGIN s10\nFIGURE s10 ["plug to first data", 1.234]\nPASS s10 5.0\n'
        "BEGIN s11\nFAIL s11 7.0\n| why\nDONE\n"
    )
    machine = boot(qemu(kvm=said, tcg=""))
    assert runner.follow(machine) == (1, 1)
    machine.end()
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split() for row in rows] == [
        ["PASS", "s10", "5.0", "s", "plug", "to", "first", "data", "1.23", "s"],
        ["FAIL", "s11", "7.0", "s"],
        ["why"],
    ]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], ["s00_install", "s10_one", "s60_two"]),
        (["goodwe.only=s10,s60"], ["s00_install", "s10_one", "s60_two"]),
        (["goodwe.only=two"], ["s00_install", "s60_two"]),
        (["goodwe.without=s60"], ["s00_install", "s10_one"]),
        (["goodwe.only=s10,s60", "goodwe.without=two,install"], ["s00_install", "s10_one"]),
    ],
)
def test_scenarios_are_chosen_by_a_part_of_their_names(words, wanted):
    names = ["s00_install", "s10_one", "s60_two"]
    assert [name for name in names if guest.is_wanted(name, ["quiet", *words])] == wanted


def test_scenario_with_home_assistant_runs_only_where_there_is_one():
    name = "s62_home_assistant"
    assert not guest.is_wanted(name, ["quiet", "goodwe.only=s62"])
    assert guest.is_wanted(name, ["quiet", "goodwe.home"])
    assert not guest.is_wanted(name, ["quiet", "goodwe.home", "goodwe.only=s10"])
