from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tokenomics_local_llm import LocalModel, load_model
from tokenomics_local_llm.commands import main
from tokenomics_local_llm.diffusion_blocks.journal import Journal


@pytest.fixture
def folder(tiny: LocalModel, tmp_path: Path) -> Path:
    """A model, and a text to tune it on."""
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "data.txt").write_text("the end of the call is the end " * 60, encoding="utf-8")
    return tmp_path


def finetune(folder: Path, *options: str) -> Result:
    small = ["--blocks", "2", "--passes", "1", "--steps", "4", "--length", "16", "--learning-rate", "0.01"]
    given = ["finetune", str(folder / "model"), str(folder / "data.txt"), "-o", str(folder / "tuned")]
    return CliRunner().invoke(main, [*given, *small, *options])


@pytest.mark.parametrize("workers", [[], ["--workers"]], ids=["in turn", "in rounds"])
def test_a_model_is_tuned_into_a_folder_that_can_be_served(folder: Path, workers: list[str]) -> None:
    result = finetune(folder, *workers)

    assert result.exit_code == 0, result.output
    assert "held-out loss" in result.output
    journal = Journal.load(folder / "tuned.run" / "journal.json")
    assert journal.best.held_out_loss < journal.base.held_out_loss
    assert load_model(str(folder / "tuned")).vocabulary_size == load_model(str(folder / "model")).vocabulary_size


def test_held_out_text_and_probe_may_be_files(folder: Path) -> None:
    (folder / "other.txt").write_text("call the end " * 60, encoding="utf-8")

    result = finetune(folder, "--held-out", str(folder / "other.txt"), "--probe", str(folder / "other.txt"))

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--blocks", "3"], "blocks must be 1 to 2"), (["--length", "5000"], "takes 5001 tokens")],
    ids=["more blocks than layers", "rows longer than the text"],
)
def test_what_cannot_be_done_is_said_in_one_line(folder: Path, options: list[str], message: str) -> None:
    result = finetune(folder, *options)

    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: ")
    assert message in result.output.splitlines()[-1]


def test_losses_are_written_for_tensorboard(folder: Path) -> None:
    pytest.importorskip("tensorboard", reason="comes with the extra `training`")

    result = finetune(folder, "--log-dir", str(folder / "log"))

    assert result.exit_code == 0, result.output
    assert list((folder / "log").glob("events.out.tfevents.*"))


def test_logs_without_tensorboard_say_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    result = finetune(folder, "--log-dir", str(folder / "log"))

    assert result.exit_code == 1
    assert "pip install 'tokenomics-plugin[training]'" in result.output


def test_every_command_has_help() -> None:
    listed = CliRunner().invoke(main, ["--help"])

    assert "finetune  Fine-tune MODEL on DATA" in listed.output
    assert CliRunner().invoke(main, ["finetune", "--help"]).exit_code == 0
    assert CliRunner().invoke(main, ["no-such"]).exit_code == 2
