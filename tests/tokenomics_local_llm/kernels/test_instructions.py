"""The processor's best instructions serve, unless a caller or the environment names others."""

from __future__ import annotations

import pytest

from tokenomics_local_llm.kernels import Instructions, choose_instructions, supported_instructions
from tokenomics_local_llm.kernels.instructions import VARIABLE


def test_pytorch_is_always_there_and_last() -> None:
    assert supported_instructions()[-1] == Instructions.TORCH


def test_the_fastest_are_chosen_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)

    assert choose_instructions() == supported_instructions()[0]


def test_the_environment_overrides_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "torch")

    assert choose_instructions() == Instructions.TORCH


def test_a_caller_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "nonsense")

    assert choose_instructions("torch") == Instructions.TORCH


def test_unknown_instructions_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"can use .*torch here, got 'sse9'"):
        choose_instructions("sse9")
