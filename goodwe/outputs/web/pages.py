"""The pages as HTML: values of data.py in, markup out. They need no script; `static/page.js` makes them live.

All addresses are relative to the first page, so that the pages work below any path of a reverse proxy.
"""

import datetime
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import simplejson

from ...history import schema
from ...history.queries import BY_DAY, BY_MONTH, BY_YEAR
from ...protocol import texts
from . import charts
from .data import FRESH, QUANTITIES, JsonObject, Quantity
from .markup import Html, join, tag
from .words import Words

MENU = (
    ("now", "."),
    ("day", "day"),
    ("month", "month"),
    ("year", "year"),
    ("all years", "years"),
    ("events", "events"),
    ("health", "health"),
)
WRAPPED = ("mode", "strings", "lines")
"""Cells of an inverter that may be longer than a line."""
WORD_OF_EVENT = {
    schema.FAULT_ON: "fault",
    schema.FAULT_OFF: "fault over",
    schema.MODE: "work mode",
    schema.AWAY: "away",
    schema.BACK: "back",
    schema.REFUSED: "refused reading",
    schema.LIMIT: "power limit",
    schema.STARTED: "program started",
    schema.STOPPED: "program stopped",
    schema.REPLACED: "replaced",
    schema.CORRECTED: "corrected",
}
PAGE_OF = {BY_DAY: "month", BY_MONTH: "year", BY_YEAR: "years"}
"""The page that shows a period by these steps."""


def page(here: str, title: str, words: Words, base: str, *body: object) -> Html:
    """A whole page. `here` is its word in the menu, `base` the path below which it is served, or empty."""
    links = [
        tag("a", words.title(word), href=href, aria_current="page" if word == here else None)
        for word, href in MENU
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        base and tag("base", href=f"{base}/"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} - GoodWe"),
        *[tag("link", rel="stylesheet", href=f"static/{sheet}.css") for sheet in ("page", "chart")],
        tag("link", rel="icon", href="static/icon.svg", type="image/svg+xml"),
        tag("link", rel="apple-touch-icon", href="static/icon-192.png"),
        tag("link", rel="manifest", href="manifest.webmanifest"),
        tag("script", src="static/page.js", defer=True),
    )
    inner = join(
        tag("header", tag("nav", *links, aria_label=words["show"])),
        tag("main", tag("h1", title), *body),
        tag("footer", tag("a", "API", href="api")),
    )
    return join(Html("<!doctype html>"), tag("html", head, tag("body", inner), lang=words.language))


# --- now


def now(
    told: JsonObject, today: object, broker: object, words: Words, *, drawn: str = "", fresh: float = FRESH
) -> Html:
    """The page of this moment. `today` is the curve so far, if it is to be there; `broker` lines about it.

    `drawn` changes whenever there is more of the curve. A reading older than `fresh` seconds is a fault.
    """
    power = tag("div", words.power(told["power_watts"]), class_="big", data_live="power_watts")
    dial = told["rated_watts"] and Html(
        charts.dial(told["power_watts"], told["rated_watts"], title=words["power"], words=words)
    )
    facts = [
        (words["today"], "today_kwh", told["today_kwh"]),
        (words["total"], "total_kwh", told["total_kwh"]),
    ]
    lines = [
        tag("div", name, " ", tag("b", words.energy(value), data_live=key), class_="facts")
        for name, key, value in facts
        if value is not None
    ]
    lines_of_broker = card(tag("div", broker, data_live="broker"))
    if not told["inverters"]:
        return join(card(tag("p", words.title("no inverter yet"))), lines_of_broker)
    head = tag(
        "div",
        dial and tag("div", dial, data_live="dial"),
        tag("div", power, *lines),
        class_="now",
        data_drawn=drawn,
    )
    return join(
        card(head), today and card(today), card(_inverters(told["inverters"], words, fresh)), lines_of_broker
    )


def card(*body: object) -> Html:
    """A box of the page."""
    return tag("section", *body, class_="card")


