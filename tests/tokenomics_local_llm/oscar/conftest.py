"""Tiny models of two families with random weights, and their rotations."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from tiny_models import some_tokens, tiny_model
from tokenomics_local_llm.kernels import round_rows
from tokenomics_local_llm.oscar import Rotations, calibrate


@pytest.fixture(scope="session", params=["llama", "qwen3"])
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def fresh(family: str) -> PreTrainedModel:
    """A model of one's own, to be changed."""
    return tiny_model(family)


@pytest.fixture(scope="session")
def shared(family: str) -> PreTrainedModel:
    """A model for all tests that leave it as it is."""
    return tiny_model(family)


@pytest.fixture(scope="session")
def rotations(shared: PreTrainedModel) -> Rotations:
    return calibrate(shared, [some_tokens(120, seed) for seed in range(3)], sink_tokens=4)


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> None:
    """Compiling takes longer than hypothesis lets an example take."""
    rows, one = torch.ones(1, 1, 1, 8), torch.ones(1, 1, 1, 1)
    round_rows(rows, one, one)
