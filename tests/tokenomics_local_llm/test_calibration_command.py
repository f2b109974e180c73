from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tokenomics_local_llm import LocalModel, load_model
from tokenomics_local_llm.commands import main
from tokenomics_local_llm.rotations import ROTATIONS_FILE, rotations_of


@pytest.fixture
def folder(make_model: Callable[..., LocalModel], tmp_path: Path) -> Path:
    made = make_model()
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 99, encoding="utf-8")
    return tmp_path


def test_what_is_calibrated_lies_where_it_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENOMICS_CACHE", "/dev/null")  # nothing could be kept there

    done = CliRunner().invoke(main, ["calibrate", str(folder), "--text", str(folder / "text.txt")])

    assert done.exit_code == 0, done.output
    assert (folder / ROTATIONS_FILE).is_file()
    assert sorted(rotations_of(load_model(str(folder))).keys) == [0, 1]


def test_model_that_is_no_folder_needs_an_output(folder: Path) -> None:
    done = CliRunner().invoke(main, ["calibrate", "SmolLM2-135M-Instruct", "--text", str(folder / "text.txt")])

    assert done.exit_code == 2
    assert "name an --output" in done.output


def test_text_that_is_too_short_is_one_line(folder: Path) -> None:
    (folder / "short.txt").write_text("Short.", encoding="utf-8")

    done = CliRunner().invoke(main, ["calibrate", str(folder), "--text", str(folder / "short.txt")])

    assert done.exit_code == 1
    assert "too short: give at least" in done.output
