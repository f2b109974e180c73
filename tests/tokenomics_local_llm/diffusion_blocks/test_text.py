from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tokenomics_local_llm.diffusion_blocks.edm import precondition
from tokenomics_local_llm.diffusion_blocks.layers import rotation
from tokenomics_local_llm.diffusion_blocks.schedule import NoiseSchedule
from tokenomics_local_llm.diffusion_blocks.stack import BlockTraining, Stack, train_block
from tokenomics_local_llm.diffusion_blocks.text import CleanCache, TokenDecoder, TokenDenoiser, noisy_row_mask

VOCABULARY, WIDTH, LENGTH, BLOCKS = 11, 24, 7, 2
SCHEDULE = NoiseSchedule(blocks=BLOCKS, overlap=0.1)


def make(seed: int = 0) -> TokenDenoiser:
    """One in which nothing is zero any more."""
    torch.manual_seed(seed)
    denoiser = TokenDenoiser(vocabulary=VOCABULARY, width=WIDTH, layers=2, heads=2)
    for layer in [*denoiser.layers, denoiser.head]:
        nn.init.normal_(layer.modulation.weight, std=0.1)
    nn.init.normal_(denoiser.head.classifier.weight)
    return denoiser.eval()


@pytest.fixture
def denoiser() -> TokenDenoiser:
    return make()


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, noisy vectors, noise levels."""
    torch.manual_seed(1)
    tokens = torch.randint(VOCABULARY, (3, LENGTH))
    return tokens, torch.randn(3, LENGTH - 1, WIDTH), torch.rand(3, LENGTH - 1) + 0.1


def change(tokens: Tensor, place: int) -> Tensor:
    changed = tokens.clone()
    changed[:, place] = (changed[:, place] + 1) % VOCABULARY
    return changed


@pytest.mark.parametrize("place", range(LENGTH))
@torch.no_grad()
def test_a_row_knows_the_tokens_before_its_own_and_no_other(
    denoiser: TokenDenoiser, inputs: tuple[Tensor, Tensor, Tensor], place: int
) -> None:
    tokens, z, sigma = inputs

    difference = (denoiser(tokens, z, sigma) - denoiser(change(tokens, place), z, sigma)).abs().amax(dim=(0, 2))

    row_of_token = torch.arange(1, LENGTH)
    assert not difference[row_of_token <= place].any()
    assert (difference[row_of_token > place] > 1e-4).all()


@torch.no_grad()
def test_a_mask_that_shows_a_row_its_own_token_is_found_out(
    denoiser: TokenDenoiser, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    tokens, z, sigma = inputs
    leaky = noisy_row_mask(LENGTH)
    leaky[:, 1:LENGTH] |= torch.eye(LENGTH - 1, dtype=torch.bool)

    def logits(tokens: Tensor) -> Tensor:
        clean = denoiser.read(tokens, CleanCache())
        return denoiser.denoise(z, sigma, clean, mask=leaky, position=1)

    difference = (logits(tokens) - logits(change(tokens, 4))).abs().amax(dim=(0, 2))

    assert difference[4 - 1] > 1e-4


@torch.no_grad()
def test_noisy_rows_do_not_see_each_other(denoiser: TokenDenoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    tokens, z, sigma = inputs
    moved = z.clone()
    moved[:, 2] += 1

    difference = (denoiser(tokens, z, sigma) - denoiser(tokens, moved, sigma)).abs().amax(dim=(0, 2))

    assert difference[2] > 1e-4
    assert not difference[torch.arange(LENGTH - 1) != 2].any()


@torch.no_grad()
def test_two_passes_equal_one_sequence_of_both_kinds_of_rows_under_a_mask(
    denoiser: TokenDenoiser, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    tokens, z, sigma = inputs
    c_skip, c_out, c_in, c_noise = precondition(sigma)
    condition = denoiser.noise_embedding(c_noise)
    positions = torch.cat([torch.arange(LENGTH), torch.arange(1, LENGTH)])
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    mask = torch.cat([torch.cat([causal, torch.zeros(LENGTH, LENGTH - 1).bool()], dim=1), noisy_row_mask(LENGTH)])
    x = torch.cat([denoiser.embedding(tokens), c_in[..., None] * z], dim=1)
    for layer in denoiser.layers:
        noisy_modulation = layer.modulation(condition)  # type: ignore[operator]
        plain = torch.zeros(3, LENGTH, 6 * WIDTH)
        x = _layer_with(layer, torch.cat([plain, noisy_modulation], dim=1), x, mask, positions, denoiser.head_size)
    estimate = c_skip[..., None] * z + c_out[..., None] * denoiser.norm(x[:, LENGTH:])

    torch.testing.assert_close(denoiser(tokens, z, sigma), denoiser.head(estimate, condition), atol=1e-5, rtol=1e-5)


def _layer_with(
    layer: nn.Module, modulation: Tensor, x: Tensor, mask: Tensor, positions: Tensor, head_size: int
) -> Tensor:
    given = nn.Module()
    given.forward = lambda condition: modulation
    own, layer.modulation = layer.modulation, given
    out: Tensor
    out, _ = layer(x, torch.zeros(1), mask=mask, rotate=rotation(positions, head_size))
    layer.modulation = own
    return out


@torch.no_grad()
def test_tokens_read_one_by_one_leave_the_same_cache_as_all_at_once(denoiser: TokenDenoiser) -> None:
    tokens, at_once, one_by_one = torch.randint(VOCABULARY, (2, 5)), CleanCache(), CleanCache()

    at_once.append(denoiser.read(tokens, at_once))
    for index in range(5):
        one_by_one.append(denoiser.read(tokens[:, index : index + 1], one_by_one))

    for first, second in zip(at_once.layers, one_by_one.layers, strict=True):
        torch.testing.assert_close(first.keys, second.keys, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(first.values, second.values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("points", [BLOCKS, 2 * BLOCKS])
@torch.no_grad()
def test_decoding_with_a_cache_equals_reading_everything_anew(points: int) -> None:
    stack = Stack(SCHEDULE, [make(0), make(1)])
    prompt = torch.randint(VOCABULARY, (3, 4), generator=torch.Generator().manual_seed(2))
    decoder = TokenDecoder(stack, points=points, bridge="soft", generator=torch.Generator().manual_seed(3))
    decoder.read(prompt)
    written = torch.stack(list(decoder.write(4)), dim=1)

    generator, tokens = torch.Generator().manual_seed(3), prompt
    for _ in range(4):
        anew = TokenDecoder(stack, points=points, bridge="soft", generator=generator)
        anew.read(tokens)
        tokens = torch.cat([tokens, anew.next_token()[:, None]], dim=1)

    assert written.equal(tokens[:, 4:])
    assert len(set(written.flatten().tolist())) > 1
    assert [cache.tokens for cache in decoder.caches] == [8] * BLOCKS


@torch.no_grad()
def test_a_cropped_cache_goes_on_as_if_the_rest_had_never_been_read() -> None:
    stack = Stack(SCHEDULE, [make(0), make(1)])
    tokens = torch.randint(VOCABULARY, (1, 6))

    def next_token(*, read: int, crop: int) -> Tensor:
        decoder = TokenDecoder(stack, generator=torch.Generator().manual_seed(0))
        decoder.read(tokens[:, :read])
        for cache in decoder.caches:
            cache.crop(crop)
        return decoder._logits(torch.ones(1, 1, WIDTH), 1.0)

    torch.testing.assert_close(next_token(read=6, crop=3), next_token(read=3, crop=3))


@torch.no_grad()
def test_a_decoder_gives_what_training_sees(denoiser: TokenDenoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    tokens, z, _ = inputs
    schedule = NoiseSchedule(blocks=1)
    decoder = TokenDecoder(Stack(schedule, [denoiser]), points=2, generator=torch.Generator())
    decoder.read(tokens[:, :-1])

    row = decoder._logits(z[:, -1:], 0.7)

    torch.testing.assert_close(row, denoiser(tokens, z, torch.full(z.shape[:2], 0.7))[:, -1:], atol=1e-5, rtol=1e-5)


def test_at_the_start_noisy_rows_run_through_plain_layers() -> None:
    denoiser = TokenDenoiser(vocabulary=VOCABULARY, width=WIDTH, layers=2, heads=2)
    x, condition = torch.randn(2, 5, WIDTH), torch.randn(2, 5, WIDTH)

    for layer in denoiser.layers:
        assert layer(x, condition)[0].equal(layer(x)[0])


@pytest.mark.parametrize("sigma", [1e-4, 80.0], ids=["no noise", "all noise"])
@torch.no_grad()
def test_at_the_ends_of_the_range_the_estimate_is_the_input_or_nothing_of_it(
    denoiser: TokenDenoiser, sigma: float
) -> None:
    tokens, level = torch.randint(VOCABULARY, (2, LENGTH)), torch.full((2, LENGTH - 1), sigma)
    clean = denoiser.targets[tokens[:, 1:]]
    noise = torch.randn(clean.shape)

    estimates = []
    denoiser.head.forward = lambda estimate, condition: estimates.append(estimate) or estimate  # type: ignore[method-assign, func-returns-value]
    denoiser(tokens, clean + sigma * noise, level)
    denoiser(tokens, -clean + sigma * noise, level)

    if sigma < 1:
        torch.testing.assert_close(estimates[0], clean, atol=1e-3, rtol=0)
    else:
        torch.testing.assert_close(estimates[0], estimates[1], atol=0.02, rtol=0)  # the vectors are 1/80 of the noise


def test_a_block_can_learn_a_batch_by_heart_where_the_token_cannot_be_read_off() -> None:
    schedule = NoiseSchedule(blocks=BLOCKS, sigma_min=1.0)  # far above where 11 tokens can be told apart
    torch.manual_seed(0)
    denoiser = TokenDenoiser(vocabulary=VOCABULARY, width=WIDTH, layers=2, heads=2)
    tokens = (torch.arange(8)[None] * torch.arange(1, 5)[:, None] + torch.arange(4)[:, None]) % VOCABULARY

    history = train_block(denoiser, schedule, 0, [(tokens,)] * 150, BlockTraining(learning_rate=1e-2), steps=150)

    assert history[0] > 2  # ln 11 is 2.4
    assert min(history[-10:]) < 0.1
