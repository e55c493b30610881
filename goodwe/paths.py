"""Paths of ours, where the command line names no others."""

CONFIGURATION = "/etc/goodwe.conf"
PIDFILE = "/var/run/goodwecomm.pid"
