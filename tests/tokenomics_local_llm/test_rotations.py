from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tokenomics_local_llm import LocalModel, rotations
from tokenomics_local_llm.oscar import Rotations, load_rotations, save_rotations
from tokenomics_local_llm.rotations import (
    ROTATIONS_FILE,
    CalibrationTextError,
    cache_folder,
    calibrate_on,
    rotations_of,
)


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENOMICS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog, and again. " * 60, encoding="utf-8")
    return path


def kept() -> list[Path]:
    return sorted(cache_folder().glob("oscar/*.safetensors"))


def same(one: Rotations, other: Rotations) -> bool:
    return all(torch.equal(one.keys[layer].rotation, other.keys[layer].rotation) for layer in one.keys)


def test_rotations_are_calibrated_once_and_kept(tiny: LocalModel, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rotations_of(tiny, calibration=text)
    monkeypatch.setattr(rotations, "calibrate", None)  # would fail if it were called again

    again = rotations_of(tiny, calibration=text)

    assert same(first, again)
    assert len(kept()) == 1
    assert not list(cache_folder().rglob("*.part"))


def test_rotations_belong_to_weights_and_text(
    make_model: Callable[..., LocalModel], tiny: LocalModel, text: Path, tmp_path: Path
) -> None:
    other_text = tmp_path / "other.txt"
    other_text.write_text(text.read_text(encoding="utf-8").upper(), encoding="utf-8")

    rotations_of(tiny, calibration=text)
    rotations_of(make_model(seed=0), calibration=text)  # the same weights
    assert len(kept()) == 1

    rotations_of(make_model(seed=1), calibration=text)
    rotations_of(tiny, calibration=other_text)
    assert len(kept()) == 3


def test_model_loaded_in_another_dtype_has_the_same_rotations(
    make_model: Callable[..., LocalModel], text: Path
) -> None:
    full, half = make_model(), make_model()
    module: torch.nn.Module = half.model
    module.to(torch.bfloat16)

    rotations_of(full, calibration=text)
    rotations_of(half, calibration=text)

    assert len(kept()) == 1


def test_file_beside_the_model_is_taken(make_model: Callable[..., LocalModel], text: Path, tmp_path: Path) -> None:
    model = make_model()
    fitted = calibrate_on(model, [text])
    model.name = str(tmp_path)
    save_rotations(fitted, tmp_path / ROTATIONS_FILE)

    found = rotations_of(model)

    assert same(found, fitted)
    assert kept() == []


def test_without_any_text_the_model_reads_the_packages_own(tiny: LocalModel) -> None:
    found = rotations_of(tiny)

    assert sorted(found.keys) == [0, 1]
    assert same(found, load_rotations(*kept()))


def test_who_comes_second_waits_for_the_first(make_model: Callable[..., LocalModel], text: Path) -> None:
    models, calibrated = [make_model(), make_model()], []
    for number, model in enumerate(models):
        model.model.register_forward_hook(lambda *_, number=number: calibrated.append(number))

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda model: rotations_of(model, calibration=text), models)

    assert same(one, other)
    assert len(set(calibrated)) == 1


@pytest.mark.parametrize("content", [b"too short", b"\xff\xfe\xff"], ids=["short", "no text"])
def test_text_that_is_none_is_refused(tiny: LocalModel, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)

    with pytest.raises(CalibrationTextError, match=r"too short: give at least|cannot be read"):
        calibrate_on(tiny, [path])


def test_windows_lie_evenly_over_each_text(make_model: Callable[..., LocalModel], text: Path, tmp_path: Path) -> None:
    model, seen = make_model(), []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )

    calibrate_on(model, [text, text], tokens=4096)

    assert len(seen) == 2
    assert len(set(seen)) == 1
