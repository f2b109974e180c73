"""Quality against bits per element, as an SVG that any browser opens: a dot an arm, divergence in powers of ten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from math import ceil, floor, log10
from typing import Any, Final

__all__ = ["quality_plot"]

_WIDTH: Final = 860
_HEIGHT: Final = 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 250, 40, 60  # room for the axes' words and for the names of the dots
_SMALLEST: Final = 1e-6  # what a divergence of 0 is drawn as
_LINE: Final = 15  # pixels between the names of two dots


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
    parts = [*axes.lines(), *_dots(figures, axes)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )


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
            yield f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        for bits in range(self._bits[0], self._bits[1] + 1):
            x = self.x(bits)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}" stroke="#ddd"/>'
            yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{bits}</text>'
        yield f'<text x="{(_LEFT + right) / 2}" y="{bottom + 42}" text-anchor="middle">bits per element</text>'
        yield (
            f'<text transform="translate(18 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
            "KL to the full cache, nats</text>"
        )


def _dots(figures: Mapping[str, Mapping[str, Any]], axes: _Axes) -> Iterator[str]:
    beside = 0.0
    for name, row in sorted(figures.items(), key=lambda item: -item[1]["kl"]):
        x, y, half = axes.x(row["bits_per_element"]), axes.y(row["kl"]), row["kl_spread"] / 2
        beside = max(y, beside + _LINE)  # dots come from above; names must not lie on each other
        name_x = _WIDTH - _RIGHT + 16
        yield (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{axes.y(row["kl"] + half):.1f}" '
            f'y2="{axes.y(row["kl"] - half):.1f}" stroke="#36c"/>'
        )
        yield f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{name_x - 4}" y2="{beside:.1f}" stroke="#ccc" stroke-width="0.7"/>'
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#36c"/>'
        yield f'<text x="{name_x}" y="{beside + 4:.1f}">{escape(name)}: {row["kl"]:.4f}</text>'
