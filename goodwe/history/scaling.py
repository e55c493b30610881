"""The energy of a slot: the integral of its power, scaled so that a day's slots add up to its counter.

The counter has one decimal: taken as it is, a slot of five minutes would jump by 1.2 kW. The integral is
smooth, and the counter is right; so each slot keeps its share of the sum of the integrals.
"""

from collections.abc import Sequence

RESOLUTION = 0.1
"""kWh of the counter: what is no further from it agrees with it."""
SMALL = 1.0
"""kWh; so long as a day has made less, a step of the counter is more than a tenth of it."""


def scaled(made: Sequence[float], counted: float | None, *, exact: bool) -> list[float]:
    """The energies of a day's slots in kWh, from the integrals and what the counter says, both in kWh.

    `counted` is None where nobody knows. A day that has just begun is left as it is while it agrees with the
    counter, unless it has to be `exact`: a first step of 0.1 would double a morning.
    """
    total = sum(made)
    agrees = counted is not None and abs(total - counted) <= RESOLUTION and counted < SMALL
    if counted is None or not made or (agrees and not exact):
        return list(made)
    if total <= 0:  # it was made, and nobody knows when
        return [counted / len(made)] * len(made)
    return [one * counted / total for one in made]
