from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_local_llm.diffusion_blocks.gate import Reading
from tokenomics_local_llm.diffusion_blocks.journal import Attempt, Journal
from tokenomics_local_llm.diffusion_blocks.plots import Line, bar_chart, line_chart, losses_by_block

SVG = "{http://www.w3.org/2000/svg}"
FINITE = st.floats(-1e6, 1e6)


def elements(chart: str, kind: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(chart).findall(f"{SVG}{kind}")


def texts(chart: str) -> list[str]:
    return [text.text or "" for text in elements(chart, "text")]


def journal(*losses: float, kept: frozenset[int]) -> Journal:
    attempts = [
        Attempt(
            blocks=[index % 2],
            train_losses=[loss + 0.1],
            tokens=1,
            reading=Reading(held_out_loss=loss, kl=0.0),
            kept=index in kept,
            damping=1.0,
        )
        for index, loss in enumerate(losses)
    ]
    return Journal(path=Path("journal.json"), run={}, base=Reading(held_out_loss=3.0, kl=0.0), attempts=attempts)


def test_a_run_is_drawn_with_a_line_for_held_out_text_and_one_for_each_block() -> None:
    chart = losses_by_block(journal(2.5, 2.9, 2.2, 2.1, kept=frozenset({0, 2, 3})))

    assert [len((line.get("points") or "").split()) for line in elements(chart, "polyline")] == [5, 2, 2]
    assert {"held out", "block 0", "block 1", "visit; a ring was rolled back"} <= set(texts(chart))
    assert [circle.get("fill") for circle in elements(chart, "circle")].count("white") == 1


def test_a_run_without_a_visit_is_one_point() -> None:
    chart = losses_by_block(journal(kept=frozenset()))

    assert len(elements(chart, "circle")) == 1


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=9))
def test_every_point_lies_within_the_axes(points: list[tuple[float, float]]) -> None:
    chart = line_chart([Line(name="one", points=points)], title="a title", across="a unit")

    for circle in elements(chart, "circle"):
        assert 59.9 <= float(circle.get("cx", "nan")) <= 580.1
        assert 47.9 <= float(circle.get("cy", "nan")) <= 356.1
    assert 2 <= len(elements(chart, "line")) <= 10


@pytest.mark.parametrize("count", [12, 40])
def test_the_names_of_lines_that_end_together_do_not_cover_each_other(count: int) -> None:
    lines = [Line(name=f"line {index}", points=[(0, 0), (1, index / 1000)]) for index in range(count)]

    chart = line_chart(lines, title="a title", across="a unit")

    heights = sorted(float(text.get("y", "nan")) for text in elements(chart, "text") if "line" in (text.text or ""))
    assert all(later - earlier >= 14.9 for earlier, later in pairwise(heights))
    height = float((ElementTree.fromstring(chart).get("viewBox") or "").split()[3])
    assert 0 < heights[0] < heights[-1] < height


def test_bars_are_as_long_as_their_values_and_say_their_ratio() -> None:
    chart = bar_chart({"full": 2.0, "blocks & gate": 0.5}, title="Peak memory", unit="GB", by="full")

    full, blocks = (float(bar.get("width", "nan")) for bar in elements(chart, "rect")[1:])
    assert blocks / full == pytest.approx(0.25)
    assert {"blocks & gate", "0.5 GB, 0.25"} <= set(texts(chart))


@pytest.mark.parametrize("bars", [{}, {"full": 0.0}, {"other": 1.0}], ids=["none", "zero", "not that one"])
def test_bars_that_have_no_ratio_are_refused(bars: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="'full' one of them"):
        bar_chart(bars, title="Peak memory", unit="GB", by="full")


def test_a_chart_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a point"):
        line_chart([Line(name="one", points=[])], title="a title", across="a unit")
