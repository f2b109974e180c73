from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenomics_local_llm.kernels import VARIABLE, Instructions, choose_instructions
from tokenomics_local_llm.oscar.packing import dequantize, unpack_codes
from tokenomics_local_llm.oscar.quantizer import QuantizerRecipe, clip_threshold, feedback_of_metric, quantize

PUBLISHED = QuantizerRecipe.as_published(0.96)
PLAIN = QuantizerRecipe.as_published(0.0)
SEARCHED = QuantizerRecipe()
UNSCALED = QuantizerRecipe(stretch=0.0)


def _rows(channels: int = 64, tokens: int = 50, seed: int = 0) -> Tensor:
    return torch.randn(1, 2, tokens, channels, generator=torch.Generator().manual_seed(seed))


def _restored(rows: Tensor, recipe: QuantizerRecipe, feedback: Tensor | None = None) -> Tensor:
    return dequantize(quantize(rows, recipe, feedback=feedback))


def _metric(channels: int = 64) -> Tensor:
    rows = torch.randn(2, 2 * channels, channels, generator=torch.Generator().manual_seed(9)) @ torch.diag(
        torch.linspace(0.05, 2, channels)
    )
    turn = torch.linalg.qr(torch.randn(channels, channels, generator=torch.Generator().manual_seed(8))).Q
    turned: Tensor = rows @ turn
    return turned.mT @ turned


@given(seed=st.integers(0, 30), channels=st.sampled_from([8, 64, 96, 128]))
@settings(max_examples=20)
def test_without_clipping_no_entry_is_further_off_than_half_a_step(seed: int, channels: int) -> None:
    rows = _rows(channels, seed=seed)
    packed = quantize(rows, PLAIN)
    half = packed.scale.float() / 2
    coarse = 2.0**-10 * rows.abs().amax(-1, keepdim=True) * 2  # minimum and step are rounded to float16
    assert ((dequantize(packed) - rows).abs() <= half + coarse).all()


def test_as_many_entries_exceed_the_threshold_as_the_ratio_says() -> None:
    rows = _rows(128)
    for ratio, above in ((0.96, 5), (0.92, 10), (1.0, 0)):
        assert ((rows.abs() > clip_threshold(rows, ratio)).sum(-1) == above).all()


def test_a_ratio_of_zero_clips_nothing() -> None:
    assert torch.isinf(clip_threshold(_rows(), 0.0)).all()


@pytest.mark.parametrize(
    "recipe",
    [PLAIN, PUBLISHED, SEARCHED, replace(SEARCHED, refit=True)],
    ids=["plain", "published", "searched", "refitted"],
)
def test_a_constant_row_is_stored_as_it_is(recipe: QuantizerRecipe) -> None:
    rows = torch.full((1, 1, 3, 16), 0.75)
    assert torch.equal(_restored(rows, recipe), rows)


@pytest.mark.parametrize("recipe", [PUBLISHED, replace(SEARCHED, damping=None)], ids=["published", "searched"])
def test_order_of_channels_only_reorders_codes(recipe: QuantizerRecipe) -> None:
    rows = _rows().double().round(decimals=2).float()  # sums of few digits do not depend on their order
    order = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(_restored(rows[..., order], recipe), _restored(rows, recipe)[..., order])


def test_rows_far_from_zero_are_stored_as_well_as_others() -> None:
    rows = _rows()
    errors = [float((_restored(rows + shift, UNSCALED) - rows - shift).square().mean()) for shift in (0, 4)]
    assert errors[1] == pytest.approx(errors[0], rel=0.01)


@pytest.mark.parametrize("recipe", [PUBLISHED, SEARCHED], ids=["published", "searched"])
def test_scaling_a_row_keeps_its_codes(recipe: QuantizerRecipe) -> None:
    rows = _rows()
    assert torch.equal(quantize(rows * 8, recipe).codes, quantize(rows, recipe).codes)


def test_codes_are_chosen_for_the_stored_scale_and_minimum() -> None:
    rows = 1000 + _rows()  # here float16 knows only halves
    packed = quantize(rows, PLAIN)
    assert packed.scale.dtype == packed.minimum.dtype == torch.float16
    off = (dequantize(packed) - rows).abs()
    for code in range(4):
        other = packed.minimum.float() + code * packed.scale.float()
        assert (off <= (other - rows).abs() + 1e-4).all()


def test_a_searched_range_has_less_error_than_a_clipped_one() -> None:
    rows = _rows(tokens=400)
    least = [
        float((_restored(rows, recipe) - rows).square().mean())
        for recipe in (replace(SEARCHED, stretch=0.0, damping=None), PUBLISHED, PLAIN)
    ]
    assert least[0] < 0.11 < least[1] < least[2]


