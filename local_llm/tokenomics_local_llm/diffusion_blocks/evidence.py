"""What an ideal denoiser of tokens knows, in closed form.

Given the context, a noisy vector z = e_v + sigma * noise depends on the token v alone, so that for rows of length 1

    log p(v | z, context) = log p(v | context) + <z, e_v> / sigma^2 + const.

All that a block can learn is p(v | context), with its own layers; the rest is this formula. Added to any next-token
model it says which loss is achievable at each noise level. As a head to train with it is worse than a learned one,
because it leaves no gradient once the evidence decides the token: here it judges, and trains nothing.
"""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["decodable_below", "evidence_logits"]


def evidence_logits(prior_logits: Tensor, z: Tensor, sigma: Tensor, targets: Tensor) -> Tensor:
    """The exact posterior's logits.

    Args:
        prior_logits: Of the next token without z, (..., V).
        z: Noisy vectors, (..., D).
        sigma: Their noise levels, (...,).
        targets: Rows of length 1 that noise was added to, (V, D).
    """
    return prior_logits + z @ targets.T / sigma[..., None].square()


def decodable_below(vocabulary: int) -> float:
    """The noise level below which the token can be read off z, 1 / sqrt(2 ln V): blocks there learn to copy."""
    return 1 / math.sqrt(2 * math.log(vocabulary))
