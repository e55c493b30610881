"""Rows with a bar behind them, for a terminal of any width and encoding."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

BLOCKS = " ▏▎▍▌▋▊▉█"
"""A column of a terminal in eighths."""
ASCII = "#"
LONGEST_BAR = 60
"""Columns; a longer one says no more."""
SHORTEST_BAR = 5
"""Columns; a shorter one says nothing, and is left out."""


class TableRow(NamedTuple):
    """A row of the table."""

    cells: Sequence[str]
    value: float
    """By which the bar is as long as it is."""


def lines(heading: Sequence[str], bars: Sequence[TableRow], *, width: int, encoding: str) -> Iterator[str]:
    """The table within so many columns; cells without room are left out, the last first, and empty ones."""
    filled = [at for at in range(len(heading)) if heading[at] or any(bar.cells[at] for bar in bars)]
    heading = [heading[at] for at in filled]
    bars = [TableRow([bar.cells[at] for at in filled], bar.value) for bar in bars]
    fitting = [heading, *(bar.cells for bar in bars)]
    sizes = [max(len(row[at]) for row in fitting) for at in range(len(heading))]
    while len(sizes) > 2 and sum(sizes) + 2 * len(sizes) + SHORTEST_BAR > width:
        sizes.pop()
    room = min(LONGEST_BAR, width - sum(sizes) - 2 * len(sizes))
    highest = max((bar.value for bar in bars), default=0.0)
    blocks = _has_blocks(encoding)
    yield _row(heading, sizes)[:width].rstrip()
    for bar in bars:
        drawn = _bar(bar.value, highest, room, blocks) if room >= SHORTEST_BAR else ""
        yield f"{_row(bar.cells, sizes)}{'  ' if drawn else ''}{drawn}"[:width].rstrip()


def _row(cells: Sequence[str], sizes: Sequence[int]) -> str:
    """The first cell to the left, numbers to the right."""
    shown = [
        cell.ljust(size) if at == 0 else cell.rjust(size)
        for at, (cell, size) in enumerate(zip(cells, sizes, strict=False))
    ]
    return "  ".join(shown)


def _bar(value: float, highest: float, room: int, blocks: bool) -> str:
    if value <= 0 or highest <= 0:
        return ""
    if not blocks:
        return ASCII * max(1, round(value / highest * room))
    eighths = max(1, round(value / highest * room * 8))
    whole, rest = divmod(eighths, 8)
    return BLOCKS[8] * whole + (BLOCKS[rest] if rest else "")


def _has_blocks(encoding: str) -> bool:
    try:
        BLOCKS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
