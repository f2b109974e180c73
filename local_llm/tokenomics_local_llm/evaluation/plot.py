"""Quality against bits per element, as an SVG that any browser opens: a dot an arm, divergence in powers of ten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil, floor, log10
from typing import Any, Final

from tokenomics_local_llm.svg import apart, document, rule, words

__all__ = ["quality_plot"]

_WIDTH: Final = 860
_HEIGHT: Final = 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 250, 40, 60  # room for the axes' words and for the names of the dots
_SMALLEST: Final = 1e-6  # what a divergence of 0 is drawn as
_DOT: Final = "#36c"


def quality_plot(figures: Mapping[str, Mapping[str, Any]], *, title: str) -> str:
    """An SVG document.

    Args:
        figures: By arm: `bits_per_element`, `kl` and `kl_spread`.
        title: Stands above.
    """
    bits = [row["bits_per_element"] for row in figures.values()]
    divergences = [max(row["kl"], _SMALLEST) for row in figures.values()]
    low, high = floor(min(map(log10, divergences))), ceil(max(map(log10, divergences)))
    axes = _Axes(bits=(floor(min(bits)), max(ceil(max(bits)), floor(min(bits)) + 1)), powers=(low, max(high, low + 1)))
    return document(_WIDTH, _HEIGHT, [words(_LEFT, 22, title, weight="bold"), *axes.lines(), *_dots(figures, axes)])


class _Axes:
    """Where a figure lies on the page."""

    def __init__(self, *, bits: tuple[int, int], powers: tuple[int, int]) -> None:
        self._bits = bits
        self._powers = powers

    def x(self, bits: float) -> float:
        first, last = self._bits
        return _LEFT + (bits - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, divergence: float) -> float:
        first, last = self._powers
        share = (log10(max(divergence, _SMALLEST)) - first) / (last - first)
        return _HEIGHT - _BOTTOM - min(max(share, 0.0), 1.0) * (_HEIGHT - _BOTTOM - _TOP)

    def lines(self) -> Iterator[str]:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        for power in range(self._powers[0], self._powers[1] + 1):
            y = self.y(10.0**power)
            yield rule(_LEFT, y, right, y)
            yield words(_LEFT - 8, y + 4, f"{10.0**power:g}", anchor="end")
        for bits in range(self._bits[0], self._bits[1] + 1):
            x = self.x(bits)
            yield rule(x, _TOP, x, bottom)
            yield words(x, bottom + 18, str(bits), anchor="middle")
        yield words((_LEFT + right) / 2, bottom + 42, "bits per element", anchor="middle")
        yield (
            f'<text transform="translate(18 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
            "KL to the full cache, nats</text>"
        )


def _dots(figures: Mapping[str, Mapping[str, Any]], axes: _Axes) -> Iterator[str]:
    levels = [axes.y(row["kl"]) for row in figures.values()]
    name_x = _WIDTH - _RIGHT + 16
    for (name, row), y, beside in zip(figures.items(), levels, apart(levels, _HEIGHT - _BOTTOM), strict=True):
        x, half = axes.x(row["bits_per_element"]), row["kl_spread"] / 2
        yield rule(x, axes.y(row["kl"] + half), x, axes.y(row["kl"] - half), colour=_DOT)
        yield rule(x, y, name_x - 4, beside)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_DOT}"/>'
        yield words(name_x, beside + 4, f"{name}: {row['kl']:.4f}")
