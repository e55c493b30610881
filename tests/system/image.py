"""The guest: a small Debian, built once and kept, and a second disk with the project for each run."""

import ast
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

PACKAGES = (
    *("linux-image-amd64", "systemd-sysv", "udev", "dbus", "kmod", "sudo", "adduser"),
    *("python3", "python3-venv", "mosquitto", "mosquitto-clients", "logrotate"),
)


DEPENDENCIES = ("python3-paho-mqtt", "python3-pyudev", "python3-simplejson")
"""The packages that the Debian package needs and PACKAGES do not bring."""


PIPX = ("pipx",)
"""And what the way with pipx begins with."""


class Suite(NamedTuple):
    """One release of Debian."""

    python: str
    """Its Python, as pip names it."""
    more: tuple[str, ...] = ()
    """Packages beside PACKAGES, which not every release has."""


SUITES = {"bookworm": Suite("3.11", ("restartd",)), "trixie": Suite("3.13")}
"""By name; the first one is taken unless another is asked for."""
HOST_PROGRAMS = {
    **{"qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"},
    **{"dh": "debhelper", "dh_python3": "dh-python"},
}
"""Programs that the host must have, and the package each is in."""
SPACE = 5 * 1024**3
"""Bytes that building and running need at the most."""
BUILD_WITHIN = 900.0

UNIT = """\
[Unit]
Description=Run the system tests
After=multi-user.target

[Service]
ExecStart=/usr/bin/python3 /mnt/project/checkout/tests/system/guest.py
StandardOutput=journal+console

[Install]
WantedBy=multi-user.target
"""

SET_UP = r"""
set -e
cd "$1"
# Enough to reach the root file system; a whole initramfs takes long to unpack on an emulated processor.
mkdir -p etc/initramfs-tools/conf.d usr/share/initramfs-tools/modules.d
echo MODULES=list > etc/initramfs-tools/conf.d/small
printf 'virtio_pci\nvirtio_blk\next4\n' > usr/share/initramfs-tools/modules.d/guest
"""

FINISH = r"""
set -e
cd "$1"
echo guest > etc/hostname
printf '127.0.0.1 localhost guest\n' > etc/hosts
printf '/dev/vda / ext4 defaults 0 0\n/dev/vdb /mnt/project ext4 ro 0 0\n' > etc/fstab
mkdir -p mnt/project
printf '[global]\nno-index = true\nfind-links = /mnt/project/wheels\n' > etc/pip.conf
echo vhci_hcd > etc/modules-load.d/vhci.conf
cp "$UNIT_FILE" etc/systemd/system/system-tests.service
mkdir -p etc/systemd/system/serial-getty@ttyS0.service.d
printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --noclear %%I vt220\n' \
    > etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf
chroot . systemctl enable system-tests.service mosquitto.service
[ ! -e usr/sbin/restartd ] || chroot . systemctl disable restartd.service
chroot . systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
# What the Debian package depends on, for a guest without network; nothing of it is installed yet.
mkdir -p var/cache/goodwe-debs
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install -qy --no-install-recommends --download-only $DEPENDENCIES
mv var/cache/apt/archives/*.deb var/cache/goodwe-debs/
mkdir -p var/cache/pipx-debs
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install -qy --no-install-recommends --download-only $PIPX
mv var/cache/apt/archives/*.deb var/cache/pipx-debs/
rm -rf var/lib/apt/lists/*
"""


class HostError(Exception):
    """The host cannot do it; the text says what to do."""


class Guest(NamedTuple):
    """The files that QEMU boots."""

    disk: Path
    kernel: Path
    initrd: Path


def cache_folder() -> Path:
    """Where the guest is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "goodwe-system-tests"


def check_host() -> None:
    """Raises HostError with the line that installs what is missing."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [package for program, package in HOST_PROGRAMS.items() if not shutil.which(program, path=path)]
    if missing:
        raise HostError(f"apt-get install --no-install-recommends {' '.join(missing)}")
    if os.getuid():
        raise HostError("building the guest's disk needs root; run it with sudo")
    for folder in (cache_folder(), Path(tempfile.gettempdir())):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < SPACE:
            raise HostError(f"{folder} has {free / 1024**3:.1f} GiB free, {SPACE / 1024**3:.0f} are needed")


