"""goodwe.service: an unprivileged user, its log in the journal, a clean stop, a restart after a kill."""

from tests.system.kit import House, check, sh, wait_for


def journal() -> str:
    """The unit's journal since the guest is up."""
    return sh("journalctl -b -u goodwe -o cat --no-pager")


def scenario(house: House) -> None:
    plugged = house.inverter()
    sh("systemctl start goodwe")
    subscriber = house.subscriber()
    house.measure_plug(subscriber, plugged)
    pid = sh("systemctl show -P MainPID goodwe").strip()
    check(sh(f"stat -c %U /proc/{pid}").strip() == "goodwe", "it runs as goodwe")
    check(sh(f"grep CapEff /proc/{pid}/status").split()[1].strip("0") == "", "without capabilities")
    check("Inverter now online." in journal(), "its log is in the journal")
    told = house.goodwe("status --long")
    check(told.startswith(f"GoodWe is running, pid {pid}\n"), "status tells of the unit")
    check(": online, read " in told, "and of the inverter")
    exposure = sh("systemd-analyze security --no-pager goodwe").split("exposure level for goodwe.service: ")[
        1
    ]
    house.figure("systemd-analyze security", exposure.split()[0])
    check(float(exposure.split()[0]) <= 2.0, f"exposure {exposure}")

    subscriber.forget()
    sh("systemctl kill --signal=KILL goodwe")
    subscriber.online("0")
    wait_for(lambda: subscriber.seen_online("1"), "systemd brings it back")
    house.measure_pull(house.measure_broker(), plugged)
    sh("systemctl stop goodwe")
    check(sh("systemctl show -P Result goodwe").strip() == "success", "a clean stop is a success")
