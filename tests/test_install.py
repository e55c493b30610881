"""install and uninstall, on a machine that is a folder: what is put where, told, left alone and taken away."""

import contextlib
import errno
import io
import os
import stat
import subprocess
from pathlib import Path

import pytest

from goodwe import program
from goodwe.errors import InstallError
from goodwe.tools import install
from goodwe.tools.install import files, steps
from goodwe.tools.install.files import (
    CONFIGURATION,
    FILES,
    LOGROTATE,
    PASSWORD,
    RULE,
    UNIT,
    FileState,
    judge,
)
from goodwe.tools.install.system import RECORD, System

ROOT = Path(__file__).parents[1]
FOLDERS = ("usr/lib/systemd/system", "usr/lib/udev", "etc/logrotate.d", "usr/bin", "var/log")
UID, GID = 990, 980
FOREIGN = {
    UNIT: "[Service]\nExecStart=/usr/bin/good-weather\n",
    RULE: 'SUBSYSTEM=="tty", MODE="0666"\n',
    LOGROTATE: "/var/log/good-weather.log {\n}\n",
    CONFIGURATION: "city = Utrecht\n",
}


class Room:
    """A Debian in a folder, whose commands are written down and whose files keep their owner to themselves."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True)
        (self.root / "usr/bin/systemctl").write_text("")
        (self.root / "usr/bin/systemctl").chmod(0o755)
        self.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        self.put("/etc/group", "root:x:0:\n")
        self.ran: list[list[str]] = []
        self.owners: dict[str, tuple[int, int]] = {}
        self.said = ""
        self.pidfile = str(folder / "pid")

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def put(self, path: str, text: str) -> None:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text)

    def text(self, path: str) -> str:
        return self.at(path).read_text()

    def mode(self, path: str) -> int:
        return stat.S_IMODE(self.at(path).stat().st_mode)

    def system(self, *, dry: bool = False) -> System:
        return System(root=str(self.root), dry=dry, run=self._run, chown=self._chown)

    def __call__(self, verb: str, *options: str, uid: int = 0, system: System | None = None) -> int:
        out = io.StringIO()
        machine = system or self.system(dry="--dry-run" in options)
        try:
            where = [*options, f"--root={self.root}"]
            return install.main(verb, where, self.pidfile, uid=uid, system=machine, out=out)
        finally:
            self.said = out.getvalue()

    def all_files(self) -> dict[str, bytes]:
        found = (path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())
        return {f"/{path.relative_to(self.root)}": path.read_bytes() for path in found}

    def _run(self, words: list[str]) -> str:
        self.ran.append(words)
        if words[0] == "groupadd":
            self.put("/etc/group", f"{self.text('/etc/group')}goodwe:x:{GID}:\n")
        elif words[0] == "useradd":
            self.put("/etc/passwd", f"{self.text('/etc/passwd')}goodwe:x:{UID}:{GID}::/:/bin/false\n")
        elif words[0] in ("userdel", "groupdel"):
            file = "/etc/passwd" if words[0] == "userdel" else "/etc/group"
            rows = [row for row in self.text(file).splitlines(True) if not row.startswith("goodwe:")]
            self.put(file, "".join(rows))
        return ""

    def _chown(self, descriptor: int, user: int, group: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(self.root))
        self.owners[name.replace("/.", "/").removesuffix(".goodwe-tmp")] = (user, group)


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


def test_everything_is_put_in_place_and_said(room):
    assert room("install") == 0
    for target, file in FILES.items():
        assert room.at(target).exists()
        assert room.mode(target) == file.mode
        assert f"{target:36} put there\n" in room.said
    assert room.text(CONFIGURATION) == (ROOT / "etc/goodwe.conf").read_text()
    assert room.owners[CONFIGURATION] == (0, GID)
    assert room.owners["/var/lib/goodwe"] == (UID, GID)
    assert ["systemctl", f"--root={room.root}", "enable", "goodwe.service"] in room.ran
    assert [words[0] for words in room.ran] == ["groupadd", "useradd", "systemctl"]


def test_twice_changes_nothing(room):
    room("install")
    before, room.ran = room.all_files(), []
    assert room("install") == 0
    assert room.all_files() == before
    assert [words[0] for words in room.ran] == ["systemctl"]
    assert room.said.count("is there already") == len(FILES) + 3


def test_dry_run_says_the_same_and_changes_nothing(room):
    before = room.all_files()
    assert room("install", "--dry-run") == 0
    would, room.said = room.said, ""
    assert (room.all_files(), room.ran) == (before, [])
    room("install")
    lines = [line for line in would.splitlines()[1:] if not line.startswith("To do")]
    assert lines == room.said.splitlines()


def test_unit_starts_the_program_where_it_is(room):
    room("install")
    unit = room.text(UNIT)
    assert f"ExecStart={ROOT}/GoodWe.py foreground\n" in unit
    assert f"Documentation=file://{ROOT}/README.md\n" in unit
    assert "/opt/goodweusblogger" not in unit
    rest = {line for line in unit.splitlines() if not line.startswith(("#", "Exec", "Documentation"))}
    assert rest < set((ROOT / "etc/goodwe.service").read_text().splitlines())


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/opt/pipx/venvs/goodwe-usb-logger/bin/goodwe-logger", None),
        ("/opt/my programs/GoodWe.py", '"/opt/my programs/GoodWe.py"'),
        ("/opt/100%/GoodWe.py", "/opt/100%%/GoodWe.py"),
        ("/opt/$x\\1/GoodWe.py", r'"/opt/$$x\\1/GoodWe.py"'),
    ],
)
def test_unit_has_any_path(path, written):
    unit = files.unit_for("ExecStart=/opt/goodweusblogger/GoodWe.py foreground\n", path, "/r")
    assert unit == f"ExecStart={written or path} foreground\n"
    if "$" not in path:
        assert files.started_by(unit) == path


def test_unit_passes_systemd(room, tmp_path):
    """Where the checker of systemd is."""
    room("install")
    try:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", room.at(UNIT)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except FileNotFoundError:
        return
    assert "goodwe.service:" not in done.stderr.replace("Command", "")


@pytest.mark.parametrize("target", FILES)
def test_edited_file_is_left_as_it_is_and_the_new_one_lies_beside_it_once(room, target):
    room("install")
    edited = room.text(target) + "# mine\n"
    room.put(target, edited)
    beside = target + FILES[target].beside
    assert room("install") == 0
    assert room.text(target) == edited
    assert room.at(beside).read_bytes() == steps.shipped(FILES[target])
    assert f"was edited: left as it is, the new version is {beside}" in room.said
    room.at(beside).unlink()  # seen, and not wanted
    assert room("install") == 0
    assert not room.at(beside).exists()
    assert "was edited: left as it is\n" in room.said


@pytest.mark.parametrize("target", FILES)
def test_earlier_version_that_nobody_edited_is_replaced(room, target):
    system = room.system()
    room.put(target, "an earlier version\n")
    system.note_file(target, b"an earlier version\n")
    assert room("install") == 0
    assert room.at(target).read_bytes() == steps.shipped(FILES[target])
    assert "put there in place of an earlier version" in room.said


@pytest.mark.parametrize("target", FILES)
def test_copy_by_hand_is_not_taken_for_edited(room, target):
    room.put(target, (ROOT / "etc" / FILES[target].source).read_text())
    assert room("install") == 0
    assert room.at(target).read_bytes() == steps.shipped(FILES[target])
    assert not room.at(target + FILES[target].beside).exists()


@pytest.mark.parametrize("target", FILES)
def test_every_version_that_could_be_copied_by_hand_is_known(target):
    """The versions of before `install`, as git has them; a copy without its history has nothing to ask."""
    file = FILES[target]
    git = ["git", "-C", str(ROOT)]
    asked = subprocess.run(
        [*git, "log", "--format=%H", "--diff-filter=AM", "--", f"etc/{file.source}"],
        capture_output=True,
        text=True,
    )
    for commit in asked.stdout.split():
        before = subprocess.run(
            [*git, "cat-file", "-e", f"{commit}:goodwe/tools/install"], capture_output=True
        )
        if before.returncode:
            text = subprocess.run([*git, "show", f"{commit}:etc/{file.source}"], capture_output=True).stdout
            assert judge(file, text, b"", ()) is FileState.OURS, commit
    assert len(file.earlier) >= 2


@pytest.mark.parametrize("target", FILES)
def test_foreign_file_of_the_same_name_is_left_alone_and_told(room, target):
    room.put(target, FOREIGN[target])
    assert room("install") == 1
    assert room.text(target) == FOREIGN[target]
    assert f"To do: {target} is another program's" in room.said
    assert room("uninstall", "--purge") == 0
    assert room.text(target) == FOREIGN[target]


def test_foreign_unit_is_not_started(room):
    room.put(UNIT, FOREIGN[UNIT])
    room("install")
    assert not [words for words in room.ran if words[0] == "systemctl"]
    assert "would start another program" in room.said


def test_edited_unit_of_another_installation_is_told(room):
    edited = (ROOT / "etc/goodwe.service").read_text().replace("WatchdogSec=120", "WatchdogSec=60")
    room.put(UNIT, edited)
    assert room("install") == 1
    assert room.text(UNIT) == edited
    assert f"{UNIT} starts /opt/goodweusblogger/GoodWe.py, not {ROOT}/GoodWe.py" in room.said


def test_masked_unit_stays_masked(room):
    room.at(UNIT).parent.mkdir(parents=True)
    room.at(UNIT).symlink_to("/dev/null")
    assert room("install") == 1
    assert "systemctl unmask goodwe" in room.said
    assert os.readlink(room.at(UNIT)) == "/dev/null"


def test_configuration_with_a_password_is_for_root_and_goodwe_alone(room):
    room.put(CONFIGURATION, "[mqtt]\nserver = nas\nusername = u\npassword = p\n")
    room.at(CONFIGURATION).chmod(0o644)
    assert room("install") == 0
    assert room.mode(CONFIGURATION) == 0o640
    assert room.owners[CONFIGURATION] == (0, GID)
    assert "server = nas" in room.text(CONFIGURATION)


def test_configuration_that_is_a_link_keeps_its_target(room, tmp_path):
    elsewhere = tmp_path / "mine.conf"
    elsewhere.write_text("[mqtt]\n")
    elsewhere.chmod(0o600)
    room.at(CONFIGURATION).symlink_to(elsewhere)
    room("install")
    assert room.at(CONFIGURATION).is_symlink()
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o600


def test_user_that_is_there_with_another_number_is_taken_and_never_removed(room):
    room.put("/etc/passwd", "goodwe:x:1000:1000::/home/goodwe:/bin/bash\n")
    room.put("/etc/group", "goodwe:x:1000:\n")
    assert room("install") == 0
    assert "is there already, as number 1000" in room.said
    assert room.owners["/var/lib/goodwe"] == (1000, 1000)
    room("uninstall", "--purge")
    assert "goodwe:x:1000" in room.text("/etc/passwd")
    assert "stays: it was there before" in room.said


def test_rule_that_was_there_before_its_group_is_read_anew(room):
    """udev 257 remembers that it did not find the group, and reads a file again only when that has changed."""
    room.put(RULE, (ROOT / "etc/99-goodwe.rules").read_text())
    os.utime(room.at(RULE), (1_000_000_000, 1_000_000_000))
    room("install", "--dry-run")
    assert room.at(RULE).stat().st_mtime == 1_000_000_000
    room("install")
    assert room.at(RULE).stat().st_mtime > 1_000_000_000


def test_totals_of_a_daemon_that_ran_as_root_become_the_units(room, tmp_path):
    room.put("/var/lib/goodwe/state.json", "{}")
    outside = tmp_path / "outside"
    outside.write_text("")
    room.at("/var/lib/goodwe/link").symlink_to(outside)
    with pytest.raises(InstallError):  # a link in there may lead to anybody's file
        room("install")
    room.at("/var/lib/goodwe/link").unlink()
    room("install")
    assert room.owners["/var/lib/goodwe/state.json"] == (UID, GID)
    assert str(outside) not in room.owners


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("usr/lib/udev", f"{RULE:36} left out: there is no /etc/udev"),
        ("etc/logrotate.d", f"{LOGROTATE:36} left out: there is no /etc/logrotate.d"),
        ("usr/lib/systemd/system", "no systemd here; start it with sudo"),
    ],
)
def test_machine_without_it_goes_without(room, missing, told):
    (room.root / missing).rmdir()
    assert room("install") == 0
    assert told in room.said


def test_no_service_is_for_start_and_restartd(room):
    assert room("install", "--no-service") == 0
    assert not room.at(UNIT).exists()
    assert f"sudo {ROOT}/GoodWe.py start" in room.said


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EIO])
def test_disk_that_takes_nothing_is_told_with_its_remedy_and_leaves_no_half_file(room, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    before = room.all_files().keys()
    with pytest.raises(InstallError, match="Then run this again") as caught:
        room("install")
    assert install.system.REMEDIES.get(code, os.strerror(code)) in str(caught.value)
    assert room.all_files().keys() == before
    monkeypatch.undo()
    assert room("install") == 0


@pytest.mark.parametrize("at", range(12))
def test_interrupted_at_any_write_it_is_mended_by_the_next_run(room, monkeypatch, at):
    writes = iter(range(100))
    real = os.replace

    def cut(source, target):
        if next(writes) == at:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", cut)
    with contextlib.suppress(KeyboardInterrupt):
        room("install")
    monkeypatch.undo()
    assert room("install") == 0
    assert all(room.at(target).read_bytes() == steps.shipped(file) for target, file in FILES.items())
    assert not list(room.root.rglob("*.new*"))


def test_command_that_fails_is_told_and_ends_it(room):
    def run(words):
        raise InstallError(f"{words[0]}: cannot lock /etc/group")

    system = System(root=str(room.root), run=run, chown=room._chown)
    with pytest.raises(InstallError, match=r"group goodwe: groupadd: cannot lock .*\. Then run this again"):
        room("install", system=system)


def test_damaged_record_only_makes_more_of_it_count_as_edited(room):
    room("install")
    for text in ("", "{", "[]", '{"files": 3}', "null"):
        room.put(RECORD, text)
        assert room("install") == 0
    assert room("uninstall", "--purge") == 0


def test_uninstall_takes_away_what_install_put_there_and_keeps_configuration_and_totals(room):
    room("install")
    room.put("/var/lib/goodwe/state.json", "{}")
    assert room("uninstall") == 0
    assert [target for target in FILES if room.at(target).exists()] == [CONFIGURATION]
    assert room.at("/var/lib/goodwe/state.json").exists()
    assert "goodwe:" in room.text("/etc/passwd")
    assert ["systemctl", f"--root={room.root}", "disable", "goodwe.service"] in room.ran


def test_purge_leaves_nothing(room):
    before = room.all_files()
    room("install")
    for path in ("/var/lib/goodwe/state.json", "/var/log/goodwe.log", "/var/log/goodwe.log.1.gz", PASSWORD):
        room.put(path, "x")
    room.put(RULE, room.text(RULE) + "# mine\n")
    room("install")
    assert room("uninstall", "--purge") == 0
    assert room.all_files() == before
    assert room("uninstall", "--purge") == 0


def test_uninstall_keeps_what_was_edited_under_another_name(room):
    room("install")
    room.put(UNIT, room.text(UNIT) + "# mine\n")
    assert room("uninstall") == 0
    assert not room.at(UNIT).exists()
    assert "# mine" in room.text(f"{UNIT}.old")


def test_uninstall_of_nothing_is_no_error(room):
    assert room("uninstall") == 0


def test_without_root_it_says_what_it_would_do_and_how(tmp_path):
    """On this machine, which it only looks at."""
    out = io.StringIO()
    assert install.main("install", ["--no-service"], str(tmp_path / "pid"), uid=1000, out=out) == 1
    assert out.getvalue().startswith("Nothing is changed without root. It would do this:\n")
    assert out.getvalue().endswith(f"To do it: sudo {ROOT}/GoodWe.py install --no-service\n")


def test_without_root_in_a_folder_of_mine_it_does_it(room):
    assert room("install", uid=1000) == 0
    assert room.at(RULE).exists()


def test_restartds_line_is_told(room):
    room.put("/etc/restartd.conf", (ROOT / "etc/restartd.conf").read_text())
    assert room("install") == 1
    assert "sudo sed -i '/GoodWe.py/d' /etc/restartd.conf" in room.said
    assert room("install", "--no-service") == 0


@pytest.mark.parametrize(
    ("place", "is_fine"),
    [("/usr/bin/env", True), ("/root/.local/bin/goodwe-logger", False), ("/home/u/GoodWe.py", False)],
)
def test_program_that_the_units_user_cannot_read_is_told_before_anything_is_done(monkeypatch, place, is_fine):
    monkeypatch.setattr(program, "executable", lambda: Path(place))
    monkeypatch.setattr(program, "python", lambda: Path("/usr/bin/env"))
    monkeypatch.setattr(program, "HOME", Path("/usr/lib"))
    monkeypatch.setattr(steps, "readable_by_all", lambda path: True)
    plan = steps.Plan(System(), True, False, "/pid")
    if is_fine:
        assert steps.check_place(plan) == place
        return
    with pytest.raises(InstallError, match=r"cannot be read by the unit's user goodwe; .* pipx install"):
        steps.check_place(plan)


def test_folder_that_is_shut_is_not_readable_by_all(tmp_path):
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    (shut / "file").write_text("")
    assert not steps.readable_by_all(shut / "file")
    assert steps.readable_by_all(Path("/usr/bin/env"))


def test_wrong_arguments(room, capsys):
    for arguments in (["--rot=/x"], ["now"], ["--root=/no/such/folder"], ["--purge"]):
        with pytest.raises(SystemExit) as caught:
            install.parse("install", arguments)
        assert caught.value.code == 2
    capsys.readouterr()


# Debian's package


@pytest.fixture
def package(room, monkeypatch):
    """The program as Debian's package, in a room with an earlier installation."""
    room.put(f"{program.DEBIAN_HOME}/GoodWe.py", "")
    monkeypatch.setattr(program, "DEBIAN_HOME", str(ROOT))
    return room


