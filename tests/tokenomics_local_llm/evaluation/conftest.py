"""A tiny model in a folder, and texts long enough for caches that quantise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tokenomics_local_llm import LocalModel


@pytest.fixture(scope="session")
def folder(make_model: Callable[..., LocalModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    made = make_model()
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two of them; what is calibrated on one is kept for this test alone."""
    monkeypatch.setenv("TOKENOMICS_CACHE", str(tmp_path / "cache"))
    paths = [tmp_path / "fox.txt", tmp_path / "jugs.txt"]
    for path, sentence in zip(
        paths, ("The quick brown fox jumps over the lazy dog. ", "Pack my box with five dozen jugs! "), strict=True
    ):
        path.write_text("".join(f"{number}: {sentence}" for number in range(80)), encoding="utf-8")
    return paths
