"""Three commands lead from nothing to values in a real Home Assistant: with Debian's package, and with pipx.

The commands are those of README.md and etc/doc/install.md, as they stand there. Home Assistant runs on the host, and
sees this machine's broker as whoever installs mosquitto leaves it, through a way of its own.
"""

import subprocess
import time
from pathlib import Path

from tests.system.kit import ASKED, CONFIG, GONE, LIVE, SEEN, House, check, sh, steps, wait_for

WITHIN = 1800
"""Seconds for the scenario: Home Assistant starts, and all is installed twice."""
DEBS = "/var/cache/goodwe-debs/*.deb"
PIPX = "/var/cache/pipx-debs/*.deb"
NETWORK = """\
[Match]
Type=ether
[Network]
Address=10.0.2.15/24
"""


def open_the_way() -> None:
    """The host comes to the broker, which listens for this machine alone."""
    Path("/etc/systemd/network/home.network").write_text(NETWORK)
    sh("systemctl start systemd-networkd")
    wait_for(lambda: "10.0.2.15" in sh("cat /proc/net/fib_trie"), "the network card has its address")
    proxy = "/usr/lib/systemd/systemd-socket-proxyd 127.0.0.1:1883"
    sh(f"systemd-run --unit home-way systemd-socket-activate -l 10.0.2.15:1883 {proxy}")


def see(wanted: str, way: str) -> None:
    """Wait until Home Assistant shows that."""
    question = f"{wanted} {way}"
    with subprocess.Popen(["mosquitto_sub", "-t", SEEN], stdout=subprocess.PIPE, text=True) as answers:
        assert answers.stdout is not None
        try:
            sh(f"mosquitto_pub -r -t {ASKED} -m '{question}'")
            # The broker keeps the answer to the question before.
            answer = next(line for line in answers.stdout if line.startswith(question)).strip()
        finally:
            answers.kill()
    check(answer == question, answer)


def scenario(house: House) -> None:
    house.goodwe("uninstall --purge")
    house.inverter()
    open_the_way()
    see(GONE, "at first")

    sh("mkdir -p /root/release; cp /mnt/project/debs/this/*.deb /root/release/")
    (block,) = steps("Install", "README.md")
    install, *further = block.splitlines()
    # The guest has no network: what apt would fetch is named beside the file.
    with_what_it_needs = f"{install} -qy {DEBS}"
    three(house, "apt", [with_what_it_needs, f"{further[0]} --server 127.0.0.1", *further[1:]])
    sh("GoodWe.py discovery clear")
    sh("apt-get purge -qy goodwe-usb-logger", seconds=300)
    check(not CONFIG.exists(), "purged")
    see(GONE, "after apt")

    sh(f"apt-get install -qy {PIPX}", seconds=300)
    (first,) = steps("pipx")
    three(house, "pipx", [*first.splitlines(), "goodwe-logger status --long"])


def three(house: House, way: str, commands: list[str]) -> None:
    """Run them one after the other, and wait for Home Assistant."""
    began = time.monotonic()
    for command in commands:
        at = time.monotonic()
        sh(f"cd /root/release; {command}", seconds=600)
        house.figure(command.removeprefix("sudo ").partition(" -qy")[0], time.monotonic() - at)
    see(LIVE, way)
    house.figure(f"{way} to Home Assistant", time.monotonic() - began)
