from __future__ import annotations

from xml.etree import ElementTree

from tokenomics_local_llm.evaluation.plot import quality_plot

SVG = "{http://www.w3.org/2000/svg}"


def dots(figures: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    page = ElementTree.fromstring(quality_plot(figures, title="a < b"))
    places = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in page.iter(f"{SVG}circle")]
    names = [(text.text or "").partition(":")[0] for text in page.iter(f"{SVG}text")][-len(places) :]
    return dict(zip(names, places, strict=True))


def test_fewer_bits_lie_left_and_less_divergence_lies_low() -> None:
    places = dots(
        {
            "two & bits": {"bits_per_element": 2.5, "kl": 0.1, "kl_spread": 0.02},
            "four bits": {"bits_per_element": 4.5, "kl": 0.001, "kl_spread": 0.0},
        }
    )

    assert places["two & bits"][0] < places["four bits"][0]
    assert places["two & bits"][1] < places["four bits"][1]  # SVG counts down the page


def test_a_divergence_of_nothing_is_drawn_at_the_bottom() -> None:
    places = dots({"exact": {"bits_per_element": 16, "kl": 0.0, "kl_spread": 0.0}})

    assert 0 < places["exact"][1] < 520
