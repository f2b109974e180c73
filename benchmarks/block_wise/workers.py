"""Two blocks trained by two processes of torchrun, and one after the other by one process: the same bits."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from block_wise.section import Section
from closing import Check
from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData
from tokenomics_local_llm.diffusion_blocks.rounds import finetune_in_rounds, process_group
from tokenomics_local_llm.diffusion_blocks.rows import pack
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning

__all__ = ["workers"]

SETTINGS = FineTuning(blocks=2, passes=3, steps=20, batch_size=8, learning_rate=3e-3)
TOKENS = [(index * index + index // 7) % 61 for index in range(6000)]
DATA = FineTuningData(
    train=pack(TOKENS[:5000], length=32), held_out=pack(TOKENS[5000:], length=32), probe=pack(TOKENS[:300], length=32)
)


def workers() -> Section:
    """Compare them."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    section = Section()
    with TemporaryDirectory() as folder:
        results = {}
        for count in (2, 1):
            place, start = Path(folder) / str(count), time.perf_counter()
            command = [*torchrun, str(count), "-m", "block_wise.workers", str(place)]
            subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1])
            results[count] = torch.load(place / "result.pt")
            section.row(
                workers=count,
                updates_a_block=SETTINGS.passes * SETTINGS.steps,
                updates=SETTINGS.visits * SETTINGS.steps,
                tokens=sum(attempt["tokens"] for attempt in results[count]["attempts"]),
                base_loss=results[count]["base"],
                losses=[attempt["loss"] for attempt in results[count]["attempts"]],
                damping=[attempt["damping"] for attempt in results[count]["attempts"]],
                seconds=round(time.perf_counter() - start),
            )
    two, one = (results[count]["weights"] for count in (2, 1))
    differing = [name for name in one if not one[name].equal(two[name])]
    section.checks.append(
        Check(
            name="workers: parameters that differ between two processes and one",
            value=len(differing),
            goal="0",
            holds=not differing,
        )
    )
    return section


def train(folder: Path) -> None:
    """One process of the group."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=61,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
    with process_group() as group:
        journal = finetune_in_rounds(model, DATA, SETTINGS, folder, group=group)
        if group.rank == 0:
            attempts = [
                {"tokens": a.tokens, "loss": round(a.reading.held_out_loss, 4), "damping": a.damping if a.kept else 0}
                for a in journal.attempts
            ]
            result = {"weights": model.state_dict(), "attempts": attempts, "base": round(journal.base.held_out_loss, 4)}
            torch.save(result, folder / "result.pt")


if __name__ == "__main__":
    train(Path(sys.argv[1]))
