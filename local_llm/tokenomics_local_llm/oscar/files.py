"""Rotations in files: the formats of OSCAR's authors, and one of our own.

Theirs hold one side each: format 1 a rotation a layer, format 3 also rotations a head, means of keys, and inverses of
turns that are not orthogonal. What they publish serves here, and what is fitted here serves in their SGLang. Ours, one
safetensors file, also holds the metrics that rounding needs. For keys of format 1 these follow from the eigenvalues.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tokenomics_local_llm.errors import LocalLLMError
from tokenomics_local_llm.oscar.rotation import metric_of_rotation
from tokenomics_local_llm.oscar.transform import Rotations, SideTransform

__all__ = ["RotationFileError", "load_rotations", "read_published", "save_rotations", "write_published"]

Side = Literal["keys", "values"]

_SHARED_OBJECTIVES: Final = {"keys": "qqt_r_h_pbr", "values": "sst_r_h_pbr"}
_FORMAT: Final = {"format": "tokenomics-oscar", "format_version": "1"}
_INVERSES: Final = {"keys": "q_rotation", "values": "o_rotation"}  # of format 3, each the transpose of an inverse


class RotationFileError(LocalLLMError, ValueError):
    """A file is not one of rotations, or of a version that is not known here."""


def save_rotations(rotations: Rotations, path: Path) -> None:
    """Write all of it to one safetensors file."""
    tensors = {
        f"{side}.{layer}.{field.name}": part.contiguous()
        for side in ("keys", "values")
        for layer, transform in getattr(rotations, side).items()
        for field in fields(transform)
        if (part := getattr(transform, field.name)) is not None
    }
    save_file(tensors, path, metadata=_FORMAT)


def load_rotations(path: Path) -> Rotations:
    """Read what `save_rotations` wrote.

    Raises:
        RotationFileError: If it is another kind of file.
    """
    found: dict[str, dict[int, dict[str, Tensor]]] = {"keys": {}, "values": {}}
    with safe_open(path, framework="pt") as file:
        if file.metadata() != _FORMAT:
            raise RotationFileError(f"{path} is not a file of rotations in our format {_FORMAT}: {file.metadata()}")
        for name in file.keys():  # noqa: SIM118 # not a mapping
            side, layer, field = name.split(".")
            found[side].setdefault(int(layer), {})[field] = file.get_tensor(name)
    keys, values = ({layer: SideTransform(**parts) for layer, parts in found[side].items()} for side in found)
    return Rotations(keys=keys, values=values)


def read_published(keys: Path, values: Path) -> Rotations:
    """Read a pair of files of OSCAR's authors, of format 1 or 3.

    Raises:
        RotationFileError: If one is not such a file.
    """
    return Rotations(keys=_read_side(keys, "keys"), values=_read_side(values, "values"))


def _read_side(path: Path, side: Side) -> dict[int, SideTransform]:
    document = torch.load(path, map_location="cpu", weights_only=True)
    version = document.get("format_version") if isinstance(document, dict) else None
    if version not in {1, 3}:
        raise RotationFileError(f"{path} has format_version {version!r}, and 1 and 3 are known: calibrate anew")
    derives = side == "keys" and document["objective"] == _SHARED_OBJECTIVES[side]
    return {int(layer): _transform(entry, side, derives=derives) for layer, entry in document["layers"].items()}


def _transform(entry: dict[str, Any], side: Side, *, derives: bool) -> SideTransform:
    rotation, eigenvalues = _by_head(entry["rotation"], 3), _by_head(entry["eigenvalues"], 2)
    inverse, mean = entry.get(_INVERSES[side]), entry.get("k_mean")
    return SideTransform(
        rotation=rotation,
        eigenvalues=eigenvalues,
        inverse=None if inverse is None else _by_head(inverse, 3).mT.contiguous(),
        mean=None if mean is None else _by_head(mean, 2),
        metric=metric_of_rotation(rotation, eigenvalues).float() if derives else None,
    )


def _by_head(part: Tensor, dimensions: int) -> Tensor:
    return part.float() if part.dim() == dimensions else part.float()[None]


def write_published(rotations: Rotations, keys: Path, values: Path) -> None:
    """Write a pair of files as OSCAR's authors do: format 1 where it can hold them, else format 3.

    Metrics, means of values, and clips chosen for a layer have no place there.
    """
    torch.save(_document(rotations.keys, "keys"), keys)
    torch.save(_document(rotations.values, "values"), values)


def _document(sides: dict[int, SideTransform], side: Side) -> dict[str, Any]:
    layers = {layer: _entry(layer, transform, side) for layer, transform in sides.items()}
    per_head = any(transform.rotation.shape[0] > 1 for transform in sides.values())
    centred = any("k_mean" in entry for entry in layers.values())
    orthogonal = all(transform.inverse is None for transform in sides.values())
    if not (per_head or centred) and orthogonal:
        return {
            "format_version": 1,
            "objective": _SHARED_OBJECTIVES[side],
            "source_grouping": "layer",
            "layers": layers,
        }
    return {
        "format_version": 3,
        "objective": "oscar2_" + ("orthogonal" if orthogonal else "whitened"),
        "source_grouping": "head" if per_head else "layer",
        "transform": {"side": side.removesuffix("s"), "centered": centred, "orthogonal": orthogonal},
        "layers": layers,
    }


def _entry(layer: int, transform: SideTransform, side: Side) -> dict[str, Any]:
    shared = transform.rotation.shape[0] == 1

    def stored(part: Tensor) -> Tensor:
        return (part[0] if shared else part).float().contiguous()

    entry: dict[str, Any] = {
        "layer_id": layer,
        "rotation": stored(transform.rotation),
        "eigenvalues": stored(transform.eigenvalues),
    }
    if transform.inverse is not None:
        entry[_INVERSES[side]] = stored(transform.inverse.mT)
    if side == "keys" and transform.mean is not None:
        entry["k_mean"] = transform.mean.float().contiguous()
    return entry
