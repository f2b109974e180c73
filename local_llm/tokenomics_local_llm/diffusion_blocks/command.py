"""`tokenomics-llm finetune`: a model, a file, and a folder with the tuned model.

Under torchrun the processes share the blocks of each round:

    torchrun --nproc-per-node 2 -m tokenomics_local_llm.cli finetune MODEL DATA --workers
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import click
from tqdm import tqdm

from tokenomics_local_llm.diffusion_blocks.allocator import return_freed_memory
from tokenomics_local_llm.diffusion_blocks.gate import Gate
from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData
from tokenomics_local_llm.diffusion_blocks.in_turn import finetune as finetune_model
from tokenomics_local_llm.diffusion_blocks.journal import Attempt, Journal
from tokenomics_local_llm.diffusion_blocks.plots import losses_by_block
from tokenomics_local_llm.diffusion_blocks.probe_text import own_text
from tokenomics_local_llm.diffusion_blocks.rounds import Group, finetune_in_rounds, process_group
from tokenomics_local_llm.diffusion_blocks.rows import Rows
from tokenomics_local_llm.diffusion_blocks.training_text import read_rows, split_rows
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning
from tokenomics_local_llm.errors import MissingExtraError
from tokenomics_local_llm.model import LocalModel, load_model
from tokenomics_local_llm.oscar import save_rotations
from tokenomics_local_llm.rotations import ROTATIONS_FILE, rotations_of

__all__ = ["finetune"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_DEFAULT = FineTuning()
_POSITIVE = click.IntRange(min=1)


@click.command()
@click.argument("model")
@click.argument("data", type=_FILE)
@click.option("-o", "--output", type=_FOLDER, default=Path("tuned"), show_default=True, help="Folder for the result.")
@click.option("--blocks", type=_POSITIVE, default=_DEFAULT.blocks, show_default=True, help="One is trained at a time.")
@click.option("--passes", type=_POSITIVE, default=_DEFAULT.passes, show_default=True, help="Visits to every block.")
@click.option("--steps", type=_POSITIVE, default=_DEFAULT.steps, show_default=True, help="Updates a visit.")
@click.option("--batch-size", type=_POSITIVE, default=_DEFAULT.batch_size, show_default=True, help="Rows an update.")
@click.option("--length", type=_POSITIVE, default=512, show_default=True, help="Tokens a row.")
@click.option("--learning-rate", type=float, default=_DEFAULT.learning_rate, show_default=True, help="The highest.")
@click.option("--objective", type=click.Choice(["exact", "local"]), default="exact", show_default=True)
@click.option(
    "--checkpointing/--no-checkpointing",
    default=_DEFAULT.checkpointing,
    show_default=True,
    help="Compute layers twice: less memory, a third more time.",
)
@click.option(
    "--workers", is_flag=True, help="Train all blocks of a pass from the same weights, then merge; for torchrun."
)
@click.option("--held-out", type=_FILE, help="Judges each visit; else the last twentieth of DATA, 4 to 64 rows.")
@click.option("--probe", type=_FILE, help="General text, to see what is forgotten; else what the model itself writes.")
@click.option(
    "--max-kl", type=float, default=Gate().max_kl, show_default=True, help="Nats a token from the base model."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--log-dir", type=_FOLDER, help="Write losses there for TensorBoard.")
def finetune(
    model: str,
    data: Path,
    output: Path,
    blocks: int,
    passes: int,
    steps: int,
    batch_size: int,
    length: int,
    learning_rate: float,
    objective: str,
    checkpointing: bool,
    workers: bool,
    held_out: Path | None,
    probe: Path | None,
    max_kl: float,
    seed: int,
    log_dir: Path | None,
) -> None:
    """Fine-tune MODEL on DATA, block by block, never to worse than it was on held-out text.

    MODEL is a folder, a Hugging Face id or SmolLM2-135M-Instruct; DATA is text, or JSON lines with "messages" (and
    "tools"), as tokenomics dataset export writes them, "prompt" and "completion", or "text". The same call goes on with
    a run that was interrupted; its state lies in OUTPUT with .run at its end, beside a chart of its losses, losses.svg.
    Where rotations of the 2-bit cache lie beside MODEL, new ones are calibrated for the tuned weights.
    """
    settings = FineTuning(
        blocks=blocks,
        passes=passes,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        objective="local" if objective == "local" else "exact",
        checkpointing=checkpointing,
        seed=seed,
    )
    return_freed_memory()
    run = output.with_name(f"{output.name}.run")
    with ExitStack() as stack:
        group = stack.enter_context(process_group())
        rounds = workers or group.size > 1
        report = stack.enter_context(_reporting(settings, run, group, log_dir, rounds=rounds))
        loaded = load_model(model, dtype="float32")  # on the GPU of this process, where it has one
        texts = _read(loaded, data, held_out, probe, length=length, seed=seed)
        if rounds:
            journal = finetune_in_rounds(
                loaded.model,
                texts,
                settings,
                run,
                gate=Gate(max_kl=max_kl),
                group=group,
                on_step=report.step,
                on_attempt=report.attempt,
            )
        else:
            journal = finetune_model(
                loaded.model,
                texts,
                settings,
                run,
                gate=Gate(max_kl=max_kl),
                on_step=report.step,
                on_attempt=report.attempt,
            )
        if group.rank == 0:
            _save(loaded, journal, output)
            _recalibrate(loaded, output)


def _read(
    model: LocalModel, data: Path, held_out: Path | None, probe: Path | None, *, length: int, seed: int
) -> FineTuningData:
    rows = read_rows(data, model, length=length)
    if held_out is None:
        train, judged = split_rows(rows, held_out=min(64, max(4, len(rows) // 20)))
    else:
        train, judged = rows, read_rows(held_out, model, length=length)
    return FineTuningData(train=train, held_out=judged, probe=_general_text(model, probe, seed=seed))


def _general_text(model: LocalModel, probe: Path | None, *, seed: int) -> Rows:
    if probe is None:
        return own_text(model.model, seed=seed)
    rows = read_rows(probe, model, length=128)
    return rows.at(range(min(len(rows), 8)))


class _Report:
    """Tells a person how it goes: a bar, a line an attempt, a chart, and TensorBoard's files if they are wanted.

    A run that goes on counts from where it was.
    """

    def __init__(
        self, bar: tqdm[NoReturn], log: Callable[[str, float, int], object], run: Path, *, steps: int, attempts: int
    ) -> None:
        self._bar = bar
        self._log = log
        self._run = run
        self._steps = steps
        self._attempts = attempts

    def step(self, loss: float) -> None:
        self._steps += 1
        self._bar.update()
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._log("loss/train", loss, self._steps)

    def attempt(self, attempt: Attempt) -> None:
        self._attempts += 1
        names = ",".join(map(str, attempt.blocks))
        reading, verdict = attempt.reading, "kept" if attempt.kept else "rolled back"
        self._bar.write(
            f"block {names}: held-out loss {reading.held_out_loss:.4f}, KL {reading.kl:.4f}: {verdict}",
            file=sys.stderr,
        )
        self._log("loss/held out", reading.held_out_loss, self._attempts)
        self._log("kl", reading.kl, self._attempts)
        for block, loss in zip(attempt.blocks, attempt.train_losses, strict=True):
            self._log(f"loss/block {block}", loss, self._attempts)
        chart = losses_by_block(Journal.load(self._run / "journal.json"))
        (self._run / "losses.svg").write_text(chart, encoding="utf-8")


@contextmanager
def _reporting(
    settings: FineTuning, run: Path, group: Group, log_dir: Path | None, *, rounds: bool
) -> Iterator[_Report]:
    """Of the steps that this process makes; only the first process shows them."""
    steps = settings.steps * (len(group.share(settings.blocks)) if rounds else 1)  # between two attempts
    journal = run / "journal.json"
    done = len(Journal.load(journal).attempts) if journal.exists() else 0
    with (
        _logging(log_dir if group.rank == 0 else None) as log,
        tqdm(
            total=steps * (settings.passes if rounds else settings.visits),
            initial=steps * done,
            unit="step",
            disable=group.rank > 0 or None,  # None: where there is no terminal
        ) as bar,
    ):
        yield _Report(bar, log, run, steps=steps * done, attempts=done)


@contextmanager
def _logging(folder: Path | None) -> Iterator[Callable[[str, float, int], object]]:
    if folder is None:
        yield lambda name, value, step: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise MissingExtraError("tensorboard", extra="training") from error
    with SummaryWriter(str(folder)) as writer:
        yield writer.add_scalar


def _recalibrate(base: LocalModel, output: Path) -> None:
    """Rotations that lay beside the base model were fitted to its keys and values, and tuning moved those."""
    if (Path(base.name) / ROTATIONS_FILE).is_file():
        tuned = LocalModel(str(output), base.model, base.tokenizer)
        save_rotations(rotations_of(tuned), output / ROTATIONS_FILE)
        click.echo(f"2-bit cache: rotations recalibrated on the tuned weights: {output / ROTATIONS_FILE}")


def _save(model: LocalModel, journal: Journal, output: Path) -> None:
    model.model.save_pretrained(output)
    model.tokenizer.save_pretrained(output)
    base, best = journal.base, journal.best
    click.echo(
        f"held-out loss {base.held_out_loss:.4f} -> {best.held_out_loss:.4f}, KL {best.kl:.4f}, "
        f"{sum(attempt.kept for attempt in journal.attempts)} of {len(journal.attempts)} attempts kept: {output}"
    )
