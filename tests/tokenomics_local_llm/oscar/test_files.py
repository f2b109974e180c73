from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from shared_data import models
from tiny_models import some_tokens
from tokenomics_local_llm.oscar import (
    QuantizerRecipe,
    RotationFileError,
    Rotations,
    SideTransform,
    collect_moments,
    fit_rotations,
    load_rotations,
    output_metrics,
    read_published,
    save_rotations,
    write_published,
)
from tokenomics_local_llm.oscar.packing import unpack_codes
from tokenomics_local_llm.oscar.quantizer import quantize
from tokenomics_local_llm.oscar.rotation import bit_reversal, hadamard, metric_of_rotation, orthogonality_error

_PUBLISHED = {
    "Qwen3-8B": "rotation/qwen3-8B/LongBench/seq150000_prompt44_group128/rotations",
    "Qwen3-4B-Thinking": "oscar-rotation/qwen3-4b-thinking-2507",
}


def _fitted(model: PreTrainedModel, *, per_head: bool = True, whitening: float = 0.0) -> Rotations:
    moments = collect_moments(model, [some_tokens(100)], sink_tokens=4)
    return fit_rotations(moments, per_head=per_head, whitening=whitening, output_metrics=output_metrics(model))


def _assert_same(one: SideTransform, other: SideTransform, *, leaving_out: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    for name in {field.name for field in fields(one)} - leaving_out:
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None), name
        if left is not None:
            torch.testing.assert_close(left, right, msg=name)


@pytest.mark.parametrize("whitening", [0.0, 0.5], ids=["orthogonal", "whitened"])
def test_our_own_file_gives_back_all_of_it(shared: PreTrainedModel, tmp_path: Path, whitening: float) -> None:
    rotations = _fitted(shared, whitening=whitening)
    save_rotations(rotations, tmp_path / "rotations.safetensors")
    again = load_rotations(tmp_path / "rotations.safetensors")
    for layer in (0, 1):
        _assert_same(again.keys[layer], rotations.keys[layer])
        _assert_same(again.values[layer], rotations.values[layer])


@pytest.mark.parametrize("per_head", [True, False], ids=["per_head", "per_layer"])
@pytest.mark.parametrize("whitening", [0.0, 0.5], ids=["orthogonal", "whitened"])
def test_the_authors_files_give_back_all_but_metrics_and_means_of_values(
    shared: PreTrainedModel, tmp_path: Path, per_head: bool, whitening: float
) -> None:
    rotations = _fitted(shared, per_head=per_head, whitening=whitening)
    keys, values = tmp_path / "k.pt", tmp_path / "v.pt"
    write_published(rotations, keys, values)
    again = read_published(keys, values)
    for layer in (0, 1):
        _assert_same(again.keys[layer], rotations.keys[layer], leaving_out={"metric"})
        _assert_same(again.values[layer], rotations.values[layer], leaving_out={"metric", "mean"})


def test_a_rotation_a_layer_without_means_is_written_as_format_1(tmp_path: Path) -> None:
    keys, values = tmp_path / "k.pt", tmp_path / "v.pt"
    write_published(Rotations.plain(2, 16), keys, values)
    document = torch.load(keys, weights_only=True)
    assert {name: document[name] for name in ("format_version", "objective", "source_grouping")} == {
        "format_version": 1,
        "objective": "qqt_r_h_pbr",
        "source_grouping": "layer",
    }
    assert document["layers"][1]["layer_id"] == 1
    assert document["layers"][1]["rotation"].dtype == torch.float32
    assert document["layers"][1]["rotation"].shape == (16, 16)
    assert document["layers"][1]["eigenvalues"].tolist() == [1] * 16
    assert torch.load(values, weights_only=True)["objective"] == "sst_r_h_pbr"


def test_layers_may_be_named_by_strings(tmp_path: Path) -> None:
    keys, values = tmp_path / "k.pt", tmp_path / "v.pt"
    write_published(Rotations.plain(2, 16), keys, values)
    document = torch.load(keys, weights_only=True)
    torch.save(document | {"layers": {str(layer): entry for layer, entry in document["layers"].items()}}, keys)
    assert list(read_published(keys, values).keys) == [0, 1]


def test_files_of_other_versions_are_refused(tmp_path: Path) -> None:
    torch.save({"format_version": 2, "layers": {}}, tmp_path / "k.pt")
    with pytest.raises(RotationFileError, match="format_version 2"):
        read_published(tmp_path / "k.pt", tmp_path / "k.pt")


