"""One figure of ours beside the published one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from closing import Check

__all__ = ["Figure", "Section", "show"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number that somebody published, and ours."""

    name: str
    """What it is."""
    ours: float | None
    """What this code makes of the data; `None` where it cannot be computed."""
    published: float | None = None
    """What was published; `None` where nothing was."""
    tolerance: float = 0.0
    """How far ours may be off: the rounding of the published figure, unless `note` says otherwise."""
    is_checked: bool = True
    """Whether the two must agree: not where they rest on different data or tokens."""
    note: str = ""
    """Why they may differ."""

    @property
    def difference(self) -> float | None:
        """Ours less the published one."""
        return None if self.ours is None or self.published is None else self.ours - self.published

    def check(self) -> Check | None:
        """What is promised of it; `None` where nothing is."""
        if self.published is None or not self.is_checked:
            return None
        return Check(
            name=self.name,
            value=self.ours,
            goal=f"{self.published:g} within {self.tolerance:g}",
            # The last digit of a rounded figure is off by one half; floats add their own noise.
            holds=self.difference is not None and abs(self.difference) <= self.tolerance * (1 + 1e-9),
        )


@dataclass(frozen=True, kw_only=True)
class Section:
    """The figures of one data set."""

    title: str
    """Whose figures."""
    basis: str
    """What they rest on: data, prices, tokens."""
    figures: Sequence[Figure]
    """Ours beside theirs."""
    lines: Sequence[str] = field(default_factory=tuple)
    """What has no published counterpart, as text."""
    promises: Sequence[Check] = field(default_factory=tuple)
    """What must hold of figures that nobody published."""

    def checks(self) -> Iterator[Check]:
        """Everything that must hold."""
        yield from filter(None, (figure.check() for figure in self.figures))
        yield from self.promises


def show(section: Section) -> None:
    """Print a section as a table."""
    print(f"\n{section.title}\n  {section.basis}")
    width = max((len(figure.name) for figure in section.figures), default=0)
    print(f"  {'':{width}}  {'ours':>10}  {'published':>10}  {'difference':>10}")
    for figure in section.figures:
        numbers = (figure.ours, figure.published, figure.difference)
        columns = "  ".join("         -" if number is None else f"{number:10.4f}" for number in numbers)
        is_open = figure.published is not None and not figure.is_checked
        print(f"  {figure.name:{width}}  {columns}  {'not checked: ' if is_open else ''}{figure.note}".rstrip(" :"))
    for line in section.lines:
        print(f"  {line}")
