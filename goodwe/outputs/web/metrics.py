"""The text of `/metrics`, by prometheus-client, made anew at each scrape. Units are base units.

What is not fresh is absent: a value that freezes at sunset looks like sunshine at night.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from ...protocol import fields, texts
from ...protocol.fields import Values
from .data import JsonObject
from .latest import Seen

Family = GaugeMetricFamily | CounterMetricFamily | InfoMetricFamily

Sample = tuple[list[str], float]
"""The values of its labels, and the number."""

JOULES = 3_600_000.0
"""In a kilowatt hour."""
FLOWS = (
    ("ac_power_watts", "Power that is fed in.", "", (("pac", ""),)),
    ("ac_voltage_volts", "Voltage of the grid.", "phase", (("vac1", "1"), ("vac2", "2"), ("vac3", "3"))),
    ("ac_current_amperes", "Current to the grid.", "phase", (("iac1", "1"), ("iac2", "2"), ("iac3", "3"))),
    ("ac_frequency_hertz", "Frequency of the grid.", "phase", (("fac1", "1"), ("fac2", "2"), ("fac3", "3"))),
    ("dc_voltage_volts", "Voltage of a string.", "string", (("vpv1", "1"), ("vpv2", "2"))),
    ("dc_current_amperes", "Current of a string.", "string", (("ipv1", "1"), ("ipv2", "2"))),
    ("temperature_celsius", "Temperature of the inverter.", "", (("temp", ""),)),
)
"""Name, meaning, name of the further label, keys of CONTRACT 2 with its value."""
_THREE_PHASE = {row.key for row in fields.RUNNING if row.three_phase}


def exposition(
    inverters: Mapping[str, Seen], fresh: frozenset[str], status: JsonObject, program: JsonObject
) -> bytes:
    """The text. `inverters` by serial; `fresh` are those whose reading is of now; `status` is the app's.

    `program` has version and start_epoch.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(partial(_families, inverters, fresh, status, program)))
    return generate_latest(registry)


class _Collector(Collector):
    """Hands out families that are made when they are asked for."""

    def __init__(self, families: Callable[[], Iterator[Family]]) -> None:
        """`families` makes them."""
        self._families = families

    def collect(self) -> Iterator[Family]:
        return self._families()


def _families(
    inverters: Mapping[str, Seen], fresh: frozenset[str], status: JsonObject, program: JsonObject
) -> Iterator[Family]:
    awake = {serial: seen.values for serial, seen in inverters.items() if serial in fresh and seen.values}
    for name, meaning, label, keys in FLOWS:
        yield _flow(name, meaning, label, keys, awake, inverters)
    yield from _inverter(inverters, fresh)
    yield _faults(awake)
    yield _counter("goodwe_readings", "Good readings.", {key: one.readings for key, one in inverters.items()})
    reconnects = {serial: max(0, seen.arrivals - 1) for serial, seen in inverters.items()}
    yield _counter("goodwe_inverter_reconnects", "How often it came back.", reconnects)
    yield from _counters(status)
    yield from _broker(status)
    yield InfoMetricFamily("goodwe_build", "The running program.", {"version": str(program["version"])})
    yield _gauge("process_start_time_seconds", "Start of the program.", [([], program["start_epoch"])], [])


def _gauge(name: str, meaning: str, samples: Iterable[Sample], labels: Sequence[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _counter(name: str, meaning: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, meaning, labels=["serial"])
    for serial, count in counts.items():
        family.add_metric([serial], count)
    return family


def _flow(
    name: str,
    meaning: str,
    label: str,
    keys: Sequence[tuple[str, str]],
    awake: Mapping[str, Values],
    inverters: Mapping[str, Seen],
) -> GaugeMetricFamily:
    samples = [
        ([serial, *([part] if label else [])], fields.number(values, key))
        for serial, values in awake.items()
        for key, part in keys
        if key not in _THREE_PHASE or inverters[serial].phases == 3
    ]
    return _gauge(f"goodwe_inverter_{name}", meaning, samples, ["serial", *([label] if label else [])])


def _inverter(inverters: Mapping[str, Seen], fresh: frozenset[str]) -> Iterator[Family]:
    energy = CounterMetricFamily(
        "goodwe_inverter_energy_joules", "Energy since it was made.", labels=["serial"]
    )
    for serial, seen in inverters.items():
        if seen.values is not None:
            energy.add_metric([serial], fields.number(seen.values, "eTotal") * JOULES)
    yield energy
    up = [([serial], float(serial in fresh)) for serial in inverters]
    yield _gauge("goodwe_inverter_up", "1 while it is read.", up, ["serial"])
    last = [([serial], seen.when) for serial, seen in inverters.items() if seen.when]
    name = "goodwe_inverter_last_reading_timestamp_seconds"
    yield _gauge(name, "Its last good reading.", last, ["serial"])


def _faults(awake: Mapping[str, Values]) -> GaugeMetricFamily:
    samples: list[Sample] = []
    for serial, values in awake.items():
        bits = values.get(fields.ERRORS)
        if isinstance(bits, list):
            samples += [([serial, texts.error(bit, texts.ENGLISH)], 1.0) for bit in bits]
    return _gauge("goodwe_inverter_faults_info", "Faults that it tells now.", samples, ["serial", "fault"])


def _counters(status: JsonObject) -> Iterator[Family]:
    refused = CounterMetricFamily(
        "goodwe_readings_refused", "Readings that cannot be true.", labels=["serial", "reason"]
    )
    for serial, one in status.get("inverters", {}).items():
        for reason, count in one.get("refused", {}).items():
            refused.add_metric([serial, reason], count)
    yield refused
    bad = CounterMetricFamily("goodwe_frames_refused", "Bytes that are no good frame.", labels=["reason"])
    counts: dict[str, int] = {}
    for link in status.get("links", []):
        bus = link.get("bus", {})
        found = {"checksum": bus.get("checksum_errors", 0), "partial": bus.get("partial_frames", 0)}
        for reason, count in {**found, **link.get("refused", {})}.items():
            counts[reason] = counts.get(reason, 0) + count
    for reason, count in counts.items():
        bad.add_metric([reason], count)
    yield bad


def _broker(status: JsonObject) -> Iterator[Family]:
    mqtt = status.get("outputs", {}).get("mqtt") or {}
    connections = mqtt.get("connections", {})
    up = [([serial], float(one["connected_seconds"] is not None)) for serial, one in connections.items()]
    yield _gauge("goodwe_mqtt_connected", "1 while the broker is connected.", up, ["serial"])
    kept = (mqtt.get("features", {}).get("backlog") or {}).get("kept")
    if kept is not None:
        yield _gauge("goodwe_mqtt_backlog_messages", "Messages that wait for the broker.", [([], kept)], [])
