"""Packaging: pip installs the packages, GoodWe.py beside them and the command goodwe-logger."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "goodwe" / "__init__.py").read_text()).group(1)

DEMO = ["amqtt>=0.11"]
TEST = ["coverage>=7", "hypothesis>=6", "pytest>=8", "pytest-cov>=5", "trustme>=1"]
CHECK = ["mypy>=1.11", "ruff>=0.6", "types-simplejson"]

setup(
    name="goodwe-usb-logger",
    version=VERSION,
    description="Publishes the values of GoodWe solar inverters on USB to MQTT",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["goodwe", "goodwe.*", "DaemonPy"]),
    py_modules=["GoodWe"],
    install_requires=[
        "paho-mqtt>=1.6.1,<3",
        "pyudev>=0.24",
        "ioctl-opt>=1.3",
        "configparser",
        "simplejson>=3.18",
    ],
    extras_require={"demo": DEMO, "test": TEST + DEMO, "check": CHECK},
    entry_points={"console_scripts": ["goodwe-logger=goodwe.cli:installed"]},
    classifiers=[
        "Environment :: No Input/Output (Daemon)",
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Home Automation",
    ],
)
