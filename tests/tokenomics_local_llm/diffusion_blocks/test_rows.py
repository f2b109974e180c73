from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_local_llm.diffusion_blocks.cross_entropy import IGNORED
from tokenomics_local_llm.diffusion_blocks.rows import Example, pack, pad


def test_running_text_is_cut_into_rows_whose_targets_are_the_next_tokens() -> None:
    rows = pack(range(8), length=3)

    assert rows.input_ids.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert rows.targets.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_text_that_fills_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 5 tokens and there are 4"):
        pack(range(4), length=4)


def test_only_the_answer_is_learned() -> None:
    rows = pad([Example(tokens=[5, 6, 7, 8], learned=[False, False, True, True])], length=6)

    assert rows.input_ids.tolist() == [[5, 6, 7, 0, 0, 0]]
    assert rows.targets.tolist() == [[IGNORED, 7, 8, IGNORED, IGNORED, IGNORED]]
    assert rows.learned_tokens == 2


def test_examples_are_cut_off_and_left_out_when_their_answer_is() -> None:
    long = Example(tokens=[1, 2, 3, 4], learned=[False, False, False, True])
    short = Example(tokens=[1, 2], learned=[False, True])

    assert pad([long, short], length=2).targets.tolist() == [[2, IGNORED]]
    with pytest.raises(ValueError, match="none of 1 examples"):
        pad([long], length=2)


def test_a_batch_holds_no_columns_that_only_pad() -> None:
    rows = pad([Example(tokens=[1] * n, learned=[True] * n) for n in (3, 9)], length=20)

    assert rows.at([0]).input_ids.shape == (1, 2)
    assert rows.at([0, 1]).input_ids.shape == (2, 8)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 3))
def test_every_epoch_sees_each_row_once_in_an_order_that_the_seed_decides(size: int, batch: int, seed: int) -> None:
    rows = pack(range(size * 2 + 1), length=2)

    def seen(seed: int) -> torch.Tensor:
        steps = [rows.batch(step, batch, seed=seed).input_ids[:, 0] for step in range(size * 2)]
        return torch.cat(steps)[: 2 * size]

    assert sorted(seen(seed)[:size].tolist()) == sorted(seen(seed)[size:].tolist()) == list(range(0, 2 * size, 2))
    assert seen(seed).equal(seen(seed))


def test_a_digest_changes_with_a_token() -> None:
    rows, other = pack(range(9), length=4), pack([*range(8), 9], length=4)

    assert rows.digest() == pack(range(9), length=4).digest()
    assert rows.digest() != other.digest()
