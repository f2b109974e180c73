"""The 2-bit key-value cache beside others: what a decode step takes, what is held, and a real model end to end.

    python benchmarks/kv_cache.py [--section decoding|attention|end_to_end]... [--contexts 1024 ...] [--quick]

decoding: a random model of Qwen3-0.6B's shape with 4 of its layers, every cache at every context, batch and number of
threads, in turns in one process. Ratios are of processor time, by round, with quartiles.
attention: the attention kernel alone beside PyTorch's, with AVX-512 VNNI and with AVX2.
end_to_end: SmolLM2 goes on with a novel, a process a cache; needs ../shared/data.

The backends of QuantizedCache, OpenVINO and llama.cpp are installed into `.venv-peers` first, the last of which is
compiled; what cannot be installed is named and left out. Cases whose bfloat16 caches would not fit into a fifth of the
memory are left out, and named. The last line of stdout is one JSON document; the exit status is 1 if a check does not
hold.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from closing import Check, close
from kv_speed.attention import attention
from kv_speed.decoding import BYTES_OF_A_TOKEN, Case, decoding, missing_backends
from kv_speed.end_to_end import end_to_end
from peer_packages import QUANTIZED_CACHES, restart_with
from shared_data import FOLDER

SECTIONS = ("decoding", "attention", "end_to_end")
CONTEXTS = (16384, 65536, 1024, 4096, 131072)
QUICK_CONTEXTS = (1024, 4096)
MEMORY_SHARE = 0.2  # for one bfloat16 cache: two are held at a time, and DynamicCache copies itself


def main() -> None:
    options = _options()
    if options.peers:
        restart_with(QUANTIZED_CACHES)
    figures: dict[str, Any] = {}
    checks: list[Check] = []
    for section in options.section or SECTIONS:
        if section == "decoding":
            cases = list(_cases(options))
            fitting = [case for case in cases if _fits(case)]
            figures[section], found = decoding(fitting, rounds=options.rounds, runtimes=options.peers)
            figures["too_large_for_this_memory"] = [case.name for case in cases if not _fits(case)]
            checks += found
        elif section == "attention":
            layers = 3 if options.quick else 12
            tokens = 4096 if options.quick else 16384
            figures[section], found = attention(tokens=tokens, rounds=options.rounds, layers=layers)
            checks += found
        else:
            context, tokens = (1024, 20) if options.quick else (6144, 200)
            novels = options.data / "corpora" / "english_novels"
            figures[section] = end_to_end(novels, context=context, tokens=tokens)
    missing = missing_backends()
    for backend in missing:
        print(f"QuantizedCache {backend}: not installed")
    for check in checks:
        print(f"{'holds' if check.holds else 'FAILS'}  {check.name}: {check.value} ({check.goal})")
    close(
        "kv_cache",
        packages=("torch", "transformers"),
        figures=figures,
        checks=checks,
        rounds=options.rounds,
        not_installed=missing,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", action="append", choices=SECTIONS)
    parser.add_argument("--contexts", type=int, nargs="+", help=f"tokens of each sequence ({CONTEXTS})")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="sequences (%(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", help="1 and 2 by default, where there are two processors")
    parser.add_argument("--rounds", type=int, help="measured steps of every cache (24, or 6 if quick)")
    parser.add_argument("--quick", action="store_true", help="short contexts, one thread, few rounds")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="install and measure no other packages")
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the public data sets (%(default)s)")
    options = parser.parse_args()
    options.rounds = options.rounds or (6 if options.quick else 24)
    options.contexts = options.contexts or (QUICK_CONTEXTS if options.quick else CONTEXTS)
    options.threads = options.threads or ([1] if options.quick or (os.cpu_count() or 1) == 1 else [1, 2])
    return options


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    for threads, context, batch in product(options.threads, options.contexts, options.batches):
        yield Case(batch=batch, context=context, threads=threads)


def _fits(case: Case) -> bool:
    return BYTES_OF_A_TOKEN * case.batch * case.context <= MEMORY_SHARE * psutil.virtual_memory().total


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
