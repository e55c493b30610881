"""`history`: tables, CSV and JSON, imports, corrections, and what is said of the file."""

import contextlib
import csv
import datetime
import errno
import io
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from goodwe import cli
from goodwe.errors import HistoryError
from goodwe.history import alarms, archive, dates, madeup, schema, spreadsheets
from goodwe.history.days import DayFacts
from goodwe.history.madeup import MadeUpRoof
from goodwe.history.queries import Reader
from goodwe.history.recorder import Happened
from goodwe.tools import history, tables
from goodwe.tools.tables import TableRow

OLD, NEW = "15000SIM268W0001", "15000SIM268W0002"
TODAY = datetime.date(2026, 7, 2)


@pytest.fixture(autouse=True)
def amsterdam(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Amsterdam")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def noon(day=TODAY):
    return dates.bounds(day).start + 12 * 3600


@pytest.fixture
def path(tmp_path):
    """A small history of one inverter."""
    path = str(tmp_path / "history.db")
    connection = archive.connected(path)
    inverter = archive.number_of(connection, OLD, noon(datetime.date(2026, 6, 20)))
    for day, energy, total in ((20, 8_000, 108_000), (21, 21_500, 129_500), (22, 12_300, 141_800)):
        date = datetime.date(2026, 6, day)
        middle = round(noon(date))
        archive.put_day(
            connection,
            inverter,
            dates.number(date),
            DayFacts(
                schema.READ,
                energy,
                total,
                middle + 36_000,
                3012,
                middle,
                middle - 21_600,
                middle + 36_000,
                57_600,
                57_600,
                2281,
                2394,
                452,
            ),
        )
        for n, made in enumerate((10_000, 20_000, 5_000)):
            row = [{"pac": 25_000, "pac_high": 2_500}.get(column.name) for column in schema.COLUMNS]
            start = middle + 3600 * n
            connection.execute(archive.PUT_SLOT, (inverter, start, dates.number(date), 120, made, *row))
    archive.put_event(connection, inverter, Happened(noon(), OLD, schema.FAULT_ON, 9, "utility loss"))
    archive.put_event(connection, None, Happened(noon() + 60, "", schema.STARTED, None, "version 1"))
    connection.close()
    return path


class Terminal(io.StringIO):
    """A standard output of a width, with an encoding."""

    def __init__(self, encoding):
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return True


def run(path, *arguments, width=0, encoding="utf-8", monkeypatch=None):
    """The output of the verb; on a terminal of that width if there is one."""
    out = Terminal(encoding) if width else io.StringIO()
    if width:
        os.environ["COLUMNS"] = str(width)
    try:
        code = history.main(["--file", path, *arguments], lambda: None, out=out, now=noon())
    finally:
        os.environ.pop("COLUMNS", None)
    assert code == 0
    return out.getvalue()


# tables


def test_month_wide(path):
    assert run(path, "month", "2026-06", width=60) == (
        "2026-06: 41.8 kWh, best day 2026-06-21 with 21.5 kWh\n"
        "                 kWh\n"
        "2026-06-20 Sat   8.0  ██████████████▏\n"
        "2026-06-21 Sun  21.5  ██████████████████████████████████████\n"
        "2026-06-22 Mon  12.3  █████████████████████▊\n"
    )


def test_month_narrow_and_without_blocks(path):
    assert run(path, "month", "2026-06-05", width=30, encoding="ascii") == (
        "2026-06: 41.8 kWh, best day\n"
        "    2026-06-21 with 21.5 kWh\n"
        "                 kWh\n"
        "2026-06-20 Sat   8.0  ###\n"
        "2026-06-21 Sun  21.5  ########\n"
        "2026-06-22 Mon  12.3  #####\n"
    )


def test_day(path):
    assert run(path, "day", "2026-06-21", width=50) == (
        "2026-06-21: 21.5 kWh\n"
        f"  {OLD}: 21.5 kWh, peak 3012 W at\n"
        "    12:00, light from 06:00 to 22:00, 228.1 to\n"
        "    239.4 V, up to 45.2 °C\n"
        "         kWh  max W\n"
        "12:00   6.14   2500  ██████████████▌\n"
        "13:00  12.29   2500  █████████████████████████████\n"
        "14:00   3.07   2500  ███████▎\n"
    )


def test_year_and_all(path):
    assert run(path, "year", "2026", width=80) == (
        "2026: 41.8 kWh, best day 2026-06-21 with 21.5 kWh\n"
        "         kWh    best day\n"
        "2026-06   42  06-21 21.5  ██████████████████████████████████████████████████████\n"
    )
    told = run(path, "all", width=80).splitlines()
    assert told[0] == "all years: 41.8 kWh, best day 2026-06-21 with 21.5 kWh"
    assert told[-1] == f"{OLD}: 141.8 kWh since it was installed"


def test_nothing_to_show(path):
    assert run(path, "day", "2020-01-01") == "nothing of 2020-01-01\n"
    assert run(path, "month", "2020-01") == "nothing of 2020-01\n"
    assert run(path, "day", "yesterday") == "nothing of 2026-07-01\n"
    assert run(path, "events", "--to", "2020") == "nothing has happened\n"


@pytest.mark.parametrize("width", [10, 20, 25, 40, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "no-such"])
def test_table_keeps_within_the_width(width, encoding):
    bars = [TableRow((f"2026-06-{n:02}", f"{n:.1f}", "06-21 21.5*"), float(n)) for n in range(1, 31)]
    shown = list(tables.lines(("", "kWh", "best day"), bars, width=width, encoding=encoding))
    assert len(shown) == 31
    assert max(map(len, shown)) <= width
    if encoding != "utf-8":
        assert "".join(shown).isascii()
    assert (
        list(tables.lines(("", "kWh"), [TableRow(("x", "0"), 0.0)], width=40, encoding=encoding))[1]
        == "x    0"
    )


def test_events(path):
    assert run(path, "events") == (
        f"2026-07-02 12:00:00 {OLD} fault_on 9: utility loss\n2026-07-02 12:01:00 started: version 1\n"
    )
    assert run(path, "events", "--kind", "started").count("\n") == 1
    (fault,) = json.loads(run(path, "events", "--json", "--serial", OLD))
    assert fault["time"] == "2026-07-02T12:00:00+02:00"
    assert (fault["kind"], fault["code"]) == ("fault_on", 9)


def test_terminal_is_not_told_what_to_do(path):
    with archive.connected(path) as connection:
        archive.put_event(connection, None, Happened(noon(), "", schema.AWAY, None, "\x1b[2Jgone"))
    assert "\x1b" not in run(path, "events")


# for programs


def test_csv_and_json_are_what_is_shown(path):
    rows = run(path, "month", "2026-06", "--csv").splitlines()
    assert rows[0].startswith("date,serial,energy_kwh,counted_kwh,corrected,source,total_kwh,peak_w,")
    assert rows[2].startswith(f"2026-06-21,{OLD},21.5,21.5,0,read,129.5,3012.0,2026-06-21T12:00:00+02:00,")
    slots = json.loads(run(path, "day", "2026-06-21", "--json"))
    assert sum(slot["energy_wh"] for slot in slots) == pytest.approx(21_500)
    assert slots[0]["pac"] == slots[0]["pac_high"] == 2500
    (year,) = json.loads(run(path, "all", "--json"))
    assert year == {
        "period": "2026",
        "energy_kwh": 41.8,
        "days": 3,
        "best_day": "2026-06-21",
        "best_kwh": 21.5,
        "corrected": 0,
    }


def test_export_has_everything(path):
    assert run(path, "export").count("\n") == 1 + 3
    assert run(path, "export", "slots", "--from", "2026-06-21", "--to", "2026-06-21").count("\n") == 1 + 3
    assert run(path, "export", "slots").count("\n") == 1 + 9
    assert run(path, "export", "events", "--from", "2026", "--to", "2026-07").count("\n") == 1 + 2


# corrections


def test_correction_and_back(path):
    assert run(path, "correct", "2026-06-21", "20,5") == "2026-06-21: 20.5 kWh in place of 21.5 kWh\n"
    shown = run(path, "month", "2026-06", width=60)
    assert shown.startswith("2026-06: 40.8 kWh")
    assert "2026-06-21 Sun  20.5  *  " in shown
    assert shown.endswith("* corrected\n")
    with Reader(path) as reader:
        assert sum(slot.energy_kwh for slot in reader.slots(datetime.date(2026, 6, 21))) == pytest.approx(
            20.5
        )
        assert reader.total_kwh(OLD) == 140.8
    assert "20.5 kWh*, * corrected from 21.5 kWh" in run(path, "day", "2026-06-21")
    assert (
        run(path, "correct", "2026-06-21", "none")
        == "2026-06-21: as the counter says again, in place of 20.5 kWh\n"
    )
    assert run(path, "month", "2026-06").startswith("2026-06: 41.8 kWh")
    assert run(path, "correct", "2026-06-01", "3") == "2026-06-01: 3.0 kWh in place of nothing\n"
    assert run(path, "correct", "2026-05-01", "none") == "2026-05-01 has no correction\n"
    assert run(path, "events", "--kind", "corrected").count("\n") == 3


@pytest.mark.parametrize("kwh", ["-1", "5000", "much", "nan", "inf"])
def test_correction_that_cannot_be(path, kwh, capsys):
    with pytest.raises(SystemExit) as ended:
        run(path, "correct", "2026-06-21", *(["--", kwh] if kwh == "-1" else [kwh]))
    assert ended.value.code == 2


def test_replaced_inverter(path):
    assert run(path, "replace", OLD, NEW) == f"{OLD} was replaced by {NEW}\n"
    assert run(path, "replace", OLD, NEW) == f"{OLD}: nothing to do\n"
    with pytest.raises(HistoryError, match="cannot take the place"):
        run(path, "replace", NEW, OLD)
    with pytest.raises(HistoryError, match=f"nobody is not known; known are {OLD}, {NEW}"):
        run(path, "replace", "nobody", NEW)
    assert run(path, "all", "--serial", NEW).splitlines()[0].startswith("all years: 41.8 kWh")
    assert run(path, "name", NEW, "the roof") == f"{NEW} is called the roof\n"
    with archive.connected(path) as connection:
        archive.put_day(connection, 2, dates.number(TODAY), DayFacts(schema.READ, 5_000, 5_000))
    assert run(path, "all").splitlines()[-1] == "the roof: 146.8 kWh since it was installed, with 1 before it"
    assert run(path, "replace", OLD, "none") == f"{OLD} was not replaced\n"
    assert run(path, "name", NEW, "") == f"{NEW} has no name\n"
    with pytest.raises(HistoryError, match=f"of which inverter. say --serial SERIAL: one of {OLD}, {NEW}"):
        run(path, "correct", "2026-06-21", "1")


# imports


SHEETS = {
    "own": "date,serial,energy_kwh,counted_kwh,corrected,source\n2026-01-01,{serial},1.5,1.5,0,read\n2026-01-02,{serial},12.3,12.3,0,read\n",
    "pvoutput": "20260101,1500,0.46,0,0,2070,11:00,Showers\n20260102,12300,0.46,0,0,2070,11:00,Fine\n",
    "pvoutput live": "Date,Energy Generated (Wh),Efficiency,Peak Power\n2026-01-01,1500,0.4,2070\n2026-01-02,12300,0.4,2070\n",
    "dutch": "Datum;Opbrengst (kWh)\n01-01-2026;1,5\n02-01-2026;12,3\nTotaal;13,8\n",
    "german with BOM": "\ufeffTag;Ertrag [kWh]\r\n01.01.2026;1,5\r\n02.01.2026;12,3\r\n",
    "american": "Date,kWh\n1/1/2026,1.5\n1/2/2026,12.3\n1/13/2026,1.0\n",
    "thousands": 'Date,Generated\n2026-01-01,"1,500"\n2026-01-02,"12,300"\n',
    "units in cells": "date;energy\n2026-01-01;1,5 kWh\n2026-01-02;12,3 kWh\n",
    "tabs": "Fecha\tProducción (kWh)\n2026/01/01\t1.5\n2026/01/02\t12.3\n",
    "readings of a day": "time,eDay\n2026-01-01 08:00,0.5\n2026-01-01 21:00,1.5\n2026-01-02T21:00:00,12.3\n",
    # GetOutput of api.pvoutput.org: records end with a semicolon, the newest first, NaN for what is not known
    "pvoutput service": "20260102,12300,3.075,0,0,2070,11:00,Fine,6,10,NaN,NaN,NaN,NaN;"
    "20260101,1500,0.375,0,0,NaN,NaN,Not Sure,NaN,NaN,NaN,NaN,NaN,NaN",
    # GetStatus with h=1: date, time, energy so far in Wh, efficiency, power, average, ...
    "pvoutput live service": "20260102,18:30,12300,3.075,0,0,0.000,NaN,NaN,NaN,NaN;"
    "20260102,12:00,6100,1.525,2070,2050,0.5,NaN,NaN,NaN,NaN;20260101,18:30,1500,0.375,0,0,0,NaN,NaN,NaN,NaN;"
    "20260101,12:00,700,0.175,300,290,0.1,NaN,NaN,NaN,NaN",
    # what pvoutput.org takes of daily and of live data
    "pvoutput loader": "Output Date,Generated,Exported,Peak Power,Peak Time,Conditions\n"
    "31/12/25,0.0 kWh,0,0,,Rain\n01/01/26,1.5 kWh,0,2070,11:00,Fine\n02/01/26,12.3 kWh,0,2070,11:00,Fine\n",
    "pvoutput live table": "Date,Time,Energy,Efficiency,Power\n02/01/26,6:30PM,12.300kWh,3.1kWh/kW,0W\n"
    "02/01/26,12:00PM,6.100kWh,1.5kWh/kW,2070W\n01/01/26,6:30PM,1.500kWh,0.4kWh/kW,0W\n31/12/25,6:30PM,0.000kWh,0,0W\n",
    # a month of Sunny Explorer, as its manual and SBFspot have it
    "sunny explorer": "sep=;\r\nVersion CSV1|Tool SE|Linebreaks CR/LF|Delimiter semicolon|Decimalpoint comma|Precision 3\r\n"
    "\r\n;SN: 2100514862;SN: 2100514862\r\n;SB 5000TL-20;SB 5000TL-20\r\n;2100514862;2100514862\r\n"
    ";Gesamtertrag;Tagesertrag\r\n;Counter;Analog\r\ndd.MM.yyyy;kWh;kWh\r\n"
    "01.01.2026;4360,457;1,500\r\n02.01.2026;4372,757;12,300\r\n",
    "sbfspot with slashes": "sep=,\nVersion CSV1|Tool SBFspot3.9.12 (Linux)|Linebreaks LF|Delimiter comma|Decimalpoint dot|Precision 3\n"
    "\n,SN: 1,SN: 1\n,SB 5000TL-20,SB 5000TL-20\n,2100514862,2100514862\n,Total yield,Day yield\n,Counter,Analog\n"
    "MM/dd/yyyy,kWh,kWh\n01/01/2026,4360.457,1.500\n01/02/2026,4372.757,12.300\n",
    # a month of the SEMS portal: a page about the plant, then the table, then its sum
    "sems month": "Monthly Report;;;;;;\n"
    + "".join(f"fact {n};x;;;;;\n" for n in range(19))
    + "Date;Plant;Classification;Capacity(kW);PV(kWh);Sell(kWh);Buy(kWh);Income(EUR)\n"
    "01.01.2026;My roof;Residential;4,0;1,5;0,9;8,1;0,2\n02.01.2026;My roof;Residential;4,0;12,3;9,9;2,1;1,5\n"
    "Total;;;;13,8;10,8;10,2;1,7\n",
    # GoodWe's EzExplorer: readings, of which the counter of the day counts
    "ezexplorer": "Time,Vpv1(V),Vpv2(V),Pac(W),E-Day(kWh),E-Total(kWh)\n2026.01.01 08:00:00,300,0,20,0.0,4360.0\n"
    "2026.01.01 17:00:00,300,0,20,1.5,4361.5\n2026.01.02 17:00:00,300,0,20,12.3,4373.8\n",
    "power is no energy": "Zeit;Solarproduktion [W];PV-Ertrag [kWh]\n01.01.2026 12:00;700;1,5\n02.01.2026 12:00;2070;12,3\n",
    "excel says its separator": "sep=|\r\nDatum|Ertrag in kWh, ohne Speicher|kWh\r\n01.01.2026|x;y|1,5\r\n02.01.2026|x;y|12,3\r\n",
    "no name above the dates": ";PV generation [Wh]\n01.01.2026;1.500\n02.01.2026;12.300\n",
    "heading below a title": "My roof\n\ndate;kWh\n2026-01-01;1,5\n2026-01-02;12,3\n",
}


@pytest.mark.parametrize("name", SHEETS)
def test_import(path, tmp_path, name):
    file = tmp_path / "sheet.csv"
    file.write_text(SHEETS[name].format(serial=OLD), "utf-8")
    before = Path(path).read_bytes()
    dry = run(path, "import", str(file), "--dry-run")
    assert dry.endswith("nothing is changed: --dry-run\n")
    with Reader(path) as reader:
        assert len(reader.days(datetime.date.min, datetime.date(2026, 1, 2))) == 0
    assert before
    told = run(path, "import", str(file))
    with Reader(path) as reader:
        first, second = reader.days(datetime.date(2026, 1, 1), datetime.date(2026, 1, 2))
    assert (first.energy_kwh, second.energy_kwh, first.source) == (1.5, 12.3, "imported")
    assert f"{told.split(' days from')[0].splitlines()[-1]} new" in told
    again = run(path, "import", str(file))
    assert "the same as before" in again
    assert " new" not in again
    if name == "pvoutput":
        assert first.peak_watts == 2070


def test_import_leaves_alone_what_was_read(path, tmp_path):
    file = tmp_path / "sheet.csv"
    file.write_text("date,kWh\n2026-06-20,1.0\n2026-06-19,2.0\n")
    assert "1 read by this program itself" in run(path, "import", str(file))
    file.write_text("date,kWh\n2026-06-20,1.0\n2026-06-19,2.5\n")
    assert "1 changed" in run(path, "import", str(file))
    with Reader(path) as reader:
        assert [
            day.energy_kwh for day in reader.days(datetime.date(2026, 6, 19), datetime.date(2026, 6, 20))
        ] == [2.5, 8.0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is nothing in it"),
        ("a,b\n1,2\n", "line 1 is not understood: a heading must name"),
        ("date,kWh\n01/02/2026,1\n01/04/2026,2\n", "day or month first"),
        ("date,energy\n2026-01-01,100\n", "in which unit"),
        ("date,kWh\n2026-01-01,x\n", "nothing is imported: 1 lines are not understood"),
        ("date,kWh\n2026-13-01,1\n", "1 lines are not understood"),
        ("date,kWh\n2027-01-01,1\n", "1 lines are not understood"),
        ("date,kWh\n2026-01-01,-1\n", "1 lines are not understood"),
        ("date,kWh\n2026-01-01,9999\n", "1 lines are not understood"),
        ("date,kWh\n2026-01-01,5\n2026-01-01,3\n", "1 lines are not understood"),
        ("date,kWh\n", "there is no day in it"),
        ("Time,PV(W),Load(W)\n2026-01-01 12:00,700,100\n", "is not understood: a heading must name"),
        (
            ";Total yield;Power\ndd/MM/yyyy HH:mm:ss;kWh;kW\n01/01/2026 12:00:00;4360.1;0.7\n",
            "no day's energy in it",
        ),
        (";Day yield;Day yield\ndd.MM.yyyy;kWh;kWh\n01.01.2026;1;2\n", "it has 2 inverters in one table"),
        ("sep=\na;b\n", "is not understood"),
        ("PK\0\0", "it is no text"),
    ],
)
def test_import_that_is_not_understood_changes_nothing(path, tmp_path, text, why, capsys):
    file = tmp_path / "sheet.csv"
    file.write_text(text)
    with pytest.raises(HistoryError, match=why):
        run(path, "import", str(file))
    with Reader(path) as reader:
        assert len(reader.days(datetime.date.min, datetime.date.max)) == 3


