"""Charts as SVG, made from plain numbers: lines over a day, bars over months and years.

A chart is one `<svg>` element without any style of its own: classes say what each shape is, the sheet
`static/chart.css` how that looks, in the light and in the dark. `alone` puts that sheet into the element,
for whoever embeds the chart elsewhere. The script of the page finds the scales in `data-` attributes.
"""

from collections.abc import Sequence
from datetime import tzinfo
from html import escape
from typing import NamedTuple

from .scale import Scale, Tick, decimals, hours, marks, round_ends
from .words import Words

COLOURS = 6
"""Kinds of lines and bars that the sheet tells apart, by colour and by dash; then they begin again."""
GAP = 900.0
"""Seconds without a value after which a line ends, and begins again."""
LETTER = 7.2
"""Units that one character of an axis takes, about."""


class Size(NamedTuple):
    """Units of the drawing; one is a pixel where it is shown as wide as it is."""

    width: int
    height: int


WIDE = Size(960, 360)
NARROW = Size(320, 250)
SIZES = {"wide": WIDE, "narrow": NARROW}
"""By the class that the sheet of the page shows on a wide or a narrow window."""


class Curve(NamedTuple):
    """The curve of one inverter."""

    name: str
    points: Sequence[tuple[float, float]]
    """Seconds since 1970 and value, in order; a moment that nothing is known of is not there."""


class Bar(NamedTuple):
    """A day, a month, a year."""

    label: str
    """Below the bar."""
    title: str
    """In full, for who points at it or cannot see it."""
    value: float | None
    before: float | None = None
    """The same a year before."""
    href: str = ""
    """Where it leads."""


class _Room(NamedTuple):
    """The room of the curve within the drawing."""

    size: Size
    left: float
    right: float
    top: float
    bottom: float


def line_chart(
    lines: Sequence[Curve],
    *,
    start: float,
    end: float,
    zone: tzinfo | None,
    unit: str,
    title: str,
    words: Words,
    size: Size = WIDE,
    from_zero: bool = True,
) -> str:
    """Curves between two moments (seconds since 1970) as one `<svg>`.

    Times are told in `zone`, None for the machine's. `unit` is that of the values, `title` what a screen
    reader says. The highest value of all is marked. `from_zero`: the axis begins at 0, as it must where an
    area is a quantity; else it goes around the values.
    """
    values = [value for line in lines for _, value in line.points]
    low, high, step = _ends(values, size, from_zero=from_zero)
    labels = _labels(low, high, step, words) if values else []
    frame = _frame(size, labels)
    across = Scale(start, end, frame.left, frame.right)
    up = Scale(low, high, frame.bottom, frame.top)
    parts = [_value_axis(frame, up, labels, unit)]
    parts += [_time_axis(frame, across, hours(start, end, 12 if size.width > 600 else 6, zone))]
    if not values:
        parts.append(_words_in_the_middle(frame, words["no data"]))
    parts += [_curve(line, number, frame, across, up) for number, line in enumerate(lines)]
    if values:
        parts.append(_highest(lines, frame, across, up, zone, unit, words))
    return _svg(
        parts,
        size,
        f"{title}. {_summary(lines, zone, unit, words)}",
        {
            "left": frame.left,
            "right": frame.right,
            "top": frame.top,
            "bottom": frame.bottom,
            "from": start,
            "to": end,
            "low": low,
            "high": high,
        },
    )


def bar_chart(
    bars: Sequence[Bar],
    *,
    unit: str,
    title: str,
    words: Words,
    size: Size = WIDE,
) -> str:
    """One bar beside the other as one `<svg>`, each with that of the year before behind it, if there is one.

    `unit` is that of the values, `title` what a screen reader says.
    """
    values = [value for bar in bars for value in (bar.value, bar.before) if value is not None]
    low, high, step = _ends(values, size, from_zero=True)
    labels = _labels(low, high, step, words) if values else []
    frame = _frame(size, labels)
    up = Scale(low, high, frame.bottom, frame.top)
    room = (frame.right - frame.left) / max(1, len(bars))
    parts = [_value_axis(frame, up, labels, unit)]
    if not values:
        parts.append(_words_in_the_middle(frame, words["no data"]))
    every = next(
        (
            step
            for step in (1, 2, 5, 10)
            if room * step > LETTER * (1 + max((len(bar.label) for bar in bars), default=1))
        ),
        20,
    )
    for number, bar in enumerate(bars):
        middle = frame.left + room * (number + 0.5)
        parts.append(_bar(bar, middle, room, frame, up, unit, words))
        if number % every == 0 or number == 0:
            parts.append(_text(middle, frame.bottom + 18, bar.label, "across"))
    total = sum(bar.value for bar in bars if bar.value is not None)
    # Within a picture a screen reader would find no links.
    role = "group" if any(bar.href for bar in bars) else "img"
    return _svg(parts, size, f"{title}. {words['total']}: {words.number(total, 1)} {unit}", {}, role)


def dial(watts: float, most: float, *, title: str, words: Words) -> str:
    """A half circle that is filled as far as `watts` of `most`."""
    share = min(max(watts / most if most else 0.0, 0.0), 1.0)
    whole = 251.33  # half the circumference of a circle with radius 80
    arc = "M20 100A80 80 0 0 1 180 100"
    return (
        f'<svg class="dial" viewBox="0 0 200 122" role="img" aria-label="{escape(title)}">'
        f'<path class="rail" d="{arc}"/>'
        f'<path class="fill" d="{arc}" stroke-dasharray="{share * whole:.1f} {whole}"/>'
        f'<text class="least" x="12" y="118">0</text>'
        f'<text class="most" x="188" y="118">{escape(words.power(most))}</text></svg>'
    )


