"""Unplugged and replugged while the program runs: at once noticed, nothing left behind."""

from tests.system.kit import House, check, open_files, wait_for

TIMES = 3
LASTING = ("/dev/hidraw", "socket:", "anon_inode:", "pipe:")
"""Files that the program keeps open; one of udev or the saved state is open for a moment only."""


def scenario(house: House) -> None:
    house.goodwe("start")
    subscriber = house.subscriber()
    simulator = house.simulate()
    before = 0
    for _ in range(TIMES):
        wait_for(lambda: not house.nodes(), "the node is gone")
        plugged = house.plug(simulator)
        house.measure_plug(subscriber, plugged)
        opened = len(open_files(house.pid(), *LASTING))
        check(before in (0, opened), f"{opened} open files after replugging, {before} before")
        before = opened
        house.measure_pull(subscriber, plugged)
        subscriber.forget()
    check(house.log().count("Inverter now online.") == TIMES, "online as often as plugged in")
    plugged = house.plug(simulator)
    subscriber.data()
    house.measure_pull(house.measure_broker(), plugged)