def test_refused_lines_are_named_and_can_be_skipped(path, tmp_path):
    file = tmp_path / "sheet.csv"
    file.write_text("date,kWh\n2026-01-01,1\nyesterday,2\n2026-01-03,3\n")
    out = io.StringIO()
    with pytest.raises(HistoryError, match="leave them out with --skip"):
        history.main(["--file", path, "import", str(file)], lambda: None, out=out, now=noon())
    assert f"{file}:3: 'yesterday' is no date" in out.getvalue()
    assert "2 new" in run(path, "import", str(file), "--skip")


def denied(*_):
    raise PermissionError(errno.EACCES, "Permission denied")


def test_import_before_the_program_ever_ran(tmp_path, monkeypatch):
    file = tmp_path / "sheet.csv"
    file.write_text("date,kWh\n2026-01-01,1\n")
    path = str(tmp_path / "new" / "history.db")
    with pytest.raises(HistoryError, match=r"of which inverter\? say --serial SERIAL: none is known yet"):
        run(path, "import", str(file))
    assert "1 new" in run(path, "import", str(file), "--serial", OLD, "--dry-run")
    assert not Path(path).exists()
    assert "1 new" in run(path, "import", str(file), "--serial", OLD)
    with pytest.raises(SystemExit):
        run(path, "import", str(file), "--serial", "\x07")
    with pytest.raises(HistoryError, match=r"no-such\.csv: No such file"):
        run(path, "import", "no-such.csv")
    with monkeypatch.context() as patched:
        patched.setattr(history.Path, "read_bytes", denied)
        with pytest.raises(HistoryError, match=r"sheet\.csv: Permission denied; run this with sudo, or"):
            run(path, "import", str(file))


