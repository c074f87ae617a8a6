"""How figures are written for people: counts, parts per million, percentages, ages. Pure."""

import math

MILLION = 1_000_000
KEPT = "\u00a0"
"""A space that keeps a figure and its unit on one line."""


def count(n: int | None) -> str:
    """A count with thin groups; a dash where it is not known."""
    return "–" if n is None else f"{n:,}"


def ppm(n: int, of: int) -> float | None:
    """Parts per million; none of nothing."""
    return None if of <= 0 else n * MILLION / of


def ppm_text(value: float | None) -> str:
    """`1,234 ppm`; a dash where there is nothing to measure."""
    return "–" if value is None else f"{value:,.0f}{KEPT}ppm"


def percent(n: int, of: int) -> str:
    """`98.2 %`; a dash where there is nothing to measure. Only nothing is 0.0 %, only all of it 100.0 %."""
    if of <= 0:
        return "–"
    said = f"{100 * n / of:.1f}"
    if said == "0.0" and n > 0:
        said = f"<{KEPT}0.1"
    elif said == "100.0" and n < of:
        said = f">{KEPT}99.9"
    return f"{said}{KEPT}%"


def ceiling(value: float) -> float:
    """The next round figure above, of which a quarter is round too: an axis' end."""
    if value <= 0:
        return 4.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1.2, 1.6, 2, 3, 4, 6, 8, 10) if unit * step >= value)
