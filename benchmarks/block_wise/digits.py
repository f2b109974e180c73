"""The digits of scikit-learn, 8 by 8: classified, and drawn.

End to end means one network of all layers. DiffusionBlocks divides its layers among blocks; with equal updates each
block makes as many as the whole network, so that all together they see three times the images for the same arithmetic.
With equal images the whole network makes three times the updates of a block when classifying, and each block a third of
the network's when drawing; or, with equal images and equal updates, each block sees a third of the network's batch.
Those two spend a third of the arithmetic.

When drawing, every arm's learning rate is doubled as long as that brings images of one seed nearer to training images
that are set apart; what counts is drawn by models that are trained anew, on all training images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Literal, TypeVar

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from block_wise.baselines import PlainClassifier, train_end_to_end
from block_wise.section import Section, minibatches, over_seeds, raised_while_better
from closing import Check
from tokenomics_local_llm.diffusion_blocks.classification import ClassDenoiser, classify
from tokenomics_local_llm.diffusion_blocks.image import ImageDenoiser, sample_images
from tokenomics_local_llm.diffusion_blocks.schedule import NoiseSchedule
from tokenomics_local_llm.diffusion_blocks.stack import BlockTraining, Stack, load_stack, train_blocks

__all__ = ["classification", "drawing"]

SEEDS = (0, 1, 2)
BLOCKS, LAYERS = 3, 6
BATCH = 63  # a multiple of BLOCKS
TEST_IMAGES, VALIDATION_IMAGES = 450, 300
CLASSIFIER_UPDATES, DRAWING_UPDATES = 1200, 450
CLASSIFIER_LEARNING_RATE = 3e-3
CLASSIFIER = {"image_size": 8, "patch": 4, "classes": 10, "width": 64, "heads": 4}
PAINTER = {"image_size": 8, "patch": 2, "classes": 10, "width": 48, "heads": 4}
FIRST_RATE, RATE_FACTOR = 4e-3, 2
POINTS = 20
PROJECTIONS = 500
EQUAL_BOTH = "equal images and updates, a third of the batch"
Spacing = Literal["equal_probability", "log_uniform"]
D = TypeVar("D", bound=torch.nn.Module)


def images_and_labels() -> tuple[Tensor, Tensor]:
    """Images with standard deviation 0.5, (N, 1, 8, 8), in an order of chance, and labels."""
    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor(bunch.images, dtype=torch.float32)[order, None]
    return (pixels - pixels.mean()) / pixels.std() * 0.5, torch.tensor(bunch.target)[order]


def classification() -> Section:
    """Accuracy on held-out images, and what each departure from the released code is worth."""
    images, labels = images_and_labels()
    test, train = _divided(images, labels, TEST_IMAGES)
    section = Section()
    plain_arms = {
        f"end to end, {LAYERS // BLOCKS} layers": (LAYERS // BLOCKS, CLASSIFIER_UPDATES),
        "end to end": (LAYERS, CLASSIFIER_UPDATES),
        "end to end, thrice the updates": (LAYERS, BLOCKS * CLASSIFIER_UPDATES),
    }
    for name, (layers, updates) in plain_arms.items():
        plain = over_seeds([plain_accuracy(train, test, seed, layers, updates) for seed in SEEDS])
        _row(section, name, 1, updates, BATCH, accuracy=plain)
    block_arms = {
        "blocks": (plain_start, CLASSIFIER_UPDATES, BATCH),
        f"blocks, {EQUAL_BOTH}": (plain_start, BLOCKS * CLASSIFIER_UPDATES, BATCH // BLOCKS),
        "blocks whose classifier starts at zero": (zero_classifier, CLASSIFIER_UPDATES, BATCH),
        "blocks that start as in the released code": (zero_classifier_and_gates, CLASSIFIER_UPDATES, BATCH),
    }
    for name, (start, updates, batch) in block_arms.items():
        found = [blocks_accuracy(train, test, seed, start, updates, batch) for seed in SEEDS]
        figures = {figure: over_seeds([of_seed[figure] for of_seed in found]) for figure in found[0]}
        _row(section, name, BLOCKS, updates, batch, **figures)
    accuracies = {row["arm"]: row["accuracy"]["mean"] for row in section.rows}
    for basis, plain_arm, arm in (
        ("equal updates", "end to end", "blocks"),
        ("equal images", "end to end, thrice the updates", "blocks"),
        (EQUAL_BOTH, "end to end, thrice the updates", f"blocks, {EQUAL_BOTH}"),
    ):
        lost = round(100 * (accuracies[plain_arm] - accuracies[arm]), 2)
        section.checks.append(
            Check(
                name=f"classification, {basis}: points of accuracy lost to end-to-end, mean of {len(SEEDS)} seeds",
                value=lost,
                goal="<= 1",
                holds=lost <= 1,
            )
        )
    return section


def drawing() -> Section:
    """Sliced Wasserstein distance of drawn images to held-out ones, and what drawing costs."""
    images, labels = images_and_labels()
    held_out, train = _divided(images, labels, TEST_IMAGES)
    validation, rest = _divided(*train, VALIDATION_IMAGES)
    section = Section()
    section.figures["distance of the training images themselves"] = round(distance(train[0], held_out[0]), 4)
    arms = {
        "end to end": Drawing(blocks=1),
        "blocks, equal updates": Drawing(),
        "blocks, equal images": Drawing(updates=DRAWING_UPDATES // BLOCKS),
        f"blocks, {EQUAL_BOTH}": Drawing(batch=BATCH // BLOCKS),
        "blocks, equal updates, log-uniform": Drawing(spacing="log_uniform"),
    }
    found = {}
    for name, arm in arms.items():
        rate = raised_while_better(FIRST_RATE, RATE_FACTOR, partial(drawn_distance, arm, rest, validation, SEEDS[0]))
        found[name] = [drawn_distance(arm, train, held_out, seed, rate) for seed in SEEDS]
        _row(
            section,
            name,
            arm.blocks,
            arm.updates,
            arm.batch,
            learning_rate=rate,
            layers_run_an_image=POINTS * LAYERS // arm.blocks,
            distance=over_seeds(found[name]),
        )
    for name in ("equal updates", "equal images", EQUAL_BOTH):
        ratio = fmean(found[f"blocks, {name}"]) / fmean(found["end to end"])
        section.checks.append(
            Check(
                name=f"digits, {name}: distance of drawn images, over end-to-end's, mean of {len(SEEDS)} seeds",
                value=round(ratio, 3),
                goal="<= 1.1 (level)",
                holds=ratio <= 1.1,
            )
        )
    pairs = zip(found["blocks, equal updates, log-uniform"], found["blocks, equal updates"], strict=True)
    section.figures["log-uniform minus equal probability"] = over_seeds([uniform - equal for uniform, equal in pairs])
    return section


def plain_accuracy(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int, layers: int, updates: int
) -> float:
    torch.manual_seed(seed)
    model = PlainClassifier(layers=layers, **CLASSIFIER)
    batches = shifted(minibatches(train, BATCH, updates, seed=seed), seed=seed)
    settings = BlockTraining(learning_rate=CLASSIFIER_LEARNING_RATE, seed=seed)
    train_end_to_end(model, batches, settings, steps=updates)
    with torch.no_grad():
        return accuracy(model(test[0]), test[1])


def plain_start(_denoiser: ClassDenoiser) -> None:
    """As it is made."""


def zero_classifier(denoiser: ClassDenoiser) -> None:
    torch.nn.init.zeros_(denoiser.head.classifier.weight)


def zero_classifier_and_gates(denoiser: ClassDenoiser) -> None:
    zero_classifier(denoiser)
    for layer in denoiser.layers:
        layer.gate = 0.0  # type: ignore[assignment]


def blocks_accuracy(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    seed: int,
    start: Callable[[ClassDenoiser], object],
    updates: int,
    batch: int,
) -> dict[str, float]:
    """After the walk through all blocks, from either start, and of the first block alone, at the highest noise."""

    def build() -> ClassDenoiser:
        denoiser = ClassDenoiser(layers=LAYERS // BLOCKS, **CLASSIFIER)
        start(denoiser)
        return denoiser

    stack = trained(
        build,
        NoiseSchedule(blocks=BLOCKS),
        lambda block: shifted(minibatches(train, batch, updates, seed=100 * seed + block), seed=seed),
        BlockTraining(learning_rate=CLASSIFIER_LEARNING_RATE, seed=seed),
        updates,
    )
    first = Stack(NoiseSchedule(blocks=1), stack.denoisers[:1])
    drawn = classify(stack, test[0], generator=torch.Generator().manual_seed(seed))
    return {
        "accuracy": accuracy(classify(stack, test[0]), test[1]),
        "from_drawn_noise": accuracy(drawn, test[1]),
        "of_the_first_block": accuracy(classify(first, test[0]), test[1]),
    }


def shifted(batches: Iterable[tuple[Tensor, ...]], *, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Images moved by up to a pixel either way: without, the blocks learn 1,347 images by heart."""
    generator = torch.Generator().manual_seed(seed)
    for images, labels in batches:
        padded = torch.nn.functional.pad(images, (1, 1, 1, 1), value=float(images.min()))
        corners = torch.randint(3, (len(images), 2), generator=generator).tolist()
        moved = [image[:, y : y + 8, x : x + 8] for image, (y, x) in zip(padded, corners, strict=True)]
        yield torch.stack(moved), labels


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How an arm that draws is trained."""

    blocks: int = BLOCKS
    """Groups that its layers are divided into; 1 for end to end."""
    updates: int = DRAWING_UPDATES
    """Of each block."""
    batch: int = BATCH
    """Images an update."""
    spacing: Spacing = "equal_probability"
    """Of the blocks' bands."""


