"""Packaging: everything is installed below one import name of its own, goodwe_usb_logger.

`goodwe` is another project's library on the Python package index. Two distributions that own the same files
overwrite each other without a word, so the folders of this checkout become goodwe_usb_logger/GoodWe.py,
goodwe_usb_logger/goodwe and so on; no code is written otherwise for it, since a script finds the packages
beside itself first. The command goodwe-logger runs that GoodWe.py.
"""

import atexit
import gzip
import os
import re
import shutil
import sys
import tarfile
import time
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "goodwe" / "__init__.py").read_text("utf-8")).group(1)

NAME = "goodwe_usb_logger"
PACKAGES = find_packages(str(HERE), include=["goodwe", "goodwe.*", "DaemonPy"])

# What amqtt needs is compiled code, which the package index has for these machines alone. A 32-bit system
# on a 64-bit kernel calls itself aarch64 too; there only the Python that installs a checkout can tell.
READY_MADE = 'platform_machine in "x86_64 aarch64 arm64"'
DEMO = [f"amqtt>=0.11; {READY_MADE}"] if sys.maxsize > 2**32 else []
PAGE = ["waitress>=2.1"]
WEB = ["prometheus-client>=0.16", *PAGE]
TEST = [
    "build>=1",
    "coverage>=7",
    "hypothesis>=6,<6.156",  # later ones are compiled, ready-made for fewer machines than this runs on
    "packaging>=23",
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-xdist>=3",
    "selenium>=4.20",
    "shtab==1.13.0",  # what it makes is in the tree, and held by a test
]
CHECK = ["mypy>=1.11", "ruff>=0.6", "types-simplejson", "types-waitress"]


def sweep_at_exit() -> None:
    """Leave nothing beside the sources but what was asked for."""
    for folder in (HERE / "build", HERE / f"{NAME}.egg-info"):
        if not folder.exists():
            atexit.register(shutil.rmtree, folder, ignore_errors=True)


class ReproducibleSdist(sdist):
    """The same bytes from the same files, whoever builds it: times are those of SOURCE_DATE_EPOCH."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        """Pack the folder `base_dir` as base_name.tar.gz; the path of that."""
        moment = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def alike(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = moment
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            return member

        name = f"{base_name}.tar.gz"
        with (
            open(name, "wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=moment) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in sorted([Path(base_dir), *Path(base_dir).rglob("*")]):
                archive.add(path, recursive=False, filter=alike)
        return name


sweep_at_exit()
os.umask(0o022)  # a wheel has the modes of the files that are made here
setup(
    cmdclass={"sdist": ReproducibleSdist},
    name="goodwe-usb-logger",
    version=VERSION,
    description="Publishes the values of GoodWe solar inverters on USB to MQTT",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license_expression="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[NAME, *(f"{NAME}.{package}" for package in PACKAGES)],
    package_dir={NAME: "."},
    script_name="setup.py",  # a module beside GoodWe.py that is not installed
    package_data={NAME: ["etc/*", "etc/doc/*"], "": ["*.md", "static/*"]},
    zip_safe=False,
    install_requires=[
        "paho-mqtt>=1.6.1,<3",
        "pyudev>=0.24",
        "ioctl-opt>=1.3",
        "simplejson>=3.18",
    ],
    extras_require={"demo": DEMO + PAGE, "web": WEB, "test": TEST + DEMO + WEB, "check": CHECK},
    entry_points={"console_scripts": [f"goodwe-logger={NAME}.GoodWe:installed"]},
    classifiers=[
        "Environment :: No Input/Output (Daemon)",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Home Automation",
    ],
)
