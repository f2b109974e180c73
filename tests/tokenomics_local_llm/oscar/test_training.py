"""Trained rotations stay turns, and what is read through their codes errs less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tiny_models import some_tokens
from tokenomics_local_llm.oscar import (
    OscarRecipe,
    Rotations,
    collect_moments,
    fit_rotations,
    output_metrics,
    read_published,
    train_rotations,
    write_published,
)
from tokenomics_local_llm.oscar.calibration import visit_attention
from tokenomics_local_llm.oscar.codec import SideCodec
from tokenomics_local_llm.oscar.sampled import SampledAttention

PUBLISHED = OscarRecipe.as_published()
RECIPE = replace(PUBLISHED, sink_tokens=4, recent_tokens=8)
TEXTS = [some_tokens(160, seed) for seed in (41, 42)]


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["orthogonal", "whitened"])
def pair(request: pytest.FixtureRequest, shared: PreTrainedModel) -> tuple[Rotations, Rotations]:
    """Fitted, and trained from there."""
    moments = collect_moments(shared, TEXTS, sink_tokens=4)
    fitted = fit_rotations(moments, whitening=request.param, output_metrics=output_metrics(shared))
    return fitted, train_rotations(shared, fitted, TEXTS, RECIPE, steps=20, rate=0.01, queries=32)


def test_trained_turns_can_be_undone(pair: tuple[Rotations, Rotations]) -> None:
    fitted, trained = pair
    unit = torch.eye(16, dtype=torch.float64).expand(2, 16, 16)
    for side in (*trained.keys.values(), *trained.values.values()):
        torch.testing.assert_close(side.rotation.double() @ side.back.double(), unit, atol=1e-5, rtol=0)
    assert not torch.allclose(trained.keys[0].rotation, fitted.keys[0].rotation, atol=1e-3)


def test_metrics_are_turned_with_their_rows(pair: tuple[Rotations, Rotations]) -> None:
    errors = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    costs = []
    for rotations in pair:
        side = rotations.values[1]
        assert side.metric is not None
        turned = errors @ side.rotation
        costs.append(((turned @ side.metric) * turned).sum(-1))
    torch.testing.assert_close(*costs, rtol=1e-3, atol=1e-4)


def test_what_is_read_errs_less_with_trained_rotations(
    shared: PreTrainedModel, pair: tuple[Rotations, Rotations]
) -> None:
    losses = torch.zeros(2, 2)

    def judge(layer: int, query: Tensor, key: Tensor, value: Tensor, _output: Tensor) -> None:
        sample = SampledAttention.of(query, key, value, RECIPE, 32)
        for place, rotations in enumerate(pair):
            codecs = SideCodec(rotations.keys[layer], RECIPE.keys), SideCodec(rotations.values[layer], RECIPE.values)
            keys, values = (
                codec.decode(codec.encode(rows[None]))[0] for codec, rows in zip(codecs, (key, value), strict=True)
            )
            losses[place] += torch.stack([sample.key_divergence(keys), sample.value_error(values, None)])

    visit_attention(shared, TEXTS, judge, longer_than=12)
    assert (losses[1] < losses[0]).all(), losses


def test_a_trained_rotation_s_metric_is_not_made_up_from_a_published_file(
    shared: PreTrainedModel, tmp_path: Path
) -> None:
    shared_turn = Rotations.plain(2, 16)
    trained = train_rotations(shared, shared_turn, TEXTS[:1], RECIPE, steps=2, rate=0.1, queries=8)
    write_published(trained, tmp_path / "k.pt", tmp_path / "v.pt")
    metric = read_published(tmp_path / "k.pt", tmp_path / "v.pt").keys[0].metric
    assert metric is not None
    torch.testing.assert_close(metric, torch.eye(16)[None], atol=1e-5, rtol=0)


def test_texts_within_the_windows_are_refused(shared: PreTrainedModel, pair: tuple[Rotations, Rotations]) -> None:
    with pytest.raises(ValueError, match="longer than 12 tokens"):
        train_rotations(shared, pair[0], [some_tokens(12)], RECIPE)
