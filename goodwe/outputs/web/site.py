"""The page as a WSGI application: what is asked for, and the answer.

It changes nothing, and waits for nothing but the history's file and, for a moment, the loop.
"""

import datetime
import ipaddress
import logging
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import simplejson

from ...errors import GoodWeError
from ...history import schema
from ...history.queries import BY_DAY, BY_MONTH, BY_YEAR, Reader
from ...protocol import fields
from . import charts, data, documents, health, pages
from .latest import Latest
from .markup import tag
from .words import Words, language_of

log = logging.getLogger(__name__)

NO_HISTORY = "No history is kept; [history] in the configuration switches it on."
LONGEST_QUERY = 1000
FIRST_YEAR, LAST_YEAR = 1970, 9998
"""Years that are asked for; before and after, clocks and calendars end."""
EVENTS_SHOWN, EVENTS_TOLD = 100, 500
"""At once on the page, and to programs; those before them are asked for with `until`."""
EVENTS_OF_A_MOMENT = 100
"""More than those may come, so that none of the same second is left behind."""
EPOCH = re.compile(r"\d{1,12}(?:\.\d*)?", re.ASCII)
"""Seconds since 1970, as at_epoch of an event says them."""
DAY = 86_400
PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")
"""A path below which a reverse proxy serves the page."""
HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
STATIC = {
    "chart.css": "text/css; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "icon-192.png": "image/png",
    "icon-512.png": "image/png",
}
POLICY = "default-src 'self'; base-uri 'self'; form-action 'self'; object-src 'none'; frame-ancestors {frame}"
"""Nothing inline, nothing from elsewhere."""
POLICY_OF_CHARTS = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors *"
"""A chart has its style inside, and may be embedded: it is a picture."""


class Response(NamedTuple):
    """An answer to a browser."""

    body: str | bytes
    kind: str = "text/html; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    keep_seconds: int = 0
    """How long the browser may keep it."""
    policy: str = ""
    """Its Content-Security-Policy, if not that of the pages."""
    name: str = ""
    """Of the file that it is to be saved as."""


class Problem(Exception):
    """A request that cannot be answered as asked."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        """`status` of HTTP; `text` is for whoever asked: it names nothing of this machine."""
        super().__init__(text)
        self.status = status
        self.text = text


class Request(NamedTuple):
    """A question of a browser."""

    path: str
    query: Mapping[str, str]
    words: Words
    base: str
    """The path of a reverse proxy, without a slash at its end; empty without one."""


class _FromHistory(NamedTuple):
    """The history's share of the page of this moment, which can do without."""

    names: Mapping[str, str] = {}
    """By serial."""
    before: Mapping[str, float | None] = {}
    """As data.before has it."""
    today: object = None
    """The curve so far, or why there is none."""
    drawn: str = ""
    """Changes whenever the curve does."""


@dataclass(frozen=True)
class Sources:
    """Where the values come from; all can be asked in any thread."""

    live: Latest
    wall_clock: Callable[[], float]
    history: Callable[[], Reader] | None
    """Opens the history; None when none is kept. Raises HistoryError."""
    status: Callable[[], Mapping[str, Any]]
    """That of the app, by the keys of snapshot.py. Raises TimeoutError when the loop does not answer."""
    program: Callable[[], Mapping[str, Any]]
    """version, uptime_seconds, memory_kilobytes."""
    metrics: Callable[[], bytes] | None = None
    """In the text format of Prometheus; None when it is off."""
    fresh: float = data.FRESH
    """Seconds for which the last reading of an inverter that is online is nothing to worry about."""


