"""A NumPy reference of every step agrees with each implementation: bit for bit on codes, to 1e-3 on outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import numpy_oscar
from tokenomics_local_llm.kernels import (
    Instructions,
    PackedKeys,
    PackedValues,
    decode_attention,
    pack_rows,
    supported_instructions,
)
from tokenomics_local_llm.oscar import QuantizerRecipe, SideTransform
from tokenomics_local_llm.oscar.attention import Part, attend_packed
from tokenomics_local_llm.oscar.codec import SideCodec
from tokenomics_local_llm.oscar.packing import PackedTokens
from tokenomics_local_llm.oscar.quantizer import feedback_of_metric
from tokenomics_local_llm.oscar.rotation import rotation_of_moment

BATCH, HEADS, TOKENS, DIM = 1, 2, 40, 64
SCALING = DIM**-0.5
RECIPES = {
    "keys": QuantizerRecipe(),
    "values": QuantizerRecipe(centred=False, stretch=0.5),
    "published": QuantizerRecipe.as_published(0.96),
    "clipped-and-rounded-in-a-metric": QuantizerRecipe(clip_ratio=0.96, stretch=0.0),
    "two-groups": QuantizerRecipe(clip_ratio=0.92, stretch=0.0, group_size=DIM // 2),
}


def _rows(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.2, 3, DIM) * torch.randn(BATCH, HEADS, TOKENS, DIM, generator=generator)
    return spread + torch.randn(HEADS, 1, DIM, generator=generator)


def _transform() -> SideTransform:
    rows = torch.randn(HEADS, 3 * DIM, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    moment = rows.mT @ (rows * torch.linspace(0.1, 4, DIM, dtype=torch.float64))
    moment = (moment + moment.mT) / 2 + 200 * torch.eye(DIM)
    rotation, eigenvalues = rotation_of_moment(moment)
    return SideTransform(
        rotation=rotation.float(),
        eigenvalues=eigenvalues.float(),
        mean=torch.randn(HEADS, DIM, generator=torch.Generator().manual_seed(6)),
        metric=(rotation.mT @ moment @ rotation).float(),
    )


def _reference(rows: Tensor, transform: SideTransform, recipe: QuantizerRecipe) -> list[list[numpy_oscar.Row]]:
    """Codes of each head's rows."""
    assert transform.mean is not None
    assert transform.metric is not None
    sides = [
        numpy_oscar.Side(
            rotation=transform.rotation[head].double().numpy(),
            mean=transform.mean[head].double().numpy() if recipe.centred else None,
            clip_ratio=recipe.clip_ratio,
            groups=1 if recipe.group_size is None else DIM // recipe.group_size,
            damping=recipe.damping,
            metric=transform.metric[head].double().numpy(),
            stretch=recipe.stretch,
        )
        for head in range(HEADS)
    ]
    return [[numpy_oscar.encode(row.numpy(), side) for row in rows[0, head]] for head, side in enumerate(sides)]


def _stacked(heads: Sequence[Sequence[numpy_oscar.Row]]) -> PackedTokens:
    """(1, H, T, ...)."""

    def part(name: str) -> Tensor:
        return torch.from_numpy(np.array([[[getattr(row, name) for row in rows] for rows in heads]]))

    return PackedTokens(codes=part("packed"), scale=part("scale"), minimum=part("minimum"))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_codes_are_those_of_numpy_bit_for_bit(recipe: QuantizerRecipe) -> None:
    rows, transform = _rows(0), _transform()

    expected, found = _stacked(_reference(rows, transform, recipe)), SideCodec(transform, recipe).encode(rows)

    assert torch.equal(found.codes, expected.codes)
    torch.testing.assert_close(found.scale, expected.scale, rtol=2e-3, atol=0)
    torch.testing.assert_close(found.minimum, expected.minimum, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("instructions", ["torch", "compiled"])
@pytest.mark.parametrize("name", ["published", "clipped-and-rounded-in-a-metric", "two-groups"])
def test_packing_kernels_give_the_codes_of_numpy_bit_for_bit(name: str, instructions: str) -> None:
    rows, transform, recipe = _rows(1), _transform(), RECIPES[name]
    assert transform.mean is not None
    assert transform.metric is not None
    expected = _stacked(_reference(rows, transform, recipe))
    centred = rows.double() - transform.mean.double()[:, None] if recipe.centred else rows.double()

    found = pack_rows(
        (centred @ transform.rotation.double()).float(),
        clip_ratio=recipe.clip_ratio or 0.0,
        groups=expected.scale.shape[-1],
        feedback=None if recipe.damping is None else feedback_of_metric(transform.metric, recipe.damping),
        instructions="torch" if instructions == "torch" else supported_instructions()[0],
    )

    for one, other in zip(found, (expected.codes, expected.scale, expected.minimum), strict=True):
        assert torch.equal(one, other)


def _attend_compiled(instructions: str) -> Callable[..., Part]:
    def attend(query: Tensor, keys: PackedTokens, values: PackedTokens, scaling: float) -> Part:
        stores: list[Any] = []
        for kind, side in ((PackedKeys, keys), (PackedValues, values)):
            batch, heads, _, groups = side.scale.shape
            stores.append(kind(batch=batch, heads=heads, head_dim=DIM, group_size=DIM // groups))
            stores[-1].append(side.codes, side.scale, side.minimum)
        output, lse = decode_attention(query, *stores, scaling=scaling, instructions=instructions)
        return Part(output=output, lse=lse)

    return attend


def _attend_in_triton(query: Tensor, keys: PackedTokens, values: PackedTokens, scaling: float) -> Part:
    from tokenomics_local_llm.kernels.triton_decode import attend_in_triton

    return attend_in_triton(query, keys, values, scaling)


KERNELS = [
    pytest.param(attend_packed, id="oscar"),
    *(
        pytest.param(
            _attend_compiled(name),
            id=name,
            marks=pytest.mark.skipif(name not in supported_instructions(), reason=f"no {name} on this processor"),
        )
        for name in Instructions
    ),
    pytest.param(
        _attend_in_triton,
        id="triton",
        marks=pytest.mark.skipif(find_spec("triton") is None, reason="the kernel for GPUs is written in triton"),
    ),
]


@pytest.mark.parametrize("attend", KERNELS)
@pytest.mark.parametrize("name", ["keys", "two-groups"])
def test_what_is_read_from_codes_is_what_numpy_reads(name: str, attend: Callable[..., Part]) -> None:
    transform, group = _transform(), 3
    keys, values = (_reference(_rows(seed), transform, RECIPES[name]) for seed in (2, 3))
    query = torch.randn(1, HEADS * group, 1, DIM, generator=torch.Generator().manual_seed(4))

    part = attend(query, _stacked(keys), _stacked(values), SCALING)

    for at, row in enumerate(query[0, :, 0].double().numpy()):
        output, lse = numpy_oscar.attend(row, keys[at // group], values[at // group], SCALING)
        assert np.linalg.norm(part.output[0, at, 0].numpy() - output) <= 1e-3 * np.linalg.norm(output)
        assert float(part.lse[0, at, 0]) == pytest.approx(lse, abs=1e-3)
