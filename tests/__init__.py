"""Tests; `python3 -m pytest` runs all of this but tests/system, which needs QEMU."""
