"""`history`: what was made and what happened, for a person or for programs; imports and corrections.

It works on the file, whether the program runs or not.
"""

import argparse
import csv
import datetime
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple, TextIO

from .. import program
from ..config import Config
from ..errors import MAY_NOT_READ, HistoryError, NoHistoryError
from ..history import changes, dates, schema, soundness, spreadsheets
from ..history.queries import ALL, BY_DAY, BY_MONTH, BY_YEAR, DayRow, Reader, SlotRow, SumRow
from ..protocol import fields
from .tables import TableRow, lines

PERIODS = {"day": None, "month": BY_DAY, "year": BY_MONTH, "all": BY_YEAR}
"""How much is shown, to the rows that it is shown in; a day has hours."""
UNLIMITED = 100
"""Columns where there is no terminal."""
WEEK = 7
DAYS, SLOTS, EVENTS = "days", "slots", "events"
CORRECTED = "*"

PlainRecord = Mapping[str, Any]
"""Heading to value, plain: a line of CSV, an object of JSON."""


class Period(NamedTuple):
    """A stretch of local days, both included."""

    first: datetime.date
    last: datetime.date


def main(
    arguments: list[str], load: Callable[[], Config], *, out: TextIO | None = None, now: float | None = None
) -> int:
    """Do what the command line says; the exit code. `load` gives the settings. Raises GoodWeError."""
    options = parser().parse_args(arguments)
    session = _Session(options, load, out or sys.stdout, time.time() if now is None else now)
    return int(options.run(session))


def parser() -> argparse.ArgumentParser:
    """The parser of everything behind the verb."""
    made = argparse.ArgumentParser(
        prog=f"{program.name()} history",
        description="What was made and what happened, out of the file that [history] keeps.",
        epilog="exit code: 0; 1 it cannot be done, or check has found something; 2 wrong arguments."
        " DATE is 2026-06-21, 2026-06, 2026, today or yesterday.",
    )
    made.set_defaults(run=_Session.refuse)
    made.add_argument("--file", help="of the history, in place of the one in the configuration")
    verbs = made.add_subparsers(metavar="WHAT", title="what")
    for name, what in (("day", "hours"), ("month", "days"), ("year", "months"), ("all", "years")):
        one = verbs.add_parser(name, help=f"the {what} of {'all years' if name == 'all' else f'a {name}'}")
        one.set_defaults(run=_Session.show, what=name)
        if name != "all":
            one.add_argument(
                "date", metavar="DATE", nargs="?", default="today", help="in it; today if left out"
            )
        _add_serial(one)
        _add_format(one)
    _add_events(verbs.add_parser("events", help="faults, absences and what else has happened"))
    _add_import(verbs.add_parser("import", help="days out of a CSV file of another program"))
    _add_changes(verbs)
    one = verbs.add_parser("export", help="all of it as CSV")
    one.set_defaults(run=_Session.export, json=False, csv=True)
    one.add_argument("what", nargs="?", choices=(DAYS, SLOTS, EVENTS), default=DAYS, help="days if left out")
    _add_range(one)
    _add_serial(one)
    one = verbs.add_parser("check", help="is the file whole, do its sums agree, what is missing")
    one.set_defaults(run=_Session.check)
    return made


def _add_serial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--serial", default="", help="of one inverter, with those that it has replaced")