def test_safetensors_of_other_things_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(RotationFileError, match="not a file of rotations"):
        load_rotations(tmp_path / "x.safetensors")


@pytest.fixture(scope="module", params=list(_PUBLISHED))
def published(request: pytest.FixtureRequest) -> Rotations:
    folder = models("oscar_rotations") / _PUBLISHED[request.param]
    return read_published(folder / "k_rotation_qqt_r_h_pbr.pt", folder / "v_rotation_sst_r_h_pbr.pt")


def _sides(rotations: Rotations) -> list[SideTransform]:
    return [*rotations.keys.values(), *rotations.values.values()]


@pytest.mark.shared_data
def test_published_files_cover_every_layer_with_one_rotation(published: Rotations) -> None:
    assert list(published.keys) == list(published.values) == list(range(36))
    assert {side.rotation.shape for side in _sides(published)} == {(1, 128, 128)}


@pytest.mark.shared_data
def test_published_rotations_are_orthogonal(published: Rotations) -> None:
    assert max(orthogonality_error(side.rotation) for side in _sides(published)) < 1e-6


@pytest.mark.shared_data
def test_published_eigenvalues_ascend_and_are_positive(published: Rotations) -> None:
    for side in _sides(published):
        assert (side.eigenvalues > 0).all()
        assert (side.eigenvalues.diff() >= 0).all()


@pytest.mark.shared_data
def test_published_rotations_make_importance_flat(published: Rotations) -> None:
    for side in _sides(published):
        diagonal = metric_of_rotation(side.rotation, side.eigenvalues).diagonal(dim1=-2, dim2=-1)
        assert float((diagonal / diagonal.mean() - 1).abs().max()) < 1e-5


@pytest.mark.shared_data
def test_published_rotations_are_eigenvectors_times_hadamard_times_bit_reversal(published: Rotations) -> None:
    order = torch.empty(128, dtype=torch.int64)
    order[bit_reversal(128)] = torch.arange(127, -1, -1)
    for side in _sides(published):
        rotation = side.rotation[0].double()
        vectors = rotation[:, order.argsort()] @ hadamard(128)
        moment = (vectors * side.eigenvalues[0].double()) @ vectors.mT
        turned = rotation.mT @ moment @ rotation
        torch.testing.assert_close(turned, metric_of_rotation(rotation, side.eigenvalues[0]))


@pytest.mark.shared_data
def test_published_importance_is_far_from_diagonal_which_rounding_can_use(published: Rotations) -> None:
    for side in published.keys.values():
        assert side.metric is not None
        power = side.metric[0].square()
        assert float(power.diagonal().sum() / power.sum()) < 0.6


@pytest.mark.shared_data
def test_published_rotations_change_no_attention(published: Rotations) -> None:
    query, keys, values = torch.randn(3, 2, 30, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = scaled_dot_product_attention(query, keys, values)
    for layer in published.keys:
        key_turn, value_turn = (side[layer].rotation.double() for side in (published.keys, published.values))
        turned = scaled_dot_product_attention(query @ key_turn, keys @ key_turn, values @ value_turn)
        torch.testing.assert_close(turned @ value_turn.mT, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.shared_data
def test_published_orders_of_channels_change_no_code_with_one_group_a_head(published: Rotations) -> None:
    order = torch.empty(128, dtype=torch.int64)
    order[bit_reversal(128)] = torch.arange(127, -1, -1)
    recipe = QuantizerRecipe.as_published(0.96)
    rows = torch.randn(1, 1, 20, 128, generator=torch.Generator().manual_seed(0))
    for side in _sides(published)[::9]:
        turned = rows @ side.rotation
        ordered, plain = (unpack_codes(quantize(each, recipe).codes) for each in (turned, turned[..., order.argsort()]))
        assert torch.equal(ordered, plain[..., order])


@pytest.mark.shared_data
def test_published_files_written_again_are_the_same(published: Rotations, tmp_path: Path) -> None:
    write_published(published, tmp_path / "k.pt", tmp_path / "v.pt")
    again = read_published(tmp_path / "k.pt", tmp_path / "v.pt")
    for one, other in zip(_sides(again), _sides(published), strict=True):
        assert torch.equal(one.rotation, other.rotation)
        assert torch.equal(one.eigenvalues, other.eigenvalues)
