"""The page as a WSGI application: every page in every language, what may be asked, what is refused."""

import contextlib
import csv
import io
import json
import re
import shutil
import sqlite3
from dataclasses import replace
from datetime import date, datetime
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goodwe.errors import GoodWeError
from goodwe.events import Found, Info, Offline, Online, Reading, Remembered, Resting
from goodwe.history import archive, changes, schema
from goodwe.history.queries import Reader
from goodwe.outputs.web import documents
from goodwe.outputs.web.markup import EMPTY, Html, join, tag
from goodwe.outputs.web.pages import WORD_OF_EVENT
from goodwe.outputs.web.site import NO_HISTORY, STATIC
from goodwe.outputs.web.words import Words, language_of
from goodwe.protocol.texts import LANGUAGES

from . import web
from .web import BARN, DAY, NOW, ROOF, VALUES, Page, asked, clock_of

PAGES = ["/", "/day", "/month", "/year", "/years", "/events", "/health", "/api"]
CHARTS = ["/chart/day.svg", "/chart/month.svg", "/chart/year.svg", "/chart/years.svg"]
APIS = [f"/api/{name}" for name in documents.NAMES]
CSVS = [f"/csv/{name}.csv" for name in documents.NAMES if name != "health"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return web.history(tmp_path_factory.mktemp("web") / "history.db")


@pytest.fixture
def page(path):
    page = Page(path)
    for serial, phases in ((ROOF, 1), (BARN, 3)):
        page.live.handle(Online(serial, 11))
        page.live.handle(Reading(serial, 11, phases, dict(VALUES), NOW - 2))
    page.live.handle(Info(ROOF, "idInfo", {"modelName": "GW5000D-NS", "firmwareVersion": "1010C"}))
    return page


@pytest.fixture
def replaced(tmp_path):
    """The page of a house in which one inverter took the place of the other, which is remembered."""
    path = web.history(tmp_path / "history.db")
    changes.replace(path, BARN, ROOF, now=NOW)
    page = Page(path)
    page.live.handle(Online(ROOF, 11))
    page.live.handle(Reading(ROOF, 11, 1, dict(VALUES), NOW - 2))
    page.live.handle(Resting(BARN, 11, 3, {**VALUES, "pac": 0, "eDay": 0.0}, NOW - 86400, NOW))
    return page


class Balance(HTMLParser):
    """Reads HTML in which every element that is opened is closed, in its order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, name, attrs):
        self.found.append((name, dict(attrs)))
        if name not in EMPTY:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name


def text_of(html):
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", html))


# --- every page


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_whole_in_every_language(page, address, language):
    body = page.body(address, accept_language=language)
    found = Balance(body).found
    assert ("html", {"lang": language}) in found
    for name, attributes in found:
        assert "style" not in attributes, name
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("href", "src", "action"):
            assert not re.match(r"[a-z]+:|/", attributes.get(key) or ""), f"{name} leads to {attributes[key]}"
    assert "<b>&02" not in body


@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_there_without_history_or_says_how_to_get_one(address):
    status, _, body = Page(None).ask(address)
    if address in ("/", "/health", "/api"):
        assert status == 200
    else:
        assert (status, body) == (404, NO_HISTORY + "\n")
        assert "[history]" in body


def test_every_link_of_every_page_is_answered(page):
    links = {
        attributes["href"]
        for address in PAGES
        for name, attributes in Balance(page.body(address)).found
        if name in ("a", "link")
    }
    assert len(links) > 35
    for link in links:
        assert page.ask_bytes("/" + link.removeprefix("."))[0] == 200, link


@pytest.mark.parametrize(
    "address", [*CHARTS, *APIS, *CSVS, "/manifest.webmanifest", *(f"/static/{n}" for n in STATIC)]
)
def test_every_other_address_is_answered(page, address):
    status, headers, _ = page.ask_bytes(address)
    assert status == 200
    assert headers["X-Content-Type-Options"] == "nosniff"


# --- now


def test_first_page_adds_the_inverters_up_and_shows_each(page):
    words = text_of(page.body("/"))
    assert "4\u202f702 W" in words
    assert "today 16.8 kWh" in words
    assert "roof" in words
    assert "229.3 V 10.1 A; 230.1 V 3.0 A; 231.1 V 3.1 A" in words
    assert "305.1 V 4.1 A; 289.8 V 3.2 A" in words
    assert "Broker: connected, 127.0.0.1:1883, 11 min" in words
    assert "not connected, nas:1883, connection refused" in words
    assert "Waiting messages: 12" in words


def test_fault_is_red_and_in_the_language_of_the_reader(page):
    page.live.handle(Reading(ROOF, 11, 1, {**VALUES, "workMode": 2, "errorMessage": [17, 29]}, NOW))
    body = page.body("/", accept_language="nl-NL,nl;q=0.9")
    assert (
        '<span class="fault">Storing: netspanning buiten bereik, netfrequentie buiten bereik</span>' in body
    )


def test_total_of_a_replaced_inverter_goes_on_at_first_sight(replaced):
    with Reader(replaced.history) as history:
        before = history.total_kwh(BARN)
    told = json.loads(replaced.body("/api/now"))
    assert before > 0
    assert [row["serial"] for row in told["inverters"]] == [ROOF]
    assert told["total_kwh"] == told["inverters"][0]["total_kwh"] == round(VALUES["eTotal"] + before, 1)
    assert f"{VALUES['eTotal'] + before:,.0f}"[-3:] in replaced.body("/")


@pytest.mark.parametrize(("fresh", "fault"), [(180.0, True), (900.0, False)])
def test_old_reading_is_a_fault_only_where_they_come_more_often(path, fresh, fault):
    page = Page(path, fresh=fresh)
    page.live.handle(Online(ROOF, 11))
    page.live.handle(Reading(ROOF, 11, 1, dict(VALUES), NOW - 290))
    assert ('<span class="fault">4 min' in page.body("/")) == fault


def test_inverter_that_is_away_feeds_nothing_and_keeps_its_totals(page):
    page.live.handle(Offline(ROOF, 11, "unplugged"))
    page.live.handle(Resting(ROOF, 11, 1, {**VALUES, "pac": 0}, NOW - 2, NOW))
    told = json.loads(page.body("/api/now"))
    roof = next(one for one in told["inverters"] if one["serial"] == ROOF)
    assert (roof["online"], roof["power_watts"], roof["today_kwh"], roof["reason"]) == (
        False,
        0,
        8.4,
        "unplugged",
    )
    assert roof["temperature_celsius"] is None
    assert told["power_watts"] == 2351
    assert "away" in text_of(page.body("/"))


def test_old_reading_of_an_inverter_that_is_said_to_be_there_is_told(page):
    page.live.handle(Reading(ROOF, 11, 1, dict(VALUES), NOW - 400))
    assert '<span class="fault">6 min</span>' in page.body("/")


def test_inverter_that_was_read_before_the_start_only_is_listed(page):
    page.live.handle(Remembered("2000KDTU18000003", 3))
    page.live.handle(Found("2000KDTU18000003", 12))
    told = json.loads(page.body("/api/now"))
    assert [one["power_watts"] for one in told["inverters"]] == [2351, 2351, None]


def test_nothing_yet_is_said():
    assert "No inverter yet" in text_of(Page(None).body("/"))


def test_first_page_stands_while_the_loop_is_busy(path):
    page = Page(path, status=TimeoutError("The program does not answer now."))
    page.live.handle(Online(ROOF, 11))
    assert page.ask("/")[0] == 200
    assert page.ask("/health")[0] == 503
    assert page.ask("/health")[2] == "The program does not answer now.\n"


def test_first_page_opens_the_history_once(page, path, monkeypatch):
    opened = []

    def history():
        opened.append(path)
        return Reader(path)

    monkeypatch.setattr(page.site, "_sources", replace(page.site._sources, history=history))
    for address in ("/", "/?part=numbers", "/api/now"):
        opened.clear()
        page.body(address)
        assert opened == [path], address


def test_numbers_tell_the_broker_and_how_far_the_curve_goes(page):
    whole, numbers = page.body("/"), page.body("/?part=numbers")
    last = int(NOW) + 5 * 3600 - 300  # of the slots of the day, which ends at six
    for body in (whole, numbers):
        assert f'data-drawn="{DAY} {last}"' in body
        (broker,) = re.findall(r'<div data-live="broker">.*?</div>', body)
        assert "127.0.0.1:1883" in broker
        assert "Waiting messages" in broker


def test_page_without_an_inverter_waits_for_one():
    body = Page(None).body("/")
    assert 'data-live="broker"' in body
    assert "<figure" not in body


def test_numbers_alone_come_without_the_curve(page):
    assert "<figure" in page.body("/")
    part = page.body("/?part=numbers")
    assert "<figure" not in part
    assert 'data-live="power_watts"' in part


# --- history


def test_day_shows_its_curve_and_what_it_was(page):
    words = text_of(page.body(asked("/day", date="2026-06-21")))
    assert "21 June 2026" in words
    assert f"4\u202f000 W, {clock_of(NOW - 3600 + 150)}" in words
    assert "10.0 kWh" in words
    assert "20.0 kWh" in words
    assert "229.5 \u2013 241.2 V" in words


@pytest.mark.parametrize(
    ("show", "lines"),
    [
        ("power", ["roof", BARN]),
        ("temperature", ["roof", BARN]),
        ("grid voltage", ["roof L1", f"{BARN} L1", f"{BARN} L2", f"{BARN} L3"]),
        ("PV voltage", ["roof PV 1", "roof PV 2", f"{BARN} PV 1", f"{BARN} PV 2"]),
        ("frequency", ["roof L1", f"{BARN} L1", f"{BARN} L2", f"{BARN} L3"]),
    ],
)
def test_day_shows_the_field_that_is_chosen(page, show, lines):
    body = page.body(asked("/chart/day.svg", date="2026-06-21", show=show))
    root = ElementTree.fromstring(body)
    titles = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")][1:]
    assert titles == lines


def test_one_inverter_alone(page):
    told = json.loads(page.body(asked("/api/day", date="2026-06-21", serial=BARN)))
    assert {slot["serial"] for slot in told["slots"]} == {BARN}
    assert told["energy_kwh"] == 20.0
    noon = max(told["slots"], key=lambda slot: slot["pac"])
    assert noon["pac"] == 4000.0
    assert noon["time"][:16] == "2026-06-21T12:00"
    assert datetime.fromisoformat(noon["time"]).timestamp() == noon["from_epoch"]


def test_blanks_around_a_serial_are_not_looked_at(page):
    told = page.body(asked("/api/day", date="2026-06-21", serial=BARN))
    assert page.body(asked("/api/day", date="2026-06-21", serial=f" {BARN}  ")) == told


@pytest.mark.parametrize("moment", [5 * 10**11, 9 * 10**18, -9 * 10**18])
def test_moment_that_is_no_date_is_unknown(path, tmp_path, moment):
    page = Page(shutil.copy(path, tmp_path))
    with archive.connected(page.history) as connection:
        connection.execute("UPDATE days SET peak = 5, peak_at = ?, first = ?, last = ?", [moment] * 3)
        connection.execute("UPDATE events SET at = ? WHERE kind = 'started'", [moment])
        connection.execute(
            "UPDATE slots SET start = ? WHERE start = (SELECT max(start) FROM slots)", [moment]
        )
    told = json.loads(page.body(asked("/api/day", date="2026-06-21")))
    assert [(day["peak_epoch"], day["first_light_epoch"]) for day in told["days"]] == [(None, None)] * 2
    assert "5 W" in text_of(page.body(asked("/day", date="2026-06-21")))
    for address in (*PAGES, "/api/events?until=999999999999", "/events?until=999999999999"):
        assert page.ask(address)[0] == 200, address


def test_previous_and_next_lead_as_far_as_there_is_anything(page):
    first = page.body(asked("/day", date="2025-06-20", serial=ROOF))
    assert 'href="day?date=2025-06-19' not in first
    assert f'href="day?date=2025-06-21&amp;serial={ROOF}"' in first
    assert 'href="day?date=2026-06-22' not in page.body("/day")


def test_month_stands_beside_that_of_the_year_before(page):
    told = json.loads(page.body(asked("/api/month", date="2026-06-03")))
    assert (told["total_kwh"], told["before_kwh"]) == (67.5, 60.0)
    assert (told["best_day"], told["best_day_kwh"], told["mean_day_kwh"]) == ("2026-06-20", 37.5, 33.75)
    assert len(told["rows"]) == 30
    assert told["rows"][20] == {
        "period": "2026-06-21",
        "energy_kwh": 30.0,
        "before_kwh": 33.0,
        "corrected": False,
    }
    words = text_of(page.body(asked("/month", date="2026-06-03")))
    assert "Total: 67.5 kWh" in words
    assert "Best day: 37.5 kWh, 20 June 2026" in words


def test_year_has_its_months_and_all_years_their_sums(page):
    told = json.loads(page.body("/api/year"))
    assert [row["energy_kwh"] for row in told["rows"]] == [None] * 4 + [21.0, 67.5] + [None] * 6
    assert told["rows"][5]["before_kwh"] == 60.0
    years = json.loads(page.body("/api/years"))
    assert [(row["period"], row["energy_kwh"]) for row in years["rows"]] == [("2025", 60.0), ("2026", 88.5)]
    assert years["best_day"] == "2026-06-20"


def test_february_29_has_no_day_beside_it(page):
    told = json.loads(page.body(asked("/api/month", date="2028-02-29")))
    assert len(told["rows"]) == 29
    assert told["rows"][28]["before_kwh"] is None


def test_events_are_newest_first_and_can_be_chosen(page):
    told = json.loads(page.body("/api/events"))
    assert [one["kind"] for one in told] == ["started", "away", "fault_off", "fault_on"]
    only = json.loads(page.body(asked("/api/events", kind="fault_on", serial=ROOF)))
    assert [(one["code"], one["serial"]) for one in only] == [(17, ROOF)]
    assert '<span class="fault">Fault: grid voltage out of range</span>' in page.body("/events")


def test_events_of_all_years_are_reached_page_by_page(tmp_path):
    path = web.history(tmp_path / "history.db")
    with contextlib.closing(sqlite3.connect(path)) as database:
        # 25 in each second, so that the hundredth is not the last of its second
        several = [(NOW - 1000 - n // 25 * 60, "away", None, f"absence {n}") for n in range(680)]
        several[105:115] = [(several[99][0], *row[1:]) for row in several[105:115]]
        database.executemany("INSERT INTO events (at, kind, code, text) VALUES (?, ?, ?, ?)", several)
        database.commit()
    page = Page(path)
    address, told, pages = "/events?kind=away", [], 0
    while address:
        found = Balance(page.body(address))
        told += re.findall(r"Away: (absence \d+)", text_of(page.body(address)))
        links = [a["href"] for name, a in found.found if name == "a" and "until=" in a.get("href", "")]
        address = next((f"/{one}" for one in links if one.startswith("events?")), "")
        pages += 1
        assert pages < 10
    assert sorted(told) == sorted(row[3] for row in several), "each once"
    assert pages == 7
    first = json.loads(page.body("/api/events?kind=away"))
    assert len(first) == 501, "500, and what else happened in the second of the last one"
    rest = json.loads(page.body(f"/api/events?kind=away&until={first[-1]['at_epoch']}"))
    told = [one["text"] for one in first + rest if one["serial"] is None]
    assert sorted(told) == sorted(row[3] for row in several)
    assert "until=" in page.body(f"/events?until={NOW - 2000:.0f}"), "the files have what is shown"


def test_events_say_of_which_kind_they_are_in_the_language_of_the_reader(page):
    words = text_of(page.body("/events", accept_language="nl"))
    assert f"{BARN.split('<')[0]}&lt;b&gt;&amp;02 Afwezig: unplugged" in words
    assert "roof Storing: netspanning buiten bereik" in words
    assert "roof Storing voorbij: netspanning buiten bereik" in words
    assert "Programma gestart: the program started" in words
    assert '<option value="fault_off">storing voorbij</option>' in page.body("/events", accept_language="nl")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_event_has_its_word(language):
    assert list(WORD_OF_EVENT) == list(schema.KINDS)
    told = [Words(language)[word] for word in WORD_OF_EVENT.values()]
    assert len(set(told)) == len(schema.KINDS)


def test_health_names_no_path_of_the_machine(page):
    for address in ("/health", "/api/health"):
        body = page.body(address)
        assert "/dev/" not in body
        assert "/var/" not in body
        assert "toy" in body
    words = text_of(page.body("/health"))
    assert "Version: 1.2.3" in words
    assert "power impossible (2)" in words
    assert "unplugged" in words


# --- files


@pytest.mark.parametrize("address", CSVS)
def test_csv_has_the_rows_of_the_json(page, address):
    name = address.removeprefix("/csv/").removesuffix(".csv")
    status, headers, body = page.ask(f"{address}?date=2026-06-21")
    assert (status, headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert headers["Content-Disposition"] == f'attachment; filename="goodwe-{name}-2026-06-21.csv"'
    rows = list(csv.DictReader(io.StringIO(body)))
    assert len(rows) == len(documents.rows(name, json.loads(page.body(f"/api/{name}?date=2026-06-21"))))


def test_spreadsheet_calculates_nothing_of_ours():
    assert documents.csv([{"name": "=1+1", "power": -5}]) == "name,power\r\n'=1+1,-5\r\n"


def test_csv_of_nothing_is_empty():
    assert documents.csv([]) == "\r\n"


# --- what is refused


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "FOO"])
def test_nothing_can_be_changed(page, method):
    status, headers, _ = page.ask("/", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("address", [*PAGES, "/foo"])
def test_head_has_the_headers_of_get(page, address):
    got, headers, body = page.ask(address)
    told, same, nothing = page.ask(address, "HEAD")
    assert (told, same, nothing) == (got, headers, "")
    assert headers["Content-Length"] == str(len(body.encode()))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8765",
        "LOCALHOST.",
        "raspberrypi:8765",
        "192.168.1.5:8765",
        "[fe80::1]:8765",
        "[::1]",
        "10.0.0.1",
    ],
)
def test_our_names_and_addresses_are_answered(page, host):
    assert page.ask("/", host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "raspberrypi.evil.example",
        "localhost.evil.example",
        "localhost:8765@evil",
        "a b",
        "[::1",
        "1.2.3",
        "1.2.3.4.5",
        "localhost:999999",
        "fe80::1",
        "\u0660.0.0.1",
        "x" * 1000,
    ],
)
def test_foreign_names_are_not(page, host):
    status, _, body = page.ask("/", host=host)
    assert status == 421
    assert "names in [web]" in body


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/foo", 404),
        ("/day/", 404),
        ("//", 404),
        ("/static/../site.py", 404),
        ("/static/..%2fsite.py", 404),
        ("/static/", 404),
        ("/static/page.css\0", 404),
        ("/metrics", 404),
        ("/csv/health.csv", 404),
        ("/day?date=0000-01-01", 400),
        ("/day?date=2026-02-30", 400),
        ("/day?date=tomorrow", 400),
        ("/day?date=2026-6-1x", 400),
        ("/day?date=1969-12-31", 404),
        ("/day?date=9999-12-31", 404),
        ("/month?date=9998-12-31", 200),
        ("/year?date=1970-01-01", 200),
        ("/day?serial=nobody", 404),
        ("/day?serial=%00", 404),
        ("/day?show=sunshine", 400),
        ("/events?kind=party", 400),
        ("/events?until=yesterday", 400),
        ("/events?until=1e9", 400),
        ("/events?until=999999999999", 200),
        ("/events?until=0", 200),
        ("/chart/day.svg?size=huge", 400),
        ("/day?" + "a" * 2000, 414),
        ("/day?" + "&".join(f"a{n}=1" for n in range(30)), 400),
    ],
)
def test_what_cannot_be_given_is_said(page, address, status):
    got, headers, body = page.ask(address)
    assert got == status
    if status != 200:
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert body.count("\n") == 1


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*PAGES, *CHARTS, *APIS, *CSVS]),
    st.dictionaries(
        st.sampled_from(["date", "serial", "show", "kind", "size", "part"]),
        st.one_of(st.text(max_size=20), st.dates().map(str), st.sampled_from([ROOF, BARN, "power", "away"])),
    ),
    st.text(max_size=40),
)
def test_no_question_breaks_the_page(page, address, query, language):
    status, headers, body = page.ask(asked(address, **query), accept_language=language)
    assert status in (200, 400, 404, 414)
    if headers["Content-Type"].startswith("text/html"):
        Balance(body)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_path_breaks_the_page(page, path, query):
    assert page.ask_bytes(f"/{path}?{query}")[0] in (200, 400, 404, 414)  # a picture is an answer, too


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*PAGES, "/api/day"]),
    st.sampled_from(["GET", "HEAD", "POST", "", "get", "\xff"]),
    st.dictionaries(
        st.sampled_from(["host", "accept_language", "x_forwarded_prefix", "cookie", "range"]),
        st.one_of(
            st.text(st.characters(max_codepoint=255), max_size=60),  # as WSGI gives bytes
            st.sampled_from(["localhost", "[::1]:1", "/a/b", "nl;q=1e400", "en;q=nan,de;q=-1", "bytes=0-"]),
        ),
    ),
)
def test_no_header_breaks_the_page(page, address, method, headers):
    status, given, body = page.ask(address, method, **headers)
    assert status in (200, 405, 421)
    assert all(name.isascii() and value.isascii() and "\n" not in value for name, value in given.items())
    if status == 200 and method == "GET" and given["Content-Type"].startswith("text/html"):
        Balance(body)


def test_defect_of_a_page_is_in_the_log_and_tells_nothing(page, monkeypatch, caplog):
    monkeypatch.setattr("goodwe.outputs.web.site.health.health", lambda *_: 1 / 0)
    status, _, body = page.ask("/health")
    assert (status, body) == (500, "The page failed; the log of the program says why.\n")
    assert "ZeroDivisionError" in caplog.text
    assert page.ask("/")[0] == 200


def test_history_that_cannot_be_read_now_is_said(page, monkeypatch):
    def broken():
        raise GoodWeError("the history is damaged: x")

    monkeypatch.setattr(page.site, "_sources", replace(page.site._sources, history=broken))
    assert page.ask("/day")[::2] == (503, "the history is damaged: x\n")
    assert page.ask("/")[0] == 200


# --- headers


def test_policy_allows_nothing_from_elsewhere_and_nothing_inline(page):
    _, headers, _ = page.ask("/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert not {"Server", "X-Powered-By", "Set-Cookie"} & set(headers)


def test_chart_may_be_embedded_anywhere(page):
    _, headers, _ = page.ask("/chart/day.svg")
    assert (
        headers["Content-Security-Policy"]
        == "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors *"
    )
    assert headers["Content-Type"] == "image/svg+xml"


@pytest.mark.parametrize(
    ("prefix", "base"), [("/solar", "/solar/"), ("/api/hassio_ingress/x-Y_1/", "/api/hassio_ingress/x-Y_1/")]
)
def test_page_works_below_a_path(page, prefix, base):
    assert f'<base href="{base}">' in page.body("/day", x_forwarded_prefix=prefix)


@pytest.mark.parametrize(
    "prefix", ["", "/", "//evil.example", "http://evil.example", '/"><script>', "/a/../b\n"]
)
def test_prefix_that_is_none_is_left_out(page, prefix):
    assert "<base" not in page.body("/day", x_forwarded_prefix=prefix)


# --- words


@pytest.mark.parametrize(
    ("wish", "language"),
    [
        ("nl-NL,nl;q=0.9,en;q=0.8", "nl"),
        ("sv,de;q=0.5", "de"),
        ("en;q=0.1, fr;q=0.7", "fr"),
        ("pt-BR", "pt"),
        ("sv", "es"),
        ("", "es"),
        ("de;q=0", "es"),
        ("de;q=x", "es"),
        ("*", "es"),
        ("DE", "de"),
    ],
)
def test_language_is_the_one_that_the_browser_likes_best(wish, language):
    assert language_of(wish, "es") == language


@pytest.mark.parametrize(
    ("language", "number", "day", "month"),
    [
        ("en", "12\u202f345.6", "21 June 2026", "June 2026"),
        ("de", "12\u202f345,6", "21. Juni 2026", "Juni 2026"),
        ("es", "12\u202f345,6", "21 de junio de 2026", "Junio de 2026"),
        ("nl", "12\u202f345,6", "21 juni 2026", "Juni 2026"),
    ],
)
def test_numbers_and_dates_are_written_as_there(language, number, day, month):
    words = Words(language)
    assert words.number(12_345.6, 1) == number
    assert words.date(DAY) == day
    assert words.month_of(2026, 6) == month


def test_small_negative_number_is_no_negative_zero():
    assert Words("en").number(-0.04, 1) == "0.0"
    assert Words("en").number(-0.06, 1) == "-0.1"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (121, "2 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_durations(seconds, text):
    assert Words("en").duration(seconds) == text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_is_there_in_every_language(language):
    with pytest.raises(KeyError):
        Words(language)["a word that nobody has written"]
    assert [Words(language).month(number) for number in range(1, 13)] == sorted(
        {Words(language).month(n) for n in range(1, 13)},
        key=[Words(language).month(n) for n in range(1, 13)].index,
    )


def test_markup_escapes_what_is_none():
    assert tag("a", "<", Html("<b>"), None, False, href='"x"', aria_label="y", hidden=True, title=None) == (
        '<a href="&quot;x&quot;" aria-label="y" hidden>&lt;<b></a>'
    )
    assert join("&", tag("br")) == "&amp;<br>"


def test_date_of_the_page_is_that_of_the_house(page):
    assert json.loads(page.body("/api/day"))["date"] == str(date.fromtimestamp(NOW))
