"""Fine-tuning with one block a worker: all train at once, and their changes are merged.

In a round every worker starts from the same weights, trains its block alone and writes it down; no worker hears of
another. Because each mends the same errors, all changes together overshoot: the merge tries the whole change, then
smaller shares of it, and keeps the best that passes the gate.

`work` is a pure function from files to files, so any launcher will do. Here processes of one group divide the blocks
and wait for each other; torchrun starts them, over gloo on CPUs, and one process alone does the same work one block
after the other, to the same last bit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import distributed
from transformers import AutoModelForCausalLM

from tokenomics_local_llm.diffusion_blocks.gate import Gate, Judge, Reading
from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData, open_run
from tokenomics_local_llm.diffusion_blocks.journal import Attempt, Journal, state_name
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.rows import Rows
from tokenomics_local_llm.diffusion_blocks.shards import load_tensors, save_tensors
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning, VisitResult, train_visit

__all__ = ["Group", "Job", "finetune_in_rounds", "process_group", "work"]

_MODEL: Final = "base"
_TRAIN: Final = "train.safetensors"
_DAMPINGS: Final = (1.0, 0.75, 0.5, 0.25)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Processes that divide the blocks; the default is one alone."""

    rank: int = 0
    """This process; rank 0 merges."""
    size: int = 1
    """How many there are."""
    gather: Callable[[Any], list[Any]] = lambda own: [own]
    """Returns what every process gave, once all have."""

    def share(self, blocks: int) -> range:
        """The blocks that this process trains."""
        return range(self.rank, blocks, self.size)


@contextmanager
def process_group() -> Iterator[Group]:
    """The processes that torchrun started together; without torchrun, this one alone."""
    if "WORLD_SIZE" not in os.environ:
        yield Group()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Group(rank=distributed.get_rank(), size=distributed.get_world_size(), gather=_gather)
    finally:
        distributed.destroy_process_group()


def _gather(own: Any) -> list[Any]:
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, own)
    return gathered


@dataclass(frozen=True, kw_only=True)
class Job:
    """One block's training in one round, wherever it runs."""

    model: Path
    """Folder of the base model, as `save_pretrained` writes it."""
    weights: dict[int, Path]
    """Files of the blocks that are no longer the base model's."""
    device: str
    """Where to train."""
    train: Path
    """File of the rows to learn from."""
    block: int
    """Which block to train."""
    round: int
    """Counts from 0."""
    settings: FineTuning
    """Of the run; a pass is a round."""
    state_before: Path | None
    """AdamW's state from the round before."""
    state_after: Path
    """Where to leave it."""
    weights_after: Path
    """Where to leave the block's weights."""


def work(job: Job, *, on_step: Callable[[float], object] = lambda loss: None) -> VisitResult:
    """Train one block. Reads and writes the files of the job, and nothing else; `on_step` is told each loss."""
    model: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype="auto")
    model.to(job.device)
    partition = Partition(model, job.settings.blocks)
    for block, path in job.weights.items():
        partition.load(block, load_tensors(path))
    rows = load_tensors(job.train)
    result = train_visit(
        partition,
        job.block,
        Rows(rows["input_ids"], rows["targets"]),
        job.settings,
        number=job.round * job.settings.blocks + job.block,
        share=job.round / job.settings.passes,
        state_before=job.state_before,
        state_after=job.state_after,
        on_step=on_step,
    )
    save_tensors(job.weights_after, partition.tensors(job.block))
    return result