def lock(suite: str) -> int:
    """A descriptor that holds the lock of a suite's guest. Raises HostError if another run of this user has it."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"lock-{suite}", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise HostError(f"another run with {suite} is under way; wait for its end") from None
    return descriptor


def guest(suite: str) -> Guest:
    """The guest of a suite, from the cache or built now."""
    packages = PACKAGES + SUITES[suite].more
    recipe = repr((suite, packages, DEPENDENCIES, PIPX, UNIT, SET_UP, FINISH))
    folder = cache_folder() / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    built = Guest(folder / "guest.ext4", folder / "vmlinuz", folder / "initrd.img")
    if not (folder / "complete").exists():
        print(f"building the guest of {suite}, once ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _build(built, suite, packages)
        (folder / "complete").touch()
    return built


def _build(built: Guest, suite: str, packages: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="goodwe-guest-") as name:
        work = Path(name)
        (work / "unit").write_text(UNIT)
        (work / "set-up").write_text(SET_UP)
        (work / "finish").write_text(FINISH)
        tree = work / "tree"
        command = ["mmdebstrap", "--variant=minbase", "--include=" + ",".join(packages)]
        command += [
            f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")
        ]
        command += [f'--essential-hook=sh {work / "set-up"} "$1"']
        command += [f'--customize-hook=sh {work / "finish"} "$1"']
        told = {"UNIT_FILE": str(work / "unit")}
        told |= {"DEPENDENCIES": " ".join(DEPENDENCIES), "PIPX": " ".join(PIPX)}
        _run([*command, suite, str(tree)], env={**os.environ, **told})
        for pattern, target in (("vmlinuz-*", built.kernel), ("initrd.img-*", built.initrd)):
            shutil.copy(next((tree / "boot").glob(pattern)), target)
        _disk(tree, built.disk, "3G")


def _checkout(target: Path) -> None:
    """Copy the committed and uncommitted files of this checkout."""
    listed = _run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    for file in filter(None, listed.split("\0")):
        source, copy = ROOT / file, target / file
        if source.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


def project_disk(target: Path, wheels: Path, debs: Path) -> None:
    """A disk with the files of this checkout, what pip needs, and its packages."""
    with tempfile.TemporaryDirectory(prefix="goodwe-project-") as name:
        tree = Path(name)
        _checkout(tree / "checkout")
        shutil.copytree(wheels, tree / "wheels")
        shutil.copytree(debs, tree / "debs")
        _disk(tree, target, "200M")


def wheels(target: Path, python: str) -> None:
    """The packages that the README's line asks pip for, for the guest's Python, which has no network."""
    target.mkdir(parents=True, exist_ok=True)
    environment = target.parent / "pip"
    _run([sys.executable, "-m", "venv", "--clear", str(environment)])
    pip = [
        str(environment / "bin" / "pip"),
        "download",
        "-q",
        "--disable-pip-version-check",
        "-d",
        str(target),
    ]
    where = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    where += ["--abi", f"cp{python.replace('.', '')}"]
    platforms = ["--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64"]
    where += [*platforms, "--platform", "manylinux_2_28_x86_64"]
    _run([*pip, *where, "setuptools>=77", *requirements()])


def project_wheel(wheels: Path) -> None:
    """The wheel of this checkout beside those that `wheels` made there, and what pipx wants to begin with."""
    pip = str(wheels.parent / "pip" / "bin" / "pip")
    with tempfile.TemporaryDirectory(prefix="goodwe-wheel-") as name:
        _checkout(Path(name))
        _run([pip, "wheel", "-q", "--disable-pip-version-check", "--no-deps", "-w", str(wheels), name])
    _run([pip, "download", "-q", "--disable-pip-version-check", "-d", str(wheels), "pip", "wheel"])


def debs(target: Path) -> None:
    """The Debian package of this checkout in `this`, and in `next` the same with a higher version."""
    _run([str(ROOT / "etc" / "debian" / "build"), str(target / "this")])
    (this,) = (target / "this").glob("*.deb")
    with tempfile.TemporaryDirectory(prefix="goodwe-deb-") as name:
        _run(["dpkg-deb", "--raw-extract", str(this), name])
        control = Path(name) / "DEBIAN" / "control"
        control.write_text(re.sub(r"(?m)^Version: .*$", r"\g<0>+next", control.read_text()))
        (target / "next").mkdir()
        packed = target / "next" / this.name.replace("_all", "+next_all")
        _run(["dpkg-deb", "--root-owner-group", "--build", name, str(packed)])


def requirements() -> list[str]:
    """The requirements that setup.py declares."""
    found = ast.walk(ast.parse((ROOT / "setup.py").read_text()))
    keywords = {node.arg: node.value for node in found if isinstance(node, ast.keyword)}
    return [str(name) for name in ast.literal_eval(keywords["install_requires"])]


def _disk(tree: Path, target: Path, size: str) -> None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    program = shutil.which("mke2fs", path=path) or "mke2fs"
    _run([program, "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), str(target), size])


def _run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_WITHIN, **options)  # type: ignore[call-overload]
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise HostError(f"{command[0]} failed:\n{last}")
    return str(done.stdout)
