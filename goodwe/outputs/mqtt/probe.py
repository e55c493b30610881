"""Asks a server whether anybody is there, beside an attempt or a connection that hangs.

The broker behind it may be back while what was begun before is still waiting: for a peer that took the
connection and died, or for the kernel, which repeats what got lost at ever longer intervals. A slow broker
answers no probe in time either, so it costs nobody a connection that is only slow.
"""

import select
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

from .attempt import Attempt
from .client import make_a_probe
from .terms import Asked

if TYPE_CHECKING:
    from .settings import MqttSettings

PROBE_WITHIN = 2.0
"""Seconds for each step of a probe; the kernel asks a machine that is silent after 0 and 1."""


def answers(
    settings: "MqttSettings", host: str, factory: Callable[..., Any], clock: Callable[[], float]
) -> bool:
    """True when `host` answers to a CONNECT, or closes at it; blocks.

    Raises what Attempt.open does.
    """
    settings = replace(settings, username="", protocol="3.1.1")  # neither login nor properties
    probe = Attempt(settings, host=host, client_id="", asked=Asked(ceil(PROBE_WITHIN)), will=None)
    probe.client = probe.open(factory, lambda client: make_a_probe(client, PROBE_WITHIN))
    until = clock() + PROBE_WITHIN
    try:
        while not probe.is_gone and probe.connack is None:
            poll = select.poll()
            poll.register(probe.client.socket().fileno(), select.POLLIN)
            if not poll.poll(max(0.0, until - clock()) * 1000):
                return False
            probe.transfer()
        return True
    finally:
        probe.drop()
