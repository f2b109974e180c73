"""Tiny Shakespeare, character by character: what a DiffusionBlocks model learns beside ordinary models.

A block sees the tokens themselves and a noisy vector of the next one. At the highest noise the vector says nothing,
so that the loss there is that of a next-character model, and can be compared with one. The theory says that it cannot
beat a model of its own few layers; at lower noise it can do no better than that model with the evidence that the
vector holds, in closed form.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from block_wise.baselines import PlainLanguageModel, train_end_to_end
from block_wise.section import Section, minibatches
from closing import Check
from tokenomics_local_llm.diffusion_blocks.edm import add_noise
from tokenomics_local_llm.diffusion_blocks.evidence import evidence_logits
from tokenomics_local_llm.diffusion_blocks.schedule import NoiseSchedule
from tokenomics_local_llm.diffusion_blocks.stack import BlockTraining, Stack, load_stack, train_blocks
from tokenomics_local_llm.diffusion_blocks.text import TokenDenoiser

__all__ = ["characters"]

BLOCKS, LAYERS, WIDTH, HEADS = 4, 8, 96, 4
LENGTH, BATCH, UPDATES = 96, 12, 400
LEARNING_RATE = 2e-3
HELD_OUT_SHARE, HELD_OUT_ROWS = 0.1, 96
MEDIANS = (1.20, 0.441, 0.205, 0.076)
NOISE = 0.05


def characters(text: Path, *, updates: int = UPDATES) -> Section:
    """Losses in nats a character."""
    content = text.read_text(encoding="utf-8")
    letters = sorted(set(content))
    stream = torch.tensor([letters.index(letter) for letter in content])
    cut = int(len(stream) * (1 - HELD_OUT_SHARE))
    train, held_out = windows(stream[:cut]), windows(stream[cut:])[:: max(1, (len(stream) - cut) // HELD_OUT_ROWS)]
    held_out = held_out[:HELD_OUT_ROWS]
    section = Section(figures={"characters": len(stream), "vocabulary": len(letters), "held_out_rows": len(held_out)})
    schedule = NoiseSchedule(blocks=BLOCKS, overlap=0.1)
    plain = {}
    for layers, count in ((LAYERS, updates), (LAYERS // BLOCKS, updates)):
        model = plain_model(train, len(letters), layers, count)
        plain[layers] = model
        _row(section, f"ordinary, {layers} layers", 1, count, loss=plain_loss(model, held_out))
    targets = TokenDenoiser(vocabulary=len(letters), width=WIDTH, layers=1, heads=HEADS).targets
    few = plain[LAYERS // BLOCKS]
    section.figures["ordinary, few layers, with the evidence, at the median noise of each block"] = [
        round(evidence_loss(few, targets, held_out, sigma), 4) for sigma in MEDIANS
    ]
    for name, count in (("equal updates", updates), ("equal characters", updates // BLOCKS)):
        stack = trained(train, len(letters), schedule, count)
        _row(
            section,
            f"blocks, {name}",
            BLOCKS,
            count,
            loss=noisy_loss(stack, held_out, schedule.sigma_max),
            at_median_noise=[round(noisy_loss(stack, held_out, sigma), 4) for sigma in MEDIANS],
            at_median_noise_in_wrong_context=[
                round(noisy_loss(stack, held_out, sigma, scrambled=True), 4) for sigma in MEDIANS
            ],
        )
    losses = {row["arm"]: row["loss"] for row in section.rows}
    section.checks.extend(_checks(losses))
    return section


def _checks(losses: dict[str, float]) -> list[Check]:
    """What the theory predicts; a difference below `NOISE` means nothing, with one seed."""
    deep, few = losses[f"ordinary, {LAYERS} layers"], losses[f"ordinary, {LAYERS // BLOCKS} layers"]
    blocks = losses["blocks, equal updates"]
    return [
        Check(
            name=f"text: loss at the highest noise minus that of an ordinary model of {LAYERS // BLOCKS} layers",
            value=round(blocks - few, 4),
            goal=f">= -{NOISE}: bounded by its own layers, as predicted",
            holds=blocks - few >= -NOISE,
        ),
        Check(
            name=f"text: loss at the highest noise minus that of an ordinary model of {LAYERS} layers",
            value=round(blocks - deep, 4),
            goal="> 0: not a network of all layers, as predicted",
            holds=blocks > deep,
        ),
    ]


def windows(stream: Tensor) -> Tensor:
    """Every stretch of the text, (N, LENGTH), sharing its memory."""
    return stream.unfold(0, LENGTH, 1)


def plain_model(train: Tensor, vocabulary: int, layers: int, updates: int) -> PlainLanguageModel:
    torch.manual_seed(0)
    model = PlainLanguageModel(vocabulary=vocabulary, width=WIDTH, layers=layers, heads=HEADS)
    settings = BlockTraining(learning_rate=LEARNING_RATE)
    train_end_to_end(model, minibatches([train], BATCH, updates, seed=0), settings, steps=updates)
    return model.eval()


def trained(train: Tensor, vocabulary: int, schedule: NoiseSchedule, updates: int) -> Stack[TokenDenoiser]:
    def build() -> TokenDenoiser:
        return TokenDenoiser(vocabulary=vocabulary, width=WIDTH, layers=LAYERS // BLOCKS, heads=HEADS)

    with TemporaryDirectory() as folder:
        train_blocks(
            build,
            schedule,
            lambda block: minibatches([train], BATCH, updates, seed=block),
            BlockTraining(learning_rate=LEARNING_RATE),
            steps=updates,
            folder=Path(folder),
        )
        return load_stack(build, schedule, Path(folder))


@torch.no_grad()
def plain_loss(model: PlainLanguageModel, rows: Tensor) -> float:
    return float(model.loss((rows,)))


@torch.no_grad()
def noisy_loss(stack: Stack[TokenDenoiser], rows: Tensor, sigma: float, *, scrambled: bool = False) -> float:
    """Of the block that owns a noise level; scrambled: given other rows' text before each character."""
    owner, levels = stack.owner(sigma), torch.full((len(rows), LENGTH - 1), sigma)
    z = add_noise(owner.targets[rows[:, 1:]], levels, generator=torch.Generator().manual_seed(0))
    context = rows.roll(1, dims=0) if scrambled else rows
    return float(nn.functional.cross_entropy(owner(context, z, levels).transpose(1, 2), rows[:, 1:]))


@torch.no_grad()
def evidence_loss(model: PlainLanguageModel, targets: Tensor, rows: Tensor, sigma: float) -> float:
    levels = torch.full((len(rows), LENGTH - 1), sigma)
    z = add_noise(targets[rows[:, 1:]], levels, generator=torch.Generator().manual_seed(0))
    logits = evidence_logits(model(rows[:, :-1]), z, levels, targets)
    return float(nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:]))


def _row(section: Section, arm: str, blocks: int, updates: int, *, loss: float, **figures: object) -> None:
    section.row(
        arm=arm,
        blocks=blocks,
        updates_a_block=updates,
        updates=blocks * updates,
        characters=blocks * updates * BATCH * LENGTH,
        loss=round(loss, 4),
        **figures,
    )
