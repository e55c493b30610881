"""The messages that let Home Assistant show an inverter without a line of configuration.

Device-based discovery: one retained message an inverter, made of the rows of `fields`. Pure: settings and
facts in, messages out; whoever has the connection publishes them. Domoticz and openHAB read the same.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import simplejson

from ... import __version__
from ...protocol import fields, texts
from ...protocol.fields import Field, Values
from .message import LOW_PRODUCTION, Message, alarms_topic

if TYPE_CHECKING:
    from .settings import HomeAssistantSettings, MqttSettings

ORIGIN = {
    "name": "GoodWeUSBLogger",
    "sw": __version__,
    "url": "https://github.com/sircuri/GoodWeUSBLogger",
}
DEVICE_CLASSES = {
    "W": "power",
    "V": "voltage",
    "A": "current",
    "Hz": "frequency",
    "°C": "temperature",
    "kWh": "energy",
    "h": "duration",
}
"""Unit of a row to what Home Assistant calls such a quantity."""
COUNTERS = ("kWh", "h")
DIAGNOSTIC = ("hTotal",)
OTHER = "other"
"""Work mode that has no word: an enum takes none but those of its list."""
MARGIN = 100.0
"""Seconds that a message may be late before its values become unavailable."""
NO_FAULTS = "-"
RETIRED: dict[str, str] = {}
"""Component that earlier versions announced to its platform: only so it is removed."""


class Announcer:
    """Makes the discovery messages."""

    def __init__(
        self, settings: "HomeAssistantSettings", mqtt: "MqttSettings", *, silence: float, follows_online: bool
    ) -> None:
        """`settings` say how they look, `mqtt` which topics they name.

        `silence` is the longest time in seconds between two messages of a program that lives.

        `follows_online`: values are unavailable while the inverter is away, since nothing is said of it.
        """
        self.birth_topic = f"{settings.prefix}/status"
        """Here Home Assistant says `online` after its start; everything is to be said again then."""
        self._prefix = settings.prefix
        self._mqtt = mqtt
        self._expire_after = int(silence + MARGIN)
        self._follows_online = follows_online

    def message(
        self,
        serial: str,
        phases: int,
        infos: Mapping[str, Values],
        alarms: Mapping[str, bool] | None = None,
    ) -> Message:
        """The announcement of one inverter; `infos` is what it told about itself.

        `alarms` are those of ALARMS that are announced, with True, or taken back.
        """
        name = object_id(serial)
        payload = {
            "dev": self._device(serial, name, infos.get("idInfo", {})),
            "o": ORIGIN,
            "cmps": self._components(serial, name, phases, alarms or {}),
        }
        topic = discovery_topic(self._prefix, serial)
        return Message(topic, simplejson.dumps(payload, sort_keys=True), qos=1, retain=True)

    def _device(self, serial: str, name: str, identity: Values) -> dict[str, Any]:
        device = {
            "ids": [name],
            "name": f"GoodWe {serial}",
            "mf": "GoodWe",
            "sn": serial,
            "mdl": identity.get("modelName", ""),
            "sw": identity.get("firmwareVersion", ""),
        }
        return {key: value for key, value in device.items() if value}

    def _components(
        self, serial: str, name: str, phases: int, alarms: Mapping[str, bool]
    ) -> dict[str, dict[str, Any]]:
        data, online = (f"{self._mqtt.topic}/{serial}/{leaf}" for leaf in ("data", "online"))
        alive: dict[str, Any] = {"stat_t": data, "exp_aft": self._expire_after}
        if self._follows_online:
            alive |= _available(online)
        components = {row.key: {**_sensor(row), **alive} for row in fields.sent_rows(ENTITIES, phases)}
        components["workMode"] = {**self._work_mode(), **alive}
        components["problem"] = {**PROBLEM, **alive}
        components["faults"] = {**FAULTS, **alive}
        # No availability of its own: it would never show that the inverter is away.
        components["connectivity"] = {**CONNECTIVITY, "stat_t": online}
        for key in CONTROLS:
            components[key] = self._control(key, serial, online)
        for key, is_known in alarms.items():
            components[key] = _alarm(key, alarms_topic(f"{self._mqtt.topic}/{serial}"), is_known)
        for key, component in components.items():
            if len(component) > 1:
                component["uniq_id"] = f"{name}_{key}"
        return {**components, **{key: {"p": platform} for key, platform in RETIRED.items()}}

    def _work_mode(self) -> dict[str, Any]:
        words = {str(n): texts.work_mode(n, self._mqtt.language) for n in fields.WORK_MODES}
        table = simplejson.dumps(words)
        return {
            "p": "sensor",
            "name": "Work mode",
            "dev_cla": "enum",
            "ops": [*words.values(), OTHER],
            "val_tpl": f"{{{{ {table}.get(value_json.runningInfo.workMode | string, '{OTHER}') }}}}",
        }

    def _control(self, key: str, serial: str, online: str) -> dict[str, Any]:
        """A component that sends a command; where that is switched off, what removes it."""
        control = CONTROLS[key]
        if not self._mqtt.control:
            return {"p": control["p"]}
        topic = f"{self._mqtt.commandtopic}/{serial}/{key}"
        state = {"stat_t": f"{topic}/state"} if control["p"] == "number" else {}
        return {**control, **state, **_available(online), "cmd_t": topic}


def object_id(serial: str) -> str:
    """A name for the inverter of the characters that a discovery topic may have."""
    return "goodwe_" + re.sub(r"[^A-Za-z0-9_-]", "_", serial)


def discovery_topic(prefix: str, serial: str) -> str:
    """Where the announcement of an inverter stands."""
    return f"{prefix}/device/{object_id(serial)}/config"


def is_ours(payload: bytes) -> bool:
    """True if a discovery message is one of this program."""
    try:
        return bool(simplejson.loads(payload)["o"]["name"] == ORIGIN["name"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _available(online: str) -> dict[str, str]:
    return {"avty_t": online, "pl_avail": "1", "pl_not_avail": "0"}


def _alarm(key: str, topic: str, is_known: bool) -> dict[str, Any]:
    """A component that shows an alarm; where nothing can be known of it, what removes it."""
    alarm = ALARMS[key]
    if not is_known:
        return {"p": alarm["p"]}
    return {**alarm, "stat_t": topic, "json_attr_t": topic, "exp_aft": ALARMS_EXPIRE}


def _sensor(row: Field) -> dict[str, Any]:
    sensor: dict[str, Any] = {
        "p": "sensor",
        "name": row.label,
        "val_tpl": f"{{{{ value_json.runningInfo.{row.key} }}}}",
        "unit_of_meas": row.unit,
        "dev_cla": DEVICE_CLASSES[row.unit],
        "stat_cla": "total_increasing" if row.unit in COUNTERS else "measurement",
        "sug_dsp_prc": {1: 0, 10: 1, 100: 2}[row.divisor],
    }
    if row.key in DIAGNOSTIC:
        sensor["ent_cat"] = "diagnostic"
    return sensor


ENTITIES = tuple(row for row in fields.RUNNING if row.unit in DEVICE_CLASSES and row not in fields.FAULTS)
"""Rows that become a sensor each: all that is a measurement whatever the firmware (PROTOCOL 5.3)."""
PROBLEM = {
    "p": "binary_sensor",
    "name": "Problem",
    "dev_cla": "problem",
    "val_tpl": "{{ 1 if value_json.runningInfo.errorMessage else 0 }}",
    "pl_on": "1",
    "pl_off": "0",
}
FAULTS = {
    "p": "sensor",
    "name": "Faults",
    "ent_cat": "diagnostic",
    "ic": "mdi:alert-circle-outline",
    "val_tpl": f"{{{{ (value_json.runningInfo.errorText | join(', '))[:255] or '{NO_FAULTS}' }}}}",
}
CONNECTIVITY = {
    "p": "binary_sensor",
    "name": "Connection",
    "dev_cla": "connectivity",
    "ent_cat": "diagnostic",
    "pl_on": "1",
    "pl_off": "0",
}
ALARMS: dict[str, dict[str, Any]] = {
    "faultBegan": {
        "p": "sensor",
        "name": "Last fault began",
        "dev_cla": "timestamp",
        "ent_cat": "diagnostic",
        "val_tpl": "{{ value_json.faultBegan }}",
    },
    "faultEnded": {
        "p": "sensor",
        "name": "Last fault ended",
        "dev_cla": "timestamp",
        "ent_cat": "diagnostic",
        "val_tpl": "{{ value_json.faultEnded }}",
    },
    LOW_PRODUCTION: {
        "p": "binary_sensor",
        "name": "Production too low",
        "dev_cla": "problem",
        "val_tpl": "{{ {true: '1', false: '0'}.get(value_json.lowProduction) }}",
        "pl_on": "1",
        "pl_off": "0",
    },
}
"""By their keys in the JSON of `alarms` (CONTRACT 6); Home Assistant shows null as unknown."""
ALARMS_EXPIRE = 3600
"""Seconds; they are said every quarter of an hour, also of an inverter that is away."""
CONTROLS: dict[str, dict[str, Any]] = {
    "limit": {
        "p": "number",
        "name": "Power limit",
        "unit_of_meas": "%",
        "min": 0,
        "max": 100,
        "step": 1,
        "ent_cat": "config",
        "ic": "mdi:solar-power",
    },
    "start": {"p": "button", "name": "Start", "ent_cat": "config", "ic": "mdi:play"},
    "stop": {"p": "button", "name": "Stop", "ent_cat": "config", "ic": "mdi:stop"},
}
"""Command to the component that sends it; the keys are the commands' names."""
