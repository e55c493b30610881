"""The JSON of `data`, byte for byte as the older program printed it (CONTRACT 2)."""

import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import simplejson

from ...events import Reading, Resting
from ...protocol import fields, texts
from ...protocol.frame import KINDS

RUNNING_INFO_FUNCTION = KINDS["running_info"][1]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST, LATEST = -62_135_510_400.0, 253_402_214_399.0
"""Seconds since 1970 between which every zone has a year of one to four digits."""

Localtime = Callable[[float], time.struct_time]
"""Turns seconds since 1970 into the zone of the house."""


def data_json(
    reading: Reading | Resting,
    localtime: Localtime = time.localtime,
    *,
    language: str | None = None,
    infos: Mapping[str, fields.Values] | None = None,
    with_id: bool = False,
) -> str:
    """The text that subscribers get.

    With a `language` it has additional keys: work mode and errors in words, the raw words behind the
    fault values, the moment that the message speaks of; with `infos`, what the inverter told about itself,
    under its published names; with `with_id` what tells it from every other reading. Without, it is the
    older program's to the byte.
    """
    seen = milliseconds(reading.when)
    running: dict[str, Any] = {
        **reading.values,
        "function": RUNNING_INFO_FUNCTION,
        "timestamp": _calendar(_local(seen, localtime), "{:04}{:02}{:02}{:02}{:02}{:02}"),
    }
    message: dict[str, Any] = {
        **(infos or {}),
        "address": reading.address,
        "addressConfirmed": True,
        "inverterType": reading.inverter_type,
        "isOnline": isinstance(reading, Reading),
        "lastSeen": seen,
        "runningInfo": running,
        "serial": reading.serial,
        "serialNumber": list(reading.serial.encode("ascii")),
    }
    if language is not None:
        running |= {
            "workModeText": texts.work_mode(int(running["workMode"]), language),
            "errorText": [texts.error(bit, language) for bit in running[fields.ERRORS]],
            "faultWords": fields.fault_words(reading.values),
        }
        message["time"] = iso_time(_moment(reading), localtime)
    if with_id:
        message["id"] = f"{reading.serial}-{seen}"
    return simplejson.dumps(message, sort_keys=True, indent=4)


def milliseconds(epoch: float) -> int:
    """Whole milliseconds since 1970 of so many seconds, whatever a clock or a file says."""
    return int(min(max(0.0 if math.isnan(epoch) else epoch, EARLIEST), LATEST) * 1000)


def iso_time(moment: int, localtime: Localtime = time.localtime) -> str:
    """Milliseconds since 1970 as ISO 8601 in the zone of the house: 2026-11-25T22:40:13.123+01:00."""
    local = _local(moment, localtime)
    minutes = (local.tm_gmtoff or 0) // 60
    sign, (hours, minutes) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    date_and_time = _calendar(local, "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}")
    return f"{date_and_time}.{moment % 1000:03}{sign}{hours:02}:{minutes:02}"


def _moment(reading: Reading | Resting) -> int:
    """Milliseconds since 1970 of what the message speaks of."""
    if isinstance(reading, Reading):
        return milliseconds(reading.when)
    # A cable may be pulled in the very millisecond of a reading: whoever writes both must not lose that one.
    said, seen = milliseconds(reading.said), milliseconds(reading.when)
    return said + 1 if said == seen else said


def _local(moment: int, localtime: Localtime) -> time.struct_time:
    """Milliseconds since 1970 in the zone of the house; in UTC where that does not know them."""
    try:
        local = localtime(moment // 1000)
    except (OverflowError, ValueError, OSError):  # a 32-bit system's time ends in 2038
        pass
    else:
        if not (local.tm_gmtoff or 0) % 60:  # ISO 8601 has no seconds, nor any zone since 1972
            return local
    return (EPOCH + timedelta(seconds=moment // 1000)).utctimetuple()


def _calendar(local: time.struct_time, form: str) -> str:
    """Year to second in that form; strftime() would not fill up the year."""
    return form.format(*local[:6])
