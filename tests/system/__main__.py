"""Boot the guest, run the scenarios in it, say how they ended: python3 -m tests.system [--only NAME]."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from ..children import none_left
from . import image
from .image import Guest, HostError

KVM = "/dev/kvm"
BOOT_WITHIN = {"kvm": 60.0, "tcg": 300.0}
"""A stock kernel hangs under KVM on some machines: then it is given up soon, and emulation is taken."""
SILENT_FOR = 480.0
"""Seconds without a line from the guest after which it counts as hanging."""
KERNEL = "root=/dev/vda rw console=ttyS0 quiet no_timer_check"
"""Without its last word a kernel panics whose emulated timer came late, as on a busy host."""


class Hangs(Exception):
    """The guest says nothing any more."""


class Machine:
    """One QEMU, with its console and the line of the scenarios in files."""

    def __init__(
        self, guest: Guest, disk: Path, folder: Path, accelerator: str, extra: str, port: int
    ) -> None:
        """`extra` are words for the kernel; with a `port` here, the guest's broker is reached there."""
        self.console = folder / "console.log"
        self._line = folder / "line.log"
        self._line.write_bytes(b"")  # of this machine only
        command = ["qemu-system-x86_64", "-accel", accelerator, "-smp", "2", "-m", "1024"]
        if accelerator == "kvm":
            command += ["-cpu", "host"]
        command += ["-kernel", str(guest.kernel), "-initrd", str(guest.initrd)]
        command += ["-append", f"{KERNEL} {extra}"]
        command += ["-drive", f"file={guest.disk},if=virtio,format=raw,snapshot=on"]
        command += ["-drive", f"file={disk},if=virtio,format=raw,snapshot=on"]
        command += ["-display", "none", "-monitor", "none"]
        if port:  # nothing else goes through, and nothing in the other direction
            through = f"user,id=home,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:1883"
            command += ["-netdev", through, "-device", "virtio-net-pci,netdev=home,romfile="]
        else:
            command += ["-nic", "none"]
        command += ["-serial", f"file:{self.console}", "-serial", f"file:{self._line}"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self._reader: IO[str] = self._line.open(errors="replace")
        self._rest = ""

    def next_line(self, seconds: float) -> str:
        """The next line from the scenarios. Raises Hangs when none comes for so long or QEMU has ended."""
        end = time.monotonic() + seconds
        while True:
            self._rest += self._reader.read()
            if "\n" in self._rest:
                line, _, self._rest = self._rest.partition("\n")
                return line.rstrip("\r")
            if self._process.poll() is not None:
                said = self._process.stderr.read() if self._process.stderr else ""
                raise Hangs(f"QEMU has ended: {said.strip()}")
            if time.monotonic() > end:
                raise Hangs(f"nothing for {seconds:.0f} s")
            time.sleep(0.1)

    def expect(self, wanted: str, seconds: float) -> None:
        """Raises Hangs unless the next line is that one."""
        line = self.next_line(seconds)
        if line != wanted:
            raise Hangs(f"it says {line!r} in place of {wanted}")

    def end(self) -> None:
        """Wait a little for the guest to power off, then pull the plug."""
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.close()

    def kill(self) -> None:
        """Pull the plug at once."""
        self._process.kill()
        self.end()


def kvm_is_usable() -> bool:
    """True when this user may ask for KVM; that a guest comes up with it is another thing."""
    return os.access(KVM, os.R_OK | os.W_OK)


def boot(guest: Guest, disk: Path, folder: Path, extra: str, port: int = 0) -> Machine:
    """A guest that has come up, with KVM where that works; `port` as for Machine.

    Raises Hangs when it does not come up.
    """
    memory = image.cache_folder() / "accelerator"
    kvm = kvm_is_usable() and not (memory.exists() and memory.read_text() == "tcg")
    for accelerator in ("kvm", "tcg") if kvm else ("tcg",):
        began = time.monotonic()
        machine = Machine(guest, disk, folder, accelerator, extra, port)
        try:
            machine.expect("READY", BOOT_WITHIN[accelerator])
        except Hangs as error:
            shown = tail(machine.console)
            machine.kill()
            if accelerator == "tcg":
                raise Hangs(f"the guest does not come up: {error}\n{shown}") from error
            print(f"the guest does not come up with KVM ({error}); emulating", flush=True)
            continue
        memory.write_text(accelerator)
        print(f"guest up after {time.monotonic() - began:.0f} s ({accelerator})", flush=True)
        return machine
    raise Hangs("no accelerator was tried")


def tail(file: Path, lines: int = 40) -> str:
    """The end of a file."""
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else ""


def follow(machine: Machine) -> tuple[int, int]:
    """Print what the guest says until it is done: (passed, failed). Raises Hangs."""
    passed = failed = 0
    figures: list[str] = []
    while (line := machine.next_line(SILENT_FOR)) != "DONE":
        word, _, rest = line.partition(" ")
        name, _, more = rest.partition(" ")
        if word == "FIGURE":
            what, value = json.loads(more)
            figures.append(f"{what} {value:.2f} s" if isinstance(value, float) else f"{what} {value}")
        elif word in ("PASS", "FAIL"):
            passed, failed = passed + (word == "PASS"), failed + (word == "FAIL")
            print(f"{word} {name:32} {more:>6} s   {'; '.join(figures)}".rstrip(), flush=True)
            figures = []
        elif word == "LEFT":
            print(f"     {name:32} left out: this Debian has no {more}", flush=True)
        elif word == "|":
            print(f"     {rest}", flush=True)
    return passed, failed


def shell(guest: Guest, disk: Path) -> int:
    """A root shell in the guest, on this terminal; `poweroff` ends it."""
    print("Ctrl-A X ends QEMU; the checkout is in /mnt/project/checkout", flush=True)
    command = ["qemu-system-x86_64", "-accel", "tcg", "-smp", "2", "-m", "1024", "-nographic", "-nic", "none"]
    command += ["-kernel", str(guest.kernel), "-initrd", str(guest.initrd)]
    command += ["-append", f"{KERNEL} goodwe.shell"]
    for drive in (guest.disk, disk):
        command += ["-drive", f"file={drive},if=virtio,format=raw,snapshot=on"]
    return subprocess.call(command)


def main() -> int:
    """Build, boot, run, report; the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.system", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME[,NAME]", help="scenarios with NAME in theirs (the installation always runs)"
    )
    parser.add_argument("--without", metavar="NAME[,NAME]", help="leave these out")
    parser.add_argument(
        "--suite", choices=image.SUITES, default=next(iter(image.SUITES)), help="Debian's release"
    )
    parser.add_argument(
        "--home",
        action="store_true",
        help="with a real Home Assistant here, which the scenario home_assistant needs",
    )
    parser.add_argument("--keep", action="store_true", help="keep console and disk of the run, and say where")
    parser.add_argument("--build", action="store_true", help="build the guest if there is none, and end")
    parser.add_argument("--shell", action="store_true", help="no scenarios: a shell in the guest")
    options = parser.parse_args()
    try:
        image.check_host()
        held = image.lock(options.suite)
        with tempfile.TemporaryDirectory(prefix="goodwe-system-") as name:
            folder = Path(tempfile.mkdtemp(prefix="goodwe-system-kept-")) if options.keep else Path(name)
            code = run(options, folder)
            if options.keep:
                print(f"kept in {folder}")
        os.close(held)
    except HostError as error:
        print(f"system tests: {error}", file=sys.stderr)
        return 1
    return code


def run(options: argparse.Namespace, folder: Path) -> int:
    """One run with its files in `folder`."""
    guest = image.guest(options.suite)
    if options.build:
        return 0
    image.wheels(folder / "wheels", image.SUITES[options.suite].python)
    image.debs(folder / "debs")
    if options.home:
        image.project_wheel(folder / "wheels")
    image.project_disk(folder / "project.ext4", folder / "wheels", folder / "debs")
    if options.shell:
        return shell(guest, folder / "project.ext4")
    chosen = {"only": options.only, "without": options.without}
    extra = " ".join(f"goodwe.{key}={names}" for key, names in chosen.items() if names)
    witness = None
    if options.home:
        from .home import Witness  # it needs what the other scenarios do not

        witness = Witness()
        extra += " goodwe.home"
    machine = None
    passed = failed = 0
    try:
        machine = boot(guest, folder / "project.ext4", folder, extra, witness.port if witness else 0)
        if witness:
            witness.start()
        passed, failed = follow(machine)
    except Hangs as error:
        print(f"FAIL the guest hangs: {error}")
        if machine is not None:
            print(tail(machine.console))
        failed += 1
    finally:
        if witness:
            witness.stop()
        if machine is not None:
            machine.end()
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    with none_left():
        sys.exit(main())
