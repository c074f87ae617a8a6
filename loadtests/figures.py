"""What a bench run found, as a table: each figure with its target, whether it was reached, and whether it gates.

Pure. Only ratios within one run gate, and counts that no other load on the machine can change (bytes a recipient,
messages that were lost): absolute times are reported, and judged by whoever knows how quiet the machine was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

HEAD = ("figure", "measured", "target", "")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line. `target` is the most allowed, or with `least` the least; none: only reported."""

    name: str
    value: float
    unit: str
    target: float | None = None
    least: bool = False
    gates: bool = False
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether the target is met; true where there is none. No number at all is never met."""
        if math.isnan(self.value):
            return False
        if self.target is None:
            return True
        return self.value >= self.target if self.least else self.value <= self.target

    @property
    def verdict(self) -> str:
        """The last column."""
        if self.target is None and self.reached:
            return ""
        word = "pass" if self.reached else "FAIL"
        return f"{word} (gate)" if self.gates else word


def shown(value: float, unit: str) -> str:
    """A number with its unit: three figures where it is small, thousands separated where it is not."""
    if math.isnan(value):
        return "not measured"
    digits = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return digits if not unit else f"{digits} {unit}"


def row(figure: Figure) -> tuple[str, str, str, str]:
    """A figure's cells."""
    bound = "" if figure.target is None else f"{'≥' if figure.least else '≤'} {shown(figure.target, figure.unit)}"
    name = f"{figure.name} ({figure.note})" if figure.note else figure.name
    return name, shown(figure.value, figure.unit), bound, figure.verdict


def table(figures: Sequence[Figure]) -> list[str]:
    """A Markdown table whose columns also line up in a terminal."""
    rows = [HEAD, *(row(figure) for figure in figures)]
    wide = [max(len(cells[at]) for cells in rows) for at in range(len(HEAD))]
    lines = [
        "| "
        + " | ".join(
            cell.rjust(width) if at in {1, 2} else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(cells, wide, strict=True))
        )
        + " |"
        for cells in rows
    ]
    rule = "|" + "|".join("-" * (width + 1) + (":" if at in {1, 2} else "-") for at, width in enumerate(wide)) + "|"
    return [lines[0], rule, *lines[1:]]


def failed(figures: Sequence[Figure]) -> list[Figure]:
    """The gates that are not reached."""
    return [figure for figure in figures if figure.gates and not figure.reached]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of rounds that ran next to each other: a slow minute of the machine is in both."""
    return median(one / other for one, other in zip(above, below, strict=True))
