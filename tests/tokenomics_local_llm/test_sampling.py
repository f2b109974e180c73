from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenomics_local_llm.sampling import Sampler

UNTIMED = settings(deadline=None)  # a busy machine is no failure
LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=20).map(torch.tensor)


@UNTIMED
@given(logits=LOGITS)
def test_temperature_zero_takes_the_most_probable_token(logits: torch.Tensor) -> None:
    assert logits[Sampler(temperature=0)(logits)] == logits.max()


@UNTIMED
@given(
    logits=LOGITS,
    temperature=st.floats(0, exclude_max=True, max_value=float("inf")),
    top_p=st.floats(0.01, 1),
    data=st.data(),
)
def test_forbidden_token_is_never_drawn(
    logits: torch.Tensor, temperature: float, top_p: float, data: st.DataObject
) -> None:
    forbidden = data.draw(st.sets(st.integers(0, len(logits) - 1), max_size=len(logits) - 1))
    logits = logits.index_fill(0, torch.tensor(sorted(forbidden), dtype=torch.long), float("-inf"))

    assert Sampler(temperature=temperature, top_p=top_p)(logits) not in forbidden


@UNTIMED
@given(logits=LOGITS, seed=st.integers(0, 2**32))
def test_same_seed_draws_the_same_tokens(logits: torch.Tensor, seed: int) -> None:
    first, second = (Sampler(temperature=1, seed=seed) for _ in range(2))

    assert [first(logits) for _ in range(5)] == [second(logits) for _ in range(5)]


def test_without_a_seed_draws_differ() -> None:
    logits = torch.zeros(1000)

    assert len({Sampler(temperature=1)(logits) for _ in range(20)}) > 1


@UNTIMED
@given(logits=LOGITS)
def test_small_nucleus_holds_only_the_most_probable_token(logits: torch.Tensor) -> None:
    drawn = Sampler(temperature=1, top_p=1e-9)(logits)

    assert torch.softmax(logits, -1)[drawn] == torch.softmax(logits, -1).max()


def test_nucleus_is_the_smallest_set_that_reaches_its_probability() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    sampler = Sampler(temperature=1, top_p=0.7, seed=0)

    assert {sampler(logits) for _ in range(200)} == {0, 1}  # each of them has more than a quarter


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"temperature": -0.1}, "temperature must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"temperature": float("inf")}, "temperature must be"),
        ({"top_p": 0.0}, "top_p must be"),
        ({"top_p": 1.1}, "top_p must be"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Sampler(**arguments)
