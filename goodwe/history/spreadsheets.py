"""Days out of CSV files of other programs: text in, days out, and how each thing was understood. Pure.

Decimal points and commas, separators, a byte order mark, dates of several kinds and headings in several
languages are taken as people have them. What is not understood is refused with its line, never guessed.
"""

import csv
import datetime
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import HistoryError
from ..protocol.fields import SERIAL_LENGTH

MOST_BYTES = 32 * 2**20
SEPARATOR_LINE = "sep="
"""Begins the line by which Excel knows the separator."""
SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}
LINE_END = re.compile(r"\r\n|\r|\n")
"""As an editor counts lines: a form feed or one of Unicode's separators may stand in a cell."""
HEADING_WITHIN = 40
"""Lines; portals put a page about the plant above their tables."""
LARGEST_KWH = 4000.0
"""More in a day no inverter on a USB cable makes."""
FIRST_YEAR = 1980
SOME_LINES = 5
"""So many of those that are refused are shown."""

DATE_NAMES = "date datum data fecha jour day dag tag giorno dia día time timestamp zeit tijd outputdate"
ENERGY_NAMES = (
    "energy energykwh energywh energie energia energía energygenerated generated generation generatedenergy"
    " kwh wh yield dailyyield production produktion produzione producción produção ertrag tagesertrag"
    " opbrengst dagopbrengst opgewekt eday energytoday tagesenergie etoday dayyield pv pvgeneration"
    " pvproduction pvenergy pvertrag pverzeugung erzeugung solarproduction solarproduktion productie"
)
DAY_YIELDS = ("dayyield", "dailyyield", "tagesertrag", "dagopbrengst")
"""The channel of a day's energy in the files of Sunny Explorer, Sunny Data Control and SBFspot."""
PEAK_NAMES = "peak peakpower peakw peakwatts spitzenleistung piekvermogen picodepotencia maxpower pmax"
SERIAL_NAMES = "serial serialnumber seriennummer serienummer inverter"
SUM_WORDS = ("total", "sum", "summe", "totaal", "totale", "gesamt", "average", "mean", "mittel")
UNITS = {"wh": 1.0, "kwh": 1000.0, "mwh": 1_000_000.0}
POWER_UNITS = {"w": 1.0, "kw": 1000.0}


DATE_FORM = re.compile(r"(d+[./-]M+[./-]y+|M+[./-]d+[./-]y+|y+[./-]M+[./-]d+)( H+:m+(:s+)?)?")
"""Stands above the dates in files of SMA, alone or with a time behind it."""


class RefusedLine(NamedTuple):
    """A line that was not understood."""

    line: int
    why: str


class ImportedDay(NamedTuple):
    """A day of one inverter, as a file has it."""

    date: datetime.date
    watt_hours: int
    peak: int | None
    """W; None if the file does not say."""
    serial: str
    """Empty if the file does not say."""


class Sheet(NamedTuple):
    """A file as it was understood."""

    days: list[ImportedDay]
    taken: list[str]
    """How it was understood, in lines for a person."""
    refused: list[RefusedLine]


class _Row(NamedTuple):
    line: int
    cells: list[str]
    as_written: list[str]
    """The same cells with the blanks around them."""


class _Columns(NamedTuple):
    """Which column is what; -1 for none."""

    date: int
    energy: int
    peak: int
    serial: int
    heading: list[str]
    """Empty without one."""


def decoded(data: bytes) -> str:
    """The text of a file, whatever it is written in. Raises HistoryError for what is no text."""
    if len(data) > MOST_BYTES:
        raise HistoryError(f"it has {len(data)} bytes; a table of days has less")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        raise HistoryError("it is no text; save the table as CSV")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def read(text: str, *, today: datetime.date, unit: str = "", order: str = "") -> Sheet:
    """The days in the text of a CSV file, none of them after `today`.

    `unit` of the energy and `order` of the date (`dmy` or `mdy`) where the file leaves it open. Raises
    HistoryError where it is not to be understood at all.
    """
    text = _lines(text)
    separator = _separator(text)
    rows = _rows(text.removeprefix(f"{SEPARATOR_LINE}{separator}"), separator)
    if not rows:
        raise HistoryError("there is nothing in it")
    columns, rows = _columns(rows)
    taken = list(_described(columns, separator))
    refused: list[RefusedLine] = []
    kept = [row for row in rows if not _is_sum(row, columns)]
    if len(kept) < len(rows):
        taken.append(f"lines with sums are left out: {', '.join(str(r.line) for r in rows if r not in kept)}")
    dated = list(_with_dates(kept, columns, order, today, refused))
    if _is_newest_first(dated, columns):
        dated.reverse()
    scale, comma_is_thousands = _scale(dated, columns, unit, taken)
    days: dict[tuple[str, datetime.date], ImportedDay] = {}
    for row, date in dated:
        try:
            day = _day(row, date, columns, scale, thousands=comma_is_thousands)
            _add(days, day)
        except ValueError as error:
            refused.append(RefusedLine(row.line, str(error)))
    if len(days) + len(refused) < len(dated):
        taken.append("several lines a day: the last and highest of each day counts")
    return Sheet(list(days.values()), taken, sorted(refused))


