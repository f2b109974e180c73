"""Tokens of public-domain novels: what caches are calibrated on, and judged by."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tokenomics_local_llm import LocalModel

__all__ = ["novel_tokens"]

_FRONT_MATTER = 20_000  # characters
_CHARACTERS_A_TOKEN = 7  # more than any of these texts has: only so much is read


def novel_tokens(local: LocalModel, path: Path, count: int, *, skipping: int = 0) -> Tensor:
    """The first `count` tokens after the front matter and `skipping` characters more, (count,)."""
    text = path.read_text(encoding="utf-8", errors="replace")[_FRONT_MATTER + skipping :]
    return torch.tensor(local.encode(text[: _CHARACTERS_A_TOKEN * count])[:count])
