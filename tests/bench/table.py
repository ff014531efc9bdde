"""Measurements, what they are held against, and the table of both."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_COMPARISONS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Bound:
    """What a figure has to be: `Bound(">=", 0.6)`."""

    comparison: str
    limit: float
    unit: str = ""

    def holds(self, figure: float) -> bool:
        return bool(_COMPARISONS[self.comparison](figure, self.limit))

    def __str__(self) -> str:
        sign = {"<=": "at most ", "<": "below ", ">=": "at least ", "==": ""}[self.comparison]
        return f"{sign}{self.limit:g}{self.unit}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured.
        measured: The figure, for people.
        beside: What it is held against, measured in the same run.
        ratio: One as a share of the other, or their difference; for people.
        bound: What is required.
        figure: What the bound is about.
    """

    what: str
    measured: str
    beside: str = ""
    ratio: str = ""
    bound: Bound | None = None
    figure: float | None = None

    @property
    def holds(self) -> bool:
        return self.bound is None or (self.figure is not None and self.bound.holds(self.figure))

    def cells(self) -> Sequence[str]:
        verdict = "" if self.bound is None else "yes" if self.holds else "**no**"
        return self.what, self.measured, self.beside, self.ratio, str(self.bound or ""), verdict


@dataclass
class Part:
    """The rows of one question, and remarks on how they came about."""

    title: str
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        head = ("what", "measured", "beside it", "ratio", "required", "holds")
        lines = [f"## {self.title}", "", _line(head), _line("---" for _ in head)]
        lines += [_line(row.cells()) for row in self.rows]
        lines += ["", *(f"- {remark}" for remark in self.remarks)] if self.remarks else []
        return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def spread(figures: Sequence[float], unit: str = "", digits: int = 0) -> str:
    """The median of some figures, and the lowest and highest of them."""
    middle, low, high = statistics.median(figures), min(figures), max(figures)
    shown = [f"{figure:,.{digits}f}" for figure in (middle, low, high)]
    return f"{shown[0]}{unit} ({shown[1]} to {shown[2]})"


def milliseconds(seconds: Sequence[float]) -> str:
    """The spread of some times, in milliseconds."""
    return spread([1000 * second for second in seconds], " ms", 1)