# --- lines and columns


def _lines(text: str) -> str:
    """The text with a line for each record: what pvoutput.org's service answers has semicolons in between."""
    records = re.fullmatch(r"\s*(\d{8},[^;\n]*;)+(\d{8},[^;\n]*)?\s*", text)
    return text.replace(";", "\n") if records else text


def _separator(text: str) -> str:
    said = text.removeprefix(SEPARATOR_LINE)[:1]
    if said != text[:1] and said in SEPARATORS:
        return said
    first = [line for line in LINE_END.split(text) if line.strip()][:20]
    counts = {mark: min((line.count(mark) for line in first), default=0) for mark in SEPARATORS}
    return next((mark for mark in SEPARATORS if counts[mark]), ";" if ";" in text else ",")


def _rows(text: str, separator: str) -> list[_Row]:
    csv.field_size_limit(MOST_BYTES)
    reader = csv.reader(LINE_END.split(text.replace("\0", "")), delimiter=separator)
    rows = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                rows.append(_Row(reader.line_num, stripped, cells))
    except csv.Error as error:
        raise HistoryError(f"line {reader.line_num} is no CSV: {error}") from error
    return rows


def _columns(rows: list[_Row]) -> tuple[_Columns, list[_Row]]:
    """The columns, by a heading within the first lines or by what stands in them; and the lines below."""
    for at, row in enumerate(rows[:HEADING_WITHIN]):
        names = ["" if _is_power(cell) else _plain(cell) for cell in row.cells]
        energy, date = _find(names, ENERGY_NAMES), _find(names, DATE_NAMES)
        if date < 0 and energy > 0 and not names[0] and at + 1 < len(rows) and _parts(_cell(rows[at + 1], 0)):
            date = 0  # a heading that leaves the first column's name out
        if date >= 0 and energy >= 0:
            peaks = [_plain(cell) for cell in row.cells]
            found = _Columns(date, energy, _find(peaks, PEAK_NAMES), _find(names, SERIAL_NAMES), row.cells)
            return found, rows[at + 1 :]
        if DATE_FORM.fullmatch(row.cells[0]):
            return _channels(rows[:at], row), rows[at + 1 :]
    cells = rows[0].cells
    if len(cells) >= 2 and _parts(cells[0]) and _number(cells[1], thousands=False) is not None:
        peak = 5 if len(cells) >= 7 else -1  # as pvoutput.org gives it
        return _Columns(0, 1, peak, -1, []), rows
    if len(cells) >= 3 and _parts(cells[0]) and re.fullmatch(r"\d\d:\d\d", cells[1]):
        return _Columns(0, 2, -1, -1, []), rows  # its live form: date, time, the day's energy so far
    known = "a date (date, Datum, fecha ...) and an energy (energy, kWh, Ertrag, opbrengst ...)"
    raise HistoryError(f"line {rows[0].line} is not understood: a heading must name {known}")


def _channels(above: Sequence[_Row], units: _Row) -> _Columns:
    """The columns of a table of SMA: a line with the form of the date and with units, above it channels."""
    for row in reversed(above):
        found = [at for at, cell in enumerate(row.cells) if _plain(cell) in DAY_YIELDS]
        if len(found) > 1:
            raise HistoryError(f"it has {len(found)} inverters in one table; save one for each")
        if found:
            heading = [f"{cell} ({_cell(units, at)})" for at, cell in enumerate(row.cells)]
            return _Columns(0, found[0], -1, -1, [units.cells[0], *heading[1:]])
    raise HistoryError("there is no day's energy in it (Day yield, Tagesertrag); the table of a month has it")


def _is_power(heading: str) -> bool:
    """True for what is measured in W or kW: no energy, whatever its name."""
    return re.search(r"(?i)(?<![a-z])k?w(?![a-z])", heading) is not None


