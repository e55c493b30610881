"""The steps of etc/doc/install.md install the program."""

from tests.system.kit import INSTALLED, House, check, sh, steps


def scenario(house: House) -> None:
    # "Put this folder at /opt/goodweusblogger (clone it there, or copy it)"
    sh(f"cp -r /mnt/project/checkout {INSTALLED}")
    for block in steps("From this folder"):
        sh(f"set -e; cd {INSTALLED}; {block}", seconds=380)
    check("is running" in house.goodwe("status"), "the steps end with a running program")
    sh("systemctl is-active goodwe")
    said = house.goodwe("install")
    check(said.count("is there already") >= 6, f"a second time nothing is left to do:\n{said}")
    sh("systemctl disable --now goodwe")
