from __future__ import annotations

import sys

import pytest
import torch

from tokenomics_local_llm.oscar.attention import attend_packed
from tokenomics_local_llm.oscar.planar import decode_attention_for

KERNEL = "tokenomics_local_llm.kernels.triton_decode"


def test_pytorch_serves_processors() -> None:
    assert decode_attention_for(torch.device("cpu"), 1, 1) is attend_packed


def test_pytorch_serves_groups_that_triton_s_kernel_does_not_read() -> None:
    assert decode_attention_for(torch.device("cuda"), 1, 4) is attend_packed


def test_triton_serves_cuda() -> None:
    pytest.importorskip("triton", reason="the kernel for GPUs is written in triton: pip install triton")

    assert decode_attention_for(torch.device("cuda"), 1, 2) is sys.modules[KERNEL].attend_in_triton


def test_pytorch_serves_cuda_where_triton_is_missing_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, KERNEL, raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)

    assert decode_attention_for(torch.device("cuda"), 1, 2) is attend_packed
    assert "PyTorch serves, slower" in caplog.text