def _plain(name: str) -> str:
    """A heading without its unit, blanks and marks: "Energy Generated (Wh)" is energygenerated."""
    without = re.sub(r"[\[(].*?[\])]", "", name.lower())
    return re.sub(r"[\W_]+", "", without)


def _find(names: Sequence[str], known: str) -> int:
    words = known.split()
    return next((names.index(word) for word in words if word in names), -1)


def _described(columns: _Columns, separator: str) -> Iterator[str]:
    yield f"columns are separated by {SEPARATORS[separator]}"
    if not columns.heading:
        yield "no heading: taken as pvoutput.org has it, the date first, the energy second"
        return
    for what in ("date", "energy", "peak", "serial"):
        at = getattr(columns, what)
        if at >= 0:
            yield f"{columns.heading[at]!r} is taken as the {'peak power' if what == 'peak' else what}"
    used = {columns.date, columns.energy, columns.peak, columns.serial}
    others = [repr(name) for at, name in enumerate(columns.heading) if at not in used and name]
    if others:
        yield f"left out: {', '.join(others)}"


def _is_sum(row: _Row, columns: _Columns) -> bool:
    return any(_plain(cell).startswith(SUM_WORDS) for cell in row.cells[: columns.date + 1])


# --- dates


def _parts(text: str) -> tuple[int, int, int, str] | None:
    """Three numbers of a date, and the mark between them; empty for none. The year first, or last."""
    text = re.split(r"[T ]", text.strip(), maxsplit=1)[0]
    if re.fullmatch(r"\d{8}", text):
        return int(text[:4]), int(text[4:6]), int(text[6:]), ""
    found = re.fullmatch(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})\.?", text)
    return (int(found[1]), int(found[3]), int(found[4]), found[2]) if found else None


def _with_dates(
    rows: Sequence[_Row], columns: _Columns, order: str, today: datetime.date, refused: list[RefusedLine]
) -> Iterator[tuple[_Row, datetime.date]]:
    parts = {row.line: _parts(_cell(row, columns.date)) for row in rows}
    known = [one for one in parts.values() if one is not None]
    chosen = order or _order_of_form(columns) or _order(known)
    for row in rows:
        one = parts[row.line]
        try:
            if one is None:
                raise ValueError
            date = _date(one, chosen)
        except ValueError:
            refused.append(RefusedLine(row.line, f"{_cell(row, columns.date)!r:.40} is no date"))
            continue
        if date.year < FIRST_YEAR or date > today:
            refused.append(RefusedLine(row.line, f"{date} cannot be: it is in the future, or too long ago"))
        else:
            yield row, date


def _order_of_form(columns: _Columns) -> str:
    """The order that a form of the date above it says, as dd/MM/yyyy; empty without one."""
    form = columns.heading[columns.date] if columns.heading else ""
    return {"d": "dmy", "M": "mdy"}.get(form[:1], "") if DATE_FORM.fullmatch(form) else ""


def _order(parts: Sequence[tuple[int, int, int, str]]) -> str:
    """The order of day and month where the year stands last. Raises HistoryError if it is open."""
    open_ones = [one for one in parts if one[0] < 1000 and one[3] == "/"]
    if not open_ones:
        return "dmy"
    fits = [order for order in ("dmy", "mdy") if all(_valid(one, order) for one in open_ones)]
    if len(fits) == 1:
        return fits[0]
    steps = {order: _one_day_steps([_date(one, order) for one in open_ones]) for order in fits}
    if not fits or steps["dmy"] == steps["mdy"]:
        raise HistoryError("day or month first in its dates? say --order dmy, or --order mdy")
    return max(steps, key=lambda order: steps[order])


def _one_day_steps(days: Sequence[datetime.date]) -> int:
    return sum(abs((other - one).days) == 1 for one, other in itertools.pairwise(days))


def _valid(one: tuple[int, int, int, str], order: str) -> bool:
    try:
        _date(one, order)
    except ValueError:
        return False
    return True


def _date(one: tuple[int, int, int, str], order: str) -> datetime.date:
    first, second, third, _ = one
    if first >= 1000:
        return datetime.date(first, second, third)
    year = third if third >= 100 else 2000 + third
    day, month = (first, second) if order == "dmy" else (second, first)
    return datetime.date(year, month, day)


def _is_newest_first(dated: Sequence[tuple[_Row, datetime.date]], columns: _Columns) -> bool:
    if len(dated) < 2:
        return False
    (first, began), (last, ended) = dated[0], dated[-1]
    if began != ended:
        return began > ended
    if not any(":" in cell for cell in first.cells[columns.date : columns.date + 2]):
        return False  # one day twice, without a time: nobody knows which is right
    made, in_the_end = (_number(_cell(row, columns.energy), thousands=False) or 0.0 for row in (first, last))
    return made > in_the_end