def drawn_distance(
    arm: Drawing, train: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor], seed: int, rate: float
) -> float:
    """Of images drawn, two a label of the others, to these."""
    schedule = NoiseSchedule(blocks=arm.blocks, spacing=arm.spacing)
    stack = trained(
        lambda: ImageDenoiser(layers=LAYERS // arm.blocks, **PAINTER),
        schedule,
        lambda block: minibatches(train, arm.batch, arm.updates, seed=100 * seed + block),
        BlockTraining(learning_rate=rate, seed=seed),
        arm.updates,
    )
    generator = torch.Generator().manual_seed(seed)
    drawn = sample_images(stack, others[1].repeat(2), generator=generator, points=POINTS)
    return distance(drawn, others[0])


def trained(
    build: Callable[[], D],
    schedule: NoiseSchedule,
    batches: Callable[[int], Iterable[tuple[Tensor, ...]]],
    settings: BlockTraining,
    updates: int,
) -> Stack[D]:
    with TemporaryDirectory() as folder:
        train_blocks(build, schedule, batches, settings, steps=updates, folder=Path(folder))
        return load_stack(build, schedule, Path(folder))


def _divided(images: Tensor, labels: Tensor, count: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The first so many, and the rest."""
    return (images[:count], labels[:count]), (images[count:], labels[count:])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(-1) == labels).float().mean())


def distance(first: Tensor, second: Tensor) -> float:
    """Sliced Wasserstein-2 distance (Rabin et al. 2011): of quantiles along directions of chance, the same for all."""
    directions = torch.randn(64, PROJECTIONS, generator=torch.Generator().manual_seed(0))
    directions /= directions.norm(dim=0)
    levels = (torch.arange(200) + 0.5) / 200
    one, other = (torch.quantile(images.flatten(1) @ directions, levels, dim=0) for images in (first, second))
    return float((one - other).square().mean().sqrt())


def _row(section: Section, arm: str, blocks: int, updates: int, batch: int, **figures: object) -> None:
    section.row(
        arm=arm,
        blocks=blocks,
        updates_a_block=updates,
        updates=blocks * updates,
        batch=batch,
        images=blocks * updates * batch,
        **figures,
    )
