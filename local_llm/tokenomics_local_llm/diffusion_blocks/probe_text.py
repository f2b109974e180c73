"""General text when there is none at hand: what the model itself writes.

The divergence from a model to its tuned self, measured on text drawn from the model, is the divergence between what
the two write, so that it misses nothing the model would say by itself.
"""

from __future__ import annotations

from typing import Any

import torch

from tokenomics_local_llm.diffusion_blocks.randomness import seed_of
from tokenomics_local_llm.diffusion_blocks.rows import Rows

__all__ = ["own_text"]


@torch.no_grad()
def own_text(model: Any, *, rows: int = 4, length: int = 128, seed: int = 0) -> Rows:
    """Rows of text drawn from a model, each after the token that begins or, where there is none, ends a text."""
    ids = model.config.get_text_config()
    first = next((i for i in (ids.bos_token_id, ids.eos_token_id) if isinstance(i, int)), 0)
    start = torch.full((rows, 1), first, device=model.device)
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "own text"))
        tokens = model.generate(
            start,
            attention_mask=torch.ones_like(start),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            min_new_tokens=length,
            max_new_tokens=length,
            pad_token_id=first,
        )
    return Rows(tokens[:, :-1].cpu(), tokens[:, 1:].clone().cpu())
