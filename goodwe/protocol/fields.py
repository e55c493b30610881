"""The meaning of the bytes of an answer: one row a fact, read in both directions (PROTOCOL 5 and 6).

A payload is a list of big-endian words. The rows of the running info carry the document's index, which
is the word's place in the three-phase answer; the single-phase answer is the same list without the rows
marked `three_phase` (the ten "DT only" comments of the document).
"""

import math
import re
import struct
from collections.abc import Iterable, Mapping
from functools import partial
from operator import truediv
from typing import NamedTuple

from ..errors import FieldError

Value = int | float | str | list[int]
Values = dict[str, Value]


class Field(NamedTuple):
    """One value of the running info or the setting info."""

    position: int
    """Index of its first word in the document's table."""
    key: str
    """Its published name, never changed (CONTRACT 2)."""
    label: str
    unit: str = ""
    words: int = 1
    divisor: int = 1
    """The raw number is divided by it; 1 leaves an integer."""
    three_phase: bool = False
    """Only in the answer of three-phase inverters; others report 0 in its place."""
    signed: str = ""
    """`always`, or `hybrid` for the rows that only hybrids report signed."""
    absent: tuple[int, ...] = ()
    """Raw numbers, signed as the row is, that mean "not fitted", published as 0 (PROTOCOL 5.4)."""
    low: float = 0
    high: float = math.inf
    """Outside of these a value is not plausible, whatever the inverter."""
    flows: bool = False
    """True when it is 0 while the inverter rests."""
    dead_band: float = 0
    """A topic of its own gets a new value when it has moved by more than this; 0: whenever it differs."""
    extremes: bool = False
    """True if the history keeps the lowest and the highest value of a slot beside the mean."""


NOT_FITTED = (0xFFFF,)

_flow = partial(Field, absent=NOT_FITTED, flows=True)
_pv_volts = partial(_flow, unit="V", divisor=10, high=1500, dead_band=1.0)
_grid_volts = partial(_pv_volts, high=1000, dead_band=0.5, extremes=True)
_amperes = partial(_flow, unit="A", divisor=10, high=1000, dead_band=0.1)
_hertz = partial(_flow, unit="Hz", divisor=100, high=70, dead_band=0.02)
_fault_celsius = partial(Field, unit="°C", divisor=10)
_fault_volts = partial(Field, unit="V", divisor=10)
_fault_hertz = partial(Field, unit="Hz", divisor=100)

RUNNING = (
    _pv_volts(0x00, "vpv1", "PV string 1 voltage"),
    _pv_volts(0x01, "vpv2", "PV string 2 voltage"),
    _amperes(0x02, "ipv1", "PV string 1 current"),
    _amperes(0x03, "ipv2", "PV string 2 current"),
    _grid_volts(0x04, "vac1", "Phase L1 voltage"),
    _grid_volts(0x05, "vac2", "Phase L2 voltage", three_phase=True),
    _grid_volts(0x06, "vac3", "Phase L3 voltage", three_phase=True),
    _amperes(0x07, "iac1", "Phase L1 current"),
    _amperes(0x08, "iac2", "Phase L2 current", three_phase=True),
    _amperes(0x09, "iac3", "Phase L3 current", three_phase=True),
    _hertz(0x0A, "fac1", "Phase L1 frequency"),
    _hertz(0x0B, "fac2", "Phase L2 frequency", three_phase=True),
    _hertz(0x0C, "fac3", "Phase L3 frequency", three_phase=True),
    Field(
        0x0D,
        "pac",
        "Feeding power",
        "W",
        signed="hybrid",
        low=-200_000,
        high=200_000,
        flows=True,
        dead_band=10,
        extremes=True,
    ),
    Field(0x0E, "workMode", "Work mode"),
    # Sibling decoders read both patterns as "no sensor"; -1 would be -0.1 °C, published as 0.0.
    Field(
        0x0F,
        "temp",
        "Inverter temperature",
        "°C",
        divisor=10,
        signed="always",
        absent=(-1, 0x7FFF),
        low=-55,
        high=150,
        dead_band=0.5,
        extremes=True,
    ),
    Field(0x10, "errorMessage", "Error bits", words=2),
    Field(0x12, "eTotal", "Energy since installation", "kWh", words=2, divisor=10, high=99_999_999),
    Field(0x14, "hTotal", "Hours of feeding since installation", "h", words=2, high=1_000_000),
    # The words from here to GFCI are fault values only by the document of 2011; newer firmware puts
    # other things there (PROTOCOL 5.3).
    _fault_celsius(0x16, "tempFault", "Temperature fault value"),
    _fault_volts(0x17, "pv1Fault", "PV string 1 fault value"),
    _fault_volts(0x18, "pv2Fault", "PV string 2 fault value"),
    _fault_volts(0x19, "line1VFault", "Phase L1 voltage fault value"),
    _fault_volts(0x1A, "line2VFault", "Phase L2 voltage fault value", three_phase=True),
    _fault_volts(0x1B, "line3VFault", "Phase L3 voltage fault value", three_phase=True),
    _fault_hertz(0x1C, "line1FFault", "Phase L1 frequency fault value"),
    _fault_hertz(0x1D, "line2FFault", "Phase L2 frequency fault value", three_phase=True),
    _fault_hertz(0x1E, "line3FFault", "Phase L3 frequency fault value", three_phase=True),
    Field(0x1F, "gcfiFault", "Ground current fault value", "mA"),
    Field(0x20, "eDay", "Energy today", "kWh", divisor=10, high=4000),
)
"""Running info, 01 81 (PROTOCOL 5.1). `gcfiFault` is the older program's spelling of GFCI."""

