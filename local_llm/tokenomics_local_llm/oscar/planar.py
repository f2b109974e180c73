"""Which kernel reads planar codes on a device, unless a caller names one."""

from __future__ import annotations

import logging
from typing import Final

import torch

from tokenomics_local_llm.oscar.attention import DecodeAttention, attend_packed

__all__ = ["decode_attention_for"]

_LOGGER = logging.getLogger(__name__)

_MOST_GROUPS: Final = 2  # a head, that Triton's kernel reads


def decode_attention_for(device: torch.device, *groups: int) -> DecodeAttention:
    """Triton's kernel on CUDA, where Triton is installed and no side has more groups a head; else PyTorch."""
    if device.type != "cuda" or max(groups) > _MOST_GROUPS:
        return attend_packed
    try:
        from tokenomics_local_llm.kernels.triton_decode import attend_in_triton
    except ImportError as error:
        _LOGGER.warning("Triton cannot be imported, so that PyTorch serves, slower: %s", error)
        return attend_packed
    return attend_in_triton
