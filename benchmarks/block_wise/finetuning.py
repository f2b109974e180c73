"""SmolLM2-135M fine-tuned on worked solutions of GSM8K's training set: full, LoRA, and block by block.

Every way makes the same updates on the same rows in the same order, so that with six blocks each parameter is updated
a sixth as often as by the others. That is why block-wise training is expected behind LoRA here: in pilots it caught up
with full fine-tuning when each block made as many updates. Forgetting is the divergence from the base model on novels.
Rows, updates and tokens are few, for a shared CPU: differences below a hundredth mean nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch

from block_wise.lora import has_peft, with_lora
from block_wise.section import Section
from closing import Check
from tokenomics_local_llm.diffusion_blocks.cross_entropy import IGNORED
from tokenomics_local_llm.diffusion_blocks.gate import Gate, Judge, Reading
from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData, finetune
from tokenomics_local_llm.diffusion_blocks.objectives import exact_loss
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.rows import Example, Rows, pack, pad
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning
from tokenomics_local_llm.model import LocalModel
from tokenomics_local_llm.smollm2 import SMOLLM2, load_smollm2

__all__ = ["finetuning"]

BLOCKS = 6
BATCH, LENGTH = 2, 256
TRAINING_ROWS, HELD_OUT_ROWS, PROBE_ROWS, PROBE_LENGTH = 1000, 24, 4, 128
LEARNING_RATES = {"full": 5e-5, "LoRA": 5e-4, "blocks": 1e-4}
"""Untuned; what is usual for each."""
NO_GATE = Gate(max_kl=float("inf"))


def finetuning(corpora: Path, *, steps: int) -> Section:
    """Held-out loss and forgetting of every way, after this many updates."""
    base = fresh()
    data = read(base, corpora)
    section = Section(
        figures={
            "rows an update": BATCH,
            "training rows": len(data.train),
            "held-out rows": len(data.held_out),
            "held-out tokens": data.held_out.learned_tokens,
            "learning rates": LEARNING_RATES,
        }
    )
    with TemporaryDirectory() as folder:
        judged = Judge(Partition(base.model, BLOCKS), data.held_out, data.probe, Path(folder)).read()
        section.row(arm="the model as it is", updates=0, tokens=0, **_figures(judged))
        arms: dict[str, Callable[[Any], Any]] = {"full": lambda model: model.requires_grad_(True)}
        if has_peft():
            arms["LoRA"] = with_lora
        else:
            section.figures["LoRA"] = "peft is not installed"
        for name, prepare in arms.items():
            train_whole(section, name, prepare, data, steps, Path(folder))
        train_blocks(section, data, steps, Path(folder) / "blocks")
        sabotage(section, data, Path(folder) / "sabotage")
    found = {row["arm"]: row for row in section.rows}
    section.checks.extend(_checks(found))
    return section


def _checks(found: dict[str, dict[str, Any]]) -> Iterator[Check]:
    blocks = found["blocks"]
    yield Check(
        name="finetune: held-out loss, block by block, less the base model's",
        value=round(blocks["held_out_loss"] - found["the model as it is"]["held_out_loss"], 4),
        goal="< 0",
        holds=blocks["held_out_loss"] < found["the model as it is"]["held_out_loss"],
    )
    for other in ("full", "LoRA"):
        if other in found:
            gap = blocks["held_out_loss"] - found[other]["held_out_loss"]
            yield Check(
                name=f"finetune: held-out loss, block by block, less that of {other}, equal updates and tokens",
                value=round(gap, 4),
                goal="<= 0" if other == "LoRA" else "reported",
                holds=gap <= 0 or other != "LoRA",
            )
    yield Check(
        name="finetune: a sabotaged visit is rolled back, to the last bit",
        value=found["a sabotaged visit"]["restored"],
        goal="true, and not kept",
        holds=found["a sabotaged visit"]["restored"] and not found["a sabotaged visit"]["kept"],
    )


def fresh() -> LocalModel:
    model, tokenizer = load_smollm2(torch.float32)
    return LocalModel(SMOLLM2, model, tokenizer)


def read(model: LocalModel, corpora: Path) -> FineTuningData:
    lines = (corpora / "gsm8k" / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = [json.loads(line) for line in lines[: TRAINING_ROWS + HELD_OUT_ROWS]]
    rows = pad([example(model, line) for line in chosen], length=LENGTH)
    train, held_out = rows.at(range(len(rows) - HELD_OUT_ROWS)), rows.at(range(len(rows) - HELD_OUT_ROWS, len(rows)))
    novels = sorted((corpora / "english_novels").glob("*_1*.txt"))
    texts = [model.encode(path.read_text(encoding="utf-8")[50_000:53_000]) for path in novels[:PROBE_ROWS]]
    probes = [pack(tokens[: PROBE_LENGTH + 1], length=PROBE_LENGTH) for tokens in texts]
    probe = Rows(torch.cat([one.input_ids for one in probes]), torch.cat([one.targets for one in probes]))
    return FineTuningData(train=train, held_out=held_out, probe=probe)


def example(model: LocalModel, line: dict[str, str]) -> Example:
    """The solution is learned, and the question is given."""
    given = model.encode(f"Question: {line['question']}\nAnswer:")
    said = [*model.encode(f" {line['answer']}"), model.tokenizer.eos_token_id]
    return Example(tokens=[*given, *said], learned=[False] * len(given) + [True] * len(said))


def train_whole(
    section: Section, name: str, prepare: Callable[[Any], Any], data: FineTuningData, steps: int, folder: Path
) -> None:
    """Train every parameter, or every adapter, at once."""
    model = fresh().model
    partition = Partition(model, BLOCKS)
    prepare(model)
    settings = FineTuning(
        blocks=1, passes=1, steps=steps, batch_size=BATCH, learning_rate=LEARNING_RATES[name], chunk_rows=256
    )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
    loss_of, losses, tokens, start = exact_loss(partition, chunk_rows=256), [], 0, time.perf_counter()
    model.train()
    for step in range(steps):
        rows = data.train.batch(step, BATCH, seed=settings.seed)
        optimizer.param_groups[0]["lr"] = settings.rate(step / steps, step)
        loss = loss_of(rows)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        tokens += rows.learned_tokens
    seconds = time.perf_counter() - start
    reading = Judge(partition, data.held_out, data.probe, folder).read()
    section.row(
        arm=name,
        updates=steps,
        updates_a_parameter=steps,
        tokens=tokens,
        trained_parameters=sum(parameter.numel() for parameter in parameters),
        train_loss=round(fmean(losses), 4),
        seconds=round(seconds),
        **_figures(reading),
    )


def train_blocks(section: Section, data: FineTuningData, steps: int, folder: Path) -> None:
    """Visit every block once; the gate may only roll back what does not help."""
    model = fresh().model
    settings = FineTuning(
        blocks=BLOCKS,
        passes=1,
        steps=steps // BLOCKS,
        batch_size=BATCH,
        learning_rate=LEARNING_RATES["blocks"],
        chunk_rows=256,
    )
    start = time.perf_counter()
    journal = finetune(model, data, settings, folder, gate=NO_GATE)
    section.row(
        arm="blocks",
        updates=settings.visits * settings.steps,
        updates_a_parameter=settings.steps,
        tokens=sum(attempt.tokens for attempt in journal.attempts),
        trained_parameters=sum(value.numel() for value in Partition(model, BLOCKS).parameters(0).values()),
        train_loss=round(fmean(loss for attempt in journal.attempts for loss in attempt.train_losses), 4),
        seconds=round(time.perf_counter() - start),
        kept=[attempt.kept for attempt in journal.attempts],
        losses_after_each_visit=[round(attempt.reading.held_out_loss, 4) for attempt in journal.attempts],
        **_figures(journal.best),
    )


def sabotage(section: Section, data: FineTuningData, folder: Path) -> None:
    """One visit to one block of all layers, on solutions whose tokens are shuffled."""
    model = fresh().model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    targets = data.train.targets.clone()
    wanted = targets != IGNORED
    shuffled = torch.randperm(int(wanted.sum()), generator=torch.Generator().manual_seed(0))
    targets[wanted] = targets[wanted][shuffled]
    settings = FineTuning(blocks=1, passes=1, steps=3, batch_size=BATCH, learning_rate=1e-3, chunk_rows=256)
    wrong = FineTuningData(train=Rows(data.train.input_ids, targets), held_out=data.held_out, probe=data.probe)
    attempt = finetune(model, wrong, settings, folder).attempts[0]
    section.row(
        arm="a sabotaged visit",
        updates=settings.steps,
        tokens=attempt.tokens,
        kept=attempt.kept,
        restored=all(value.equal(before[name]) for name, value in model.state_dict().items()),
        **_figures(attempt.reading),
    )


def _figures(reading: Reading) -> dict[str, float]:
    return {"held_out_loss": round(reading.held_out_loss, 4), "kl_on_novels": round(reading.kl, 4)}