FLOWS = tuple(row for row in RUNNING if row.flows)
"""The rows that are 0 while the inverter rests: power, voltages, currents and frequencies."""
FAULTS = tuple(row for row in RUNNING if row.key.endswith("Fault"))
"""The words whose meaning differs from firmware to firmware (PROTOCOL 5.3)."""

SETTING = (
    Field(0x00, "vpvStart", "PV voltage at which feeding starts", "V", divisor=10),
    Field(0x01, "tStart", "Time to reconnect to the grid", "s"),
    Field(0x02, "vacMin", "Lowest grid voltage allowed", "V", divisor=10),
    Field(0x03, "vacMax", "Highest grid voltage allowed", "V", divisor=10),
    Field(0x04, "facMin", "Lowest grid frequency allowed", "Hz", divisor=100),
    Field(0x05, "facMax", "Highest grid frequency allowed", "Hz", divisor=100),
)
"""Setting info, 01 83 (PROTOCOL 5.6)."""


class Text(NamedTuple):
    """One value of the ID info: a run of bytes, mostly text."""

    offset: int
    length: int
    key: str
    label: str


ID = (
    Text(0, 5, "firmwareVersion", "Firmware version"),
    Text(5, 10, "modelName", "Model name"),
    Text(15, 16, "manufacturer", "Manufacturer"),
    Text(31, 16, "serial", "Serial number"),
    Text(47, 4, "nominalVpv", "Nominal PV voltage"),
    Text(51, 12, "internalVersion", "Internal version"),
)
"""ID info, 01 82, the part that every length has (PROTOCOL 5.5)."""
SAFETY_COUNTRY_OFFSET = 63
ID_LENGTH = 64
ID_SECOND_VERSION = Text(64, 12, "secondInternalVersion", "Second internal version")
ID_WITH_SECOND_VERSION = 77
"""Only answers of this length are known to end in a second version; the tail of 76 is unknown."""

WORK_MODES = {0: "wait", 1: "normal", 2: "fault", 3: "permanent fault", 4: "check"}
"""Work modes of string inverters (PROTOCOL 6.1); 3 and 4 differ from source to source."""

