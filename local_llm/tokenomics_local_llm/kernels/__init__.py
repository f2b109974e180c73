"""Attention over 2-bit keys and values without unpacking them, and the packing itself."""

from tokenomics_local_llm.kernels.decode import decode_attention
from tokenomics_local_llm.kernels.instructions import (
    VARIABLE,
    Instructions,
    best_instructions,
    choose_instructions,
    supported_instructions,
)
from tokenomics_local_llm.kernels.packing import pack_rows, round_rows
from tokenomics_local_llm.kernels.ranges import SMALLEST_STEP, fitted_range, range_between, searched_range
from tokenomics_local_llm.kernels.store import PackedKeys, PackedStore, PackedValues, fits_tiles
from tokenomics_local_llm.kernels.turn import Turn
from tokenomics_local_llm.kernels.window import Window

__all__ = [
    "SMALLEST_STEP",
    "VARIABLE",
    "Instructions",
    "PackedKeys",
    "PackedStore",
    "PackedValues",
    "Turn",
    "Window",
    "best_instructions",
    "choose_instructions",
    "decode_attention",
    "fits_tiles",
    "fitted_range",
    "pack_rows",
    "range_between",
    "round_rows",
    "searched_range",
    "supported_instructions",
]
