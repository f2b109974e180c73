from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tokenomics_local_llm.diffusion_blocks import rounds
from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData
from tokenomics_local_llm.diffusion_blocks.journal import Journal
from tokenomics_local_llm.diffusion_blocks.rounds import finetune_in_rounds
from tokenomics_local_llm.diffusion_blocks.rows import Rows
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning

SETTINGS = FineTuning(blocks=2, passes=2, steps=6, batch_size=4, learning_rate=1e-2)
_TWO_WORKERS = """
import sys, torch
from pathlib import Path
from transformers import LlamaForCausalLM
from tokenomics_local_llm.diffusion_blocks.rounds import finetune_in_rounds, process_group

folder = Path(sys.argv[1])
torch.set_num_threads(1)
data, settings = torch.load(folder / "inputs.pt", weights_only=False)
model = LlamaForCausalLM.from_pretrained(folder / "base")
with process_group() as group:
    assert group.size == 2
    finetune_in_rounds(model, data, settings, folder / "run", group=group)
    torch.save(model.state_dict(), folder / f"rank-{group.rank}.pt")
"""


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(value.equal(second[name]) for name, value in first.items())


def test_all_blocks_learn_in_a_round(any_model: Any, data: FineTuningData, tmp_path: Path) -> None:
    journal = finetune_in_rounds(any_model, data, SETTINGS, tmp_path)

    assert journal.best.held_out_loss < journal.base.held_out_loss - 0.05
    assert [attempt.blocks for attempt in journal.attempts] == [[0, 1], [0, 1]]
    assert all(0 < attempt.damping <= 1 for attempt in journal.attempts)


def test_the_merge_takes_the_best_share_of_the_change(
    llama: Any, data: FineTuningData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {}
    for damping in (1.0, 0.75, 0.5, 0.25):
        base = weights(llama)
        monkeypatch.setattr(rounds, "_DAMPINGS", (damping,))
        journal = finetune_in_rounds(llama, data, replace(SETTINGS, passes=1), tmp_path / str(damping))
        losses[damping] = journal.attempts[0].reading.held_out_loss
        llama.load_state_dict(base)
    monkeypatch.undo()

    journal = finetune_in_rounds(llama, data, replace(SETTINGS, passes=1), tmp_path / "all")

    assert journal.attempts[0].damping == min(losses, key=losses.__getitem__)
    assert journal.best.held_out_loss == min(losses.values())


def test_a_sabotaged_round_leaves_the_model_as_it_was(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    finetune_in_rounds(llama, data, replace(SETTINGS, steps=20), tmp_path / "before")
    before = weights(llama)
    wrong = Rows(data.train.input_ids, torch.full_like(data.train.targets, 31))

    journal = finetune_in_rounds(llama, replace(data, train=wrong), SETTINGS, tmp_path / "sabotage")

    assert not any(attempt.kept for attempt in journal.attempts)
    assert same(weights(llama), before)


def test_a_run_that_was_cut_off_between_rounds_ends_as_if_it_had_not_been(
    llama: Any, data: FineTuningData, tmp_path: Path
) -> None:
    base = weights(llama)
    finetune_in_rounds(llama, data, SETTINGS, tmp_path / "whole")
    whole = weights(llama)

    def cut_off(_attempt: object) -> None:
        raise KeyboardInterrupt

    llama.load_state_dict(base)
    with pytest.raises(KeyboardInterrupt):
        finetune_in_rounds(llama, data, SETTINGS, tmp_path / "cut", on_attempt=cut_off)
    llama.load_state_dict(base)
    finetune_in_rounds(llama, data, SETTINGS, tmp_path / "cut")

    assert same(weights(llama), whole)


def test_two_processes_of_torchrun_give_what_one_gives(llama: Any, data: FineTuningData, tmp_path: Path) -> None:
    llama.save_pretrained(tmp_path / "base")
    torch.save([data, SETTINGS], tmp_path / "inputs.pt")
    (tmp_path / "program.py").write_text(_TWO_WORKERS, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

    ran = subprocess.run(
        [*torchrun, str(tmp_path / "program.py"), str(tmp_path)], check=False, capture_output=True, text=True
    )
    finetune_in_rounds(llama, data, SETTINGS, tmp_path / "alone")

    assert ran.returncode == 0, ran.stderr
    for rank in (0, 1):
        assert same(torch.load(tmp_path / f"rank-{rank}.pt"), weights(llama))
    together, alone = (Journal.load(tmp_path / name / "journal.json") for name in ("run", "alone"))
    assert together.attempts == alone.attempts
