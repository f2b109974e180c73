"""What the processes of the other runtimes have in common: their arguments, and how they answer."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from kv_speed.clock import timed
from kv_speed.qwen import VOCABULARY

__all__ = ["CHECKED_TOKENS", "Sizes", "expected_logits", "random_ids", "serve", "sizes"]

CHECKED_TOKENS: Final = 16


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a process is asked to measure."""

    kept_as: str
    """The format of keys and values."""
    batch: int
    context: int
    """Tokens of each sequence."""
    threads: int


def sizes() -> Sizes:
    """As the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kept_as")
    for name in ("batch", "context", "threads"):
        parser.add_argument(name, type=int)
    return Sizes(**vars(parser.parse_args()))


def random_ids(batch: int, count: int) -> Tensor:
    """(batch, count) tokens, other ones each time."""
    return torch.randint(0, VOCABULARY, (batch, count))


@torch.inference_mode()
def expected_logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """(batch, vocabulary) after these tokens, by transformers."""
    logits: Tensor = model(input_ids=ids, logits_to_keep=1).logits
    return logits[:, -1]


def serve(step: Callable[[], object], *, logits_off: float, held: int | None) -> None:
    """Say that it is ready, then take a step for each line of stdin."""
    print(json.dumps({"logits_off": round(logits_off, 4), "bytes": held}), flush=True)
    arm = timed(step)
    for _ in sys.stdin:
        print(json.dumps(asdict(arm())), flush=True)
