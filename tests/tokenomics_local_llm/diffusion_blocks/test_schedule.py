from __future__ import annotations

from itertools import pairwise
from statistics import NormalDist

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_local_llm.diffusion_blocks.schedule import NoiseSchedule

BLOCKS = st.integers(1, 12)
SPACINGS = st.sampled_from(["equal_probability", "log_uniform"])


@pytest.mark.parametrize(
    ("blocks", "edges"),
    [
        (2, [80, 0.3012, 0.002]),
        (3, [80, 0.5050, 0.1796, 0.002]),
        (4, [80, 0.6766, 0.3012, 0.1341, 0.002]),
        (6, [80, 0.9617, 0.5050, 0.3012, 0.1796, 0.0943, 0.002]),
    ],
    ids=["2", "3", "4", "6"],
)
def test_edges_are_the_papers(blocks: int, edges: list[float]) -> None:
    assert NoiseSchedule(blocks=blocks).edges == pytest.approx(edges, abs=1e-4)


@given(BLOCKS)
def test_every_band_is_equally_probable(blocks: int) -> None:
    schedule = NoiseSchedule(blocks=blocks)
    log_sigma = NormalDist(schedule.P_mean, schedule.P_std)
    cdf = [log_sigma.cdf(float(torch.tensor(edge, dtype=torch.float64).log())) for edge in schedule.edges]

    masses = [high - low for high, low in pairwise(cdf)]

    assert masses == pytest.approx([sum(masses) / blocks] * blocks, rel=1e-9)


def test_levels_of_one_block_fall_into_the_bands_of_four_equally_often() -> None:
    levels = NoiseSchedule(blocks=1).sample(0, 100_000, generator=torch.Generator().manual_seed(0))
    four = NoiseSchedule(blocks=4)

    shares = torch.tensor([four.block_of(float(level)) for level in levels]).bincount() / len(levels)

    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.006, rtol=0)  # 4 standard errors


def test_log_uniform_bands_have_the_same_ratio() -> None:
    edges = NoiseSchedule(blocks=5, spacing="log_uniform").edges

    ratios = [high / low for high, low in pairwise(edges)]

    assert ratios == pytest.approx([ratios[0]] * 5)
    assert (edges[0], edges[-1]) == (80.0, 0.002)


@given(BLOCKS, SPACINGS, st.floats(0.002, 80.0))
def test_a_noise_level_belongs_to_the_one_block_whose_band_holds_it(blocks: int, spacing: str, sigma: float) -> None:
    schedule = NoiseSchedule(blocks=blocks, spacing=spacing)  # type: ignore[arg-type]

    low, high = schedule.band(schedule.block_of(sigma))

    assert low <= sigma <= high


@given(BLOCKS)
def test_a_grid_of_as_many_points_as_blocks_meets_each_block_once_from_the_first_to_the_last(blocks: int) -> None:
    schedule = NoiseSchedule(blocks=blocks)

    assert [schedule.block_of(sigma) for sigma in schedule.grid(blocks)] == list(range(blocks))


@given(st.integers(2, 60))
def test_a_grid_descends_from_the_highest_to_the_lowest_noise(points: int) -> None:
    grid = NoiseSchedule(blocks=3).grid(points)

    assert (len(grid), grid[0], grid[-1]) == (points, 80.0, 0.002)
    assert grid == sorted(grid, reverse=True)


@given(BLOCKS, SPACINGS, st.sampled_from([0.0, 0.05, 0.1]), st.data())
def test_sampled_levels_lie_in_the_widened_band(blocks: int, spacing: str, overlap: float, data: st.DataObject) -> None:
    schedule = NoiseSchedule(blocks=blocks, spacing=spacing, overlap=overlap)  # type: ignore[arg-type]
    block = data.draw(st.integers(0, blocks - 1))
    low, high = schedule.training_band(block)

    levels = schedule.sample(block, 200, generator=torch.Generator().manual_seed(1))

    assert low * (1 - 1e-6) <= float(levels.min())  # float32 rounds the ends
    assert float(levels.max()) <= high * (1 + 1e-6)


def test_overlap_widens_a_band_within_the_range() -> None:
    schedule = NoiseSchedule(blocks=4, overlap=0.1)

    bands = [schedule.training_band(block) for block in range(4)]

    assert bands == [
        pytest.approx(band, abs=1e-4) for band in [(0.4198, 80.0), (0.2778, 0.7337), (0.1237, 0.3266), (0.002, 0.2042)]
    ]


def test_no_overlap_leaves_the_band() -> None:
    schedule = NoiseSchedule(blocks=4, overlap=0.0)

    assert [schedule.training_band(block) for block in range(4)] == [schedule.band(block) for block in range(4)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": 0}, "blocks must be 1 or more, got 0"),
        ({"blocks": 2, "sigma_min": 3.0, "sigma_max": 2.0}, "sigma_min < sigma_max"),
        ({"blocks": 2, "overlap": -0.1}, "overlap must be 0"),
    ],
    ids=["no blocks", "empty range", "negative overlap"],
)
def test_a_schedule_that_cannot_be_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_noise_level_that_is_none_belongs_to_no_block(sigma: float) -> None:
    with pytest.raises(ValueError, match="positive number"):
        NoiseSchedule(blocks=2).block_of(sigma)