def _add_format(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--json", action="store_true", help="for programs")
    which.add_argument("--csv", action="store_true", help="for spreadsheets")


def _add_range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", metavar="DATE", help="the first day")
    parser.add_argument("--to", dest="last", metavar="DATE", help="the last day")


def _add_events(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_Session.events)
    _add_range(parser)
    parser.add_argument(
        "--kind",
        action="append",
        choices=schema.KINDS,
        metavar="KIND",
        help="such as fault_on, away, limit; may be repeated",
    )
    _add_serial(parser)
    _add_format(parser)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_Session.put)
    parser.add_argument("csv_file", metavar="FILE.csv", help="- for standard input")
    parser.add_argument(
        "--serial", default="", help="of the inverter that made it; needed if there are several"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--skip", action="store_true", help="leave out the lines that are not understood")
    parser.add_argument(
        "--unit", choices=("Wh", "kWh"), default="", help="of the energies, if the file does not say"
    )
    parser.add_argument(
        "--order", choices=("dmy", "mdy"), default="", help="of its dates, if they leave it open"
    )


def _add_changes(verbs: Any) -> None:
    one = verbs.add_parser("correct", help="set the energy of a day, or take that back with none")
    one.set_defaults(run=_Session.correct)
    one.add_argument("date", metavar="DATE")
    one.add_argument("kwh", metavar="KWH", help="none takes a correction back")
    one.add_argument("--serial", default="", help="of the inverter; needed if there are several")
    one = verbs.add_parser("replace", help="let the totals of an inverter go on as another's")
    one.set_defaults(run=_Session.replace)
    one.add_argument("old", metavar="OLD-SERIAL")
    one.add_argument("new", metavar="NEW-SERIAL", help="none takes it back")
    one = verbs.add_parser("name", help="give an inverter a name")
    one.set_defaults(run=_Session.name)
    one.add_argument("serial", metavar="SERIAL")
    one.add_argument("name", metavar="NAME", help='"" takes it away')


class _Session:
    """One command line, on its way to what it does."""

    def __init__(
        self, options: argparse.Namespace, load: Callable[[], Config], out: TextIO, now: float
    ) -> None:
        """`options` are the person's, `load` gives the settings; `out` is printed on, at time `now`."""
        self._options = options
        self._load = load
        self._out = out
        self._now = now
        self._today = datetime.date.fromtimestamp(now)

    def refuse(self) -> int:
        parser().error("history of what? one of day, month, year, all, events, import, ...")

    # for the eye

    def show(self) -> int:
        period = self._period(self._options.what, getattr(self._options, "date", "today"))
        with self._reader() as history:
            serials = self._serials(history)
            if self._options.json or self._options.csv:
                self._records(self._shown_records(history, period, serials))
            elif self._options.what == "day":
                self._print(_day_lines(history, period.first, serials, **self._look))
            else:
                self._print(self._sum_lines(history, period, serials))
        return 0

    def _shown_records(self, history: Reader, period: Period, serials: list[str] | None) -> list[PlainRecord]:
        if self._options.what == "day":
            return [_slot_record(slot) for slot in _slots(history, period.first, serials)]
        if self._options.what == "month":
            return [_day_record(day) for day in history.days(*period, serials)]
        rows = PERIODS[self._options.what] or BY_DAY
        return [_sum_record(row) for row in history.sums(rows, *period, serials)]

    def _sum_lines(self, history: Reader, period: Period, serials: list[str] | None) -> Iterator[str]:
        what = self._options.what
        rows = history.sums(PERIODS[what] or BY_DAY, *period, serials)
        if not rows:
            yield f"nothing of {_name(what, period.first)}"
            return
        (whole,) = history.sums(ALL, *period, serials)
        best = f", best day {whole.best} with {whole.best_kwh:.1f} kWh" if whole.best else ""
        yield f"{_name(what, period.first)}: {whole.energy_kwh:.1f} kWh{best}"
        bars = [TableRow(_sum_cells(row, what), row.energy_kwh) for row in rows]
        heading = ("", "kWh", "best day") if what != "month" else ("", "kWh", "")
        yield from lines(heading, bars, **self._look)
        if whole.corrected:
            yield f"{CORRECTED} corrected"
        if what == "all":
            yield from _totals(history, serials)

    def events(self) -> int:
        period = self._range()
        since, until = dates.bounds(period.first).start, dates.bounds(period.last).end
        with self._reader() as history:
            found = history.events(since, until, kinds=self._options.kind or (), serial=self._serial(history))
        records = [_event_record(event) for event in reversed(found)]
        if self._options.json or self._options.csv:
            self._records(records)
        else:
            width = self._look["width"]
            self._print(_event_line(record)[:width] for record in records)
            if not records:
                self._print(["nothing has happened"])
        return 0

    # for programs

    def export(self) -> int:
        period = self._range()
        with self._reader() as history:
            serials = self._serials(history)
            what = self._options.what
            if what == EVENTS:
                since, until = dates.bounds(period.first).start, dates.bounds(period.last).end
                found = history.events(since, until, serial=self._serial(history), most=10**9)
                self._records([_event_record(event) for event in reversed(found)])
            elif what == DAYS:
                self._records([_day_record(day) for day in history.days(*period, serials)])
            else:
                span = history.span()
                if span is not None:
                    first, last = max(period.first, span[0]), min(period.last, span[1])
                    self._records(
                        _slot_record(slot)
                        for number in range(dates.number(first), dates.number(last) + 1)
                        for slot in _slots(history, dates.date(number), serials)
                    )
        return 0

    def check(self) -> int:
        with self._reader() as history:
            found = list(soundness.findings(history, self._today))
            span = history.span()
            count = len(history.inverters())
        self._print(found)
        if not found:
            since = f" since {span[0]}" if span else ""
            self._print([f"the history is whole: {count} inverter{'s' if count != 1 else ''}{since}"])
        return 1 if found else 0

    # changes

    def put(self) -> int:
        file = self._options.csv_file
        try:
            data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        except OSError as error:
            remedy = f"; {MAY_NOT_READ}" if isinstance(error, PermissionError) else ""
            raise HistoryError(f"{file}: {error.strerror}{remedy}") from error
        try:
            text = spreadsheets.decoded(data)
            sheet = spreadsheets.read(
                text, today=self._today, unit=self._options.unit.lower(), order=self._options.order
            )
        except HistoryError as error:
            raise HistoryError(f"{file}: {error}") from error
        self._print(sheet.taken)
        refused = sheet.refused[: spreadsheets.SOME_LINES]
        self._print(f"{file}:{line}: {why}" for line, why in refused)
        if sheet.refused and not self._options.skip:
            more = len(sheet.refused) - len(refused)
            raise HistoryError(
                f"nothing is imported: {len(sheet.refused)} lines are not understood"
                f"{f', {more} of them not shown' if more else ''}; mend them, or leave them out with --skip"
            )
        if not sheet.days:
            raise HistoryError(f"{file}: there is no day in it")
        serial = "" if all(day.serial for day in sheet.days) else self._one_serial()
        counts = changes.put_imported(self._path, serial, sheet.days, dry_run=self._options.dry_run)
        first, last = min(day.date for day in sheet.days), max(day.date for day in sheet.days)
        total = sum(day.watt_hours for day in sheet.days) / 1000
        self._print([f"{len(sheet.days)} days from {first} to {last}, {total:.1f} kWh"])
        self._print(f"  {count} {what}" for what, count in sorted(counts.items()))
        if self._options.dry_run:
            self._print(["nothing is changed: --dry-run"])
        return 0

    def correct(self) -> int:
        date = _date(self._options.date, self._today)
        text = self._options.kwh.replace(",", ".")
        try:
            kwh = None if text == "none" else float(text)
        except ValueError:
            parser().error(f"{self._options.kwh!r} is no number of kWh, nor none")
        if kwh is not None and not 0 <= kwh <= spreadsheets.LARGEST_KWH:
            parser().error(f"{self._options.kwh} kWh cannot be the energy of a day")
        self._print([changes.correct(self._path, self._one_serial(), date, kwh, now=self._now)])
        return 0

    def replace(self) -> int:
        new = "" if self._options.new == "none" else self._checked(self._options.new)
        self._print([changes.replace(self._path, self._options.old, new, now=self._now)])
        return 0

    def name(self) -> int:
        name = self._options.name.strip()
        if not name.isprintable() or len(name) > 40:
            parser().error("a name has at most 40 letters, all of them visible")
        changes.name(self._path, self._options.serial, name)
        self._print(
            [f"{self._options.serial} is called {name}" if name else f"{self._options.serial} has no name"]
        )
        return 0

    # what is asked for

    @property
    def _path(self) -> str:
        if self._options.file:
            return str(self._options.file)
        settings = getattr(self._load(), "history", None)
        if settings is None:
            raise HistoryError(
                "no history is kept: add a section [history] to the configuration, or say --file"
            )
        return str(settings.file)

    def _reader(self) -> Reader:
        path = self._path
        try:
            return Reader(path)
        except NoHistoryError as error:
            raise HistoryError(f"{path}: {error}") from error

    def _serials(self, history: Reader) -> list[str] | None:
        serial = self._serial(history)
        if not serial:
            return None
        known = [inverter.serial for inverter in history.inverters()]
        if serial not in known:
            raise HistoryError(f"{serial} is not known; known are {', '.join(known) or 'none yet'}")
        return history.chain(serial)

    def _serial(self, history: Reader) -> str:
        """The serial that is asked for, as the file has it; empty for none."""
        return fields.known_serial(
            self._options.serial, [inverter.serial for inverter in history.inverters()]
        )

    def _one_serial(self) -> str:
        if self._options.serial:
            return self._checked(self._options.serial)
        try:
            with Reader(self._path) as history:
                known = [inverter.serial for inverter in history.inverters() if not inverter.replaced_by]
        except NoHistoryError:
            known = []
        if len(known) != 1:
            which = f"one of {', '.join(known)}" if known else "none is known yet"
            raise HistoryError(f"of which inverter? say --serial SERIAL: {which}")
        return known[0]

    @staticmethod
    def _checked(serial: str) -> str:
        if not serial.strip() or not serial.isprintable() or not serial.isascii() or len(serial) > 40:
            parser().error(f"{serial!r} is no serial")
        return serial

    def _period(self, what: str, text: str) -> Period:
        if what == "all":
            return Period(datetime.date.min, datetime.date.max)
        date = _date(text, self._today)
        if what == "day":
            return Period(date, date)
        if what == "month":
            first = date.replace(day=1)
            return Period(first, _last_of_month(first))
        return Period(date.replace(month=1, day=1), date.replace(month=12, day=31))

    def _range(self) -> Period:
        options = self._options
        first = _date(options.first, self._today) if options.first else datetime.date(1970, 1, 2)
        last = _date(options.last, self._today, last=True) if options.last else datetime.date(9999, 12, 30)
        return Period(first, last)

    # printing

    @property
    def _look(self) -> dict[str, Any]:
        width = shutil.get_terminal_size().columns if self._out.isatty() else UNLIMITED
        return {"width": width, "encoding": self._out.encoding or "ascii"}

    def _print(self, text: Sequence[str] | Iterator[str]) -> None:
        width = self._look["width"] if self._out.isatty() else 0
        for line in text:
            shown = "".join(letter if letter.isprintable() else "?" for letter in line)
            fits = not width or len(shown) <= width
            print(shown if fits else "\n".join(wrap(shown, width, subsequent_indent="    ")), file=self._out)

    def _records(self, records: Sequence[PlainRecord] | Iterator[PlainRecord]) -> None:
        if getattr(self._options, "json", False):
            print(json.dumps(list(records)), file=self._out)
            return
        writer = None
        for record in records:
            if writer is None:
                writer = csv.DictWriter(self._out, list(record), lineterminator="\n")
                writer.writeheader()
            writer.writerow(record)


# --- dates


def _date(text: str, today: datetime.date, *, last: bool = False) -> datetime.date:
    """A day; of a month or year its first, or its last one."""
    if text in ("today", "yesterday"):
        return today - datetime.timedelta(text == "yesterday")
    parts = text.split("-")
    try:
        numbers = [int(part) for part in parts]
        year, month, day = [*numbers, *([12, 0] if last else [1, 1])[len(numbers) - 1 :]]
        return datetime.date(year, month, day) if day else _last_of_month(datetime.date(year, month, 1))
    except (ValueError, OverflowError):
        parser().error(f"{text!r} is no date; one is 2026-06-21, 2026-06, 2026, today or yesterday")


def _last_of_month(first: datetime.date) -> datetime.date:
    if first.month == 12:
        return first.replace(day=31)
    return first.replace(month=first.month + 1) - datetime.timedelta(1)


def _name(what: str, first: datetime.date) -> str:
    return {"month": f"{first:%Y-%m}", "year": f"{first.year:04}"}.get(what, "all years")


# --- lines


def _slots(history: Reader, date: datetime.date, serials: list[str] | None) -> list[SlotRow]:
    found = [slot for serial in serials or [""] for slot in history.slots(date, serial)]
    return sorted(found, key=lambda slot: (slot.start, slot.serial))


def _day_lines(
    history: Reader, date: datetime.date, serials: list[str] | None, *, width: int, encoding: str
) -> Iterator[str]:
    days = history.days(date, date, serials)
    if not days:
        yield f"nothing of {date}"
        return
    yield f"{date}: {sum(day.energy_kwh for day in days):.1f} kWh"
    for day in days:
        yield f"  {day.serial}: {', '.join(_day_facts(day))}"
    bars = [
        TableRow((_clock(start), f"{kwh:.2f}", f"{most:.0f}" if most else ""), kwh)
        for start, kwh, most in _hours(_slots(history, date, serials))
    ]
    if bars:
        yield from lines(("", "kWh", "max W"), bars, width=width, encoding=encoding)


def _hours(slots: Sequence[SlotRow]) -> list[tuple[int, float, float]]:
    """The start of each hour, its energy, and the highest power of one inverter; hours are of UTC."""
    hours: dict[int, tuple[float, float]] = {}
    for slot in slots:
        start = slot.start // 3600 * 3600
        kwh, most = hours.get(start, (0.0, 0.0))
        hours[start] = kwh + slot.energy_kwh, max(most, slot.high.get("pac", 0.0))
    return [(start, *hours[start]) for start in sorted(hours)]


def _day_facts(day: DayRow) -> Iterator[str]:
    yield f"{day.energy_kwh:.1f} kWh{CORRECTED if day.corrected else ''}"
    if day.corrected:
        yield f"{CORRECTED} corrected from {day.counted_kwh:.1f} kWh"
    if day.source != schema.READ:
        yield {schema.SPREAD: "made on days that nobody saw", schema.IMPORTED: "imported"}.get(day.source, "")
    if day.peak_watts:
        at = f" at {_clock(day.peak_at)}" if day.peak_at else ""
        yield f"peak {day.peak_watts:.0f} W{at}"
    if day.first_light and day.last_light:
        yield f"light from {_clock(day.first_light)} to {_clock(day.last_light)}"
    if day.vac_low and day.vac_high:
        yield f"{day.vac_low:.1f} to {day.vac_high:.1f} V"
    if day.temp_high:
        yield f"up to {day.temp_high:.1f} °C"
    if day.seen is not None and day.seen < 0.95:
        yield f"{day.seen * 100:.0f} % of it was seen"


def _clock(epoch: float) -> str:
    return time.strftime("%H:%M", time.localtime(epoch))


def _sum_cells(row: SumRow, what: str) -> tuple[str, str, str]:
    mark = CORRECTED if row.corrected else ""
    if what == "month":
        day = datetime.date.fromisoformat(row.period)
        return f"{row.period} {day:%a}", f"{row.energy_kwh:.1f}", mark
    best = f"{row.best:%m-%d} {row.best_kwh:.1f}" if row.best else ""
    return row.period, f"{row.energy_kwh:.0f}", f"{best}{mark}"


def _totals(history: Reader, serials: list[str] | None) -> Iterator[str]:
    """The counters, of each inverter that is still there with those that it has replaced."""
    for inverter in history.inverters():
        total = history.total_kwh(inverter.serial)
        if inverter.replaced_by or total is None or (serials and inverter.serial not in serials):
            continue
        before = len(history.chain(inverter.serial)) - 1
        also = f", with {before} before it" if before else ""
        yield f"{inverter.name or inverter.serial}: {total:.1f} kWh since it was installed{also}"


def _event_line(record: PlainRecord) -> str:
    who = f" {record['serial']}" if record["serial"] else ""
    code = f" {record['code']}" if record["code"] is not None else ""
    text = f": {record['text']}" if record["text"] else ""
    return f"{record['time'][:19].replace('T', ' ')}{who} {record['kind']}{code}{text}"


# --- records


def _moment(epoch: float | None) -> str | None:
    """ISO 8601 with the zone, as the messages have it."""
    if epoch is None:
        return None
    return datetime.datetime.fromtimestamp(epoch).astimezone().isoformat(timespec="seconds")


def _slot_record(slot: SlotRow) -> PlainRecord:
    record: dict[str, Any] = {"time": _moment(slot.start), "serial": slot.serial}
    record |= {"energy_wh": round(slot.energy_kwh * 1000, 1), "readings": slot.readings}
    for column in schema.COLUMNS:
        side = {schema.LOW: slot.low, schema.HIGH: slot.high}.get(column.kind, slot.values)
        record[column.name] = side.get(column.key)
    return record


def _day_record(day: DayRow) -> PlainRecord:
    return {
        "date": day.date.isoformat(),
        "serial": day.serial,
        "energy_kwh": day.energy_kwh,
        "counted_kwh": day.counted_kwh,
        "corrected": int(day.corrected),
        "source": day.source,
        "total_kwh": day.total_kwh,
        "peak_w": day.peak_watts,
        "peak_time": _moment(day.peak_at),
        "first_light": _moment(day.first_light),
        "last_light": _moment(day.last_light),
        "feeding_hours": None if day.feeding_hours is None else round(day.feeding_hours, 2),
        "vac_low_v": day.vac_low,
        "vac_high_v": day.vac_high,
        "temp_high_c": day.temp_high,
        "seen": None if day.seen is None else round(day.seen, 3),
    }


def _sum_record(row: SumRow) -> PlainRecord:
    return {
        "period": row.period,
        "energy_kwh": row.energy_kwh,
        "days": row.days,
        "best_day": row.best.isoformat() if row.best else None,
        "best_kwh": row.best_kwh,
        "corrected": int(row.corrected),
    }


def _event_record(event: Any) -> PlainRecord:
    return {
        "time": _moment(event.at),
        "serial": event.serial,
        "kind": event.kind,
        "code": event.code,
        "text": event.text,
    }