ERROR_BITS = {
    31: "internal communication failure",
    30: "EEPROM failure",
    29: "grid frequency out of range",
    28: "DSP communication failure",
    27: "phase angle failure",
    25: "relay check failure",
    23: "grid voltage measured differently by the two processors",
    22: "grid frequency measured differently by the two processors",
    20: "backup overload",
    19: "DC injection too high",
    18: "isolation failure",
    17: "grid voltage out of range",
    16: "fan failure",
    15: "PV voltage too high",
    14: "auto test failure",
    13: "temperature too high",
    12: "firmware mismatch between the processors",
    11: "DC bus voltage too high",
    10: "ground current too high",
    9: "utility loss",
    8: "AC current sensor failure",
    7: "relay device failure",
    6: "GFCI device failure",
    4: "GFCI measured differently by the two processors",
    3: "DC injection measured differently by the two processors",
    1: "AC current sensor check failure",
    0: "GFCI device check failure",
}
"""Error bits, 0 the least significant (PROTOCOL 6.2); bits that no document assigns have no row."""

SAFETY_COUNTRIES = {
    0: "Italy",
    1: "Czech Republic",
    2: "Germany",
    3: "Spain",
    4: "Greece, mainland",
    5: "Denmark",  # Greece, islands in the document of 2011
    6: "Belgium",
    7: "Romania",  # Italy, special in the document of 2011
    8: "Great Britain G83",
    9: "Australia",
    10: "France",
    11: "China",
    12: "60 Hz default",
    13: "Poland",
    14: "South Africa",
    16: "Brazil 220 V",
    17: "Thailand",
    18: "Thailand",
    19: "Mauritius",
    20: "Netherlands",
    21: "Northern Ireland",
    23: "France, islands",
    24: "France, islands",
    25: "Australia, Ergon",
    26: "Australia, Energex",
    27: "Netherlands 16/20 A",
    28: "Korea",
    30: "Austria",
    31: "India",
    32: "50 Hz default",
    33: "Warehouse",
    34: "Philippines",
    35: "Ireland",
    36: "Taiwan",
    37: "Bulgaria",
    38: "Barbados",
    40: "Great Britain G99",
    41: "Sweden",
    42: "Chile",
    44: "New Zealand",
    57: "Slovakia",
    59: "Hungary",
    66: "Switzerland",
    69: "Cyprus",
    70: "Australia",
    71: "Australia, Ausgrid",
    72: "Australia",
    73: "Australia, Victoria",
    129: "Estonia",
}
"""Safety country codes, the later meaning where two documents differ (PROTOCOL 6.3)."""


ALL_ZERO = "all-zero reading"
ALL_ONES = "all-ones reading"
SERIAL_LENGTH = 16
LEAST_POWER = 300
"""Watts; no inverter has less, so a smaller number is none."""


def decode_serial(data: bytes) -> str:
    """The serial number of a register request, as sent.

    Blanks are part of it: they are published as they came (CONTRACT 2), and only not looked at where it is
    compared. Raises FieldError for a length that is not 16, for nothing but blanks, and for characters that
    cannot stand in an MQTT topic level (CONTRACT 1).
    """
    if len(data) != SERIAL_LENGTH:
        raise FieldError("serial of the wrong length", f"{len(data)} bytes, not {SERIAL_LENGTH}")
    if not _printable(data) or any(character in b"+#/" for character in data):
        raise FieldError("serial with characters that a topic cannot hold", repr(data)[1:])
    if not data.strip():
        raise FieldError("serial of nothing but blanks", repr(data)[1:])
    return data.decode("ascii")


def known_serial(serial: str, known: Iterable[str]) -> str:
    """A serial that a person or a file gives, as it is spelled among the known ones; unchanged if it is new.

    Blanks around it are not looked at (PROTOCOL 9.4): people and spreadsheets leave them out.
    """
    alike = [one for one in known if serial.strip() and one.strip() == serial.strip()]
    return serial if serial in alike or not alike else alike[0]


def rated_power(serial: str) -> int | None:
    """Watts by the second to fifth character, 3600 or 010K; None where those are something else."""
    digits = serial[1:5]
    if digits.endswith("K") and digits[:3].isdigit():
        watts = int(digits[:3]) * 1000
    else:
        watts = int(digits) if digits.isdigit() else 0
    return watts if watts >= LEAST_POWER else None


def rated_power_of_model(name: str) -> int | None:
    """Watts by a model name, GW1500-XS or GW10K-DT; None where it is none."""
    found = re.match(r"GW(\d{1,6})(K?)", name)
    watts = int(found[1]) * (1000 if found[2] else 1) if found else 0
    return watts if watts >= LEAST_POWER else None


