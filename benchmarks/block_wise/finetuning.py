"""SmolLM2-135M fine-tuned on worked solutions of GSM8K's training set: full, LoRA, and block by block.

Three comparisons. With equal updates every way makes the same updates on the same rows in the same order; then each
parameter of a block-wise run is updated a sixth as often. With equal updates a parameter the others make a sixth of
the updates, and see a sixth of the data. With equal CPU seconds LoRA makes as many updates as fit into the time that
the block-wise run took for its own, which are cheaper: nothing below a block is differentiated.

Every way's learning rate starts from what is usual for it and is tripled as long as that lowers the loss on rows set
apart, which also serve the gate, after a sixth of the updates; block-wise those are whole visits, because a rate that
suits visits of a few updates overshoots in longer ones. The losses that count are on other rows. Forgetting is the
divergence from the base model on novels. Rows are short, for a shared CPU, and no layers are computed twice in any arm.
One seed: differences below a hundredth mean nothing.

What was measured can be kept in a file, so that the arms can be run one at a time; a block-wise run that was cut off
goes on, from a folder beside that file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from block_wise.lora import has_peft, with_lora
from block_wise.section import Section, raised_while_better
from closing import Check
from tokenomics_local_llm.diffusion_blocks.cross_entropy import IGNORED
from tokenomics_local_llm.diffusion_blocks.gate import Gate, Judge, Reading
from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData, finetune
from tokenomics_local_llm.diffusion_blocks.objectives import exact_loss
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.rows import Example, Rows, pack, pad
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning, train_visit
from tokenomics_local_llm.model import LocalModel
from tokenomics_local_llm.smollm2 import SMOLLM2, load_smollm2

__all__ = ["ARMS", "finetuning"]

BLOCKS, PASSES = 6, 2
BATCH, LENGTH = 1, 112
LINES = 4000
DEV_ROWS, TEST_ROWS, PROBE_ROWS, PROBE_LENGTH = 12, 32, 4, 128
USUAL_RATES = {"full": 5e-5, "LoRA": 5e-4, "blocks": 1e-4}
RATE_FACTOR = 3
SETTINGS = FineTuning(blocks=1, passes=1, batch_size=BATCH, warm_up_steps=2, chunk_rows=256, checkpointing=False)
FEWER, TIMED = "equal updates a parameter", "equal CPU seconds"
ARMS = (
    *USUAL_RATES,
    *(f"{way}, {FEWER}" for way in ("full", "LoRA")),
    f"LoRA, {TIMED}",
    "a sabotaged visit",
)
BASE = "the model as it is"
NO_GATE = Gate(max_kl=float("inf"))
T = TypeVar("T")


@dataclass(kw_only=True)
class Kept:
    """What was measured, in a file if there is one."""

    path: Path | None
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is not None and self.path.exists():
            self.found = json.loads(self.path.read_text(encoding="utf-8"))

    def get(self, name: str, measure: Callable[[], T]) -> T:
        """What was measured under this name, or is now."""
        if name not in self.found:
            self.found[name] = measure()
            if self.path is not None:
                self.path.write_text(json.dumps(self.found, indent=1), encoding="utf-8")
        known: T = self.found[name]
        return known


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The base model, its data, a folder for its probabilities, and one for block-wise runs."""

    base: LocalModel
    data: FineTuningData
    test: Rows
    folder: Path
    runs: Path

    def __post_init__(self) -> None:
        Judge(Partition(self.base.model, BLOCKS), self.test, self.data.probe, self.folder)

    def reading(self, partition: Partition) -> Reading:
        """On the rows that count."""
        return Judge(partition, self.test, self.data.probe, self.folder).read()

    def dev_loss(self, partition: Partition) -> float:
        """On the rows that learning rates are chosen by."""
        return Judge(partition, self.data.held_out, self.data.probe, self.folder).read().held_out_loss

    def model(self) -> Any:
        """A copy of the base model; what is drawn from now on, as adapters are, is the same each time."""
        torch.manual_seed(0)
        return deepcopy(self.base.model)


def finetuning(corpora: Path, *, steps: int, arms: tuple[str, ...] = ARMS, results: Path | None = None) -> Section:
    """Held-out loss and forgetting of every way, after this many updates."""
    kept = Kept(path=results)
    with TemporaryDirectory() as folder:
        runs = Path(folder) / "runs" if results is None else results.with_suffix(".runs")
        bench = read(load_smollm2(torch.float32), corpora, Path(folder), runs)
        base = kept.get(BASE, lambda: {"arm": BASE, "updates": 0, "tokens": 0, **_judged(bench, bench.model())})
        section = Section(figures=_figures(bench))
        if not has_peft():
            section.figures["LoRA"] = "peft is not installed"
        section.row(**base)
        for arm in arms:
            if arm in kept.found or not arm.startswith("LoRA") or has_peft():
                section.row(**kept.get(arm, partial(measured, bench, kept, arm, steps)))
    section.figures["dev loss"] = {name: loss for name, loss in kept.found.items() if name.startswith("rate ")}
    section.checks.extend(_checks({row["arm"]: row for row in section.rows}))
    return section


