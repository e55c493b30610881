"""logrotate moves the log away: the program goes on in a new one."""

from pathlib import Path

from tests.system.kit import LOG, House, check, sh, wait_for


def scenario(house: House) -> None:
    house.goodwe("start")
    pid = house.pid()
    old = Path(f"{LOG}.1")
    old.unlink(missing_ok=True)
    began = LOG.read_text()
    check("started" in began, "the old log has the beginning")
    sh("logrotate --force /etc/logrotate.d/goodwe")
    check(old.read_text().startswith(began), "the old log is kept")
    subscriber = house.subscriber()
    plugged = house.inverter()
    house.measure_plug(subscriber, plugged)
    wait_for(lambda: "Inverter now online." in house.log(), "the new log goes on")
    check("Inverter now online." not in old.read_text(), "the old log does not")
    check(house.pid() == pid, "it is the same process")
    house.measure_pull(house.measure_broker(), plugged)
    old.unlink()