def finetune_in_rounds(
    model: Any,
    data: FineTuningData,
    settings: FineTuning,
    folder: Path,
    *,
    gate: Gate | None = None,
    group: Group | None = None,
    on_step: Callable[[float], object] = lambda loss: None,
    on_attempt: Callable[[Attempt], object] = lambda attempt: None,
) -> Journal:
    """Fine-tune a model in place, every block once a round; every process of the group calls this alike.

    Each process loads a second model to train in; the one that is given is judged, and is the result.

    Args:
        model: A causal language model of transformers, in its base state.
        data: Of the run.
        settings: Of the run; `passes` are rounds.
        folder: Shared by the group; keeps what `finetune` keeps.
        gate: What a merge must achieve to stay; `None` for the default.
        group: Of processes; `None` for this one alone.
        on_step: Told the loss of each step that this process makes.
        on_attempt: Told of each round.

    Raises:
        ResumeError: If the folder holds another run.
        PartitionError: If the model cannot be divided so.
    """
    gate, group = gate or Gate(), group or Group()
    partition = Partition(model, settings.blocks)
    judge = _prepare(partition, data, settings, gate, folder) if group.rank == 0 else None
    group.gather(None)
    journal = Journal.load(folder / "journal.json")
    for number in range(len(journal.attempts), settings.passes):
        jobs = [_job(journal, block, number, settings, str(partition.device)) for block in group.share(settings.blocks)]
        results = {job.block: work(job, on_step=on_step) for job in jobs}
        everyones = {block: result for one in group.gather(results) for block, result in one.items()}
        if judge is not None:
            on_attempt(_merge(partition, number, everyones, gate, journal, judge))
        group.gather(None)
        journal = Journal.load(folder / "journal.json")
    journal.restore(partition)
    return journal


def _prepare(partition: Partition, data: FineTuningData, settings: FineTuning, gate: Gate, folder: Path) -> Judge:
    """Begin the run or go on with it, and put what the workers read into the folder."""
    _, judge = open_run(partition, data, {**asdict(settings), **asdict(gate), "workers": True}, folder)
    model = folder / _MODEL
    if not model.exists():  # then no round has been merged, and the model is in its base state
        partial = model.with_suffix(".partial")
        partition.model.save_pretrained(partial)
        partial.replace(model)
    save_tensors(folder / _TRAIN, {"input_ids": data.train.input_ids, "targets": data.train.targets})
    return judge


def _job(journal: Journal, block: int, number: int, settings: FineTuning, device: str) -> Job:
    folder = journal.path.parent
    return Job(
        model=folder / _MODEL,
        weights={block: folder / name for block, name in journal.weights.items()},
        device=device,
        train=folder / _TRAIN,
        block=block,
        round=number,
        settings=settings,
        state_before=journal.state_before(block),
        state_after=folder / state_name(block, number),
        weights_after=_alone(journal, block, number),
    )


def _alone(journal: Journal, block: int, number: int) -> Path:
    """What a block became without the changes of the others."""
    return journal.path.parent / f"block-{block}.{number}.alone.safetensors"


def _merge(
    partition: Partition,
    number: int,
    results: dict[int, VisitResult],
    gate: Gate,
    journal: Journal,
    judge: Judge,
) -> Attempt:
    before = {block: journal.undo_file(partition, block) for block in partition}
    after = {block: _alone(journal, block, number) for block in partition}
    readings = {}
    for damping in _DAMPINGS:
        _damp(partition, before, after, damping)
        readings[damping] = judge.read()
    damping = min(_DAMPINGS, key=lambda tried: _loss_if_admitted(gate, readings[tried], journal.best))
    kept = gate.admits(readings[damping], journal.best)
    if kept:
        _damp(partition, before, after, damping)
        for block in partition:
            journal.keep(partition, block, number)
    else:
        for block in partition:
            partition.load(block, load_tensors(before[block]))
    attempt = Attempt(
        blocks=list(partition),
        train_losses=[results[block].train_loss for block in partition],
        tokens=sum(result.tokens for result in results.values()),
        reading=readings[damping],
        kept=kept,
        damping=damping,
    )
    journal.attempts.append(attempt)
    journal.write()
    return attempt


def _damp(partition: Partition, before: dict[int, Path], after: dict[int, Path], damping: float) -> None:
    """This share of every block's change."""
    for block in partition:
        old, new = load_tensors(before[block]), load_tensors(after[block])
        partition.load(block, {name: torch.lerp(old[name], new[name], damping) for name in old})


def _loss_if_admitted(gate: Gate, reading: Reading, best: Reading) -> float:
    return reading.held_out_loss if gate.admits(reading, best) else math.inf