def _inverters(rows: Sequence[JsonObject], words: Words, fresh: float) -> Html:
    names = ("inverter", "power", "today", "temperature", "work mode", "strings", "phases", "last reading")
    head = tag("tr", *[tag("th", words.title(name), scope="col") for name in names])
    return join(
        tag("h2", words.title("inverters")),
        tag(
            "table",
            tag("thead", head),
            tag("tbody", *[_inverter(row, names, words, fresh) for row in rows]),
            class_="cards",
        ),
    )


def _inverter(row: JsonObject, names: Sequence[str], words: Words, fresh: float) -> Html:
    power, warm = row["power_watts"], row["temperature_celsius"]
    cells: list[object] = [
        "" if power is None else words.power(power),
        "" if row["today_kwh"] is None else words.energy(row["today_kwh"]),
        "" if warm is None else f"{words.number(warm, 1)} °C",
        _mode(row, words),
        _pairs(row["strings"], words),
        _pairs(row["lines"], words),
        _seen(row, words, fresh),
    ]
    keys = ("power", "today", "temperature", "mode", "strings", "lines", "seen")
    named = tag(
        "th",
        tag("b", row["name"]),
        row["model"] and join(" ", row["model"]),
        scope="row",
    )
    told = [
        tag("td", _cell(row["serial"], key, cell), data_label=words.title(name))
        for name, key, cell in zip(names[1:], keys, cells, strict=True)
    ]
    return tag("tr", named, *told)


def _cell(serial: str, key: str, cell: object) -> Html:
    """A value that is renewed; a number is not parted from its unit."""
    return tag("span", cell, data_live=f"{serial} {key}", class_="unbroken" if key not in WRAPPED else None)


def _mode(row: JsonObject, words: Words) -> object:
    if row["faults"]:
        return tag("span", f"{words.title('fault')}: {', '.join(row['faults'])}", class_="fault")
    if not row["online"]:
        return tag("span", words["away"], class_="faint")
    return row["mode"] or ""


def _pairs(pairs: Sequence[JsonObject], words: Words) -> Html:
    texts = [
        f"{words.number(pair['volts'], 1)} V {words.number(pair['amperes'] or 0, 1)} A"
        for pair in pairs
        if pair["volts"]
    ]
    ends = [";"] * (len(texts) - 1) + [""]
    spans = [tag("span", text, end, class_="unbroken pair") for text, end in zip(texts, ends, strict=False)]
    return join(*[part for span in spans for part in (span, " ")])


def _seen(row: JsonObject, words: Words, fresh: float) -> object:
    seconds = row["last_reading_seconds"]
    if seconds is None:
        return words["none"]
    text = words.duration(seconds)
    return tag("span", text, class_="fault") if row["online"] and seconds > fresh else text


# --- the day


def curve(told: JsonObject, quantity: Quantity, names: Mapping[str, str], words: Words) -> Html:
    """The curve of a day for wide and for narrow windows, with what each line is."""
    lines = lines_of(told, quantity, names)
    shown = [
        tag("div", Html(line_chart(told, quantity, names, words, size)), class_=window)
        for window, size in charts.SIZES.items()
    ]
    return tag(
        "figure",
        *shown,
        _legend(lines) if len(lines) > 1 else None,
        tag("figcaption", class_="cursor-text"),
        class_="day",
        data_date=told["date"],
        data_keys=" ".join(quantity.keys),
        data_unit=quantity.unit,
        data_digits=quantity.digits,
        data_names=simplejson.dumps(dict(names)),
    )


def line_chart(
    told: JsonObject, quantity: Quantity, names: Mapping[str, str], words: Words, size: charts.Size
) -> str:
    """The same as one SVG of that size."""
    date = words.date(datetime.date.fromisoformat(told["date"]))
    return charts.line_chart(
        lines_of(told, quantity, names),
        start=told["from_epoch"],
        end=told["to_epoch"],
        zone=None,
        unit=quantity.unit,
        title=f"{words.title(quantity.name)}, {date}",
        words=words,
        size=size,
        from_zero=quantity.from_zero,
    )


