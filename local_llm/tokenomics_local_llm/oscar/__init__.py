"""OSCAR: a key-value cache of 2-bit codes between two exact windows (arXiv 2605.17757, and what improves on it).

from tokenomics_local_llm.oscar import OscarCache, calibrate

rotations = calibrate(model, texts)
model.generate(**inputs, past_key_values=OscarCache.for_model(model, rotations))
"""

from tokenomics_local_llm.oscar.cache import OSCAR_ATTENTION, OscarCache
from tokenomics_local_llm.oscar.calibration import calibrate, collect_moments, fit_rotations
from tokenomics_local_llm.oscar.clipping import choose_clips
from tokenomics_local_llm.oscar.files import (
    RotationFileError,
    load_rotations,
    read_published,
    save_rotations,
    write_published,
)
from tokenomics_local_llm.oscar.folding import fold_value_rotations, output_metrics
from tokenomics_local_llm.oscar.quantizer import QuantizerRecipe
from tokenomics_local_llm.oscar.recipe import OscarRecipe
from tokenomics_local_llm.oscar.training import train_rotations
from tokenomics_local_llm.oscar.transform import Rotations, SideTransform

__all__ = [
    "OSCAR_ATTENTION",
    "OscarCache",
    "OscarRecipe",
    "QuantizerRecipe",
    "RotationFileError",
    "Rotations",
    "SideTransform",
    "calibrate",
    "choose_clips",
    "collect_moments",
    "fit_rotations",
    "fold_value_rotations",
    "load_rotations",
    "output_metrics",
    "read_published",
    "save_rotations",
    "train_rotations",
    "write_published",
]
