"""What the compiled kernels read from a layer is what PyTorch reads from the same codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tokenomics_local_llm.kernels import VARIABLE, Instructions, supported_instructions
from tokenomics_local_llm.oscar import OscarRecipe, QuantizerRecipe, SideTransform
from tokenomics_local_llm.oscar.attention import DecodeAttention, attend_packed
from tokenomics_local_llm.oscar.codec import SideCodec
from tokenomics_local_llm.oscar.decode import attend_held, code_stores
from tokenomics_local_llm.oscar.rotation import hadamard
from tokenomics_local_llm.oscar.store import SideStore, Starts, TiledStore

pytestmark = pytest.mark.skipif(
    supported_instructions() == (Instructions.TORCH,), reason="the extra `kernels` is not installed"
)

TOLERANCE = 1e-3
WINDOWS = OscarRecipe(sink_tokens=8, recent_tokens=24, demotion_tokens=16)
PUBLISHED = replace(OscarRecipe.as_published(), sink_tokens=8, recent_tokens=24)
HALVES = QuantizerRecipe(group_size=32)
RECIPES = {
    "default": WINDOWS,
    "published": PUBLISHED,
    "nearest": replace(WINDOWS, keys=QuantizerRecipe(damping=None), values=QuantizerRecipe(damping=None)),
    "clipped-rounding": replace(WINDOWS, keys=QuantizerRecipe(clip_ratio=0.9), values=QuantizerRecipe(stretch=0.0)),
    "values-centred": replace(WINDOWS, values=QuantizerRecipe(centred=True)),
    "two-groups": replace(WINDOWS, keys=HALVES, values=HALVES),
    "no-sink": replace(WINDOWS, sink_tokens=0),
    "no-recent": replace(WINDOWS, recent_tokens=0),
}
STARTS = Starts(rows=torch.tensor([9, 3]), earliest=3)


def _transform(heads: int, dim: int, *, orthogonal: bool, seed: int) -> SideTransform:
    """As calibration makes them: a rotation, perhaps after a scaling, with a mean and a metric."""
    generator = torch.Generator().manual_seed(seed)
    rotation = hadamard(dim).expand(heads, -1, -1)
    if not orthogonal:
        rotation = (0.5 + torch.rand(heads, dim, 1, generator=generator, dtype=torch.float64)) * rotation
    root = torch.randn(heads, dim, dim, generator=generator, dtype=torch.float64)
    return SideTransform(
        rotation=rotation.float(),
        inverse=None if orthogonal else torch.linalg.inv(rotation).float(),
        eigenvalues=torch.ones(heads, dim),
        mean=torch.randn(heads, dim, generator=generator),
        metric=(root @ root.mT / dim).float(),
    )


class Layer:
    """Keys and values of one layer as `OscarLayer` holds them, without a model."""

    def __init__(
        self,
        recipe: OscarRecipe = WINDOWS,
        *,
        dim: int = 64,
        starts: Starts | None = None,
        orthogonal: bool = False,
        attention: DecodeAttention | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        keys, values = (
            SideCodec(_transform(2, dim, orthogonal=orthogonal, seed=seed), side)
            for seed, side in enumerate((recipe.keys, recipe.values))
        )
        first = torch.empty(2, 2, 0, dim, dtype=dtype)
        stores = code_stores(first, (keys, values), attention)
        self.attention = attention
        self.tiled = all(isinstance(store, TiledStore) for store in stores)
        self.sides = [
            SideStore(first, codec, recipe, starts, store) for codec, store in zip((keys, values), stores, strict=True)
        ]

    def append(self, rows: Tensor) -> None:
        for side, states in zip(self.sides, rows, strict=True):
            side.append(states)

    def read(self, query: Tensor) -> Tensor:
        keys, values = (side.held for side in self.sides)
        return attend_held(query, keys, values, query.shape[-1] ** -0.5, self.attention)


def _rows(tokens: int, dim: int = 64, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Keys and values, (2, B, H, T, D)."""
    return torch.randn(2, 2, 2, tokens, dim, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _query(group: int = 2, dim: int = 64, batch: int = 2) -> Tensor:
    return torch.randn(batch, 2 * group, 1, dim, generator=torch.Generator().manual_seed(99))


def _assert_alike(compiled: Layer, plain: Layer, query: Tensor) -> None:
    assert compiled.tiled
    assert not plain.tiled
    expected = plain.read(query)
    assert (compiled.read(query) - expected).norm() <= TOLERANCE * expected.norm()


@pytest.mark.parametrize("starts", [None, STARTS], ids=["whole", "padded"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_kernels_read_what_pytorch_reads(recipe: OscarRecipe, starts: Starts | None) -> None:
    layers = [Layer(recipe, starts=starts, attention=attention) for attention in (None, attend_packed)]
    for tokens, seed in ((200, 0), (1, 1), (40, 2)):
        for layer in layers:
            layer.append(_rows(tokens, seed=seed))
        _assert_alike(layers[0], layers[1], _query())


@pytest.mark.parametrize("orthogonal", [True, False], ids=["orthogonal", "whitened"])
@pytest.mark.parametrize("dim", [64, 96, 128])
def test_every_head_size_is_read(dim: int, orthogonal: bool) -> None:
    layers = [Layer(dim=dim, orthogonal=orthogonal, attention=attention) for attention in (None, attend_packed)]
    for layer in layers:
        layer.append(_rows(150, dim))
    _assert_alike(layers[0], layers[1], _query(dim=dim))


@pytest.mark.parametrize("group", range(1, 17))
def test_query_heads_read_their_own_head(group: int) -> None:
    layers = [Layer(attention=attention) for attention in (None, attend_packed)]
    for layer in layers:
        layer.append(_rows(100))
    _assert_alike(layers[0], layers[1], _query(group))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_windows_of_half_precision_are_read(dtype: torch.dtype) -> None:
    layers = [Layer(attention=attention, dtype=dtype) for attention in (None, attend_packed)]
    for layer in layers:
        layer.append(_rows(100, dtype=dtype))
    _assert_alike(layers[0], layers[1], _query().to(dtype))


def _cropped(layer: Layer, tokens: int) -> None:
    for side in layer.sides:
        side.crop(tokens)
    layer.append(_rows(5, seed=7))


def _reordered(layer: Layer, order: list[int]) -> None:
    for side in layer.sides:
        side.each_row(lambda rows: rows.index_select(0, torch.tensor(order)))


def _saved(layer: Layer) -> None:
    """Into a new layer's stores, as a file would be loaded."""
    fresh = Layer(attention=layer.attention)
    for old, new in zip(layer.sides, fresh.sides, strict=True):
        new.take(old.tensors(), old.tokens)
    layer.sides = fresh.sides


CHANGES: dict[str, Callable[[Layer], None]] = {
    "cropped-in-the-window": lambda layer: _cropped(layer, 190),
    "cropped-in-the-codes": lambda layer: _cropped(layer, 70),
    "cropped-in-the-sink": lambda layer: _cropped(layer, 6),
    "reordered": lambda layer: _reordered(layer, [1, 0]),
    "repeated": lambda layer: _reordered(layer, [0, 0, 1, 1]),
    "selected": lambda layer: _reordered(layer, [1]),
    "saved": _saved,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_layer_that_was_changed_is_read(change: Callable[[Layer], None]) -> None:
    layers = [Layer(attention=attention) for attention in (None, attend_packed)]
    for layer in layers:
        layer.append(_rows(200))
        change(layer)
    batch = layers[0].sides[0].held.recent.shape[0]
    _assert_alike(layers[0], layers[1], _query(batch=batch))


def test_a_padded_row_that_has_not_filled_its_sink_is_read() -> None:
    starts = Starts(rows=torch.tensor([0, 12]), earliest=0)
    layers = [Layer(starts=starts, attention=attention) for attention in (None, attend_packed)]
    for layer in layers:
        layer.append(_rows(14))
    _assert_alike(layers[0], layers[1], _query())


def test_what_was_held_stays_while_tokens_are_added() -> None:
    layer = Layer()
    layer.append(_rows(200))
    held = layer.sides[0].held
    before = held.restore()
    for seed in range(3):
        layer.append(_rows(60, seed=seed))
    assert torch.equal(held.restore(), before)


def test_pytorch_serves_where_kernels_are_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, Instructions.TORCH)
    assert not Layer().tiled


def test_groups_that_tiles_do_not_know_stay_planar() -> None:
    quarters = QuantizerRecipe(group_size=16)
    layer = Layer(replace(WINDOWS, keys=quarters, values=quarters))
    layer.append(_rows(100))
    assert not layer.tiled
    assert layer.read(_query()).isfinite().all()
