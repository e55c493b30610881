"""Charts and axes: literal numbers in, golden drawings out."""

import re
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest

from goodwe.outputs.web import charts, scale
from goodwe.outputs.web.charts import Bar, Curve
from goodwe.outputs.web.words import Words

GOLDEN = Path(__file__).parent / "golden"
AMSTERDAM = ZoneInfo("Europe/Amsterdam")
SHEET = (Path(charts.__file__).parent / "static" / "chart.css").read_text("utf-8")


def span(year, month, day, zone=AMSTERDAM):
    start = datetime(year, month, day, tzinfo=zone)
    return start.timestamp(), start.replace(day=day + 1).timestamp()


def line(lines, day=(2026, 6, 21), *, zone=AMSTERDAM, size=charts.WIDE, unit="W", words="en", **more):
    start, end = span(*day, zone)
    return charts.line_chart(
        lines,
        start=start,
        end=end,
        zone=zone,
        unit=unit,
        title="Power",
        words=Words(words),
        size=size,
        **more,
    )


def hill(start, watts=2000.0):
    """From 06:00 to 18:00, its top at noon."""
    return [(start + 60.0 * m, watts * (1 - abs(m - 720) / 360)) for m in range(360, 1081, 5)]


def shapes(svg, name, kind):
    root = ElementTree.fromstring(svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))
    return [
        one
        for one in root.iter(f"{{http://www.w3.org/2000/svg}}{name}")
        if kind in one.get("class", "").split()
    ]


# --- axes


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 3000, 5, (0, 3000, 1000)),
        (0, 2978, 5, (0, 3000, 1000)),
        (0, 3001, 5, (0, 4000, 1000)),
        (0, 4.9, 5, (0, 5, 1)),
        (0, 0.3, 5, (0, 0.3, 0.1)),
        (0, 0, 5, (0, 1, 1)),
        (228.4, 241.2, 5, (225, 245, 5)),
        (49.96, 50.03, 5, (49.96, 50.04, 0.02)),
        (-120, 480, 4, (-200, 600, 200)),
        (231.0, 231.0, 5, (231, 232, 1)),
        (0, 65_000, 5, (0, 80_000, 20_000)),
    ],
)
def test_axes_end_at_round_numbers_around_the_values(low, high, most, expected):
    assert scale.round_ends(low, high, most) == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(1000, 0), (1, 0), (0.5, 1), (0.2, 1), (0.1, 1), (0.02, 2)])
def test_numbers_have_as_many_digits_as_the_step_needs(step, expected):
    assert scale.decimals(step) == expected


@pytest.mark.parametrize(
    ("day", "zone", "most", "expected"),
    [
        ((2026, 6, 21), AMSTERDAM, 12, "00 02 04 06 08 10 12 14 16 18 20 22 24"),
        ((2026, 6, 21), AMSTERDAM, 6, "00 04 08 12 16 20 24"),
        # 02:00 is left out in the night to summer time, and comes twice in that back.
        ((2026, 3, 29), AMSTERDAM, 12, "00 04 06 08 10 12 14 16 18 20 22 24"),
        ((2026, 10, 25), AMSTERDAM, 13, "00 02 02 04 06 08 10 12 14 16 18 20 22 24"),
        # Three quarters of an hour away from everybody else.
        ((2026, 6, 21), ZoneInfo("Asia/Kathmandu"), 6, "00 04 08 12 16 20 24"),
        # Half an hour of summer time.
        ((2026, 10, 4), ZoneInfo("Australia/Lord_Howe"), 6, "00 04 08 12 16 20 24"),
    ],
)
def test_hours_stand_where_the_clock_shows_them(day, zone, most, expected):
    start, end = span(*day, zone)
    ticks = scale.hours(start, end, most, zone)
    assert " ".join(tick.label for tick in ticks) == expected
    for tick in ticks[:-1]:
        assert f"{datetime.fromtimestamp(tick.at, zone):%H:%M}" == f"{tick.label}:00"


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 6, 21), 24), ((2026, 10, 25), 25)])
def test_day_of_summer_time_takes_the_whole_width(day, hours):
    start, end = span(*day)
    assert (end - start) / 3600 == hours
    svg = line([Curve("roof", [(start, 1.0), (start + 300, 1.0), (end, 1.0)])], day)
    left, right = (float(re.search(f'data-{side}="([0-9.]+)"', svg)[1]) for side in ("left", "right"))
    (dot,) = shapes(svg, "circle", "dot")
    assert float(dot.get("cx")) == pytest.approx(right, abs=0.1)
    (run,) = shapes(svg, "polyline", "line")
    assert float(run.get("points").split(",")[0]) == pytest.approx(left, abs=0.1)


# --- lines


def test_no_line_is_drawn_over_a_gap():
    start, _ = span(2026, 6, 21)
    points = [one for one in hill(start) if not 9 * 3600 <= one[0] - start < 10 * 3600]
    runs = shapes(line([Curve("roof", points)]), "polyline", "line")
    assert [len(run.get("points").split()) for run in runs] == [36, 97]


def test_a_slot_alone_is_a_dot():
    start, _ = span(2026, 6, 21)
    svg = line([Curve("roof", [(start + 3600, 5.0)])])
    assert shapes(svg, "polyline", "line") == []
    assert len(shapes(svg, "circle", "dot")) == 1


