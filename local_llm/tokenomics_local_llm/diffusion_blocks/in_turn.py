"""Fine-tuning a pretrained model block by block, in one process.

Every block in turn is trained for some steps with the exact loss of the whole model while all others stand still
(block-coordinate descent: BAdam, arXiv 2404.02827, on DiffusionBlocks' partition), with its optimizer state on disk
between visits. After each visit the gate decides: the block keeps its new weights, or gets its old ones back to the
last bit. The model that comes out is never worse on held-out text than the one that went in, has the same
architecture, and is served as that was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tokenomics_local_llm.diffusion_blocks.gate import Gate, Judge
from tokenomics_local_llm.diffusion_blocks.journal import Attempt, Journal, state_name
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.rows import Rows
from tokenomics_local_llm.diffusion_blocks.shards import load_tensors
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning, train_visit

__all__ = ["FineTuningData", "finetune", "open_run"]


@dataclass(frozen=True, kw_only=True)
class FineTuningData:
    """What a run learns from and is judged by."""

    train: Rows
    """Learned from."""
    held_out: Rows
    """Of the same kind; decides what stays."""
    probe: Rows
    """General text; says what is forgotten."""


def finetune(
    model: Any,
    data: FineTuningData,
    settings: FineTuning,
    folder: Path,
    *,
    gate: Gate | None = None,
    on_step: Callable[[float], object] = lambda loss: None,
    on_attempt: Callable[[Attempt], object] = lambda attempt: None,
) -> Journal:
    """Fine-tune a model in place; a run that was killed goes on where it was.

    Args:
        model: A causal language model of transformers, in its base state.
        data: Of the run.
        settings: Of the run.
        folder: Keeps the run's journal, the weights of changed blocks and their optimizer states.
        gate: What a change must achieve to stay; `None` for the default.
        on_step: Told the loss of each step.
        on_attempt: Told of each visit.

    Returns:
        The journal; `best` says what the model now achieves.

    Raises:
        ResumeError: If the folder holds another run.
        PartitionError: If the model cannot be divided so.
    """
    gate = gate or Gate()
    partition = Partition(model, settings.blocks)
    journal, judge = open_run(partition, data, {**asdict(settings), **asdict(gate), "workers": False}, folder)
    for number in range(len(journal.attempts), settings.visits):
        block = number % settings.blocks
        on_attempt(_visit(partition, block, number, data.train, settings, gate, journal, judge, on_step))
    return journal


def open_run(partition: Partition, data: FineTuningData, run: dict[str, Any], folder: Path) -> tuple[Journal, Judge]:
    """Begin a run, or bring the model to where an earlier start of it was.

    Args:
        partition: The model in its base state.
        data: Of the run.
        run: What else must be the same for a run to go on.
        folder: Of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identity = run | {"model": _digest(partition), "train": data.train.digest(), "held_out": data.held_out.digest()}
    identity |= {"probe": data.probe.digest()}
    path = folder / "journal.json"
    if path.exists():
        journal = Journal.load(path)
        journal.check(identity)
        judge = Judge(partition, data.held_out, data.probe, folder)
    else:
        judge = Judge(partition, data.held_out, data.probe, folder)
        journal = Journal(path=path, run=identity, base=judge.read())
        journal.write()
    journal.restore(partition)
    return journal, judge


def _visit(
    partition: Partition,
    block: int,
    number: int,
    train: Rows,
    settings: FineTuning,
    gate: Gate,
    journal: Journal,
    judge: Judge,
    on_step: Callable[[float], object],
) -> Attempt:
    before = journal.undo_file(partition, block)
    result = train_visit(
        partition,
        block,
        train,
        settings,
        number=number,
        share=number / settings.visits,
        scale=0.5 ** journal.rollbacks(block),
        state_before=journal.state_before(block),
        state_after=journal.path.parent / state_name(block, number),
        on_step=on_step,
    )
    reading = judge.read()
    kept = gate.admits(reading, journal.best)
    if kept:
        journal.keep(partition, block, number)
    else:
        partition.load(block, load_tensors(before))
    attempt = Attempt(
        blocks=[block],
        train_losses=[result.train_loss],
        tokens=result.tokens,
        reading=reading,
        kept=kept,
        damping=1.0,
    )
    journal.attempts.append(attempt)
    journal.write()
    return attempt


def _digest(partition: Partition) -> str:
    """Tells models apart by a few numbers of every parameter: to read all would take as long as a visit."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in partition.model.named_parameters():
        digest.update(f"{name}{tuple(parameter.shape)}{_some(parameter.detach())}".encode())
    return digest.hexdigest()


def _some(values: Tensor) -> list[float]:
    flat = values.flatten()
    return [float(value) for value in flat[:: max(1, len(flat) // 8)]]