def test_own_export_comes_back_as_it_was(path, tmp_path):
    file = tmp_path / "export.csv"
    file.write_text(run(path, "export"))
    other = str(tmp_path / "other.db")
    assert "3 new" in run(other, "import", str(file))
    assert run(other, "all").splitlines()[0] == run(path, "all").splitlines()[0]


@pytest.mark.parametrize("mark", ["\f", "\v", "\x1c", "\x85", "\u2028"])
def test_line_ends_where_an_editor_ends_it(mark):
    lines = ["date;kWh;remark", f"2026-01-01;1,5;fine{mark}then rain", "2026-01-02;12,3;", "what;x;"]
    for end in ("\n", "\r", "\r\n"):
        sheet = spreadsheets.read(end.join(lines), today=TODAY)
        assert [(day.date.day, day.watt_hours) for day in sheet.days] == [(1, 1_500), (2, 12_300)]
        assert [refused.line for refused in sheet.refused] == [4]


PADDED, BARE = "AB C 12         ", "AB C 12"


@pytest.fixture
def padded(tmp_path):
    """A history of one inverter whose serial is filled up with blanks."""
    path = str(tmp_path / "padded.db")
    connection = archive.connected(path)
    inverter = archive.number_of(connection, PADDED, noon())
    archive.put_day(connection, inverter, dates.number(TODAY), DayFacts(schema.IMPORTED, 7_000))
    archive.put_event(connection, inverter, Happened(noon(), PADDED, schema.FAULT_ON, 9, "utility loss"))
    connection.close()
    return path


