"""Root and a member of the group goodwe ask the unit's program: status, capture and bundle. Others are told why not."""

import tarfile
from pathlib import Path

from tests.system.kit import PROGRAM, SERIALS, House, check, sh, wait_for

MEMBER, STRANGER = "member", "stranger"
FOLDER = Path("/tmp/asked")
SECONDS = 8


def scenario(house: House) -> None:
    sh(f"useradd --groups goodwe {MEMBER}; useradd {STRANGER}; install -d -m 777 {FOLDER}")
    try:
        sh("systemctl start goodwe")
        subscriber = house.subscriber()
        plugged = house.inverter()
        house.measure_plug(subscriber, plugged)
        capture("root")
        subscriber.forget()
        capture(MEMBER)
        check(len([*subscriber.readings()]) > 1, "readings went on beside the capture")
        plugged.pull()
        wait_for(lambda: "unplugged" in sh(f"{PROGRAM} status --long"), "the loss is told")
        for who in ("root", MEMBER):
            bundle(who)
        stranger()
        again = house.inverter(serial=SERIALS[1])
        subscriber.data(SERIALS[1])
        house.measure_pull(house.measure_broker(SERIALS[1]), again, SERIALS[1])
    finally:
        sh(f"systemctl stop goodwe; userdel {MEMBER}; userdel {STRANGER}; rm -rf {FOLDER}", code=None)


def as_user(who: str, verb: str, code: int = 0) -> str:
    """Run a verb as that user; what it printed."""
    return sh(f"cd {FOLDER} && sudo -u {who} {PROGRAM} {verb}", code=code)


def capture(who: str) -> None:
    told = as_user(who, f"capture {who}.capture --seconds {SECONDS}")
    check("from the running program" in told, f"it is asked, not gone around: {told}")
    summary = as_user(who, f"decode --summary {who}.capture")
    check(SERIALS[0] in summary and "running_info" in summary, f"what {who} has captured: {summary}")


def bundle(who: str) -> None:
    as_user(who, f"bundle {who}.tar.gz --yes")
    with tarfile.open(FOLDER / f"{who}.tar.gz") as tar:
        texts = {
            member.name.partition("/")[2]: file.read().decode()
            for member in tar.getmembers()
            if (file := tar.extractfile(member)) is not None
        }
    for name in ("summary.txt", "doctor.json", "status.json", "configuration.conf", "losses/1.capture"):
        check(name in texts, f"the bundle of {who} has no {name}: {[*texts]}")
    check("0084:0041 is not on the bus" in texts["summary.txt"], "its summary names the cause")
    if who == "root":
        check("Inverter now online." in texts["log/journal.log"], "the journal is in it")
    else:
        check("journal" in texts["summary.txt"].partition("left out:")[2], "why the journal is not in it")


def stranger() -> None:
    for verb, code in (("status", 4), ("capture x.capture", 1), ("reload", 1)):
        told = as_user(STRANGER, verb, code=code)
        check("as a user in group goodwe" in told, f"{verb} says: {told}")
