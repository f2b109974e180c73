"""What a browser says of a page's figures."""

from __future__ import annotations

from playwright.sync_api import Page

__all__ = ["cut_off"]

_CUT_OFF = """
() => [...document.querySelectorAll("article:not([hidden]) .plot")].flatMap((plot) => {
  const box = plot.getBoundingClientRect();
  return [...plot.querySelectorAll("svg text")]
    .filter((text) => text.textContent.trim() && !text.closest(".hoverlayer"))
    .map((text) => [text.textContent, text.getBoundingClientRect()])
    .filter(([, at]) => at.width && (at.left < box.left - 2 || at.right > box.right + 2 || at.bottom > box.bottom + 2))
    .map(([said]) => said);
})
"""


def cut_off(page: Page) -> list[str]:
    """Texts of the shown figures that lie outside them."""
    found: list[str] = page.evaluate(_CUT_OFF)
    return found
