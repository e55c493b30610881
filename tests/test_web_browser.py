"""Every page in a real browser: Chromium, on phone and desktop, in the light and in the dark, with and without script.

AXE_CORE is the path of axe.min.js (package axe-core of npm), and without it nobody looks whether everybody can read
the pages; where it is set, nothing here may be skipped. PICTURES is a folder to keep a picture of each page in.
"""

import contextlib
import json
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest

from goodwe.events import Info, Online, Reading

from . import web
from .browser import DESKTOP, LARGE, LOOKS, Browser, Look, host_of, missing
from .web import DAY, NOW, ROOF, STATUS, VALUES, Page, served

BARN = "1010KDTU18600002"
PAGES = {
    "now": "",
    "day": "day",
    "voltage": "day?date=2026-06-18&show=grid+voltage",
    "month": "month",
    "year": "year",
    "years": "years",
    "events": "events",
    "health": "health",
    "api": "api",
}
"""Name of a picture to address."""
NARROWER = {"phone": (320,), "desktop": (1060, 965, 900, 660)}
"""Name of a look to further widths, about where the sheet changes."""
OF_COLOURS = ["color-contrast", "link-in-text-block"]
"""The rules of axe that can tell the dark from the light, where all others were held already."""
AXE = os.environ.get("AXE_CORE", "")
PICTURES = os.environ.get("PICTURES", "")

