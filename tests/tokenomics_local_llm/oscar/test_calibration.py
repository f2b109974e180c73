from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tiny_models import layer_tensors, logits, some_tokens
from tokenomics_local_llm.oscar import collect_moments, fit_rotations, output_metrics
from tokenomics_local_llm.oscar.moments import LayerMoments
from tokenomics_local_llm.oscar.rotation import orthogonality_error

SINK = 4


@pytest.fixture(scope="module")
def text() -> Tensor:
    return some_tokens(90, seed=7)


@pytest.fixture
def queries(shared: PreTrainedModel) -> Iterator[list[Tensor]]:
    """What q_proj of the first layer wrote."""
    seen: list[Tensor] = []
    hook = shared.model.layers[0].self_attn.q_proj.register_forward_hook(lambda *call: seen.append(call[2]))
    yield seen
    hook.remove()


def test_moments_are_those_of_what_the_cache_receives(shared: PreTrainedModel, text: Tensor) -> None:
    cache = DynamicCache(config=shared.config)
    logits(shared, text[None], cache)
    keys, values = (part[0, :, SINK:].double() for part in layer_tensors(cache, 1))
    moments = collect_moments(shared, [text], sink_tokens=SINK)[1]
    assert moments.tokens == 90 - SINK
    torch.testing.assert_close(moments.key, keys.mT @ keys)
    torch.testing.assert_close(moments.key_sum, keys.sum(1))
    torch.testing.assert_close(moments.value, values.mT @ values)
    torch.testing.assert_close(moments.value_sum, values.sum(1))


def test_every_query_head_counts_for_the_head_it_reads(
    shared: PreTrainedModel, text: Tensor, queries: list[Tensor]
) -> None:
    moments = collect_moments(shared, [text], sink_tokens=SINK)[0]
    assert moments.query_heads == 2
    if shared.config.model_type == "llama":  # position encoding keeps norms, a norm of queries does not
        written = queries[0][0, SINK:].double().view(-1, 2, 2, 16)
        sizes = written.square().sum((0, 2, 3))
        torch.testing.assert_close(moments.query.diagonal(dim1=-2, dim2=-1).sum(-1), sizes, rtol=1e-4, atol=0)


def test_texts_add_up(shared: PreTrainedModel, text: Tensor) -> None:
    other = some_tokens(50, seed=8)
    both = collect_moments(shared, [text, other], sink_tokens=SINK)[1]
    one, two = (collect_moments(shared, [each], sink_tokens=SINK)[1] for each in (text, other))
    assert both.tokens == one.tokens + two.tokens
    for name in ("query", "key", "key_sum", "value", "value_sum", "energy", "output"):
        torch.testing.assert_close(getattr(both, name), getattr(one, name) + getattr(two, name))


def test_the_models_attention_is_as_it_was_afterwards(shared: PreTrainedModel, text: Tensor) -> None:
    before = shared.config._attn_implementation
    collect_moments(shared, [text], sink_tokens=SINK)
    assert shared.config._attn_implementation == before


def test_texts_within_the_sink_are_refused(shared: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="longer than 64 tokens"):
        collect_moments(shared, [some_tokens(40)])


def test_energies_weigh_values_by_their_keys() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(heads, 30, 8, generator=generator) for heads in (4, 2, 2))
    moments = LayerMoments.empty(2, 8, 2)
    moments.add(query, key, value, query)
    exact = query.double().view(2, 60, 8)
    for head in (0, 1):
        importance = exact[head].mT @ exact[head] / 60
        weights = torch.stack([k @ importance @ k for k in key[head].double()])
        weights = weights / weights.mean()
        expected = sum(weight * torch.outer(v, v) for weight, v in zip(weights, value[head].double(), strict=True))
        torch.testing.assert_close(moments.energy[head], expected)


@pytest.mark.parametrize("per_head", [True, False], ids=["per_head", "per_layer"])
def test_rotations_make_the_importance_of_keys_flat(shared: PreTrainedModel, text: Tensor, per_head: bool) -> None:
    rotations = fit_rotations(collect_moments(shared, [text], sink_tokens=SINK), per_head=per_head)
    for side in rotations.keys.values():
        assert side.rotation.shape[0] == (2 if per_head else 1)
        assert orthogonality_error(side.rotation) < 1e-6
        assert side.metric is not None
        diagonal = side.metric.diagonal(dim1=-2, dim2=-1)
        assert (diagonal / diagonal.mean(-1, keepdim=True) - 1).abs().max() < 1e-4


def test_without_fitting_rotations_are_hadamard_and_still_have_means_and_metrics(
    shared: PreTrainedModel, text: Tensor
) -> None:
    moments = collect_moments(shared, [text], sink_tokens=SINK)
    plain = fit_rotations(moments, fitted=False, output_metrics=output_metrics(shared))
    assert torch.allclose(plain.keys[0].rotation.abs(), torch.full((2, 16, 16), 0.25))
    assert plain.keys[0].metric is not None
    assert plain.values[0].metric is not None
    torch.testing.assert_close(plain.keys[0].mean, (moments[0].key_sum / moments[0].tokens).float())


@pytest.mark.parametrize("whitening", [0.25, 0.5, 1.0])
def test_whitening_evens_out_variances_and_can_be_undone(
    shared: PreTrainedModel, text: Tensor, whitening: float
) -> None:
    moments = collect_moments(shared, [text], sink_tokens=SINK)
    side = fit_rotations(moments, whitening=whitening).values[1]
    unit = torch.eye(16, dtype=torch.float64).expand(2, 16, 16)
    torch.testing.assert_close(side.rotation.double() @ side.back.double(), unit, atol=1e-5, rtol=0)

    def spread(moment: Tensor) -> float:
        eigenvalues = torch.linalg.eigvalsh(moment)
        return float((eigenvalues[:, -1] / eigenvalues[:, 4]).mean())

    rotation = side.rotation.double()
    assert spread(rotation.mT @ moments[1].value @ rotation) < spread(moments[1].value) ** (1 - 0.9 * whitening)