def test_serial_that_ends_with_blanks_comes_back_as_the_same_inverter(padded, tmp_path):
    """The blanks of its cells were left out: the energy was there twice, for two inverters."""
    file = tmp_path / "export.csv"
    file.write_text(run(padded, "export"))
    assert f",{PADDED}," in file.read_text()
    assert "1 the same as before" in run(padded, "import", str(file))
    other = str(tmp_path / "other.db")  # from there the program goes on with the serial as it is sent
    assert "1 new" in run(other, "import", str(file))
    file.write_text(file.read_text().replace(PADDED, BARE))
    for path in (padded, other):
        assert "1 the same as before" in run(path, "import", str(file))
        assert run(path, "all").startswith("all years: 7.0 kWh")
        with Reader(path) as reader:
            assert [inverter.serial for inverter in reader.inverters()] == [PADDED]


def test_what_was_imported_without_the_blanks_is_that_of_the_inverter_once_it_is_read(tmp_path):
    path, file = str(tmp_path / "first.db"), tmp_path / "days.csv"
    file.write_text("date;kWh\n2026-01-01;7\n")
    assert "1 new" in run(path, "import", str(file), "--serial", BARE)
    for serial in (PADDED, PADDED):
        with contextlib.closing(archive.connected(path)) as connection:
            inverter = archive.number_of(connection, serial, noon())
    with Reader(path) as reader:
        assert [(one.number, one.serial) for one in reader.inverters()] == [(inverter, PADDED)]
        assert reader.total_kwh(PADDED) == 7.0