if missing() and not AXE:
    pytest.skip(f"there is no {missing()}: apt-get install chromium chromium-driver", allow_module_level=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return web.made_up_history(tmp_path_factory.mktemp("web") / "history.db")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


def house(path, **options):
    """A page of two inverters that are there; its status can be changed."""
    status = json.loads(json.dumps(STATUS))
    page = Page(path, status=status, **options)
    for serial, phases in ((ROOF, 1), (BARN, 3)):
        page.live.handle(Online(serial, 11))
        page.live.handle(Reading(serial, 11, phases, dict(VALUES), NOW - 2))
    page.live.handle(Info(ROOF, "idInfo", {"modelName": "GW5000D-NS", "firmwareVersion": "1010C"}))
    return SimpleNamespace(page=page, status=status)


@pytest.fixture(scope="module")
def address(path):
    with served(house(path).page.site) as address:
        yield address


@pytest.fixture
def living(path):
    """A page of one's own, that changes."""
    made = house(path)
    with served(made.page.site) as made.address:
        yield made


@pytest.fixture(autouse=True)
def afresh(browser):
    browser.driver.get("about:blank")
    browser.scripts(True)
    browser.look(Look("desktop", *DESKTOP, dark=False))
    browser.seen()


def nothing_is_wrong(browser, address):
    """No error in the console, none of the answers one, and nobody else was asked for anything."""
    seen = browser.seen()
    assert seen.complaints == []
    assert seen.failed == []
    assert {host_of(url) for url in seen.urls if not url.startswith("data:")} == {host_of(address)}


def too_wide(browser):
    """The markup of all that reaches beyond the window."""
    return browser.run(
        """
        const width = document.documentElement.clientWidth;
        if (document.documentElement.scrollWidth <= width) return [];
        return [...document.querySelectorAll("body *")]
          .filter((one) => one.getBoundingClientRect().right > width + 0.5)
          .map((one) => one.outerHTML.slice(0, 120));
        """
    )


def violations(browser, rules):
    """Rule and markup of all that axe finds serious, by some of its rules, or by all of them."""
    browser.run(Path(AXE).read_text("utf-8"))
    found = browser.driver.execute_async_script(
        "const [rules, done] = arguments; const some = rules.length ? {runOnly: {type: 'rule', values: rules}} : {};"
        "axe.run(document, {...some, resultTypes: ['violations'], preload: false}).then("
        "(told) => done(told.violations), (error) => done([{impact: 'critical', id: String(error), nodes: []}]))",
        rules,
    )
    return [
        (one["id"], node["html"][:160])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"] or [{"html": ""}]
    ]


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("name", PAGES)
def test_page_is_in_order(browser, address, name, look):
    browser.look(look)
    browser.driver.get(f"{address}/{PAGES[name]}")
    assert browser.run("return document.querySelectorAll('main h1').length") == 1
    if PICTURES:
        browser.picture(Path(PICTURES) / f"{name}-{look}.png")
    assert too_wide(browser) == []
    for width in NARROWER[look.name]:
        browser.size(width, look.height, mobile=look.mobile)
        assert browser.run("return document.documentElement.clientWidth") == width
        assert too_wide(browser) == []
        if PICTURES:
            browser.picture(Path(PICTURES) / f"{name}-{look}-{width}.png")
    nothing_is_wrong(browser, address)


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_everybody_can_read_every_page(browser, address, look):
    if not AXE:
        pytest.skip("AXE_CORE does not name axe.min.js: nobody looks whether everybody can read the pages")
    browser.look(look)
    found = {}
    for name in PAGES:
        browser.driver.get(f"{address}/{PAGES[name]}")
        found[name] = violations(browser, OF_COLOURS if look.dark else [])
    assert found == {name: [] for name in PAGES}


def text(browser, selector):
    return browser.run("return document.querySelector(arguments[0])?.innerText ?? null", selector)


def test_numbers_change_by_themselves(browser, living):
    browser.driver.get(f"{living.address}/")
    browser.run("window.stays = true")
    assert text(browser, "[data-live=power_watts]") == "4\u202f702 W"
    assert "waiting messages: 12" in text(browser, "[data-live=broker]").lower()
    living.page.live.handle(Reading(ROOF, 11, 1, {**VALUES, "pac": 1000, "errorMessage": [17]}, NOW))
    living.status["outputs"]["mqtt"]["features"]["backlog"]["kept"] = 345
    browser.wait(lambda: text(browser, "[data-live=power_watts]") == "3\u202f351 W", "the sum of the power")
    assert text(browser, f"[data-live='{ROOF} power']") == "1\u202f000 W"
    assert "grid voltage out of range" in text(browser, f"[data-live='{ROOF} mode']")
    assert "345" in text(browser, "[data-live=broker]")
    assert browser.run("return window.stays")
    nothing_is_wrong(browser, living.address)


def test_curve_goes_on_by_itself(browser, living, path):
    import sqlite3

    browser.driver.get(f"{living.address}/")
    browser.run("window.stays = true")
    points = "return document.querySelector('.wide svg.chart .line').points.length"
    before = browser.run(points)
    with sqlite3.connect(path) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(slots)")]
        later = ", ".join("start + 300" if name == "start" else name for name in columns)
        inverter = "(SELECT number FROM inverters WHERE serial = ?)"
        last = f"start = (SELECT max(start) FROM slots WHERE inverter = {inverter}) AND inverter = {inverter}"
        connection.execute(f"INSERT INTO slots SELECT {later} FROM slots WHERE {last}", (ROOF, ROOF))
    connection.close()
    browser.wait(lambda: browser.run(points) == before + 1, "a point more")
    assert browser.run("return window.stays")
    nothing_is_wrong(browser, living.address)


def cursor_at(browser, moment):
    """The words of the cursor where the curve has that moment (seconds since 1970)."""
    from selenium.webdriver import ActionChains

    svg = browser.driver.find_element("css selector", ".wide svg.chart")
    x = browser.run(
        """
        const {left, right, from, to} = arguments[0].dataset;
        const along = +left + (arguments[1] - from) / (to - from) * (right - left);
        const box = arguments[0].getBoundingClientRect();
        return (along / arguments[0].viewBox.baseVal.width - 0.5) * box.width;
        """,
        svg,
        moment,
    )
    ActionChains(browser.driver).move_to_element_with_offset(svg, round(x), 0).perform()
    return browser.wait(lambda: text(browser, ".cursor-text"), "the cursor's words")


def day_told(address, query):
    with urlopen(f"{address}/api/day?{query}") as answer:
        return json.load(answer)


@pytest.mark.parametrize("hour", [7, 10.5, 12])
def test_cursor_shows_what_was_then(browser, address, hour):
    query = f"date=2026-06-19&serial={BARN}"
    told = day_told(address, query)
    moment = told["from_epoch"] + hour * 3600 + 150
    slot = next(one for one in told["slots"] if one["from_epoch"] == moment - 150)
    browser.driver.get(f"{address}/day?{query}")
    shown = cursor_at(browser, moment)
    found = re.fullmatch(r"(\d\d:\d\d) +([\d\u202f]+) W, (.+) V, ([\d.]+) °C", shown)
    assert found[1] == time.strftime("%H:%M", time.localtime(moment))
    assert int(found[2].replace("\u202f", "")) == round(slot["pac"])
    volts = [float(one) for one in found[3].split(" / ")]
    assert volts == pytest.approx([slot["vac1"]], abs=0.051)
    assert float(found[4]) == pytest.approx(slot["temp"], abs=0.051)
    nothing_is_wrong(browser, address)


@pytest.mark.parametrize(
    ("show", "keys", "unit"),
    [
        ("grid voltage", ("vac1", "vac2", "vac3"), "V"),
        ("PV voltage", ("vpv1", "vpv2"), "V"),
        ("frequency", ("fac1", "fac2", "fac3"), "Hz"),
        ("temperature", ("vac1",), "V"),
    ],
)
def test_cursor_shows_the_field_that_is_chosen(browser, address, show, keys, unit):
    query = f"date=2026-06-19&serial={BARN}"
    told = day_told(address, query)
    slot = told["slots"][len(told["slots"]) // 2]
    browser.driver.get(f"{address}/day?{query}&show={show.replace(' ', '+')}")
    shown = cursor_at(browser, slot["from_epoch"] + 150)
    values = [float(one) for one in re.search(rf" W, (.+) {unit}, ", shown)[1].split(" / ")]
    assert values == pytest.approx([slot[key] for key in keys], abs=0.051)


def test_cursor_calls_each_inverter_by_its_name(browser, address):
    browser.driver.get(f"{address}/day?date=2026-06-19")
    shown = cursor_at(browser, day_told(address, "date=2026-06-19")["from_epoch"] + 43_350)
    assert re.fullmatch(rf"12:02 +South roof: .* W, .* °C +· +{BARN}: .* °C", shown)


def test_everything_is_there_without_scripts(browser, address):
    whole = {}
    for allowed in (True, False):
        browser.scripts(allowed)
        for name in PAGES:
            browser.driver.get(f"{address}/{PAGES[name]}")
            markup = browser.call("DOM.getDocument", depth=0)["root"]["nodeId"]
            main = browser.call("DOM.querySelector", nodeId=markup, selector="main")["nodeId"]
            told = browser.call("DOM.getOuterHTML", nodeId=main)["outerHTML"]
            whole.setdefault(name, []).append(told)
            assert ("<svg" in told) == (name in ("now", "day", "voltage", "month", "year", "years"))
    assert [name for name, (with_them, without) in whole.items() if with_them != without] == []


def test_forms_and_steps_lead_on_without_scripts(browser, address):
    from selenium.webdriver.support.ui import Select

    driver = browser.driver
    browser.scripts(False)
    driver.get(f"{address}/day?date=2026-06-19")
    browser.follow("link text", "previous")
    assert driver.title.startswith("18 June 2026")
    Select(driver.find_element("name", "serial")).select_by_visible_text(BARN)
    Select(driver.find_element("name", "show")).select_by_visible_text("temperature")
    browser.follow("css selector", "form button")
    assert "show=temperature" in driver.current_url
    assert f"serial={BARN}" in driver.current_url
    assert driver.title.startswith("18 June 2026")
    browser.follow("link text", "Month")
    browser.follow("css selector", ".wide svg a")
    assert re.match(r"1 June 2026", driver.title)


def test_page_below_a_path_of_a_proxy(browser, path):
    """A proxy that serves it below /home/solar, as an add-on of Home Assistant is."""
    site = house(path).page.site

    def proxy(environ, start_response):
        if not environ["PATH_INFO"].startswith("/home/solar/"):
            start_response("404 Not Found", [("Content-Length", "0")])
            return [b""]
        path = environ["PATH_INFO"].removeprefix("/home/solar")
        return site({**environ, "PATH_INFO": path, "HTTP_X_FORWARDED_PREFIX": "/home/solar"}, start_response)

    with served(proxy) as address:
        browser.driver.get(f"{address}/home/solar/")
        for link in ("Day", "Month", "Year", "All years", "Events", "Health", "Now"):
            browser.follow("link text", link)
            assert browser.driver.current_url.startswith(f"{address}/home/solar/")
        browser.driver.get(f"{address}/home/solar/day?date=2026-06-19")
        browser.follow("link text", "next")
        assert browser.driver.current_url.startswith(f"{address}/home/solar/day?date=2026-06-20")
        nothing_is_wrong(browser, address)


@pytest.mark.parametrize("allowed", [False, True])
def test_page_is_embedded_by_whom_the_settings_allow(browser, path, allowed):
    def outer(environ, start_response):
        body = f'<iframe src="{inner}/day"></iframe>'.encode()
        start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
        return [body]

    with contextlib.ExitStack() as servers:
        around = servers.enter_context(served(outer))
        site = house(path, frame=around if allowed else "'none'").page.site
        inner = servers.enter_context(served(site))
        browser.driver.get(f"{around}/")
        browser.driver.switch_to.frame(0)
        assert bool(browser.driver.find_elements("tag name", "nav")) == allowed
        browser.driver.switch_to.default_content()
        assert any("frame-ancestors" in one for one in browser.seen().complaints) != allowed


def test_chart_is_embedded_anywhere(browser, address):
    def outer(environ, start_response):
        body = f'<img src="{address}/chart/day.svg">'.encode()
        start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
        return [body]

    with served(outer) as around:
        browser.driver.get(f"{around}/")
        size = "const img = document.querySelector('img'); return [img.naturalWidth, img.naturalHeight]"
        width, height = browser.run(size)
        assert width / height == pytest.approx(960 / 360, rel=0.01)


def test_page_can_be_put_on_a_home_screen(browser, address):
    browser.driver.get(f"{address}/")
    assert browser.call("Page.getInstallabilityErrors")["installabilityErrors"] == []
    nothing_is_wrong(browser, address)


def test_page_fills_a_large_screen(browser, address):
    browser.look(LARGE)
    for name in ("now", "day", "month"):
        browser.driver.get(f"{address}/{PAGES[name]}")
        if PICTURES:
            browser.picture(Path(PICTURES) / f"{name}-{LARGE}.png", height=LARGE.height)
        assert browser.run("return document.querySelector('main').getBoundingClientRect().width") > 1700
        size = browser.run("return parseFloat(getComputedStyle(document.body).fontSize)")
        assert 22 <= size <= 32


def test_day_of_the_tests_is_that_of_the_page(browser, address):
    browser.driver.get(f"{address}/day")
    assert browser.driver.title.startswith(f"{DAY.day} June {DAY.year}")
