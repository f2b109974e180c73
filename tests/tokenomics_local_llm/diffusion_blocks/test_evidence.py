from __future__ import annotations

import pytest
import torch

from tokenomics_local_llm.diffusion_blocks.edm import add_noise, denoised_vector
from tokenomics_local_llm.diffusion_blocks.evidence import decodable_below, evidence_logits
from tokenomics_local_llm.diffusion_blocks.layers import fixed_targets

TARGETS = fixed_targets(4, 6).double()
PRIOR = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.2, 0.7, 3.0])
def test_prior_and_evidence_make_the_exact_posterior(sigma: float) -> None:
    z = torch.randn(5, 6, dtype=torch.float64)
    likelihood = torch.exp(-(z[:, None] - TARGETS).square().sum(-1) / (2 * sigma**2))
    exact = PRIOR * likelihood / (PRIOR * likelihood).sum(-1, keepdim=True)

    logits = evidence_logits(PRIOR.log(), z, torch.full((5,), sigma, dtype=torch.float64), TARGETS)

    torch.testing.assert_close(logits.softmax(-1), exact, rtol=1e-4, atol=1e-6)  # lengths are 1 to float32


def test_the_posterior_mean_is_the_mean_of_the_clean_vectors_that_led_to_z() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.multinomial(PRIOR, 400_000, replacement=True, generator=generator)
    level = torch.full((len(tokens),), 0.8)
    direction = TARGETS[0] - TARGETS[3]
    projected = add_noise(TARGETS[tokens], level, generator=generator)

    means = denoised_vector(evidence_logits(PRIOR.log(), projected, level.double(), TARGETS), TARGETS)

    chosen = (projected @ direction > 0.5) & (projected @ direction < 0.8)
    torch.testing.assert_close(means[chosen].mean(0), TARGETS[tokens[chosen]].mean(0), atol=0.01, rtol=0)


@pytest.mark.parametrize(("vocabulary", "sigma"), [(96, 0.33), (32_000, 0.22), (152_000, 0.205)])
def test_tokens_can_be_read_off_below_a_noise_level_that_depends_on_their_number(vocabulary: int, sigma: float) -> None:
    assert decodable_below(vocabulary) == pytest.approx(sigma, abs=0.005)
