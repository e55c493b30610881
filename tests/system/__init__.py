"""The program in a real Debian, on a virtual USB inverter: python3 -m tests.system."""