def test_serial_is_known_without_its_blanks(padded):
    assert run(padded, "all", "--serial", BARE).startswith("all years: 7.0 kWh")
    assert "utility loss" in run(padded, "events", "--serial", BARE)
    assert "utility loss" in run(padded, "export", "events", "--serial", BARE)
    assert "8.0 kWh in place of 7.0 kWh" in run(padded, "correct", "today", "8", "--serial", BARE)
    assert run(padded, "name", BARE, "the roof") == f"{BARE} is called the roof\n"
    with pytest.raises(HistoryError, match="cannot take the place"):
        run(padded, "replace", PADDED, BARE)
    assert run(padded, "replace", BARE, NEW) == f"{PADDED} was replaced by {NEW}\n"


@pytest.mark.parametrize("order", ["dmy", "mdy"])
@pytest.mark.parametrize("first", [datetime.date(2025, 1, 1), datetime.date(2026, 2, 3)])
def test_order_of_day_and_month_is_found_out(order, first):
    days = [first + datetime.timedelta(n) for n in range(9)]
    form = "{0.day}/{0.month}/{0.year}" if order == "dmy" else "{0.month}/{0.day}/{0.year}"
    text = "date,kWh\n" + "".join(f"{form.format(day)},1.0\n" for day in days)
    assert [day.date for day in spreadsheets.read(text, today=TODAY).days] == days


