from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tokenomics_local_llm.diffusion_blocks.classification import ClassDenoiser, classify
from tokenomics_local_llm.diffusion_blocks.image import ImageDenoiser, sample_images
from tokenomics_local_llm.diffusion_blocks.schedule import NoiseSchedule
from tokenomics_local_llm.diffusion_blocks.stack import BlockTraining, Stack, load_stack, train_block, train_blocks

SCHEDULE = NoiseSchedule(blocks=3)
Task = type[ClassDenoiser] | type[ImageDenoiser]
both_tasks = pytest.mark.parametrize("task", [ClassDenoiser, ImageDenoiser], ids=["classes", "images"])


def build(task: Task) -> Callable[[], nn.Module]:
    return lambda: task(image_size=4, patch=2, classes=3, width=16, layers=1, heads=2)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Three kinds of images that a glance tells apart."""
    torch.manual_seed(0)
    labels = torch.arange(24) % 3
    return (labels[:, None, None, None] - 1) * 0.6 + 0.05 * torch.randn(24, 1, 4, 4), labels


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@both_tasks
def test_each_block_trains_to_the_same_whoever_trains_the_others(
    task: Task, batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    settings = BlockTraining()

    train_blocks(build(task), SCHEDULE, lambda block: [batch] * 3, settings, steps=3, folder=tmp_path / "all")
    for block in (2, 0, 1):
        train_blocks(
            build(task),
            SCHEDULE,
            lambda block: [batch] * 3,
            settings,
            steps=3,
            folder=tmp_path / "each",
            blocks=[block],
        )

    assert files(tmp_path / "all") == files(tmp_path / "each")
    assert len(set(files(tmp_path / "all").values())) == 3


def test_the_loss_of_each_step_is_told_with_its_block(batch: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    told: list[tuple[int, float]] = []

    train_blocks(
        build(ClassDenoiser),
        SCHEDULE,
        lambda block: [batch] * 2,
        BlockTraining(),
        steps=2,
        folder=tmp_path,
        on_step=lambda block, loss: told.append((block, loss)),
    )

    assert [block for block, _ in told] == [0, 0, 1, 1, 2, 2]
    assert all(0 < loss < 5 for _, loss in told)


def test_one_block_is_in_memory_at_a_time(batch: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    alive: list[weakref.ref[nn.Module]] = []

    def watched() -> nn.Module:
        gc.collect()
        assert all(other() is None for other in alive)
        made = build(ClassDenoiser)()
        alive.append(weakref.ref(made))
        return made

    train_blocks(watched, SCHEDULE, lambda block: [batch] * 2, BlockTraining(), steps=2, folder=tmp_path)

    assert len(alive) == 3


def test_training_a_block_leaves_the_files_of_the_others(batch: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    train_blocks(build(ClassDenoiser), SCHEDULE, lambda block: [batch], BlockTraining(), steps=1, folder=tmp_path)
    before = files(tmp_path)

    train_blocks(
        build(ClassDenoiser), SCHEDULE, lambda b: [batch] * 2, BlockTraining(), steps=2, folder=tmp_path, blocks=[1]
    )

    changed = [name for name, content in files(tmp_path).items() if content != before[name]]
    assert changed == ["block-1.safetensors"]


class _Witness(ImageDenoiser):
    """Notes every noise level that it is run at."""

    def __init__(self) -> None:
        super().__init__(image_size=4, patch=2, classes=3, width=16, layers=1, heads=2)
        self.levels: list[float] = []

    def forward(self, z: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        self.levels += sigma.tolist()
        return super().forward(z, sigma, labels)


def test_a_block_draws_at_the_noise_levels_that_it_was_trained_on(batch: tuple[Tensor, Tensor]) -> None:
    schedule = NoiseSchedule(blocks=3, overlap=0.0)
    denoisers = [_Witness() for _ in range(3)]
    for block, denoiser in enumerate(denoisers):
        train_block(denoiser, schedule, block, [batch] * 5, BlockTraining(), steps=5)
    trained = [list(denoiser.levels) for denoiser in denoisers]

    sample_images(Stack(schedule, denoisers), torch.tensor([0]), generator=torch.Generator(), points=30)

    for block, (denoiser, levels) in enumerate(zip(denoisers, trained, strict=True)):
        low, high = schedule.band(block)
        drawn = denoiser.levels[len(levels) :]
        assert drawn
        assert all(low * 0.999 <= level <= high * 1.001 for level in levels + drawn)


@both_tasks
def test_every_parameter_learns(task: Task, batch: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    denoiser = build(task)()
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}

    train_block(denoiser, SCHEDULE, 1, [batch] * 8, BlockTraining(learning_rate=1e-2), steps=8)

    still = [name for name, value in denoiser.named_parameters() if value.equal(before[name])]
    assert still == []
    assert {name for name, _ in denoiser.named_buffers()} <= {"targets"}


def test_a_stack_that_was_saved_answers_the_same(batch: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    def loaded() -> Stack[ClassDenoiser]:
        return load_stack(lambda: build(ClassDenoiser)(), SCHEDULE, tmp_path)  # type: ignore[arg-type, return-value]

    train_blocks(build(ClassDenoiser), SCHEDULE, lambda b: [batch] * 2, BlockTraining(), steps=2, folder=tmp_path)

    first, second = (classify(loaded(), batch[0], generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert first.equal(second)


def test_classes_are_learned(batch: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    settings = BlockTraining(learning_rate=1e-2)
    train_blocks(build(ClassDenoiser), SCHEDULE, lambda b: [batch] * 60, settings, steps=60, folder=tmp_path)
    stack: Stack[ClassDenoiser] = load_stack(build(ClassDenoiser), SCHEDULE, tmp_path)  # type: ignore[arg-type]

    logits = classify(stack, batch[0])

    assert logits.argmax(-1).equal(batch[1])


def test_images_of_a_class_are_drawn_like_it(batch: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    settings = BlockTraining(learning_rate=1e-2)
    train_blocks(build(ImageDenoiser), SCHEDULE, lambda b: [batch] * 150, settings, steps=150, folder=tmp_path)
    stack: Stack[ImageDenoiser] = load_stack(build(ImageDenoiser), SCHEDULE, tmp_path)  # type: ignore[arg-type]

    images = sample_images(stack, torch.tensor([0, 1, 2] * 8), generator=torch.Generator().manual_seed(0), points=12)

    means = images.reshape(8, 3, -1).mean(dim=(0, 2))
    torch.testing.assert_close(means, torch.tensor([-0.6, 0.0, 0.6]), atol=0.15, rtol=0)


def test_only_the_block_that_owns_the_noise_level_runs() -> None:
    runs = [0, 0, 0]
    denoisers = [ImageDenoiser(image_size=4, patch=2, classes=3, width=16, layers=1, heads=2) for _ in range(3)]
    for block, denoiser in enumerate(denoisers):

        def count(*_: object, block: int = block) -> None:
            runs[block] += 1

        denoiser.register_forward_hook(count)

    sample_images(Stack(SCHEDULE, denoisers), torch.tensor([0]), generator=torch.Generator(), points=30)

    owners = [SCHEDULE.block_of(sigma) for sigma in SCHEDULE.grid(30)]
    assert runs == [owners.count(block) for block in range(3)]
    assert sum(runs) == 30


def test_layers_whose_rows_are_all_noisy_start_as_the_identity() -> None:
    layer = build(ImageDenoiser)().get_submodule("layers.0")
    x = torch.randn(2, 5, 16)

    assert layer(x, torch.randn(2, 1, 16))[0].equal(x)


def test_layers_that_mostly_read_clean_rows_start_plain() -> None:
    layer = build(ClassDenoiser)().get_submodule("layers.0")
    x = torch.randn(2, 5, 16)

    assert layer(x, torch.randn(2, 1, 16))[0].equal(layer(x)[0])
    assert not layer(x)[0].equal(x)


@torch.no_grad()
def test_logits_start_at_size_one_at_the_highest_noise() -> None:
    torch.manual_seed(0)
    denoiser = ClassDenoiser(image_size=8, patch=4, classes=50, width=64, layers=1, heads=4)

    logits = denoiser(torch.randn(40, 1, 8, 8), 80 * torch.randn(40, 64), torch.full((40,), 80.0))

    assert float(logits.std()) == pytest.approx(1.0, abs=0.1)


def test_a_class_is_asked_for_without_noise_and_with_any(batch: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    stack: Stack[ClassDenoiser] = Stack(SCHEDULE, [build(ClassDenoiser)() for _ in range(3)])  # type: ignore[misc]
    for denoiser in stack.denoisers:
        nn.init.normal_(denoiser.head.classifier.weight)

    without = [classify(stack, batch[0]) for _ in range(2)]
    drawn = [classify(stack, batch[0], generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]

    assert without[0].equal(without[1])
    assert drawn[0].equal(drawn[1])
    assert not drawn[0].equal(drawn[2])
    assert not drawn[0].equal(without[0])


def test_a_schedule_needs_a_denoiser_for_each_block() -> None:
    with pytest.raises(ValueError, match="3 blocks needs as many, got 2"):
        Stack(SCHEDULE, [nn.Identity(), nn.Identity()])
