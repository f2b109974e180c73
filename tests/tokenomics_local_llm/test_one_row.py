"""oneDNN is off while one row is multiplied, and never while a prompt is read, whoever else runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from tokenomics_local_llm import load_model
from tokenomics_local_llm.kv_cache import full_cache
from tokenomics_local_llm.one_row import one_row_by_itself

CPU = torch.device("cpu")
ONEDNN: Any = torch.backends.mkldnn


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = ONEDNN.enabled
    yield
    assert ONEDNN.enabled == before


def _pass(rows: int = 1, dtype: torch.dtype = torch.bfloat16, device: torch.device = CPU) -> Any:
    return one_row_by_itself(rows, dtype, device)


def test_one_row_is_multiplied_without_onednn() -> None:
    with _pass():
        assert not ONEDNN.enabled


@pytest.mark.parametrize(
    "other", [{"rows": 2}, {"dtype": torch.float32}, {"device": torch.device("meta")}], ids=["rows", "dtype", "device"]
)
def test_other_passes_keep_onednn(other: dict[str, Any]) -> None:
    with _pass(**other):
        assert ONEDNN.enabled


def test_prompt_has_onednn_while_other_texts_are_written() -> None:
    with ExitStack() as writing:
        for _ in range(2):
            writing.enter_context(_pass())
        with _pass(rows=512):
            assert ONEDNN.enabled
        assert not ONEDNN.enabled


def test_text_that_begins_while_a_prompt_is_read_waits_for_its_end() -> None:
    with ExitStack() as reading:
        reading.enter_context(_pass(rows=512))
        with _pass():
            assert ONEDNN.enabled
            reading.close()
            assert not ONEDNN.enabled


def test_switch_that_the_program_has_set_stays_as_it_is() -> None:
    ONEDNN.enabled = False
    try:
        with _pass(), _pass(rows=2):
            assert not ONEDNN.enabled
        assert not ONEDNN.enabled
    finally:
        ONEDNN.enabled = True


def test_pass_that_fails_gives_onednn_back() -> None:
    with pytest.raises(RuntimeError, match="no memory"), _pass():
        raise RuntimeError("no memory")

    assert ONEDNN.enabled


def test_logits_agree_with_those_of_onednn() -> None:
    model = load_model(dtype="bfloat16", device="cpu")
    tokens = model.encode("The capital of France is")

    def last(rows: list[list[int]]) -> torch.Tensor:
        cache = full_cache(model.model.config)
        return [model.next_logits(part, cache) for part in rows][-1]

    by_itself, together = last([tokens[:-1], tokens[-1:]]), last([tokens])

    assert by_itself.argmax() == together.argmax()
    torch.testing.assert_close(by_itself, together, atol=0.5, rtol=0.05)