@pytest.mark.parametrize(
    "data", [b"date;kWh\n2026-01-01;1\xa0000,5 \n", "date;kWh\n2026-01-01;1000,5\n".encode("utf-16")]
)
def test_encodings(data):
    (day,) = spreadsheets.read(spreadsheets.decoded(data), today=TODAY).days
    assert day.watt_hours == 1_000_500
    with pytest.raises(HistoryError, match="bytes; a table of days has less"):
        spreadsheets.decoded(b" " * (spreadsheets.MOST_BYTES + 1))


# the file


def test_check_of_a_whole_file(path):
    with archive.connected(path) as connection:
        connection.execute("DELETE FROM slots")
    assert run(path, "check") == "the history is whole: 1 inverter since 2026-06-20\n"


def test_check_finds_what_is_wrong(path):
    connection = archive.connected(path)
    for day, source, energy, total in (
        (datetime.date(2026, 6, 25), schema.READ, 5_000, 140_000),
        (datetime.date(2026, 6, 26), schema.SPREAD, 5_000, 145_000),
        (datetime.date(2026, 6, 27), schema.READ, 5_000, 153_000),
        (datetime.date(2036, 6, 27), schema.READ, 5_000, None),
    ):
        archive.put_day(connection, 1, dates.number(day), DayFacts(source, energy, total))
    connection.close()
    out = io.StringIO()
    assert history.main(["--file", path, "check"], lambda: None, out=out, now=noon()) == 1
    told = out.getvalue()
    for part in (
        "2036-06-27 is in the future; `history correct 2036-06-27 0` takes its energy away",
        "nothing of 2026-06-23 to 2026-06-24, 2 days",
        "1 days have a share of what nobody saw, 2026-06-26 the first of them",
        "the counter fell from 141.8 to 140.0 kWh on 2026-06-25",
        "2026-06-27 has 5.0 kWh, and the counter grew by 8.0 kWh",
        "2026-06-21 has a curve of 3.5 kWh, and the counter says 21.5 kWh",
    ):
        assert part in told, part


