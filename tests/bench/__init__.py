"""Figures, printed and not asserted: python3 -m tests.bench [SECONDS of each measurement, 60 unless told]."""
