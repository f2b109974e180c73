"""Which kernel reads codes on a device, unless a caller names one."""

from __future__ import annotations

import logging

import torch

from tokenomics_local_llm.oscar.attention import DecodeAttention, attend_packed

__all__ = ["decode_attention_for"]

_LOGGER = logging.getLogger(__name__)


def decode_attention_for(device: torch.device) -> DecodeAttention:
    """Triton's kernel on CUDA where Triton is installed; elsewhere the reference in PyTorch."""
    if device.type != "cuda":
        return attend_packed
    try:
        from tokenomics_local_llm.kernels.triton_decode import attend_in_triton
    except ImportError as error:
        _LOGGER.warning("Triton cannot be imported, so that PyTorch serves, slower: %s", error)
        return attend_packed
    return attend_in_triton
