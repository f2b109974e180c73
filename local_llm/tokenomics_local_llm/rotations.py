"""The rotations of a model that is to be served: from beside its weights, from an earlier run, or calibrated now.

Calibration takes about a minute on a CPU and its result is the same each time, so it is kept in the user's cache
folder by what it was made of: the weights and the tokens that they read. Without a text of the user's own the model
reads one that comes with this package, so that a first use needs no network either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from tokenomics_local_llm.errors import LocalLLMError
from tokenomics_local_llm.model import LocalModel
from tokenomics_local_llm.oscar.calibration import calibrate
from tokenomics_local_llm.oscar.files import load_rotations, save_rotations
from tokenomics_local_llm.oscar.transform import Rotations
from tokenomics_local_llm.whole_file import written_whole

__all__ = [
    "CALIBRATION_TOKENS",
    "ROTATIONS_FILE",
    "WINDOW_TOKENS",
    "CalibrationTextError",
    "cache_folder",
    "calibrate_on",
    "identity",
    "rotations_of",
    "text_windows",
]

ROTATIONS_FILE: Final = "oscar_rotations.safetensors"
"""The name under which a model's rotations lie beside its weights."""
CALIBRATION_TOKENS: Final = 16384
"""How many tokens a model reads to be calibrated, at most."""
WINDOW_TOKENS: Final = 4096
"""How many it reads at once: rotations should meet the positions that they will serve."""

_FOLDER: Final = "TOKENOMICS_CACHE"
_FEWEST_TOKENS: Final = 1024  # of moments of fewer, the rotations of heads of 128 channels are mostly noise
_SAMPLED: Final = 4096  # numbers of each weight that tell a model from any other
_VERSION: Final = b"1"  # of what calibration makes of the same weights and tokens


class CalibrationTextError(LocalLLMError, ValueError):
    """A text that a model cannot be calibrated on."""


def rotations_of(model: LocalModel, *, calibration: Path | None = None) -> Rotations:
    """Find or make the rotations of a model.

    Args:
        model: The model. A file `oscar_rotations.safetensors` in its folder serves it.
        calibration: Text to calibrate on instead; `None` takes the file in the model's folder, else calibrates on the
            text that comes with this package. What is calibrated is kept in `cache_folder()`.

    Raises:
        CalibrationTextError: If the text cannot be read or is too short.
    """
    beside = Path(model.name) / ROTATIONS_FILE
    if calibration is None and beside.is_file():
        return load_rotations(beside)
    windows = text_windows(model, [calibration], tokens=CALIBRATION_TOKENS)
    kept = cache_folder() / "oscar" / f"{identity(model.model, windows)}.safetensors"
    kept.parent.mkdir(parents=True, exist_ok=True)  # for the lock
    with FileLock(kept.with_suffix(".lock")):  # who comes second waits for the file instead of making it again
        if not kept.is_file():
            rotations = _calibrate(model, windows)
            with written_whole(kept) as unfinished:
                save_rotations(rotations, unfinished)
    return load_rotations(kept)


def calibrate_on(model: LocalModel, texts: Sequence[Path], *, tokens: int = CALIBRATION_TOKENS) -> Rotations:
    """Rotations of a model that reads windows of these texts, as many tokens of each.

    Raises:
        CalibrationTextError: If a text cannot be read or is too short.
    """
    return _calibrate(model, text_windows(model, texts, tokens=tokens))


def cache_folder() -> Path:
    """Where results that took long are kept: `$TOKENOMICS_CACHE`, else a folder in the platform's place for caches."""
    if named := os.environ.get(_FOLDER):
        return Path(named)
    return _platform_caches() / "tokenomics"


def _platform_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def text_windows(
    model: LocalModel, texts: Sequence[Path | None], *, tokens: int, length: int = WINDOW_TOKENS
) -> list[Tensor]:
    """Parts of texts, evenly spread over each and of the same length where the texts are long enough.

    Args:
        model: Whose tokens; no part is longer than its context.
        texts: Files in UTF-8; `None` is the text that comes with this package.
        tokens: How many to take of all texts together, about.
        length: Tokens of a part.

    Raises:
        CalibrationTextError: If a text cannot be read or is too short.
    """
    length = min(length, model.context_tokens or length, tokens)
    each = max(tokens // length // len(texts), 1)
    return [window for text in texts for window in _spread(_encoded(model, text), length, each)]


def _encoded(model: LocalModel, path: Path | None) -> Tensor:
    try:
        source = files(__package__) / "calibration.txt" if path is None else path
        return torch.tensor(model.encode(source.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationTextError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _spread(tokens: Tensor, length: int, count: int) -> list[Tensor]:
    if len(tokens) < min(length, _FEWEST_TOKENS):
        raise CalibrationTextError(
            f"a text of {len(tokens)} tokens is too short: give at least {min(length, _FEWEST_TOKENS)}, and better "
            f"{CALIBRATION_TOKENS} to calibrate on"
        )
    fitting = min(count, max(len(tokens) // length, 1))
    last = max(len(tokens) - length, 0)
    starts = [last * index // (fitting - 1) for index in range(fitting)] if fitting > 1 else [last // 2]
    return [tokens[start : start + length] for start in starts]


def _calibrate(model: LocalModel, windows: Sequence[Tensor]) -> Rotations:
    bar = tqdm(windows, desc=f"calibrating the 2-bit cache of {model.name}", unit="window", disable=None)
    with model.alone() as alone:
        return calibrate(alone, bar)


def identity(model: PreTrainedModel, windows: Iterable[Tensor]) -> str:
    """The same for the same weights, in whatever dtype they were loaded, that read the same tokens."""
    digest = sha256(_VERSION)
    for name, weight in model.state_dict().items():
        step = max(weight.numel() // _SAMPLED, 1)
        sample = weight.flatten()[::step].to(torch.bfloat16).cpu().view(torch.int16)
        digest.update(f"{name} {tuple(weight.shape)}".encode() + sample.numpy().tobytes())
    for window in windows:
        digest.update(window.numpy().tobytes())
    return digest.hexdigest()[:32]
