from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from tokenomics_local_llm import LocalModel, load_model
from tokenomics_local_llm.commands import main
from tokenomics_local_llm.diffusion_blocks.journal import Journal
from tokenomics_local_llm.oscar import load_rotations, save_rotations
from tokenomics_local_llm.rotations import ROTATIONS_FILE, rotations_of


@pytest.fixture
def folder(tiny: LocalModel, tmp_path: Path) -> Path:
    """A model, and a text to tune it on."""
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "data.txt").write_text("the end of the call is the end " * 60, encoding="utf-8")
    return tmp_path


def arguments(folder: Path, output: str = "tuned", model: str = "model") -> list[str]:
    small = ["--blocks", "2", "--passes", "1", "--steps", "4", "--length", "16", "--learning-rate", "0.01"]
    return ["finetune", str(folder / model), str(folder / "data.txt"), "-o", str(folder / output), *small]


def finetune(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, [*arguments(folder), *options])


@pytest.mark.parametrize("workers", [[], ["--workers"]], ids=["in turn", "in rounds"])
def test_a_model_is_tuned_into_a_folder_that_can_be_served(folder: Path, workers: list[str]) -> None:
    result = finetune(folder, *workers)

    assert result.exit_code == 0, result.output
    assert "held-out loss" in result.output
    journal = Journal.load(folder / "tuned.run" / "journal.json")
    assert journal.best.held_out_loss < journal.base.held_out_loss
    assert load_model(str(folder / "tuned")).vocabulary_size == load_model(str(folder / "model")).vocabulary_size


def test_rotations_beside_the_model_are_recalibrated_on_the_tuned_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENOMICS_CACHE", str(folder / "cache"))
    of_base = rotations_of(load_model(str(folder / "model"), dtype="float32"))
    save_rotations(of_base, folder / "model" / ROTATIONS_FILE)

    result = finetune(folder)

    assert f"rotations recalibrated on the tuned weights: {folder / 'tuned' / ROTATIONS_FILE}" in result.output
    beside = load_rotations(folder / "tuned" / ROTATIONS_FILE)
    (folder / "tuned" / ROTATIONS_FILE).unlink()
    fresh = rotations_of(load_model(str(folder / "tuned"), dtype="float32"))
    for layer, key in beside.keys.items():
        torch.testing.assert_close(key.rotation, fresh.keys[layer].rotation)
        assert not key.rotation.equal(of_base.keys[layer].rotation)


def test_no_rotations_are_made_for_a_model_that_has_none(folder: Path) -> None:
    result = finetune(folder)

    assert "2-bit cache" not in result.output
    assert not (folder / "tuned" / ROTATIONS_FILE).exists()


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
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")

    result = finetune(folder, "--log-dir", str(folder / "log"))

    assert result.exit_code == 0, result.output
    (events,) = (folder / "log").glob("events.out.tfevents.*")
    written = [
        (value.tag, event.step) for event in loader.EventFileLoader(str(events)).Load() for value in event.summary.value
    ]
    assert [step for tag, step in written if tag == "loss/train"] == list(range(1, 9))  # 2 visits of 4 steps
    assert [step for tag, step in written if tag == "loss/held out"] == [1, 2]
    assert {("loss/block 0", 1), ("loss/block 1", 2), ("kl", 2)} <= set(written)


@pytest.mark.parametrize("workers", [[], ["--workers"]], ids=["in turn", "in rounds"])
def test_losses_are_drawn_beside_the_journal(folder: Path, workers: list[str]) -> None:
    finetune(folder, *workers)

    chart = ElementTree.parse(folder / "tuned.run" / "losses.svg")
    names = {text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")}
    assert {"held out", "block 0", "block 1"} <= names


def test_a_kill_at_any_moment_loses_at_most_the_running_visit(folder: Path) -> None:
    long = ["--passes", "12", "--steps", "6"]
    command = [sys.executable, "-m", "tokenomics_local_llm.cli"]
    journal = folder / "cut.run" / "journal.json"
    with subprocess.Popen(
        [*command, *arguments(folder, "cut"), *long], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not (journal.exists() and len(Journal.load(journal).attempts) >= 3):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        process.kill()
    done = Journal.load(journal).attempts

    # In processes like the first: the last bits depend on the number of threads, which that of the tests has changed.
    for output in ("cut", "whole"):
        subprocess.run([*command, *arguments(folder, output), *long], check=True, capture_output=True)

    assert process.returncode == -signal.SIGKILL or len(done) == 24
    assert Journal.load(journal).attempts[: len(done)] == done
    assert Journal.load(journal).attempts == Journal.load(folder / "whole.run" / "journal.json").attempts
    cut, uncut = (load_file(folder / name / "model.safetensors") for name in ("cut", "whole"))
    assert all(value.equal(uncut[name]) for name, value in cut.items())


def test_logs_without_tensorboard_say_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    result = finetune(folder, "--log-dir", str(folder / "log"))

    assert result.exit_code == 1
    assert "pip install 'tokenomics-plugin[training]'" in result.output


def test_every_command_has_help() -> None:
    listed = CliRunner().invoke(main, ["--help"])

    assert "Fine-tune MODEL on DATA" in listed.output
    assert CliRunner().invoke(main, ["finetune", "--help"]).exit_code == 0
    assert CliRunner().invoke(main, ["no-such"]).exit_code == 2
