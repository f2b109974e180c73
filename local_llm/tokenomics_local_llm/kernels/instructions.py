"""Which instructions the compiled kernels use: the processor's best, or those that a caller or the environment names.

All of them compute the same integers from the same codes, so that a result does not depend on the choice. `TORCH`
stands for the plain algebra in PyTorch, which needs no compiler and serves where numba is missing.
"""

from __future__ import annotations

import os
from enum import StrEnum
from functools import cache
from typing import Final

__all__ = ["VARIABLE", "Instructions", "best_instructions", "choose_instructions", "supported_instructions"]

VARIABLE: Final = "TOKENOMICS_KERNELS"
"""The environment variable that overrides the choice."""


class Instructions(StrEnum):
    """Ways to multiply 2-bit codes by weights, fastest first."""

    VNNI = "vnni"
    """AVX-512 VNNI: `vpdpbusd` adds four products to each of 16 lanes."""
    AVX2 = "avx2"
    """AVX2: `vpmaddubsw` and an addition do so for each 8 lanes, in 16 bits for up to 64 rows."""
    GENERIC = "generic"
    """Plain vector arithmetic, which LLVM lowers for any processor."""
    TORCH = "torch"
    """PyTorch in single precision; no compiled code."""


_NEEDS: Final = {
    Instructions.VNNI: frozenset({"avx512f", "avx512bw", "avx512vl", "avx512vnni", "f16c"}),
    Instructions.AVX2: frozenset({"avx2", "f16c"}),
    Instructions.GENERIC: frozenset[str](),
}


@cache
def supported_instructions() -> tuple[Instructions, ...]:
    """What can run here, fastest first; only `TORCH` where numba is not installed.

    The processor is the one that numba compiles for: `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` count.
    """
    try:
        from numba.core.registry import cpu_target
    except ImportError:
        return (Instructions.TORCH,)
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    present = {feature[1:] for feature in features if feature.startswith("+")}
    return (*(name for name, needed in _NEEDS.items() if needed <= present), Instructions.TORCH)


def choose_instructions(name: str | None = None) -> Instructions:
    """`name`, else what the environment names, else the fastest that this processor has.

    Raises:
        ValueError: If the name is unknown, or this processor has no such instructions.
    """
    named = name or os.environ.get(VARIABLE)
    if not named:
        return best_instructions()
    if named not in supported_instructions():
        known = ", ".join(supported_instructions())
        raise ValueError(f"kernels can use {known} here, got {named!r}: name one of these, or unset {VARIABLE}")
    return Instructions(named)


def best_instructions() -> Instructions:
    """The fastest that this processor has."""
    return supported_instructions()[0]