def lines_of(told: JsonObject, quantity: Quantity, names: Mapping[str, str]) -> list[charts.Curve]:
    """A line for each inverter, or for each of its phases or strings that carries anything."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for slot in told["slots"]:
        for key in quantity.keys:
            if slot["readings"] and slot.get(key) is not None:
                points.setdefault((slot["serial"], key), []).append((slot["from_epoch"] + 150.0, slot[key]))
    several = len({key for _, key in points}) > 1
    return [
        charts.Curve(names.get(serial, serial) + (f" {_part(key)}" if several else ""), found)
        for (serial, key), found in points.items()
        if key == quantity.keys[0] or any(value for _, value in found)
    ]


def _part(key: str) -> str:
    """L2 for vac2, PV 1 for vpv1."""
    return f"PV {key[-1]}" if key.startswith("vpv") else f"L{key[-1]}"


def _legend(lines: Sequence[charts.Curve]) -> Html:
    def sample(number: int) -> Html:
        line = tag("line", x1=0, y1=5, x2=32, y2=5, class_=f"c{number % charts.COLOURS}")
        return tag("svg", line, class_="sample", viewBox="0 0 32 10", aria_hidden="true")

    return tag(
        "ul", *[tag("li", sample(number), line.name) for number, line in enumerate(lines)], class_="legend"
    )


def day(
    told: JsonObject, quantity: Quantity, names: Mapping[str, str], choice: JsonObject, words: Words
) -> Html:
    """The page of one day. `choice` has `serial`, `serials`, `names` and `span`, first and last day."""
    date = datetime.date.fromisoformat(told["date"])
    chosen = {"serial": choice["serial"], "show": "" if quantity is QUANTITIES[0] else quantity.name}
    forms = tag(
        "form",
        _which_inverter(choice, words),
        _select("show", [(one.name, words[one.name]) for one in QUANTITIES], quantity.name, words["show"]),
        tag("input", type="date", name="date", value=told["date"], aria_label=words["day"]),
        tag("button", words["show"]),
        action="day",
    )
    one = datetime.timedelta(1)
    steps = tag(
        "div",
        _step("day", words["previous"], date - one if date > choice["span"][0] else None, chosen),
        _step("day", words["next"], date + one if date < choice["span"][1] else None, chosen),
        forms,
        class_="steps",
    )
    return join(
        steps,
        card(curve(told, quantity, names, words)),
        card(_days(told["days"], names, words)),
        downloads("day", {"date": told["date"], "serial": choice["serial"]}, words),
    )


def _days(rows: Sequence[JsonObject], names: Mapping[str, str], words: Words) -> Html:
    if not rows:
        return tag("p", words.title("no data"))
    titles = ("inverter", "energy", "peak", "from", "until", "temperature", "grid voltage")
    cells = [
        (
            names.get(row["serial"], row["serial"]),
            join(words.energy(row["energy_kwh"]), row["corrected"] and f" ({words['corrected']})"),
            _at(row["peak_watts"], row["peak_epoch"], words),
            "" if row["first_light_epoch"] is None else words.time(row["first_light_epoch"], None),
            "" if row["last_light_epoch"] is None else words.time(row["last_light_epoch"], None),
            "" if row["temp_high"] is None else f"{words.number(row['temp_high'], 1)} °C",
            ""
            if row["vac_low"] is None or row["vac_high"] is None
            else f"{words.number(row['vac_low'], 1)} \u2013 {words.number(row['vac_high'], 1)} V",
        )
        for row in rows
    ]
    return table(titles, cells, words)


def _at(watts: float | None, moment: float | None, words: Words) -> str:
    if watts is None:
        return ""
    return words.power(watts) + (f", {words.time(moment, None)}" if moment is not None else "")


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], words: Words) -> Html:
    """Rows below words; on a narrow window each row is a card of its own."""
    names = [words.title(title) if title else "" for title in titles]
    head = tag("tr", *[tag("th", name, scope="col") for name in names])
    body = [
        tag(
            "tr",
            *[tag("td", tag("span", cell), data_label=name) for name, cell in zip(names, row, strict=True)],
        )
        for row in rows
    ]
    return tag("table", tag("thead", head), tag("tbody", *body), class_="cards")


def _step(path: str, text: str, date: datetime.date | None, chosen: Mapping[str, str]) -> Html:
    if date is None:
        return tag("span", text, class_="faint")
    return tag("a", text, href=address(path, {"date": date.isoformat(), **chosen}))


def _select(name: str, choices: Sequence[tuple[str, str]], chosen: str, label: str) -> Html:
    options = [tag("option", text, value=value, selected=value == chosen) for value, text in choices]
    return tag("select", *options, name=name, aria_label=label)


def _which_inverter(choice: JsonObject, words: Words) -> Html:
    """One of `serials` by its name in `names`, or all; `serial` is the one that is shown now."""
    named = [(one, choice["names"].get(one, one)) for one in choice["serials"]]
    return _select("serial", [("", words["all inverters"]), *named], choice["serial"], words["inverter"])


def address(path: str, query: Mapping[str, str]) -> str:
    """A relative address; what is empty is left out of the query."""
    said = urlencode({key: value for key, value in query.items() if value})
    return f"{path}?{said}" if said else path


def downloads(name: str, query: Mapping[str, str], words: Words) -> Html:
    """The same as files."""
    csv, json = address(f"csv/{name}.csv", query), address(f"api/{name}", query)
    return tag("p", words.title("data as"), " ", tag("a", "CSV", href=csv), ", ", tag("a", "JSON", href=json))


# --- months and years


def period(told: JsonObject, choice: JsonObject, words: Words) -> Html:
    """The page of a month, a year or all years; `choice` as for `day`, with `date`, a day within it."""
    kind, date = told["by"], choice["date"]
    name = PAGE_OF[kind]
    drawn = [
        tag("div", Html(bar_chart(told, choice["serial"], words, size)), class_=window)
        for window, size in charts.SIZES.items()
    ]
    return join(
        tag("div", *_around(kind, date, choice, words), class_="steps"),
        card(tag("figure", *drawn, _legend_of_bars(told, words)), _totals(told, words)),
        downloads(
            name, {"date": date.isoformat() if kind != BY_YEAR else "", "serial": choice["serial"]}, words
        ),
    )


def bar_chart(told: JsonObject, serial: str, words: Words, size: charts.Size, *, linked: bool = True) -> str:
    """The same as one SVG of that size; `linked`: each bar leads to the page of its period."""
    bars = [_bar(row, told["by"], serial, words) for row in told["rows"]]
    if not linked:
        bars = [bar._replace(href="") for bar in bars]
    return charts.bar_chart(bars, unit="kWh", title=period_title(told, words), words=words, size=size)


def _legend_of_bars(told: JsonObject, words: Words) -> Html | None:
    """Which bar is of which year; None where there is one kind alone."""
    if told["before_kwh"] is None:
        return None
    year, month = int(told["period"][:4]), told["period"][5:]
    names = [words.month_of(one, int(month)) if month else str(one) for one in (year, year - 1)]

    def sample(kind: str) -> Html:
        bar = tag("rect", x=9, y=0, width=14, height=10, class_=kind)
        return tag("svg", bar, class_="sample", viewBox="0 0 32 10", aria_hidden="true")

    kinds = zip(("bar", "before"), names, strict=True)
    return tag("ul", *[tag("li", sample(kind), name) for kind, name in kinds], class_="legend")


def period_title(told: JsonObject, words: Words) -> str:
    """The name of a month, a year, all years."""
    if told["by"] == BY_DAY:
        year, month = told["period"].split("-")
        return words.month_of(int(year), int(month))
    return str(told["period"]) if told["by"] == BY_MONTH else words.title("all years")


def _bar(row: JsonObject, kind: str, serial: str, words: Words) -> charts.Bar:
    period = row["period"]
    if kind == BY_DAY:
        date = datetime.date.fromisoformat(period)
        label, title, path = str(date.day), words.date(date), "day"
    elif kind == BY_MONTH:
        year, month = map(int, period.split("-"))
        date = datetime.date(year, month, 1)
        label, title, path = words.month(month)[:3], words.month_of(year, month), "month"
    else:
        date = datetime.date(int(period), 1, 1)
        label, title, path = period, period, "year"
    href = address(path, {"date": date.isoformat(), "serial": serial}) if row["energy_kwh"] else ""
    return charts.Bar(label, title, row["energy_kwh"], row["before_kwh"], href)


def _around(kind: str, date: datetime.date, choice: JsonObject, words: Words) -> list[Html]:
    shown = tag("input", type="hidden", name="date", value=date.isoformat()) if kind != BY_YEAR else None
    form = tag(
        "form",
        shown,
        _which_inverter(choice, words),
        tag("button", words["show"]),
        action=PAGE_OF[kind],
    )
    if kind == BY_YEAR:
        return [form]
    first, last = choice["span"]
    if kind == BY_DAY:
        before, after = (
            date.replace(day=1) - datetime.timedelta(1),
            date.replace(day=28) + datetime.timedelta(4),
        )
    else:
        before, after = datetime.date(date.year - 1, 12, 31), datetime.date(date.year + 1, 1, 1)
    after = after.replace(day=1)
    chosen = {"serial": choice["serial"]}
    return [
        _step(PAGE_OF[kind], words["previous"], before if before >= first else None, chosen),
        _step(PAGE_OF[kind], words["next"], after if after <= last else None, chosen),
        form,
    ]


def _totals(told: JsonObject, words: Words) -> Html:
    facts: list[tuple[str, str | None]] = [
        (words.title("total"), words.energy(told["total_kwh"])),
        (words.title("a year before"), _energy(told["before_kwh"], words)),
        (f"{words.title('mean')} / {words['day']}", _energy(told["mean_day_kwh"], words)),
    ]
    if told["best_day"]:
        best = datetime.date.fromisoformat(told["best_day"])
        facts.append((words.title("best day"), f"{words.energy(told['best_day_kwh'])}, {words.date(best)}"))
    return tag(
        "div", *[tag("p", name, ": ", tag("b", value), class_="facts") for name, value in facts if value]
    )


def _energy(value: float | None, words: Words) -> str | None:
    return None if value is None else words.energy(value)


# --- events and health


def events(rows: Sequence[JsonObject], chosen: JsonObject, names: Mapping[str, str], words: Words) -> Html:
    """The page of what happened.

    `chosen` has `kind`, `serial`, `serials`, `names`, `until`, and `earlier`: the `until` of the page with
    those before these, or None.
    """
    query = {"kind": chosen["kind"], "serial": chosen["serial"]}
    earlier = chosen["earlier"]
    form = tag(
        "form",
        _select(
            "kind",
            [("", words["all"]), *((kind, words[word]) for kind, word in WORD_OF_EVENT.items())],
            chosen["kind"],
            words["event"],
        ),
        _which_inverter(chosen, words),
        tag("button", words["show"]),
        action="events",
    )
    cells = [
        (
            words.moment(row["at_epoch"], None),
            names.get(row["serial"], row["serial"] or ""),
            _event(row, words),
        )
        for row in rows
    ]
    body = table(("time", "inverter", "event"), cells, words) if cells else tag("p", words.title("no data"))
    return join(
        tag("div", form, class_="steps"),
        card(body),
        earlier
        and tag(
            "p", tag("a", words.title("earlier"), href=address("events", {**query, "until": str(earlier)}))
        ),
        downloads("events", {**query, "until": chosen["until"]}, words),
    )


def _event(row: JsonObject, words: Words) -> Html:
    kind, code, text = row["kind"], row["code"], row["text"]
    if kind in (schema.FAULT_ON, schema.FAULT_OFF) and code is not None:
        text = texts.error(code, words.language)
    elif kind == schema.MODE and code is not None:
        text = texts.work_mode(code, words.language)
    said = words.title(WORD_OF_EVENT[kind]) if kind in WORD_OF_EVENT else kind
    return tag(
        "span", f"{said}: {text}" if text else said, class_="fault" if kind == schema.FAULT_ON else None
    )
