from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tokenomics_local_llm.diffusion_blocks.gate import Gate
from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData, finetune
from tokenomics_local_llm.diffusion_blocks.journal import Attempt, Journal, ResumeError
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.rows import Rows
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning

SETTINGS = FineTuning(blocks=2, passes=2, steps=8, batch_size=4, learning_rate=1e-2)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(value.equal(second[name]) for name, value in first.items())


def nonsense(data: FineTuningData) -> FineTuningData:
    """What no model should learn: every next token is the same, and it never is."""
    return replace(data, train=Rows(data.train.input_ids, torch.full_like(data.train.targets, 31)))


def test_a_model_learns(any_model: Any, data: FineTuningData, tmp_path: Path) -> None:
    journal = finetune(any_model, data, SETTINGS, tmp_path)

    assert journal.best.held_out_loss < journal.base.held_out_loss - 0.1
    assert [attempt.blocks for attempt in journal.attempts] == [[0], [1], [0], [1]]


def test_a_visit_changes_one_block_and_nothing_else(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    partition, before, changed = Partition(llama, 2), weights(llama), []

    def look(attempt: Attempt) -> None:
        changed.append({name for name, value in weights(llama).items() if not value.equal(before[name])})
        before.update(weights(llama))

    finetune(llama, data, SETTINGS, tmp_path, on_attempt=look)

    assert changed == [set(partition.parameters(block)) for block in (0, 1, 0, 1)]


def test_optimizer_state_is_on_disk_for_the_blocks_that_were_visited(
    llama: Any, data: FineTuningData, tmp_path: Path
) -> None:
    journal = finetune(llama, data, replace(SETTINGS, passes=1), tmp_path)

    for block, name in journal.optimizers.items():
        state = load_file(tmp_path / name)
        of_block = {
            f"{name}/{part}"
            for name in Partition(llama, 2).parameters(block)
            for part in ("step", "exp_avg", "exp_avg_sq")
        }
        assert state.keys() == of_block
        assert all(float(value) == 8 for key, value in state.items() if key.endswith("/step"))


def test_a_second_visit_goes_on_with_the_optimizer_state_of_the_first(
    llama: Any, data: FineTuningData, tmp_path: Path
) -> None:
    journal = finetune(llama, data, SETTINGS, tmp_path)

    state = load_file(tmp_path / journal.optimizers[0])

    assert {float(value) for key, value in state.items() if key.endswith("/step")} == {16.0}


def test_only_a_blocks_first_visit_warms_up(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    journal = finetune(llama, data, replace(SETTINGS, warm_up_steps=1000), tmp_path)

    first, _, second, _ = (attempt.reading.kl for attempt in journal.attempts)
    assert first < 1e-3 < second


def test_a_sabotaged_run_leaves_the_model_as_it_was(any_model: Any, data: FineTuningData, tmp_path: Path) -> None:
    finetune(any_model, data, SETTINGS, tmp_path / "before")
    before = weights(any_model)

    journal = finetune(any_model, nonsense(data), SETTINGS, tmp_path / "sabotage")

    assert not any(attempt.kept for attempt in journal.attempts)
    assert journal.best == journal.base
    assert same(weights(any_model), before)


def test_a_model_that_leads_too_far_away_is_rolled_back(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    before = weights(llama)

    journal = finetune(llama, data, SETTINGS, tmp_path, gate=Gate(max_kl=1e-9))

    assert all(attempt.reading.held_out_loss < journal.base.held_out_loss for attempt in journal.attempts)
    assert same(weights(llama), before)


def test_a_run_never_ends_worse_than_it_began(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    journal = finetune(llama, data, replace(SETTINGS, learning_rate=0.5), tmp_path)

    losses = [journal.base.held_out_loss] + [a.reading.held_out_loss for a in journal.attempts if a.kept]
    assert losses == sorted(losses, reverse=True)


def test_a_block_that_was_rolled_back_is_tried_with_half_the_learning_rate(
    llama: Any, data: FineTuningData, tmp_path: Path
) -> None:
    finetune(llama, data, SETTINGS, tmp_path / "before")

    journal = finetune(llama, nonsense(data), SETTINGS, tmp_path / "sabotage")

    first, second = journal.attempts[0], journal.attempts[2]
    assert journal.rollbacks(0) == 2
    assert second.reading.kl < first.reading.kl


@pytest.mark.parametrize("objective", ["exact", "local"])
def test_the_same_run_has_the_same_result(data: FineTuningData, tmp_path: Path, objective: Any, llama: Any) -> None:
    base, results = weights(llama), []
    for name in ("first", "second"):
        llama.load_state_dict(base)
        finetune(llama, data, replace(SETTINGS, objective=objective), tmp_path / name)
        results.append(weights(llama))

    assert same(*results)


def test_the_local_objective_learns_behind_the_gate(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    journal = finetune(llama, data, replace(SETTINGS, objective="local", passes=1, steps=30), tmp_path)

    assert journal.best.held_out_loss < journal.base.held_out_loss - 0.1


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("step", [3, 8, 20, 31], ids=["first visit", "second visit begins", "third", "last step"])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    data: FineTuningData, tmp_path: Path, llama: Any, step: int
) -> None:
    base = weights(llama)
    finetune(llama, data, SETTINGS, tmp_path / "whole")
    whole = weights(llama)
    steps = iter(range(1000))

    def cut_off(loss: float) -> None:
        if next(steps) == step:
            raise _KilledError

    llama.load_state_dict(base)
    with pytest.raises(_KilledError):
        finetune(llama, data, SETTINGS, tmp_path / "cut", on_step=cut_off)
    done = len(Journal.load(tmp_path / "cut" / "journal.json").attempts)
    llama.load_state_dict(base)
    again: list[float] = []
    finetune(llama, data, SETTINGS, tmp_path / "cut", on_step=again.append)

    assert same(weights(llama), whole)
    assert done == step // SETTINGS.steps
    assert len(again) == (SETTINGS.visits - done) * SETTINGS.steps


def test_a_run_whose_process_was_killed_goes_on(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    base = weights(llama)
    finetune(llama, data, SETTINGS, tmp_path / "whole")
    whole = weights(llama)
    llama.load_state_dict(base)
    llama.save_pretrained(tmp_path / "base")
    torch.save([data, SETTINGS], tmp_path / "inputs.pt")

    killed = subprocess.run([sys.executable, "-c", _KILLED_AT_STEP_19, str(tmp_path)], check=False, capture_output=True)
    done = len(Journal.load(tmp_path / "cut" / "journal.json").attempts)
    finetune(llama, data, SETTINGS, tmp_path / "cut")

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert done == 2
    assert same(weights(llama), whole)


_KILLED_AT_STEP_19 = """
import itertools, os, signal, sys, torch
from pathlib import Path
from transformers import LlamaForCausalLM
from tokenomics_local_llm.diffusion_blocks.in_turn import finetune

folder = Path(sys.argv[1])
torch.set_num_threads(1)
data, settings = torch.load(folder / "inputs.pt", weights_only=False)
steps = itertools.count()
finetune(
    LlamaForCausalLM.from_pretrained(folder / "base"), data, settings, folder / "cut",
    on_step=lambda loss: next(steps) == 19 and os.kill(os.getpid(), signal.SIGKILL),
)
"""


def test_a_finished_run_is_not_run_again(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    base = weights(llama)
    finetune(llama, data, SETTINGS, tmp_path)
    tuned = weights(llama)
    llama.load_state_dict(base)
    steps: list[float] = []

    finetune(llama, data, SETTINGS, tmp_path, on_step=steps.append)

    assert steps == []
    assert same(weights(llama), tuned)


def test_the_folder_of_another_run_is_refused(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    base = weights(llama)
    finetune(llama, data, replace(SETTINGS, passes=1), tmp_path)
    llama.load_state_dict(base)

    with pytest.raises(ResumeError, match="differs in learning_rate"):
        finetune(llama, data, replace(SETTINGS, passes=1, learning_rate=0.1), tmp_path)
    with pytest.raises(ResumeError, match="differs in train"):
        finetune(llama, nonsense(data), replace(SETTINGS, passes=1), tmp_path)


def test_files_that_no_longer_count_are_removed(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    finetune(llama, data, SETTINGS, tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "block-0.2.adamw.safetensors",
        "block-0.2.safetensors",
        "block-1.3.adamw.safetensors",
        "block-1.3.safetensors",
        "journal.json",
        "probe.safetensors",
    ]


def test_the_result_is_an_ordinary_checkpoint(any_model: Any, data: FineTuningData, tmp_path: Path) -> None:
    finetune(any_model, data, replace(SETTINGS, passes=1), tmp_path / "run")
    any_model.save_pretrained(tmp_path / "tuned")

    loaded = type(any_model).from_pretrained(tmp_path / "tuned")

    torch.testing.assert_close(loaded(data.probe.input_ids).logits, any_model(data.probe.input_ids).logits)


@pytest.mark.parametrize("name", ["blocks", "passes", "steps", "batch_size", "chunk_rows", "learning_rate"])
def test_settings_that_do_nothing_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        replace(SETTINGS, **{name: 0})  # type: ignore[arg-type]
