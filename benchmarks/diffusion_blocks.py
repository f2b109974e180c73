"""DiffusionBlocks from scratch beside end-to-end training, and block-wise fine-tuning beside full and LoRA.

    python benchmarks/diffusion_blocks.py [--section classification|digits|text|memory|finetune|workers]...

Without --section all run. Each arm states its updates and the data that it saw, because a block-wise run of as many
updates a block sees as many times the data as there are blocks, and one that sees as much data makes as few updates.

classification, digits: scikit-learn's digits, 6 layers, 3 blocks, 3 seeds.
text: tiny Shakespeare by characters, 8 layers, 4 blocks; needs ../shared/data.
memory: SmolLM2-135M, a row of 512 tokens, one process a way of training.
finetune: SmolLM2-135M on solutions of GSM8K, forgetting measured on novels; needs ../shared/data. It takes half an
hour; with --results FILE a later call measures only what the file lacks, and --arm "blocks" --arm "LoRA" picks arms.
workers: two processes of torchrun beside one that does the same work.

LoRA is measured where peft is installed. The last line of output is one JSON document.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from block_wise.section import Section
from closing import Check, close

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from shared_data import FOLDER

CORPORA = FOLDER / "corpora"
SHAKESPEARE = CORPORA / "wikitext2_and_shakespeare" / "distributed" / "minGPT-ddp" / "mingpt" / "data" / "input.txt"


def classification(_options: argparse.Namespace) -> Section:
    from block_wise.digits import classification

    return classification()


def digits(_options: argparse.Namespace) -> Section:
    from block_wise.digits import drawing

    return drawing()


def text(options: argparse.Namespace) -> Section:
    from block_wise.characters import characters

    return characters(SHAKESPEARE)


def memory(_options: argparse.Namespace) -> Section:
    from block_wise.memory import memory

    return memory()


def finetune(options: argparse.Namespace) -> Section:
    from block_wise.finetuning import ARMS, finetuning

    unknown = sorted(set(options.arm or ()) - set(ARMS))
    if unknown:
        raise SystemExit(
            f"finetune has no arm {', '.join(map(repr, unknown))}: its arms are {', '.join(map(repr, ARMS))}"
        )
    return finetuning(CORPORA, steps=options.steps, arms=tuple(options.arm or ARMS), results=options.results)


def workers(_options: argparse.Namespace) -> Section:
    from block_wise.workers import workers

    return workers()


SECTIONS: dict[str, Callable[[argparse.Namespace], Section]] = {
    "classification": classification,
    "digits": digits,
    "text": text,
    "memory": memory,
    "finetune": finetune,
    "workers": workers,
}
NEEDS_SHARED_DATA = {"text", "finetune"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", action="append", choices=list(SECTIONS))
    parser.add_argument("--steps", type=int, default=204, help="updates of every arm of finetune, all blocks together")
    parser.add_argument("--arm", action="append", help="of finetune; all, if none is named")
    parser.add_argument("--results", type=Path, help="JSON file that keeps what the arms of finetune measured")
    parser.add_argument("--charts", type=Path, help="folder for the charts of the sections, as SVG")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures: dict[str, Any] = {}
    checks: list[Check] = []
    for name in options.section or SECTIONS:
        if name in NEEDS_SHARED_DATA and not CORPORA.is_dir():
            figures[name] = {"skipped": "needs shared/data/corpora"}
            continue
        print(f"\n{name}", flush=True)
        start = time.perf_counter()
        section = SECTIONS[name](options)
        checks.extend(section.checks)
        for chart, drawn in section.charts.items() if options.charts else ():
            options.charts.mkdir(parents=True, exist_ok=True)
            (options.charts / f"{chart}.svg").write_text(drawn, encoding="utf-8")
        figures[name] = {"arms": section.rows, **section.figures, "seconds": round(time.perf_counter() - start)}
        for check in section.checks:
            print(f"  {'holds' if check.holds else 'FAILS'}  {check.name}: {check.value} ({check.goal})", flush=True)
    close(
        "diffusion_blocks",
        packages=["torch", "transformers", "scikit-learn"],
        figures=figures,
        checks=checks,
        options={name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
    )


if __name__ == "__main__":
    main()