def safety_country(code: Value) -> str:
    """The country in words; empty for a code that nobody explains (PROTOCOL 6.3)."""
    return SAFETY_COUNTRIES.get(code, "") if isinstance(code, int) else ""


def number(values: Mapping[str, Value], key: str) -> float:
    """A value as a number: error bits as the word that they came in, 0 for what is missing."""
    value = values.get(key, 0)
    if isinstance(value, list):
        return _raw(value, 1)
    return value if isinstance(value, int | float) else 0


def fault_words(values: Mapping[str, Value]) -> list[int]:
    """The raw words behind the fault values, in the order of the document."""
    return [_raw(values.get(row.key, 0), row.divisor) for row in FAULTS]


def sent_rows(rows: Iterable[Field], phases: int) -> list[Field]:
    """The rows that an inverter with so many phases sends, in order, without gaps."""
    return [row for row in rows if phases == 3 or not row.three_phase]


class Codec:
    """Rows in the order of their words, to values and back."""

    def __init__(self, rows: list[Field], *, hybrid: bool = False) -> None:
        """`rows` in the order in which they are sent; `hybrid`: signed as hybrids have them."""
        self.rows = rows
        codes = [_code(row, hybrid=hybrid) for row in rows]
        self._struct = struct.Struct(">" + "".join(codes))
        self._keys = [row.key for row in rows]
        self._divisors = [row.divisor for row in rows]
        self._whole = [(row.key, at) for at, row in enumerate(rows) if row.divisor == 1]
        self._absent = frozenset(raw for row in rows for raw in row.absent)
        self.length = self._struct.size
        """Bytes of all the rows; what stands behind them is not looked at."""

    def decode(self, data: bytes) -> Values:
        """Key to value; `data` must have the length at least."""
        raws = self._struct.unpack_from(data)
        if not self._absent.isdisjoint(raws):
            raws = tuple(0 if raw in row.absent else raw for row, raw in zip(self.rows, raws, strict=True))
        values: Values = dict(zip(self._keys, map(truediv, raws, self._divisors), strict=True))
        for key, at in self._whole:
            values[key] = set_bits(raws[at]) if key == ERRORS else raws[at]
        return values

    def encode(self, values: Mapping[str, Value]) -> bytes:
        """The bytes that hold `values`; what is missing is 0."""
        return self._struct.pack(*(_raw(values.get(row.key, 0), row.divisor) for row in self.rows))


def _code(row: Field, *, hybrid: bool) -> str:
    """The row's word or words in the language of struct."""
    signed = row.signed == "always" or (hybrid and row.signed == "hybrid")
    code = "I" if row.words == 2 else "H"
    return code.lower() if signed else code


def _raw(value: Value, divisor: int) -> int:
    if isinstance(value, list):
        return sum(1 << bit for bit in value)
    return round(float(value) * divisor)


ERRORS = "errorMessage"
_SINGLE_PHASE = Codec(sent_rows(RUNNING, 1))
_THREE_PHASE = Codec(sent_rows(RUNNING, 3))
_HYBRID = Codec(sent_rows(RUNNING, 1), hybrid=True)
_SETTING = Codec(list(SETTING))
SINGLE_PHASE_LENGTH = _SINGLE_PHASE.length
THREE_PHASE_LENGTH = _THREE_PHASE.length
HYBRID_LENGTH = 130
SETTING_LENGTH = _SETTING.length
_OTHER_PHASES: Values = {row.key: 0.0 for row in RUNNING if row.three_phase}


def codec(length: int) -> Codec:
    """How a running info of `length` bytes is read (PROTOCOL 5.2).

    Raises FieldError below 46 bytes, where E-Day would be missing.
    """
    if length == THREE_PHASE_LENGTH:
        return _THREE_PHASE
    if length < SINGLE_PHASE_LENGTH:
        raise FieldError("running info too short", f"{length} bytes, the shortest has {SINGLE_PHASE_LENGTH}")
    # 66 is the DT; everything else seen is single-phase with a tail of another kind each.
    return _HYBRID if length == HYBRID_LENGTH else _SINGLE_PHASE


