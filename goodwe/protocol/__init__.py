"""The AA55 protocol, both ends of it, as pure code: no clock, no I/O."""