class WebSite:
    """The WSGI application."""

    def __init__(
        self, sources: Sources, *, hosts: Callable[[], Collection[str]], frame: str, language: str
    ) -> None:
        """`sources` are where the values come from.

        `hosts` gives the names that it may be called by besides addresses, in lower case.

        `frame` says who may show it within a page of his own, as in Content-Security-Policy; `language` is
        for browsers that wish none of ours.
        """
        self._sources = sources
        self._hosts = hosts
        self._frame = frame
        self._language = language
        self._routes: dict[str, Callable[[Request], Response]] = {
            "/": self._now,
            "/day": self._day,
            "/month": self._period,
            "/year": self._period,
            "/years": self._period,
            "/events": self._events,
            "/health": self._health,
            "/api": self._documents,
            "/manifest.webmanifest": self._manifest,
            "/chart/day.svg": self._chart,
            "/chart/month.svg": self._chart,
            "/chart/year.svg": self._chart,
            "/chart/years.svg": self._chart,
            **{f"/api/{name}": self._json for name in documents.NAMES},
            **{f"/csv/{name}.csv": self._csv for name in documents.NAMES if name != "health"},
            **{f"/static/{name}": self._static for name in STATIC},
        }
        if sources.metrics is not None:
            self._routes["/metrics"] = self._metrics

    def __call__(
        self, environ: Mapping[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]
    ) -> list[bytes]:
        """The answer to one request, as WSGI has it."""
        head_only = environ["REQUEST_METHOD"] == "HEAD"
        answer = self._answer(environ)
        body = answer.body.encode() if isinstance(answer.body, str) else answer.body
        start_response(f"{answer.status.value} {answer.status.phrase}", self._headers(answer, len(body)))
        return [] if head_only else [body]

    def _answer(self, environ: Mapping[str, Any]) -> Response:
        try:
            self._check(environ)
            request = self._request(environ)
            route = self._routes.get(request.path)
            if route is None:
                raise Problem(HTTPStatus.NOT_FOUND, request.words["There is no such page."])
            return route(request)
        except Problem as problem:
            return Response(f"{problem.text}\n", "text/plain; charset=utf-8", problem.status)
        except (GoodWeError, TimeoutError) as error:
            return Response(f"{error}\n", "text/plain; charset=utf-8", HTTPStatus.SERVICE_UNAVAILABLE)
        except Exception:  # a defect in one page is told in the log, and no other suffers
            log.exception("The page %.200r failed", environ.get("PATH_INFO"))
            return Response(
                "The page failed; the log of the program says why.\n",
                "text/plain; charset=utf-8",
                HTTPStatus.INTERNAL_SERVER_ERROR,
            )

    def _check(self, environ: Mapping[str, Any]) -> None:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD.")
        if not self._is_ours(environ.get("HTTP_HOST", "")):
            text = "This page is not called by that name; put the name into names in [web]."
            raise Problem(HTTPStatus.MISDIRECTED_REQUEST, text)

    def _is_ours(self, host: str) -> bool:
        """Another name that leads here may be a page elsewhere that reads along (DNS rebinding)."""
        found = HOST.fullmatch(host)
        if not found:
            return False
        name = found["name"].lower().rstrip(".")
        if name in self._hosts():
            return True
        try:
            ipaddress.ip_address(name.strip("[]").partition("%")[0])
        except ValueError:
            return False
        return True

    def _request(self, environ: Mapping[str, Any]) -> Request:
        raw = environ.get("QUERY_STRING", "")
        if len(raw) > LONGEST_QUERY:
            raise Problem(HTTPStatus.REQUEST_URI_TOO_LONG, "That is too long.")
        try:
            query = {key: values[0] for key, values in parse_qs(raw, max_num_fields=20).items()}
        except ValueError as error:
            raise Problem(HTTPStatus.BAD_REQUEST, "That cannot be read.") from error
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "")
        words = Words(language_of(environ.get("HTTP_ACCEPT_LANGUAGE", ""), self._language))
        base = prefix.rstrip("/") if PREFIX.fullmatch(prefix) else ""
        return Request(environ.get("PATH_INFO", "") or "/", query, words, base)

    def _headers(self, answer: Response, length: int) -> list[tuple[str, str]]:
        keep = f"max-age={answer.keep_seconds}" if answer.keep_seconds else "no-store"
        headers = [
            ("Content-Type", answer.kind),
            ("Content-Length", str(length)),
            ("Content-Security-Policy", answer.policy or POLICY.format(frame=self._frame)),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", keep),
            ("Vary", "Accept-Language"),
        ]
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "GET, HEAD"))
        if answer.name:
            headers.append(("Content-Disposition", f'attachment; filename="{answer.name}"'))
        return headers

    # --- the pages

    def _now(self, request: Request) -> Response:
        words = request.words
        kept = self._kept(words, curve=request.query.get("part") != "numbers")
        broker = health.broker(self._status_or_nothing(), words)
        body = pages.now(
            self._now_told(kept, words),
            kept.today,
            broker,
            words,
            drawn=kept.drawn,
            fresh=self._sources.fresh,
        )
        return self._page(request, "now", words.title("now"), body)

    def _kept(self, words: Words, *, curve: bool) -> _FromHistory:
        """The history's share of this moment, with the curve if it is wanted, or with why there is none."""
        kept = _FromHistory()
        try:
            with self._history(words) as history:
                inverters = history.inverters()
                kept = kept._replace(names=data.names(inverters), before=data.before(history, inverters))
                if curve:
                    told = data.day(history, self._date(""), "")
                    kept = kept._replace(today=pages.curve(told, data.POWER, kept.names, words))
                return kept._replace(drawn=f"{self._date('')} {data.newest(history)}")
        except (Problem, GoodWeError) as error:
            why = error if isinstance(error, Problem) else words["no data"]
            return kept._replace(today=tag("p", why, class_="faint") if curve else None)

    def _day(self, request: Request) -> Response:
        words, date = request.words, self._date(request.query.get("date", ""))
        quantity = self._quantity(request)
        with self._history(words) as history:
            choice = self._choice(history, request)
            told = data.day(history, date, choice["serial"])
        return self._page(
            request, "day", words.date(date), pages.day(told, quantity, choice["names"], choice, words)
        )

    def _period(self, request: Request) -> Response:
        words, date = request.words, self._date(request.query.get("date", ""))
        kind = PERIODS[request.path.strip("/")]
        with self._history(words) as history:
            choice = self._choice(history, request)
            told = data.period(history, kind, date, choice["serial"])
        return self._page(
            request,
            pages.PAGE_OF[kind] if kind != BY_YEAR else "all years",
            pages.period_title(told, words),
            pages.period(told, {**choice, "date": date}, words),
        )

    def _events(self, request: Request) -> Response:
        words = request.words
        with self._history(words) as history:
            choice = self._choice(history, request)
            rows, earlier = self._events_told(history, request, choice["serial"], EVENTS_SHOWN)
        chosen = {
            **choice,
            **{key: request.query.get(key, "") for key in ("kind", "until")},
            "earlier": earlier,
        }
        return self._page(
            request, "events", words.title("events"), pages.events(rows, chosen, choice["names"], words)
        )

    def _health(self, request: Request) -> Response:
        words = request.words
        body = health.health(self._sources.status(), self._sources.program(), words)
        return self._page(request, "health", words.title("health"), body)

    def _documents(self, request: Request) -> Response:
        return self._page(request, "", "API", documents.page())

    @staticmethod
    def _page(request: Request, here: str, title: str, body: object) -> Response:
        return Response(pages.page(here, title, request.words, request.base, body))

    # --- the same as data

    def _json(self, request: Request) -> Response:
        told = self._told(request.path.removeprefix("/api/"), request)
        return Response(simplejson.dumps(told, ignore_nan=True), "application/json")

    def _csv(self, request: Request) -> Response:
        name = request.path.removeprefix("/csv/").removesuffix(".csv")
        told = self._told(name, request)
        file = "-".join(["goodwe", name, *([request.query["date"]] if "date" in request.query else [])])
        return Response(
            documents.csv(documents.rows(name, told)), "text/csv; charset=utf-8", name=f"{file}.csv"
        )

    def _told(self, name: str, request: Request) -> Any:
        if name == "now":
            return self._now_told(self._kept(request.words, curve=False), request.words)
        if name == "health":
            status = self._sources.status()
            return {"program": dict(self._sources.program()), **health.told(status)}
        date = self._date(request.query.get("date", ""))
        with self._history(request.words) as history:
            serial = self._choice(history, request)["serial"]
            if name == "day":
                return data.day(history, date, serial)
            if name == "events":
                return self._events_told(history, request, serial, EVENTS_TOLD)[0]
            return data.period(history, PERIODS[name], date, serial)

    def _chart(self, request: Request) -> Response:
        name = request.path.removeprefix("/chart/").removesuffix(".svg")
        words, date = request.words, self._date(request.query.get("date", ""))
        size = charts.SIZES.get(request.query.get("size", "wide"))
        if size is None:
            raise Problem(HTTPStatus.BAD_REQUEST, f"size is {' or '.join(charts.SIZES)}.")
        quantity = self._quantity(request)
        with self._history(words) as history:
            choice = self._choice(history, request)
            if name == "day":
                told = data.day(history, date, choice["serial"])
                svg = pages.line_chart(told, quantity, choice["names"], words, size)
            else:
                told = data.period(history, PERIODS[name], date, choice["serial"])
                svg = pages.bar_chart(told, "", words, size, linked=False)
        sheet = _static("chart.css").decode()
        return Response(charts.alone(svg, sheet), "image/svg+xml", keep_seconds=60, policy=POLICY_OF_CHARTS)

    def _metrics(self, request: Request) -> Response:
        assert self._sources.metrics is not None
        return Response(self._sources.metrics(), "text/plain; version=0.0.4; charset=utf-8")

    @staticmethod
    def _static(request: Request) -> Response:
        name = request.path.removeprefix("/static/")
        return Response(_static(name), STATIC[name], keep_seconds=DAY)

    @staticmethod
    def _manifest(request: Request) -> Response:
        icons = [{"src": "static/icon.svg", "sizes": "any", "type": "image/svg+xml"}]
        icons += [
            {"src": f"static/icon-{size}.png", "sizes": f"{size}x{size}", "type": "image/png"}
            for size in (192, 512)
        ]
        told = {
            "name": "GoodWe",
            "short_name": "GoodWe",
            "start_url": ".",
            "display": "standalone",
            "background_color": "#11171c",
            "theme_color": "#0b6fb8",
            "icons": icons,
        }
        return Response(simplejson.dumps(told), "application/manifest+json", keep_seconds=DAY)

    # --- what they are made of

    def _now_told(self, kept: _FromHistory, words: Words) -> data.JsonObject:
        live, at = self._sources.live.inverters, self._sources.wall_clock()
        return data.now(live, kept.names, kept.before, at, words.language)

    def _status_or_nothing(self) -> Mapping[str, Any]:
        try:
            return self._sources.status()
        except TimeoutError:
            return {}

    def _history(self, words: Words | None = None) -> Reader:
        if self._sources.history is None:
            words = words or Words(self._language)
            raise Problem(HTTPStatus.NOT_FOUND, words[NO_HISTORY])
        return self._sources.history()

    def _date(self, text: str) -> datetime.date:
        """The day that is asked for; today without one."""
        if not text:
            return datetime.date.fromtimestamp(self._sources.wall_clock())
        try:
            date = datetime.datetime.strptime(text, "%Y-%m-%d").date()
        except ValueError as error:
            raise Problem(HTTPStatus.BAD_REQUEST, "A date is written as 2026-06-21.") from error
        if not FIRST_YEAR <= date.year <= LAST_YEAR:
            raise Problem(HTTPStatus.NOT_FOUND, f"Years are {FIRST_YEAR} to {LAST_YEAR}.")
        return date

    @staticmethod
    def _quantity(request: Request) -> data.Quantity:
        name = request.query.get("show", data.POWER.name)
        found = next((one for one in data.QUANTITIES if one.name == name), None)
        if found is None:
            raise Problem(
                HTTPStatus.BAD_REQUEST, f"show is {', '.join(one.name for one in data.QUANTITIES)}."
            )
        return found

    def _choice(self, history: Reader, request: Request) -> dict[str, Any]:
        inverters = history.inverters()
        serials = [one.serial for one in inverters if not one.replaced_by]
        known = [one.serial for one in inverters]
        serial = fields.known_serial(request.query.get("serial", ""), known)
        if serial and serial not in known:
            raise Problem(HTTPStatus.NOT_FOUND, "No inverter has that serial number.")
        today = self._date("")
        first, last = history.span() or (today, today)
        return {
            "serial": serial,
            "serials": serials,
            "names": data.names(inverters),
            "span": (first, max(last, today)),
        }

    def _events_told(
        self, history: Reader, request: Request, serial: str, most: int
    ) -> tuple[list[data.JsonObject], int | None]:
        """The newest before `until`, `most` of them and all of the last one's second.

        And the `until` for those before these, or None when there are none.
        """
        kind = request.query.get("kind", "")
        if kind and kind not in schema.KINDS:
            raise Problem(HTTPStatus.BAD_REQUEST, f"kind is {', '.join(schema.KINDS)}.")
        text = request.query.get("until", "")
        if text and not EPOCH.fullmatch(text):
            raise Problem(HTTPStatus.BAD_REQUEST, "until is seconds since 1970.")
        until = float(text) if text else self._sources.wall_clock() + DAY
        rows = history.events(
            0.0, until, kinds=[kind] if kind else (), serial=serial, most=most + EVENTS_OF_A_MOMENT
        )
        shown = rows[:most] + [row for row in rows[most:] if row.at == rows[most - 1].at]
        return data.events(shown), int(shown[-1].at) if len(shown) < len(rows) else None


PERIODS = {"month": BY_DAY, "year": BY_MONTH, "years": BY_YEAR}
"""Name of a page to the steps in which it is shown."""


def _static(name: str) -> bytes:
    with open(os.path.join(os.path.dirname(__file__), "static", name), "rb") as file:
        return file.read()
