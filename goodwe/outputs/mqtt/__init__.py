"""Readings and availability over MQTT (CONTRACT 1), and around them what is switched on.

Light: what is off is not even imported.
"""

from typing import TYPE_CHECKING

from ...on_demand import load_on_demand
from .. import Context
from .settings import HomeAssistantSettings, MqttSettings

if TYPE_CHECKING:
    from .output import MqttOutput

SECTIONS = (MqttSettings, HomeAssistantSettings)
READS = ("inverter.statefile", "inverter.offlinevalues")
READS_IF = {"mqtt.alarms": "history", "mqtt.values": "inverter.pollinterval"}


def make(settings: MqttSettings, context: Context) -> "MqttOutput":
    """The output of these settings. Raises StartError."""
    # paho asks it for a proxy where PySocks is installed, and loads it everywhere: with it come http, email
    # and tempfile, 2 MB of memory and a good part of the start.
    load_on_demand("urllib.request")
    from .output import MqttOutput

    return MqttOutput(settings, context, features(settings, context))


def features(settings: MqttSettings, context: Context) -> list[str]:
    """Names of the modules of the features that are on, in the order in which they have their say."""
    is_on = {
        "retained": bool(context.config.inverter.statefile),
        "discovery": context.config.homeassistant.discovery,
        "values": settings.values,
        "sums": settings.sum,
        "alarms": settings.alarms,
        "commands": settings.commands,
        "backlog": bool(settings.backlog),
    }
    return [name for name, on in is_on.items() if on]
