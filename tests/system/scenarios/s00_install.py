"""The README's own steps install the program."""

from tests.system.kit import INSTALLED, House, check, sh, steps


def scenario(house: House) -> None:
    # "Put this folder at /opt/goodweusblogger (clone it there, or copy it)"
    sh(f"cp -r /mnt/project/checkout {INSTALLED}")
    for block in steps("## Install"):
        sh(f"set -e; cd {INSTALLED}; {block}", seconds=380)
    check("is running" in house.goodwe("status"), "the README's steps end with a running program")
    for block in steps("### With systemd"):
        sh(f"set -e; cd {INSTALLED}; {block}")
    sh("systemctl is-active goodwe")
    sh("systemctl disable --now goodwe")
    sh(f"cp {INSTALLED}/etc/goodwe.logrotate /etc/logrotate.d/goodwe")