def alone(svg: str, sheet: str) -> str:
    """The same chart as a document of its own, with its style inside."""
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{sheet}</style>{rest}'


# --- the pieces


def _ends(values: Sequence[float], size: Size, *, from_zero: bool) -> tuple[float, float, float]:
    most = 5 if size.height > 300 else 4
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    return round_ends(low, high, most)


def _labels(low: float, high: float, step: float, words: Words) -> list[Tick]:
    return [Tick(at, words.number(at, decimals(step))) for at in marks(low, high, step)]


def _frame(size: Size, labels: Sequence[Tick]) -> _Room:
    widest = max(len(label.label) for label in [*labels, Tick(0, "kWh")])
    return _Room(size, 12 + LETTER * widest, size.width - 14, 30, size.height - 30)


def _svg(parts: Sequence[str], size: Size, title: str, data: dict[str, float], role: str = "img") -> str:
    label = escape(title)
    numbers = "".join(f' data-{name}="{round(value, 3)!r}"' for name, value in data.items())
    head = f'<svg class="chart" viewBox="0 0 {size.width} {size.height}" role="{role}" aria-label="{label}"'
    return f"{head}{numbers}><title>{label}</title>{''.join(parts)}</svg>"


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _value_axis(frame: _Room, up: Scale, labels: Sequence[Tick], unit: str) -> str:
    parts = [_text(frame.left - 6, frame.top - 12, unit, "up")]
    for label in labels:
        kind, y = "grid" if label.at else "base", up.place(label.at)
        parts.append(f'<path class="{kind}" d="M{frame.left:.1f} {y:.1f}H{frame.right:.1f}"/>')
        parts.append(_text(frame.left - 6, y + 4, label.label, "up"))
    return "".join(parts)


def _time_axis(frame: _Room, across: Scale, ticks: Sequence[Tick]) -> str:
    return "".join(
        f'<path class="grid" d="M{across.place(tick.at):.1f} {frame.top:.1f}V{frame.bottom:.1f}"/>'
        + _text(across.place(tick.at), frame.bottom + 18, tick.label, "across")
        for tick in ticks
    )


def _words_in_the_middle(frame: _Room, text: str) -> str:
    return _text((frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2, text, "none")


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The points, cut where nothing is known for longer than GAP."""
    runs: list[list[tuple[float, float]]] = []
    for point in points:
        if not runs or point[0] - runs[-1][-1][0] > GAP:
            runs.append([])
        runs[-1].append(point)
    return runs


def _curve(line: Curve, number: int, frame: _Room, across: Scale, up: Scale) -> str:
    colour = number % COLOURS
    paths = []
    for run in _runs(line.points):
        places = " ".join(f"{across.place(at):.1f},{up.place(value):.1f}" for at, value in run)
        if len(run) == 1:
            x, y = places.split(",")
            paths.append(f'<circle class="dot c{colour}" cx="{x}" cy="{y}" r="1.5"/>')
        else:
            paths.append(f'<polyline class="line c{colour}" points="{places}"/>')
    return f"<g><title>{escape(line.name)}</title>{''.join(paths)}</g>"


def highest(lines: Sequence[Curve]) -> tuple[Curve, float, float] | None:
    """The line with the highest value, when that was, and the value; None without any."""
    found = [(value, -at, line) for line in lines for at, value in line.points]
    if not found:
        return None
    value, at, line = max(found, key=lambda one: one[:2])
    return line, -at, value


def _highest(
    lines: Sequence[Curve],
    frame: _Room,
    across: Scale,
    up: Scale,
    zone: tzinfo | None,
    unit: str,
    words: Words,
) -> str:
    found = highest(lines)
    if found is None:
        return ""
    _, at, value = found
    x, y = across.place(at), up.place(value)
    room = LETTER * 10
    kind = "top right" if x > frame.right - room else "top left" if x < frame.left + room else "top"
    text = f"{words.number(value, 0 if unit == 'W' else 1)} {unit}, {words.time(at, zone)}"
    return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' + _text(x, max(y - 9, 12), text, kind)


def _summary(lines: Sequence[Curve], zone: tzinfo | None, unit: str, words: Words) -> str:
    """The chart in a sentence."""
    found = highest(lines)
    if found is None:
        return words["no data"]
    _, at, value = found
    return (
        f"{words['highest']}: {words.number(value, 0 if unit == 'W' else 1)} {unit}, {words.time(at, zone)}"
    )


def _bar(bar: Bar, middle: float, room: float, frame: _Room, up: Scale, unit: str, words: Words) -> str:
    shapes = []
    broad = min(room * 0.76, 60.0)
    if bar.before is not None:
        shapes.append(_column("before", middle - broad / 2, broad * 0.42, bar.before, up))
    if bar.value is not None:
        wide = broad if bar.before is None else broad * 0.56
        shapes.append(_column("bar", middle + broad / 2 - wide, wide, bar.value, up))
    said = bar.title
    if bar.value is not None:
        said += f": {words.number(bar.value, 1)} {unit}"
    if bar.before is not None:
        said += f" ({words['a year before']}: {words.number(bar.before, 1)} {unit})"
    # The whole height can be pointed at, also of a day with hardly any sun.
    reach = _rect("reach", middle - room / 2, frame.top, room, frame.bottom - frame.top)
    inner = f"<g><title>{escape(said)}</title>{reach}{''.join(shapes)}</g>"
    return f'<a href="{escape(bar.href)}" aria-label="{escape(said)}">{inner}</a>' if bar.href else inner


def _column(kind: str, left: float, wide: float, value: float, up: Scale) -> str:
    zero, top = up.place(0.0), up.place(value)
    return _rect(kind, left, min(zero, top), wide, abs(zero - top))


def _rect(kind: str, left: float, top: float, wide: float, high: float) -> str:
    return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}"/>'