@pytest.mark.parametrize("in_metric", [False, True], ids=["squares", "metric"])
@pytest.mark.parametrize("stretch", [0.5, 1.0])
def test_stretching_gives_a_row_back_its_component_along_itself(in_metric: bool, stretch: float) -> None:
    rows, metric = _rows(tokens=200), _metric() if in_metric else None
    weighed = rows if metric is None else rows @ metric

    def component(of: float) -> Tensor:
        packed = quantize(rows, replace(SEARCHED, stretch=of), metric=metric)
        return (weighed * dequantize(packed)).sum(-1) / (weighed * rows).sum(-1)

    lost = component(0.0)
    assert lost.mean() < 0.93
    expected = lost * (1 + stretch * (1 / lost - 1).clamp(-0.2, 0.25))
    torch.testing.assert_close(component(stretch), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("rounded_in_metric", [False, True], ids=["nearest", "metric"])
@pytest.mark.parametrize("group_size", [None, 32])
def test_a_refitted_range_is_the_one_of_least_squared_error_for_its_codes(
    rounded_in_metric: bool, group_size: int | None
) -> None:
    rows, recipe = _rows(), replace(PUBLISHED, refit=True, group_size=group_size)
    feedback = feedback_of_metric(_metric(), 0.1) if rounded_in_metric else None
    packed = quantize(rows, recipe, feedback=feedback)
    assert torch.equal(packed.codes, quantize(rows, replace(recipe, refit=False), feedback=feedback).codes)
    shape = *packed.scale.shape, group_size or 64
    codes, numbers = (part.double().view(shape) for part in (unpack_codes(packed.codes), rows))
    design = torch.stack([codes, torch.ones_like(codes)], dim=-1)
    fitted = torch.linalg.lstsq(design, numbers.unsqueeze(-1)).solution
    torch.testing.assert_close(packed.scale.double(), fitted[..., 0, 0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(packed.minimum.double(), fitted[..., 1, 0], rtol=1e-3, atol=1e-3)


def test_groups_are_quantised_each_by_itself() -> None:
    rows = _rows()
    halves = torch.cat([_restored(part, UNSCALED) for part in rows.chunk(2, dim=-1)], dim=-1)
    torch.testing.assert_close(_restored(rows, replace(UNSCALED, group_size=32)), halves)


def test_a_group_size_that_does_not_divide_the_head_is_refused() -> None:
    with pytest.raises(ValueError, match="group_size=48 and head size 64"):
        quantize(_rows(), replace(SEARCHED, group_size=48))


def test_feedback_factors_the_damped_metric() -> None:
    metric = _metric().double()
    factor = feedback_of_metric(metric, 0.1).double() + torch.eye(64)
    weights = torch.linalg.solve(factor, torch.linalg.solve(factor, _damped(metric)).mT)
    assert (weights - torch.diag_embed(weights.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-3 * metric.abs().max()


def _damped(metric: Tensor) -> Tensor:
    return metric + 0.1 * metric.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] * torch.eye(64)


def test_rounding_in_a_metric_costs_less_in_it_than_rounding_to_the_nearest_code() -> None:
    rows, metric = _rows(tokens=300), _metric()

    def cost(feedback: Tensor | None) -> float:
        error = _restored(rows, SEARCHED, feedback) - rows
        return float(((error @ metric) * error).sum())

    assert cost(feedback_of_metric(metric, 0.1)) < 0.75 * cost(None)


def test_a_metric_alike_in_all_directions_changes_no_code() -> None:
    rows = _rows()
    feedback = feedback_of_metric(3 * torch.eye(64)[None], 0.1)
    assert torch.equal(quantize(rows, SEARCHED, feedback=feedback).codes, quantize(rows, SEARCHED).codes)


def test_each_row_is_rounded_by_itself() -> None:
    rows, feedback = _rows(), feedback_of_metric(_metric(), 0.1)
    whole = quantize(rows, SEARCHED, feedback=feedback)
    for token in (0, 17, 49):
        alone = quantize(rows[:, :, token : token + 1], SEARCHED, feedback=feedback)
        assert torch.equal(alone.codes, whole.codes[:, :, token : token + 1])


def test_all_four_codes_are_used_and_no_other() -> None:
    assert set(unpack_codes(quantize(_rows(), SEARCHED).codes).flatten().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"clip_ratio": 1.5}, "between 0 and 1"), ({"damping": 0.0}, "above 0")],
    ids=["clip_ratio", "damping"],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(SEARCHED, **wrong)


@pytest.mark.parametrize("group_size", [None, 32], ids=["head", "halves"])
@pytest.mark.parametrize("rounding", ["nearest", "sequential"])
@pytest.mark.parametrize("ranges", [PLAIN, SEARCHED], ids=["clipped", "searched"])
def test_compiled_rounding_yields_the_bits_of_pytorch_s(
    ranges: QuantizerRecipe, rounding: str, group_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = torch.randn(2, 3, 40, 64, generator=torch.Generator().manual_seed(5))
    recipe, feedback = replace(ranges, group_size=group_size, stretch=1.0), None
    if rounding == "sequential":
        root = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        feedback = feedback_of_metric(root @ root.mT, 0.1)
    found = []
    for instructions in (choose_instructions(), Instructions.TORCH):
        monkeypatch.setenv(VARIABLE, instructions)
        found.append(quantize(rows, recipe, feedback=feedback))
    for name in ("codes", "scale", "minimum"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name))
