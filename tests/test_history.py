"""The history: days and slots as pure functions, the file, and what can be asked of it."""

import datetime
import sqlite3

import pytest

from goodwe.history import dates, queries, schema
from goodwe.history.queries import ALL, BY_MONTH, HistoryError, NoHistoryError, Reader
from goodwe.history.scaling import scaled

SERIAL, OTHER = "15000SIM268W0001", "15000SIM268W0002"
JUNE = datetime.date(2026, 6, 21)


# energy of slots


def test_slots_add_up_to_the_counter():
    made = [0.1 * n for n in range(20)]
    assert sum(scaled(made, 18.3, exact=False)) == pytest.approx(18.3)


def test_day_that_has_just_begun_is_left_as_it_is():
    """Its counter goes from 0 to 0.1 at once; a curve that was seen would double."""
    assert scaled([0.02, 0.03], 0.1, exact=False) == [0.02, 0.03]
    assert sum(scaled([0.02, 0.03], 0.1, exact=True)) == pytest.approx(0.1), "it was corrected to that"
    assert sum(scaled([0.02, 0.03], 0.3, exact=False)) == pytest.approx(0.3), "it does not agree"


def test_energy_without_a_curve_is_shared_out():
    assert scaled([0.0, 0.0], 3.0, exact=False) == [1.5, 1.5]
    assert scaled([], 3.0, exact=False) == []
    assert scaled([0.5], None, exact=False) == [0.5]


# what can be asked


@pytest.fixture
def path(tmp_path):
    """A history of two inverters, of which one has taken the place of the other."""
    path = tmp_path / "history.db"
    connection = sqlite3.connect(path)
    with connection:
        for table in schema.TABLES:
            connection.execute(table)
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        inverter = (
            "INSERT INTO inverters (number, serial, since, replaced_by, replaced_at) VALUES (?, ?, ?, ?, ?)"
        )
        connection.execute(inverter, (1, OTHER, 1_000, 2, 2_000))
        connection.execute(inverter, (2, SERIAL, 2_000, None, None))
        number = dates.number(JUNE)
        day = "INSERT INTO days (inverter, day, source, energy, corrected, total, first, last, feeding, seen) VALUES (?, ?, 'read', ?, ?, ?, ?, ?, ?, ?)"
        connection.execute(day, (1, number - 40, 20_000, None, 1_020_000, None, None, None, None))
        connection.execute(day, (1, number - 39, 10_000, 15_000, 1_030_000, None, None, None, None))
        connection.execute(day, (2, number, 5_000, None, 5_000, 1_000, 3_000, 2_000, 500))
        slot = "INSERT INTO slots (inverter, start, day, readings, energy, pac, pac_high, vac1) VALUES (2, ?, ?, ?, ?, ?, ?, ?)"
        noon = number * 86400 + 43200
        connection.execute(slot, (noon, number, 120, 20_000, 24_000, 2_500, 23_015))
        connection.execute(slot, (noon + 300, number, 0, 20_000, None, None, None))
        event = "INSERT INTO events (at, inverter, kind, code, text) VALUES (?, ?, ?, ?, ?)"
        connection.execute(event, (noon, 2, schema.FAULT_ON, 9, "utility loss"))
        connection.execute(event, (noon + 60, None, schema.STARTED, None, "the program started"))
    connection.close()
    return str(path)


def test_slots_of_a_day(path):
    with Reader(path) as history:
        seen, unseen = history.slots(JUNE)
        assert history.slots(JUNE, OTHER) == history.slots(JUNE + datetime.timedelta(1)) == []
    assert (seen.serial, seen.readings, seen.energy_kwh) == (SERIAL, 120, 2.5)
    assert (seen.values["pac"], seen.values["vac1"], seen.high) == (2400.0, 230.15, {"pac": 2500.0})
    assert (unseen.readings, unseen.energy_kwh, dict(unseen.values)) == (0, 2.5, {})


def test_totals_of_a_replaced_inverter_go_on(path):
    with Reader(path) as history:
        assert history.chain(SERIAL) == [SERIAL, OTHER]
        assert history.chain(OTHER) == [OTHER]
        assert history.total_kwh(SERIAL) == 1_020.0 + 15.0 + 5.0
        assert history.total_kwh("nobody") is None
        old, new = history.inverters()
        assert (old.replaced_by, old.replaced_at, new.replaced_by) == (SERIAL, 2_000.0, "")