def phases(length: int) -> int:
    """1 or 3, by the length of the running info."""
    return 3 if length == THREE_PHASE_LENGTH else 1


def decode_running(data: bytes) -> Values:
    """Published key to value, every key of CONTRACT 2 that comes from the inverter's words.

    Raises FieldError for a payload that is too short, or in which every standard byte is 00 or FF: a
    booting inverter sends zeros with a correct checksum (PROTOCOL 5.4).
    """
    rows = codec(len(data))
    standard = data[: rows.length]
    if not any(standard):
        raise FieldError(ALL_ZERO, f"{len(data)} bytes")
    if standard.count(0xFF) == rows.length:
        raise FieldError(ALL_ONES, f"{len(data)} bytes")
    values = rows.decode(data)
    return values if rows is _THREE_PHASE else {**_OTHER_PHASES, **values}


def encode_running(values: Mapping[str, Value], length: int) -> bytes:
    """The payload of `length` bytes that holds `values`; what is missing is 0, so is the tail."""
    return codec(length).encode(values).ljust(length, b"\0")


CLOCK_OFFSETS = {60: 46, 130: 92}
"""Length of a running info to where its tail has the inverter's clock: YY MM DD hh mm ss (PROTOCOL 5.2)."""


def decode_clock(data: bytes) -> str:
    """The time on the inverter's clock, as 2026-11-23T06:00:00; empty where there is none, or no date."""
    offset = CLOCK_OFFSETS.get(len(data))
    if offset is None:
        return ""
    year, month, day, hour, minute, second = data[offset : offset + 6]
    if not (year < 100 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60):
        return ""
    return f"20{year:02}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"


def decode_setting(data: bytes) -> Values:
    """Key to value of a setting info. Raises FieldError when it is too short."""
    if len(data) < SETTING_LENGTH:
        raise FieldError("setting info too short", f"{len(data)} bytes, not {SETTING_LENGTH}")
    return _SETTING.decode(data)


def encode_setting(values: Mapping[str, Value]) -> bytes:
    """The payload that holds `values`; what is missing is 0."""
    return _SETTING.encode(values)


def decode_id(data: bytes) -> Values:
    """Key to value of an ID info; text without its padding, blank where it is not text at all.

    Raises FieldError when it is too short.
    """
    if len(data) < ID_LENGTH:
        raise FieldError("ID info too short", f"{len(data)} bytes, the shortest has {ID_LENGTH}")
    rows = (*ID, ID_SECOND_VERSION) if len(data) == ID_WITH_SECOND_VERSION else ID
    values: Values = {row.key: _text(data[row.offset : row.offset + row.length]) for row in rows}
    values["safetyCountry"] = data[SAFETY_COUNTRY_OFFSET]
    return values


def encode_id(values: Mapping[str, Value], length: int = ID_LENGTH) -> bytes:
    """The payload of `length` bytes that holds `values`; missing texts are zeros."""
    data = bytearray(length)
    for row in (*ID, ID_SECOND_VERSION) if length == ID_WITH_SECOND_VERSION else ID:
        text = str(values.get(row.key, "")).encode("ascii", "replace")[: row.length]
        data[row.offset : row.offset + row.length] = text.ljust(row.length, b" " if text else b"\0")
    country = values.get("safetyCountry", 0)
    data[SAFETY_COUNTRY_OFFSET] = country if isinstance(country, int) else 0
    return bytes(data)


def set_bits(raw: int) -> list[int]:
    """Numbers of the bits set in a 32-bit word, ascending."""
    return [bit for bit in range(raw.bit_length()) if raw >> bit & 1]


def _text(raw: bytes) -> str:
    """Text without padding; empty for bytes that are no text (zeros, blanks, FF, binary)."""
    stripped = raw.strip(b" \0\xff")
    return stripped.decode("ascii") if stripped.isascii() and _printable(stripped) else ""


def _printable(raw: bytes) -> bool:
    return all(0x20 <= byte < 0x7F for byte in raw)
