"""Whether a change of the model stays: it must lower the held-out loss, and not lead too far from the base model.

How far is the Kullback-Leibler divergence from the base model on a general probe, text that the model is not trained
on: what it forgets. The base model's probabilities are kept on disk, because a second model would double the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from tokenomics_local_llm.diffusion_blocks.objectives import exact_loss
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.rows import Rows
from tokenomics_local_llm.diffusion_blocks.shards import save_tensors

__all__ = ["Gate", "Judge", "Reading"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a model achieves."""

    held_out_loss: float
    """Mean cross-entropy of held-out text, nats a token."""
    kl: float
    """From the base model to this one on the probe, nats a token."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a change must achieve to stay."""

    max_kl: float = 0.5
    """The most nats a token between the base model and this one on the probe."""

    def admits(self, reading: Reading, best: Reading) -> bool:
        """Whether a model is better than the best so far, and still near the base; never if a figure is NaN."""
        return reading.held_out_loss < best.held_out_loss and reading.kl <= self.max_kl


class Judge:
    """Measures a model on held-out text and on a probe.

    Args:
        partition: The model; at first use its base state, unless the folder holds that of an earlier run.
        held_out: Text like that trained on, none of it trained on.
        probe: General text.
        folder: Keeps the base model's probabilities on the probe.
        batch_size: Rows at a time.
    """

    def __init__(self, partition: Partition, held_out: Rows, probe: Rows, folder: Path, *, batch_size: int = 4) -> None:
        self._partition = partition
        self._held_out = held_out
        self._probe = list(probe.batches(1))
        self._path = folder / "probe.safetensors"
        self._batch_size = batch_size
        if not self._path.exists():
            save_tensors(self._path, {str(index): self._log_probs(rows) for index, rows in enumerate(self._probe)})

    @torch.no_grad()
    def read(self) -> Reading:
        """Measure the model as it is now."""
        training = self._partition.model.training
        self._partition.model.eval()
        reading = Reading(held_out_loss=self._held_out_loss(), kl=self._kl())
        self._partition.model.train(training)
        return reading

    def _held_out_loss(self) -> float:
        loss_of = exact_loss(self._partition, chunk_rows=256)
        total = sum(float(loss_of(rows)) * rows.learned_tokens for rows in self._held_out.batches(self._batch_size))
        return total / self._held_out.learned_tokens

    def _kl(self) -> float:
        total, tokens = 0.0, 0
        with safe_open(self._path, framework="pt") as base:
            for index, rows in enumerate(self._probe):
                of_base = base.get_tensor(str(index))
                ours = self._log_probs(rows)
                total += float((of_base.exp() * (of_base - ours)).sum())
                tokens += len(ours)
        return total / tokens

    @torch.no_grad()
    def _log_probs(self, rows: Rows) -> Tensor:
        logits = self._partition.head(self._partition.hidden(rows.to(self._partition.device).input_ids)[0])
        return torch.log_softmax(logits.float(), dim=-1).cpu()