def test_total_of_a_replaced_inverter_that_was_only_imported_goes_on(path):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE days SET total = NULL, source = 'imported' WHERE inverter = 1")
    connection.close()
    with Reader(path) as history:
        assert history.total_kwh(OTHER) == 20.0 + 15.0
        assert history.total_kwh(SERIAL) == 20.0 + 15.0 + 5.0


def test_sums_and_days(path):
    with Reader(path) as history:
        may, june = history.sums(BY_MONTH)
        (everything,) = history.sums(ALL, serials=[OTHER])
        first, second = history.days(datetime.date(2026, 5, 1), datetime.date(2026, 5, 31))
        assert history.span() == (first.date, JUNE)
    assert (may.period, may.energy_kwh, may.days, may.best, may.best_kwh) == (
        "2026-05",
        35.0,
        2,
        datetime.date(2026, 5, 12),
        20.0,
    )
    assert (may.corrected, june.corrected, june.energy_kwh) == (True, False, 5.0)
    assert (everything.period, everything.energy_kwh) == ("all", 35.0)
    assert (first.corrected, second.energy_kwh, second.counted_kwh) == (False, 15.0, 10.0)


def test_events_newest_first(path):
    noon = dates.number(JUNE) * 86400 + 43200
    with Reader(path) as history:
        started, fault = history.events(0, 2e9)
        assert (fault.serial, fault.kind, fault.code, fault.text) == (
            SERIAL,
            "fault_on",
            9,
            "utility loss",
        )
        assert (started.serial, started.code) == ("", None)
        assert history.events(0, 2e9, kinds=[schema.STARTED]) == [started]
        assert history.events(0, 2e9, serial=SERIAL) == history.events(noon, noon + 1) == [fault]
        assert history.events(0, 2e9, most=1) == [started]
        assert history.events(float("-inf"), float("inf"), kinds=["no such"]) == []


def test_latest(path):
    with Reader(path) as history:
        latest = history.latest()
    assert latest[OTHER].slot is None
    assert latest[OTHER].day.energy_kwh == 15.0
    assert (latest[SERIAL].slot.readings, latest[SERIAL].day.seen) == (120, 0.25)


def test_nothing_to_read(tmp_path, path):
    with pytest.raises(NoHistoryError):
        Reader(str(tmp_path / "none.db"))
    (tmp_path / "empty.db").touch()
    with pytest.raises(NoHistoryError):
        Reader(str(tmp_path / "empty.db"))
    (tmp_path / "text.db").write_bytes(b"no database" * 100)
    with pytest.raises(HistoryError, match="damaged"):
        Reader(str(tmp_path / "text.db"))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(HistoryError, match="later version"):
        Reader(path)


def test_reader_changes_nothing(path):
    with Reader(path) as history, pytest.raises(sqlite3.OperationalError, match="readonly"):
        history._connection.execute("DELETE FROM days")


# days


def test_bounds_of_days(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Amsterdam")
    dates.time.tzset()
    try:
        lengths = {
            day: (bounds.end - bounds.start) / 3600
            for day in (datetime.date(2026, 3, 29), datetime.date(2026, 10, 25), JUNE)
            for bounds in [dates.bounds(day)]
        }
        assert list(lengths.values()) == [23.0, 25.0, 24.0]
        assert dates.bounds(datetime.date.max).end > dates.bounds(datetime.date.min).end
        assert dates.day_of(dates.bounds(JUNE).start, dates.time.localtime) == JUNE
        assert dates.day_of(1e30, dates.time.localtime) is None
    finally:
        monkeypatch.undo()
        dates.time.tzset()


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_file_that_this_user_may_not_read_is_told_with_the_remedy(tmp_path, monkeypatch, closed):
    path = tmp_path / "history.db"
    path.touch()
    if closed == "folder":

        def denied(path):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(queries.os, "stat", denied)
    else:
        monkeypatch.setattr(queries.os, "access", lambda path, mode: False)
    with pytest.raises(HistoryError, match=f"this user may not read {path}; run it with sudo, or as"):
        Reader(str(path))