def test_check_of_a_damaged_file(path):
    data = bytearray(Path(path).read_bytes())
    data[4096 * 2 : 4096 * 2 + 200] = b"\xff" * 200
    Path(path).write_bytes(data)
    told = io.StringIO()
    with contextlib.suppress(HistoryError):  # which says it as well
        assert history.main(["--file", path, "check"], lambda: None, out=told, now=noon()) == 1
        assert "the file is damaged" in told.getvalue()


def test_folder_in_place_of_the_file_is_said(tmp_path):
    for words in (["day"], ["check"], ["export"], ["replace", OLD, NEW], ["correct", "today", "1"]):
        with pytest.raises(HistoryError, match=rf"^{tmp_path} is a folder; name the file of the history"):
            run(str(tmp_path), *words)


def test_path_comes_from_the_configuration(path):
    out = io.StringIO()
    settings = SimpleNamespace(history=SimpleNamespace(file=path))
    assert history.main(["day", "2026-06-21"], lambda: settings, out=out, now=noon()) == 0
    assert out.getvalue().startswith("2026-06-21: 21.5 kWh")
    with pytest.raises(HistoryError, match=r"add a section \[history\]"):
        history.main(["day"], lambda: SimpleNamespace(), out=out)
    with pytest.raises(HistoryError, match=r"no-such.db: there is no history yet"):
        history.main(["--file", "no-such.db", "day"], lambda: None, out=out)