def test_highest_value_of_all_lines_is_marked_once():
    start, _ = span(2026, 6, 21)
    svg = line([Curve("roof", hill(start)), Curve("barn", hill(start, 3100.0))])
    assert len(shapes(svg, "circle", "mark")) == 1
    (top,) = shapes(svg, "text", "top")
    assert top.text == "3\u202f100 W, 12:00"
    assert "Highest: 3\u202f100 W, 12:00".lower() in ElementTree.fromstring(svg).get("aria-label").lower()


def test_first_of_two_equal_values_is_the_highest():
    assert charts.highest([Curve("roof", [(10.0, 5.0), (20.0, 5.0)])])[1] == 10.0
    assert charts.highest([Curve("roof", [])]) is None


@pytest.mark.parametrize(("minute", "side"), [(5, "left"), (720, "top"), (1435, "right")])
def test_mark_at_the_edge_keeps_its_words_inside(minute, side):
    start, _ = span(2026, 6, 21)
    (top,) = shapes(line([Curve("roof", [(start + 60 * minute, 5.0)])]), "text", "top")
    assert side in top.get("class").split()


def test_names_are_escaped():
    start, _ = span(2026, 6, 21)
    svg = line([Curve('<b>"&', hill(start))])
    assert "<b>" not in svg
    assert "&lt;b&gt;" in svg


def test_day_without_a_value_says_so():
    (text,) = shapes(line([], words="de"), "text", "none")
    assert text.text == "keine Daten"
    assert shapes(line([]), "text", "up")[0].text == "W"


def test_more_lines_than_colours_begin_again():
    start, _ = span(2026, 6, 21)
    svg = line([Curve(str(number), hill(start)) for number in range(8)])
    assert len(shapes(svg, "polyline", "c0")) == 2
    assert {f".c{number} " in SHEET for number in range(charts.COLOURS)} == {True}


# --- bars


def month(**more):
    bars = [Bar(str(day), f"{day} June", day / 2, 16.0 - day / 2, f"day?date={day}") for day in range(1, 31)]
    return charts.bar_chart(bars, unit="kWh", title="June 2026", words=Words("en"), **more)


def test_bars_are_as_high_as_their_values():
    svg = month()
    heights = [float(bar.get("height")) for bar in shapes(svg, "rect", "bar")]
    assert heights[29] == pytest.approx(15 * heights[1], rel=0.01)
    assert len(shapes(svg, "rect", "before")) == 30


def test_each_bar_says_its_value_and_that_of_the_year_before():
    assert "<title>2 June: 1.0 kWh (a year before: 15.0 kWh)</title>" in month()


def test_labels_of_many_bars_have_room():
    narrow = [text.text for text in shapes(month(size=charts.NARROW), "text", "across")]
    assert narrow[:3] == ["1", "6", "11"]
    assert len(shapes(month(), "text", "across")) == 30


def test_bar_of_nothing_has_no_height_and_a_missing_one_is_not_drawn():
    bars = [Bar("1", "one", 0.0), Bar("2", "two", None), Bar("3", "three", 4.0)]
    svg = charts.bar_chart(bars, unit="kWh", title="x", words=Words("en"))
    assert next(bar.get("height") for bar in shapes(svg, "rect", "bar")) == "0.0"
    assert len(shapes(svg, "rect", "bar")) == 2
    assert svg.count('class="reach"') == 3


def test_no_bars_say_so():
    assert "no data" in charts.bar_chart([], unit="kWh", title="x", words=Words("en"))


# --- the rest


@pytest.mark.parametrize(
    ("watts", "most", "length"),
    [(0, 5000, 0), (2500, 5000, 125.7), (5000, 5000, 251.3), (6000, 5000, 251.3), (-10, 5000, 0), (5, 0, 0)],
)
def test_dial_is_filled_by_its_share(watts, most, length):
    svg = charts.dial(watts, most, title="power", words=Words("en"))
    assert float(re.search(r'dasharray="([0-9.]+)', svg)[1]) == pytest.approx(length, abs=0.1)


def drawings():
    start, _ = span(2026, 6, 21)
    points = [one for one in hill(start) if not 9 * 3600 <= one[0] - start < 10 * 3600]
    lines = [Curve("roof", points), Curve("barn", hill(start, 900.0))]
    return {
        "day-wide": line(lines, words="nl"),
        "day-narrow": line(lines, size=charts.NARROW),
        "voltage": line(
            [Curve("L1", [(at, 230 + watts / 200) for at, watts in points])], unit="V", from_zero=False
        ),
        "month-wide": month(),
        "month-narrow": month(size=charts.NARROW),
        "dial": charts.dial(2351, 5000, title="power", words=Words("en")),
    }


@pytest.mark.parametrize("name", drawings())
def test_drawing_is_the_golden_one(name):
    svg = charts.alone(drawings()[name], "")
    assert svg == (GOLDEN / f"{name}.svg").read_text("utf-8")


@pytest.mark.parametrize("name", drawings())
def test_drawing_is_a_picture_for_screen_readers_too(name):
    """One with links is a group: what is within a picture does not exist for them."""
    root = ElementTree.fromstring(charts.alone(drawings()[name], SHEET))
    assert root.get("role") == ("group" if "<a " in drawings()[name] else "img")
    assert len(root.get("aria-label")) > 4
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    # A style of its own would need a looser policy for the whole page.
    assert "style=" not in drawings()[name]