# --- energies


def _cell(row: _Row, at: int) -> str:
    return row.cells[at] if 0 <= at < len(row.cells) else ""


def _number(text: str, *, thousands: bool) -> float | None:
    """The number in a cell, its unit left out; None if it is none. `thousands`: one mark means thousands."""
    text = re.sub(r"(?i)\s*(k|m)?wh?$", "", text.strip())
    text = re.sub(r"[\s'\u00a0\u202f]", "", text)
    if not re.fullmatch(r"[+-]?[\d.,]*\d", text):
        return None
    marks = [mark for mark in text if mark in ".,"]
    if len(set(marks)) == 2:
        decimal = marks[-1]
        text = text.replace("," if decimal == "." else ".", "").replace(decimal, ".")
    elif len(marks) > 1 or (marks and thousands and re.search(r"[.,]\d{3}$", text)):
        text = text.replace(marks[0], "")
    elif marks:
        text = text.replace(marks[0], ".")
    try:
        return float(text)
    except ValueError:
        return None


def _scale(
    dated: Sequence[tuple[_Row, datetime.date]], columns: _Columns, unit: str, taken: list[str]
) -> tuple[float, bool]:
    """Watt-hours of one unit, and whether a mark before three digits means thousands.

    Raises HistoryError if the unit is open.
    """
    cells = [_cell(row, columns.energy) for row, _ in dated]
    heading = columns.heading[columns.energy] if columns.heading else ""
    named = re.search(r"(?i)(?<![a-z])(k|m)?wh(?![a-z])", f"{heading} {next(iter(cells), '')}")
    if named or unit:
        name = unit or f"{named[1] or ''}wh".lower() if named else unit
        taken.append(f"energies are in {_spelled(name)}")
        return UNITS[name.lower()], name.lower() == "wh"
    numbers = [number for cell in cells if (number := _number(cell, thousands=False))]
    middle = sorted(numbers)[len(numbers) // 2] if numbers else 0.0
    if middle >= 500:
        name = "wh"
    elif middle and middle < 200 and any(re.search(r"[.,]\d", cell) for cell in cells):
        name = "kwh"
    else:
        raise HistoryError("in which unit are its energies? say --unit kWh, or --unit Wh")
    taken.append(f"no unit is named; by their size the energies are in {_spelled(name)}")
    return UNITS[name], name == "wh"


def _spelled(unit: str) -> str:
    return {"wh": "Wh", "kwh": "kWh", "mwh": "MWh"}[unit.lower()]


def _day(row: _Row, date: datetime.date, columns: _Columns, scale: float, *, thousands: bool) -> ImportedDay:
    """Raises ValueError, saying what is wrong."""
    cell = _cell(row, columns.energy)
    number = _number(cell, thousands=thousands)
    if number is None:
        raise ValueError(f"{cell!r:.40} is no energy")
    energy = round(number * scale)
    if not 0 <= energy <= LARGEST_KWH * 1000:
        raise ValueError(f"{cell!r:.40} cannot be the energy of a day")
    return ImportedDay(date, energy, _peak(row, columns), _serial(row, columns))


def _serial(row: _Row, columns: _Columns) -> str:
    """The serial, with the blanks that belong to it where the cell has the length of one."""
    serial = _cell(row, columns.serial)
    whole = row.as_written[columns.serial] if serial else ""
    return whole if len(whole) == SERIAL_LENGTH else serial


def _peak(row: _Row, columns: _Columns) -> int | None:
    """The highest power; nothing depends on it, so one that is not understood is left out."""
    number = _number(_cell(row, columns.peak), thousands=True)
    if not number or number < 0:
        return None
    heading = columns.heading[columns.peak] if columns.heading else ""
    in_kilowatts = re.search(r"(?i)(?<![a-z])kw(?![a-z])", heading) is not None
    peak = round(number * POWER_UNITS["kw" if in_kilowatts else "w"])
    return peak if 0 < peak <= 200_000 else None


def _add(days: dict[tuple[str, datetime.date], ImportedDay], day: ImportedDay) -> None:
    """Raises ValueError if the day is there already with more: then they are no count that grows."""
    key = day.serial.strip(), day.date
    before = days.get(key)
    if before is not None and day.watt_hours < before.watt_hours:
        raise ValueError(f"{day.date} is there already, with more energy")
    days[key] = day