@pytest.mark.parametrize(
    "arguments", [[], ["day", "x"], ["day", "2026-02-30"], ["month", "1-2-3-4"], ["day", "0000"], ["hour"]]
)
def test_wrong_arguments(path, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        history.main(["--file", path, *arguments], lambda: None)
    assert ended.value.code == 2


def test_verb_of_the_command_line(path, tmp_path, capsys):
    conf = tmp_path / "goodwe.conf"
    conf.write_text(f"[history]\nfile = {path}\n")
    assert cli.main(["--config", str(conf), "history", "day", "2026-06-21", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    conf.write_text("")
    assert cli.main(["--config", str(conf), "history", "all"]) == 1
    assert "no history is kept" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["cafile", "certfile", "keyfile", "passwordfile"])
def test_files_of_a_login_that_this_user_may_not_read_hinder_no_history(path, tmp_path, monkeypatch, key):
    pem, conf = tmp_path / "pem", tmp_path / "goodwe.conf"
    pem.touch()
    pair = f"certfile = {pem}\nkeyfile = {pem}\n" if key in ("certfile", "keyfile") else f"{key} = {pem}\n"
    tls = "" if key == "passwordfile" else "tls = on\n"
    conf.write_text(f"[mqtt]\nusername = me\n{tls}{pair}[history]\nfile = {path}\n")
    real = os.access
    monkeypatch.setattr(os, "access", lambda name, mode: name != str(pem) and real(name, mode))
    assert cli.main(["--config", str(conf), "history", "day", "2026-06-21", "--json"]) == 0


@pytest.mark.parametrize("date", ["0001-01-01", "9999-12-31", "9999", "0001"])
def test_first_and_last_of_all_days(path, date):
    for verb in ("day", "month", "year"):
        assert run(path, verb, date).startswith("nothing of")
    assert run(path, "events", "--from", date) is not None
    assert run(path, "export", "slots", "--to", date) is not None


@pytest.mark.parametrize("moment", [10**12, -(10**12), 9 * 10**18, -9 * 10**18])
def test_moment_that_is_no_date_is_unknown(path, moment):
    with archive.connected(path) as connection:
        connection.execute("UPDATE days SET peak = 5, peak_at = ?, first = ?, last = ?", [moment] * 3)
        connection.execute("UPDATE inverters SET since = ?, replaced_at = ?", [moment] * 2)
        connection.execute(
            "UPDATE slots SET start = ? WHERE start = (SELECT min(start) FROM slots)", [moment]
        )
        connection.execute("UPDATE events SET at = ? WHERE kind = 'started'", [moment])
    for what in ("day", "month", "year"):
        for look in ((), ("--csv",), ("--json",)):
            run(path, what, "2026-06-21", *look)
    run(path, "all")
    told = run(path, "day", "2026-06-21")
    assert "peak 5 W\n" in told.replace(",", "\n")
    assert "light from" not in told
    (day,) = [day for day in csv.DictReader(io.StringIO(run(path, "export"))) if day["date"] == "2026-06-21"]
    assert (day["peak_w"], day["peak_time"], day["first_light"], day["last_light"]) == ("5.0", "", "", "")
    assert "utility loss" in run(path, "events")
    for what in ("slots", "events"):
        run(path, "export", what)
    with Reader(path) as reader:
        assert alarms.look(reader, noon(), {OLD: 1.0})[OLD].faults.now


# the made-up history


def test_made_up_years_are_sound_and_small(tmp_path, capsys):
    """The size of a year, printed: it is kept for ever."""
    path = str(tmp_path / "history.db")
    roofs = [MadeUpRoof(OLD, 1, last=60), MadeUpRoof(NEW, 3, peak=9000.0, name="roof", first=60)]
    totals = madeup.write(path, roofs, until=TODAY, days=120)
    per_year = Path(path).stat().st_size / 120 * 365 / 1e6
    with capsys.disabled():
        print(f"\n  history: {per_year:.1f} MB a year and inverter")
    assert 3 < per_year < 12
    with Reader(path) as reader:
        assert reader.chain(NEW) == [NEW, OLD]
        assert reader.total_kwh(NEW) == pytest.approx(sum(totals.values()))
        first, last = reader.span()
        assert (first, last) == (TODAY - datetime.timedelta(120), TODAY - datetime.timedelta(1))
        day = TODAY - datetime.timedelta(3)
        (row,) = reader.days(day, day)
        slots = reader.slots(day)
        assert sum(slot.energy_kwh for slot in slots) == pytest.approx(row.energy_kwh)
        assert max(slot.values["pac"] for slot in slots) <= 9000
    out = io.StringIO()
    assert history.main(["--file", path, "check"], lambda: None, out=out, now=noon()) == 0, out.getvalue()
    again = str(tmp_path / "again.db")
    assert madeup.write(again, roofs, until=TODAY, days=120, with_slots=10) == totals
    with Reader(again) as reader:
        assert reader.slots(TODAY - datetime.timedelta(30)) == []
