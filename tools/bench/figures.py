"""Measurements, and the figures made of them."""

from dataclasses import dataclass
from statistics import median


@dataclass
class Series:
    """What one way of doing something cost, run by run."""

    name: str
    unit: str
    values: list

    @property
    def median(self):
        return median(self.values)

    def text(self):
        """Median and range."""
        low, high = min(self.values), max(self.values)
        return (
            f"{number(self.median, self.unit)} {self.unit}"
            f" ({number(low, self.unit)}–{number(high, self.unit)})"
        )

    def short(self):
        return f"{number(self.median, self.unit)} {self.unit}"

    def raw(self):
        values = " ".join(f"{v:.4f}" for v in self.values)
        return f"{self.name} [{self.unit}]: {values}"


def number(value, unit):
    if unit == "ms":
        return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 or unit == "MiB" else f"{value:.2f}"


@dataclass
class Figure:
    """One required figure: a ratio to what it is compared with, or (other is
    None) the measured value itself."""

    what: str
    ours: Series
    other: Series
    bound: float
    at_least: bool = False

    @property
    def value(self):
        if self.other is None:
            return self.ours.median
        return self.ours.median / self.other.median

    @property
    def met(self):
        if self.at_least:
            return self.value >= self.bound
        return self.value <= self.bound

    def row(self):
        required = f"{'≥' if self.at_least else '≤'} {self.bound:g}"
        if self.other is None:
            beside, ratio = "–", "–"
            required += f" {self.ours.unit}"
        else:
            beside = f"{self.other.name}: {self.other.short()}"
            ratio = f"{self.value:.3f}"
        met = "met" if self.met else "**not met**"
        return [self.what, self.ours.short(), beside, ratio, required, met]


FIGURE_HEAD = ["figure", "Holdfast", "compared with", "ratio", "required", ""]


def table(head, rows):
    """A Markdown table whose columns line up as plain text too."""
    lines = [head] + rows
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(head))]

    def line(cells):
        padded = (str(c).ljust(w) for c, w in zip(cells, widths))
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([line(head), rule] + [line(r) for r in rows]) + "\n"


@dataclass
class Part:
    """What one part of the bench found."""

    title: str
    text: str  # how it was measured
    head: list
    rows: list
    figures: list
    series: list  # everything measured, for the raw runs

    def markdown(self):
        return f"## {self.title}\n\n{self.text}\n\n{table(self.head, self.rows)}"
