"""Verbs that a person runs at a terminal. The daemon imports none of them."""
