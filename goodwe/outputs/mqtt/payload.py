"""The JSON of `data`, byte for byte as the predecessor printed it (CONTRACT 2)."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import simplejson

from ...events import Reading, Resting
from ...protocol import fields, texts
from ...protocol.frame import KINDS

RUNNING_INFO_FUNCTION = KINDS["running_info"][1]


def data_json(
    reading: Reading | Resting,
    localtime: Callable[[float], time.struct_time] = time.localtime,
    *,
    language: str | None = None,
    infos: Mapping[str, fields.Values] | None = None,
    with_id: bool = False,
) -> str:
    """The text that subscribers get; `localtime` turns seconds since 1970 into the zone of the house.

    With a `language` it has additional keys: work mode and errors in words, the raw words behind the
    fault values; with `infos`, what the inverter told about itself, under its published names; with
    `with_id` what tells it from every other reading. Without, it is the predecessor's to the byte.
    """
    running: dict[str, Any] = {
        **reading.values,
        "function": RUNNING_INFO_FUNCTION,
        "timestamp": time.strftime("%Y%m%d%H%M%S", localtime(reading.when)),
    }
    if language is not None:
        running |= {
            "workModeText": texts.work_mode(int(running["workMode"]), language),
            "errorText": [texts.error(bit, language) for bit in running[fields.ERRORS]],
            "faultWords": fields.fault_words(reading.values),
        }
    message: dict[str, Any] = {
        **(infos or {}),
        "address": reading.address,
        "addressConfirmed": True,
        "inverterType": reading.inverter_type,
        "isOnline": isinstance(reading, Reading),
        "lastSeen": int(reading.when * 1000),
        "runningInfo": running,
        "serial": reading.serial,
        "serialNumber": list(reading.serial.encode("ascii")),
    }
    if with_id:
        message["id"] = f"{reading.serial}-{message['lastSeen']}"
    return simplejson.dumps(message, sort_keys=True, indent=4)
