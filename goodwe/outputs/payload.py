"""The JSON of `data`, byte for byte as the predecessor printed it (CONTRACT 2)."""

import time
from collections.abc import Callable

import simplejson

from ..events import Reading
from ..frame import KINDS

RUNNING_INFO_FUNCTION = KINDS["running_info"][1]


def data_json(reading: Reading, localtime: Callable[[float], time.struct_time] = time.localtime) -> str:
    """The text that subscribers get; `localtime` turns seconds since 1970 into the zone of the house."""
    running = {
        **reading.values,
        "function": RUNNING_INFO_FUNCTION,
        "timestamp": time.strftime("%Y%m%d%H%M%S", localtime(reading.when)),
    }
    message = {
        "address": reading.address,
        "addressConfirmed": True,
        "inverterType": reading.inverter_type,
        "isOnline": reading.is_online,
        "lastSeen": int(reading.when * 1000),
        "runningInfo": running,
        "serial": reading.serial,
        "serialNumber": list(reading.serial.encode("ascii")),
    }
    return simplejson.dumps(message, sort_keys=True, indent=4)