def measured(bench: Bench, kept: Kept, arm: str, steps: int) -> dict[str, Any]:
    """One arm, at the best of its learning rates."""
    if arm == "a sabotaged visit":
        return sabotaged(bench)
    way, _, comparison = arm.partition(", ")
    rate = best_rate(bench, kept, way, steps)
    if comparison == FEWER:
        steps //= BLOCKS
    if comparison == TIMED:
        blocks, own = (kept.found[name] for name in ("blocks", way))
        steps = round(blocks["cpu_seconds"] / own["cpu_seconds"] * steps)
    model, figures = trained(bench, way, rate, steps)
    return {"arm": arm, "learning_rate": rate, **figures, **_judged(bench, model)}


def best_rate(bench: Bench, kept: Kept, way: str, steps: int) -> float:
    """Triple the rate as long as that helps."""
    return raised_while_better(
        USUAL_RATES[way],
        RATE_FACTOR,
        lambda rate: kept.get(f"rate {rate:g} of {way}", partial(loss_at, bench, way, rate, steps)),
    )


def loss_at(bench: Bench, way: str, rate: float, steps: int) -> float:
    """On the rows set apart, after as many updates as each block makes in a run of this many."""
    model, settings = bench.model(), replace(SETTINGS, learning_rate=rate)
    partition = Partition(model, BLOCKS)
    if way == "blocks":
        visit = in_visits(settings, steps)
        for number in range(PASSES):
            state, share = bench.folder / "state", number / visit.visits
            train_visit(partition, number, bench.data.train, visit, number=number, share=share, state_after=state)
    else:
        (with_lora if way == "LoRA" else everything)(model)
        train_whole(partition, bench.data.train, settings, steps // BLOCKS)
    loss = round(bench.dev_loss(partition), 4)
    print(f"  {way} at {rate:g}: {loss}", flush=True)
    return loss


def in_visits(settings: FineTuning, steps: int) -> FineTuning:
    """The same, with this many updates divided among visits to all blocks."""
    return replace(settings, blocks=BLOCKS, passes=PASSES, steps=steps // (BLOCKS * PASSES))


def trained(bench: Bench, way: str, rate: float, steps: int) -> tuple[Any, dict[str, Any]]:
    """A model tuned one way, and what it took."""
    model, settings = bench.model(), replace(SETTINGS, learning_rate=rate)
    if way == "blocks":
        return model, train_blocks(bench, model, settings, steps)
    partition = Partition(model, BLOCKS)
    (with_lora if way == "LoRA" else everything)(model)
    return model, train_whole(partition, bench.data.train, settings, steps)


def everything(model: Any) -> None:
    model.requires_grad_(True)


def train_whole(partition: Partition, train: Rows, settings: FineTuning, steps: int) -> dict[str, Any]:
    """Train every parameter, or every adapter, at once."""
    parameters = [parameter for parameter in partition.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
    loss_of, losses, tokens = exact_loss(partition, chunk_rows=settings.chunk_rows), [], 0
    start = time.process_time()
    partition.model.train()
    for step in range(steps):
        rows = train.batch(step, BATCH, seed=settings.seed)
        optimizer.param_groups[0]["lr"] = settings.rate(step / steps, step)
        loss = loss_of(rows)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        tokens += rows.learned_tokens
    return {
        "updates": steps,
        "updates_a_parameter": steps,
        "tokens": tokens,
        "trained_parameters": sum(parameter.numel() for parameter in parameters),
        "train_loss": round(fmean(losses), 4),
        "cpu_seconds": round(time.process_time() - start),
    }


class _Clock:
    """CPU seconds of the visits, and of the gate between them; a run that goes on adds to those before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        known: list[float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else [0.0, 0.0]
        self.training, self.judging = known
        self._last = time.process_time()

    def step(self, _loss: float) -> None:
        self.training += self._since()

    def attempt(self, _attempt: object) -> None:
        self.judging += self._since()
        self._path.write_text(json.dumps([self.training, self.judging]), encoding="utf-8")

    def _since(self) -> float:
        last, self._last = self._last, time.process_time()
        return self._last - last


def train_blocks(bench: Bench, model: Any, settings: FineTuning, steps: int) -> dict[str, Any]:
    """Visit every block; the gate may only roll back what does not help."""
    settings = in_visits(settings, steps)
    run = bench.runs / f"blocks at {settings.learning_rate:g}, {steps} updates"
    run.mkdir(parents=True, exist_ok=True)
    clock = _Clock(run / "seconds.json")
    journal = finetune(model, bench.data, settings, run, gate=NO_GATE, on_step=clock.step, on_attempt=clock.attempt)
    readings = [journal.base, *(attempt.reading for attempt in journal.attempts)]
    return {
        "updates": settings.visits * settings.steps,
        "updates_a_parameter": settings.passes * settings.steps,
        "tokens": sum(attempt.tokens for attempt in journal.attempts),
        "trained_parameters": sum(value.numel() for value in Partition(model, BLOCKS).parameters(0).values()),
        "train_loss": round(fmean(loss for attempt in journal.attempts for loss in attempt.train_losses), 4),
        "cpu_seconds": round(clock.training),
        "cpu_seconds_of_the_gate": round(clock.judging),
        "visits": f"{settings.visits} of {settings.steps} updates",
        "kept": sum(attempt.kept for attempt in journal.attempts),
        "dev_loss_before_and_after_each_visit": [round(reading.held_out_loss, 4) for reading in readings],
    }


def sabotaged(bench: Bench) -> dict[str, Any]:
    """One visit to one block of all layers, on solutions whose tokens are shuffled."""
    model, train = bench.model(), bench.data.train
    targets = train.targets.clone()
    wanted = targets != IGNORED
    shuffled = torch.randperm(int(wanted.sum()), generator=torch.Generator().manual_seed(0))
    targets[wanted] = targets[wanted][shuffled]
    wrong = replace(bench.data, train=Rows(train.input_ids, targets))
    settings = replace(SETTINGS, steps=3, learning_rate=1e-3)
    attempt = finetune(model, wrong, settings, bench.folder / "sabotage").attempts[0]
    before = bench.base.model.state_dict()
    return {
        "arm": "a sabotaged visit",
        "updates": settings.steps,
        "tokens": attempt.tokens,
        "kept": attempt.kept,
        "restored": all(value.equal(before[name]) for name, value in model.state_dict().items()),
        "dev_loss": round(attempt.reading.held_out_loss, 4),
        "kl_on_novels": round(attempt.reading.kl, 4),
    }


def read(loaded: tuple[Any, Any], corpora: Path, folder: Path, runs: Path) -> Bench:
    """The rows that fit, divided by the line of the file that they come from."""
    base = LocalModel(SMOLLM2, *loaded)
    lines = (corpora / "gsm8k" / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:LINES]
    examples = [example(base, json.loads(line)) for line in lines]
    rows = pad([one for one in examples if len(one.tokens) <= LENGTH], length=LENGTH)
    train = range(len(rows) - DEV_ROWS - TEST_ROWS)
    dev = range(len(train), len(train) + DEV_ROWS)
    data = FineTuningData(train=rows.at(train), held_out=rows.at(dev), probe=novels(base, corpora))
    return Bench(base=base, data=data, test=rows.at(range(dev.stop, len(rows))), folder=folder, runs=runs)


def example(model: LocalModel, line: dict[str, str]) -> Example:
    """The solution is learned, and the question is given."""
    given = model.encode(f"Question: {line['question']}\nAnswer:")
    said = [*model.encode(f" {line['answer']}"), model.tokenizer.eos_token_id]
    return Example(tokens=[*given, *said], learned=[False] * len(given) + [True] * len(said))


def novels(model: LocalModel, corpora: Path) -> Rows:
    """A row of each of some."""
    paths = sorted((corpora / "english_novels").glob("*_1*.txt"))[:PROBE_ROWS]
    texts = [model.encode(path.read_text(encoding="utf-8")[50_000:53_000]) for path in paths]
    rows = [pack(tokens[: PROBE_LENGTH + 1], length=PROBE_LENGTH) for tokens in texts]
    return Rows(torch.cat([one.input_ids for one in rows]), torch.cat([one.targets for one in rows]))


def _checks(found: dict[str, dict[str, Any]]) -> Iterator[Check]:
    if "blocks" in found:
        loss = found["blocks"]["held_out_loss"]
        for other, basis, promised in (
            (BASE, "", True),
            ("full", ", equal updates and tokens", False),
            ("LoRA", ", equal updates and tokens", True),
            (f"full, {FEWER}", f", {FEWER}", False),
            (f"LoRA, {FEWER}", f", {FEWER}", True),
            (f"LoRA, {TIMED}", f", {TIMED}", True),
        ):
            if other in found:
                gap = loss - found[other]["held_out_loss"]
                yield Check(
                    name=f"finetune: held-out loss, block by block, less that of {other.partition(',')[0]}{basis}",
                    value=round(gap, 4),
                    goal="<= 0" if promised else "reported",
                    holds=gap <= 0 or not promised,
                )
    if "a sabotaged visit" in found:
        restored = found["a sabotaged visit"]["restored"] and not found["a sabotaged visit"]["kept"]
        yield Check(
            name="finetune: a sabotaged visit is rolled back, to the last bit",
            value=restored,
            goal="true",
            holds=restored,
        )


def _figures(bench: Bench) -> dict[str, Any]:
    return {
        "rows an update": BATCH,
        "tokens a row, at most": LENGTH,
        "training rows": len(bench.data.train),
        "dev rows": len(bench.data.held_out),
        "held-out rows": len(bench.test),
        "held-out tokens": bench.test.learned_tokens,
    }


def _judged(bench: Bench, model: Any) -> dict[str, float]:
    reading = bench.reading(Partition(model, BLOCKS))
    return {"held_out_loss": round(reading.held_out_loss, 4), "kl_on_novels": round(reading.kl, 4)}