def test_package_takes_over_from_copies_by_hand(package):
    for file in (FILES[UNIT], FILES[RULE]):
        package.put(file.target, (ROOT / "etc" / file.source).read_text())
    assert package("install") == 0
    assert not package.at(UNIT).exists()
    assert not package.at(RULE).exists()


def test_package_sets_an_edited_unit_aside_and_leaves_an_edited_rule(package):
    for file in (FILES[UNIT], FILES[RULE]):
        package.put(file.target, (ROOT / "etc" / file.source).read_text() + "# mine\n")
    assert package("install") == 1
    assert "# mine" in package.text(f"{UNIT}.old")
    assert "# mine" in package.text(RULE)
    assert "systemctl edit goodwe" in package.said


def test_package_leaves_what_is_foreign(package):
    package.put(UNIT, FOREIGN[UNIT])
    assert package("install") == 1
    assert package.text(UNIT) == FOREIGN[UNIT]


def test_package_is_taken_away_by_apt(package):
    with pytest.raises(InstallError, match="apt-get remove goodwe-usb-logger"):
        package("uninstall")


def test_two_installations_are_one_too_many(room):
    room.put(f"{program.DEBIAN_HOME}/GoodWe.py", "")
    with pytest.raises(InstallError, match="apt-get purge goodwe-usb-logger"):
        room("install")
