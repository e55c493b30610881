"""start, stop, restart, status as root, with the pid file and the log where users look for them."""

from tests.system.kit import LOG, PIDFILE, House, alive, check


def scenario(house: House) -> None:
    house.goodwe("status", code=3)
    house.goodwe("start")
    first = house.pid()
    check(PIDFILE.read_text() == f"{first}\n", "the pid file is a number and a newline")
    check(LOG.stat().st_mode & 0o777 == 0o644, f"mode of the log: {LOG.stat().st_mode:o}")
    check(str(first) in house.goodwe("start", code=1), "a second start names the pid")
    check(str(first) in house.goodwe("status"), "status names the pid")
    subscriber = house.subscriber()
    plugged = house.inverter()
    house.measure_plug(subscriber, plugged)
    subscriber.forget()
    house.goodwe("restart")
    second = house.pid()
    check(second != first and not alive(first), "another process runs after restart")
    subscriber.online("0")
    subscriber.online("1")
    house.measure_pull(house.measure_broker(), plugged)
    house.goodwe("stop")
    check(not alive(second) and not PIDFILE.exists(), "nothing is left after stop")
    house.goodwe("status", code=3)
    house.goodwe("stop")
    check(house.log().count("GoodWeUSBLogger stopped") == 2, "both said goodbye")
