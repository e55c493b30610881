"""The Debian package in a Debian that is a folder: python3 -m tests.system.roots [--arch ARCH] [--suite SUITE].

Without systemd, udev and inverter; foreign architectures by qemu-user, where the kernel has it registered. On
the machine's own architecture also with all that may be in the way: another user, files of the same name, a
disk that is full or read-only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .image import DEPENDENCIES, debs

MIRROR = "deb http://deb.debian.org/debian {suite} main"
PACKAGES = ("python3", "mosquitto", "systemd-standalone-sysusers", *DEPENDENCIES)
"""Enough for the package; no systemd, no udev."""
QEMU = {"armhf": "qemu-arm", "arm64": "qemu-aarch64"}
"""Architecture to the name by which the kernel knows its emulation."""
APT = "DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends"
WITHIN = 1200.0
PACKAGE = "goodwe-usb-logger"


class Root:
    """A Debian in a folder, whose mounts end with each command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, command: str, *, code: int | None = 0, before: str = "true") -> str:
        """The output of a shell command in there; `before` is run outside, with the folder as $1."""
        mounts = f'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; {before}; exec chroot "$1" sh -c "$2"'
        words = ["unshare", "--mount", "sh", "-c", mounts, "sh", str(self.folder), command]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
        done = subprocess.run(words, capture_output=True, text=True, timeout=WITHIN, env=environment)
        said = done.stdout + done.stderr
        assert code is None or (done.returncode == 0) == (code == 0), f"{command}: {done.returncode}\n{said}"
        return said

    def put(self, path: str, text: str) -> None:
        target = self.folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def text(self, path: str) -> str:
        return (self.folder / path.lstrip("/")).read_text()

    def leftovers(self) -> set[str]:
        """Files with the program's name, and its user."""
        tops = ("etc", "usr", "var/lib", "var/log", "var/cache/man")
        found = {
            path.relative_to(self.folder).as_posix()
            for top in tops
            for path in (self.folder / top).rglob("*oodwe*")
        }
        users = self.text("/etc/passwd") + self.text("/etc/group")
        return {path for path in found if "/dpkg/" not in path} | ({"user"} if "goodwe" in users else set())


def life(root: Root) -> None:
    """Installed without systemd, udev, inverter; the demo runs; installed again; purged."""
    root(f"{APT} install /root/this/*.deb")
    assert "install ok installed" in root(f"dpkg -s {PACKAGE}")
    root("GoodWe.py check-config && dpkg --verify " + PACKAGE)
    assert root("stat -c '%a %U %G' /etc/goodwe.conf").strip() == "640 root goodwe"
    said = root("timeout 300 goodwe-logger demo --seconds 40", code=None)
    assert "/data " in said, said
    root(f"{APT} install --reinstall /root/this/*.deb")
    root(f"{APT} purge {PACKAGE}")
    assert not root.leftovers(), root.leftovers()


def user_that_is_there(root: Root) -> None:
    """With another number, of somebody else: taken as it is, and not taken away."""
    root("useradd --uid 4321 --user-group --comment Somebody goodwe")
    root(f"{APT} install /root/this/*.deb")
    assert root("stat -c %g /etc/goodwe.conf").strip() == "4321"
    root(f"{APT} purge {PACKAGE}")
    assert "goodwe:x:4321" in root.text("/etc/passwd")
    root("userdel goodwe")
    assert not root.leftovers(), root.leftovers()


def files_of_the_same_name(root: Root) -> None:
    """A configuration stays as it is; what is another program's is left, and told."""
    unit, rule = "/etc/systemd/system/goodwe.service", "/etc/udev/rules.d/99-goodwe.rules"
    root.put(unit, "[Service]\nExecStart=/usr/bin/good-weather\n")
    root.put(rule, 'SUBSYSTEM=="tty", MODE="0666"\n')
    root.put("/etc/goodwe.conf", "[mqtt]\nserver = nas\n")
    said = root(f"{APT} install /root/this/*.deb")
    assert f"{unit} is another program's" in said, said
    assert root.text("/etc/goodwe.conf") == "[mqtt]\nserver = nas\n"
    assert root("stat -c '%a %G' /etc/goodwe.conf").strip() == "640 goodwe"
    root(f"{APT} purge {PACKAGE}")
    assert "good-weather" in root.text(unit)
    assert "tty" in root.text(rule)
    root(f"rm {unit} {rule}")
    assert not root.leftovers(), root.leftovers()


def in_the_way(what: str, before: str) -> Callable[[Root], None]:
    """Installation that ends in the middle is mended by the next one."""

    def run(root: Root) -> None:
        root(f"{APT} install /root/this/*.deb", code=1, before=before)
        root("dpkg --configure -a", code=None)
        root(f"{APT} install /root/this/*.deb")
        assert "install ok installed" in root(f"dpkg -s {PACKAGE}")
        root(f"GoodWe.py check-config && {APT} purge {PACKAGE}")
        assert not root.leftovers(), root.leftovers()

    run.__doc__ = what
    return run


NATIVE = (
    user_that_is_there,
    files_of_the_same_name,
    in_the_way(
        "no space for the program",
        'mkdir -p "$1/usr/share/goodwe-usb-logger"; mount -t tmpfs -o size=64k tmpfs "$1/usr/share/goodwe-usb-logger"',
    ),
    in_the_way("/etc is read-only", 'mount --bind "$1/etc" "$1/etc"; mount -o remount,bind,ro "$1/etc"'),
)


def is_emulated(arch: str) -> bool:
    """True if the kernel runs programs of that architecture, whether the folder that says so is mounted or not."""
    folder = "/proc/sys/fs/binfmt_misc"
    look = f"mount -t binfmt_misc binfmt_misc {folder} 2>/dev/null; test -e {folder}/{QEMU[arch]}"
    return subprocess.run(["unshare", "--mount", "sh", "-c", look], timeout=WITHIN).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.system.roots", description=__doc__)
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--arch", choices=QEMU, help="another architecture than the machine's")
    options = parser.parse_args()
    if options.arch and not is_emulated(options.arch):
        print(f"LEFT OUT {options.arch}: apt-get install qemu-user-static binfmt-support", flush=True)
        return 0
    with tempfile.TemporaryDirectory(prefix="goodwe-root-") as name:
        root = Root(Path(name) / "root")
        began = time.monotonic()
        debs(Path(name) / "debs")
        command = ["mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(PACKAGES)}"]
        command += [f"--architectures={options.arch}"] if options.arch else []
        command += [options.suite, str(root.folder), MIRROR.format(suite=options.suite)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN)
        assert not done.returncode, done.stderr[-2000:]
        root.put("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
        os.chmod(root.folder / "usr/sbin/policy-rc.d", 0o755)
        subprocess.run(["cp", "-r", f"{name}/debs/this", root.folder / "root"], check=True, timeout=60)
        print(
            f"a Debian {options.suite} {options.arch or ''} after {time.monotonic() - began:.0f} s",
            flush=True,
        )
        failed = 0
        for each in (life, *(() if options.arch else NATIVE)):
            began, told = time.monotonic(), str(each.__doc__).splitlines()[0]
            try:
                each(root)
                print(f"PASS {told} ({time.monotonic() - began:.0f} s)", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAIL {told}: {str(error)[-3000:]}", flush=True)
        return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
