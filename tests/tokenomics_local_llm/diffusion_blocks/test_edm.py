from __future__ import annotations

import pytest
import torch

from tokenomics_local_llm.diffusion_blocks.edm import (
    add_noise,
    denoised_vector,
    euler_step,
    loss_weight,
    precondition,
    walk,
    weighted_mean,
)
from tokenomics_local_llm.diffusion_blocks.layers import fixed_targets
from tokenomics_local_llm.diffusion_blocks.schedule import NoiseSchedule


@pytest.mark.parametrize(
    ("sigma", "c_skip", "c_out", "c_in", "weight"),
    [
        (0.002, 0.99998, 0.0020, 2.00, 250_004),
        (0.134, 0.933, 0.129, 1.93, 59.7),
        (0.30, 0.735, 0.257, 1.72, 15.1),
        (0.677, 0.353, 0.402, 1.19, 6.2),
        (80.0, 4e-5, 0.500, 0.0125, 4.0),
    ],
)
def test_preconditioning_is_karras(sigma: float, c_skip: float, c_out: float, c_in: float, weight: float) -> None:
    level = torch.tensor([sigma], dtype=torch.float64)

    found = precondition(level)

    assert float(found.c_skip) == pytest.approx(c_skip, rel=0.03)  # the table's last digit
    assert float(found.c_out) == pytest.approx(c_out, rel=0.005)
    assert float(found.c_in) == pytest.approx(c_in, rel=0.005)
    assert float(loss_weight(level)) == pytest.approx(weight, rel=0.005)


def test_the_weight_is_one_over_the_networks_share_squared() -> None:
    sigma = torch.logspace(-2, 2, 20, dtype=torch.float64)

    torch.testing.assert_close(loss_weight(sigma), precondition(sigma).c_out ** -2)


def test_the_networks_input_and_target_have_variance_one() -> None:
    sigma = torch.logspace(-2, 2, 20, dtype=torch.float64)
    c = precondition(sigma)

    torch.testing.assert_close((c.c_in * (sigma**2 + 0.25).sqrt()), torch.ones_like(sigma))
    target_variance = ((1 - c.c_skip) ** 2 * 0.25 + c.c_skip**2 * sigma**2) / c.c_out**2
    torch.testing.assert_close(target_variance, torch.ones_like(sigma))


def test_eulers_step_with_a_perfect_denoiser_leaves_the_noise_of_the_next_level() -> None:
    clean, noise = torch.randn(5, 7), torch.randn(5, 7)

    moved = euler_step(clean + 2.0 * noise, clean, 2.0, 0.5)

    torch.testing.assert_close(moved, clean + 0.5 * noise, atol=1e-6, rtol=0)


def test_the_sign_that_the_paper_prints_would_add_noise() -> None:
    clean, noise = torch.zeros(1), torch.ones(1)
    z = clean + 2.0 * noise

    printed = z - (0.5 - 2.0) * (z - clean) / 2.0

    assert float(printed) == 3.5
    assert float(euler_step(z, clean, 2.0, 0.5)) == 0.5


def test_a_walk_with_a_perfect_denoiser_ends_at_the_clean_vector() -> None:
    clean = torch.randn(4, 3)

    end = walk(clean + 80 * torch.randn(4, 3), NoiseSchedule(blocks=4).grid(4), lambda z, sigma: clean)

    torch.testing.assert_close(end, clean, atol=0.002 * 5, rtol=0)  # 5 standard deviations of the lowest noise


def test_a_walk_asks_for_every_level_but_the_last() -> None:
    asked = []

    walk(torch.zeros(1), [4.0, 2.0, 1.0], lambda z, sigma: asked.append(sigma) or z)  # type: ignore[func-returns-value]

    assert asked == [4.0, 2.0]


def test_each_loss_has_its_own_weight() -> None:
    losses, weights = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 0.0, 1.0])

    assert float(weighted_mean(losses, weights)) == pytest.approx(7 / 3)
    assert float(losses.mean() * weights.mean()) == pytest.approx(10 / 3)  # what an outer product would give


def test_weights_that_would_multiply_every_loss_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(3, 1\)"):
        weighted_mean(torch.ones(3), torch.ones(3, 1))


def test_noise_has_the_size_of_its_level() -> None:
    sigma = torch.tensor([0.5, 20.0])

    noisy = add_noise(torch.zeros(2, 40_000), sigma, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(noisy.std(dim=1), sigma, rtol=0.02, atol=0)


def test_the_soft_bridge_is_the_mean_of_rows_of_length_one() -> None:
    targets, logits = fixed_targets(5, 8), torch.randn(3, 2, 5)

    mean = denoised_vector(logits, targets, bridge="soft")

    torch.testing.assert_close(targets.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(mean, torch.einsum("ijv,vd->ijd", logits.softmax(-1), targets))


@pytest.mark.parametrize("bridge", ["hard", "sample"])
def test_the_other_bridges_give_one_of_the_rows(bridge: str) -> None:
    targets, logits = fixed_targets(5, 8), torch.randn(3, 2, 5)

    vectors = denoised_vector(logits, targets, bridge=bridge, generator=torch.Generator())  # type: ignore[arg-type]

    similarity = vectors @ targets.T
    torch.testing.assert_close(similarity.max(dim=-1).values, torch.ones(3, 2))
    if bridge == "hard":
        assert similarity.argmax(-1).equal(logits.argmax(-1))


def test_the_sample_bridge_draws_as_often_as_is_probable() -> None:
    targets = fixed_targets(3, 4)
    logits = torch.tensor([0.2, 0.3, 0.5]).log().expand(20_000, 3)

    drawn = denoised_vector(logits, targets, bridge="sample", generator=torch.Generator().manual_seed(0))

    shares = (drawn @ targets.T).argmax(-1).bincount() / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.3, 0.5]), atol=0.015, rtol=0)


def test_targets_are_orthogonal_where_there_is_room_and_of_length_one_where_not() -> None:
    torch.testing.assert_close(fixed_targets(6, 8) @ fixed_targets(6, 8).T, torch.eye(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(fixed_targets(20, 8).norm(dim=1), torch.ones(20))
