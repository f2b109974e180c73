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
from tempfile import NamedTemporaryFile
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

__all__ = [
    "CALIBRATION_TOKENS",
    "ROTATIONS_FILE",
    "CalibrationTextError",
    "cache_folder",
    "calibrate_on",
    "rotations_of",
]

ROTATIONS_FILE: Final = "oscar_rotations.safetensors"
"""The name under which a model's rotations lie beside its weights."""
CALIBRATION_TOKENS: Final = 16384
"""How many tokens a model reads to be calibrated, at most."""

_FOLDER: Final = "TOKENOMICS_CACHE"
_WINDOW_TOKENS: Final = 4096  # read at once: rotations should meet the positions that they will serve
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
    windows = _windows(model, [_read(calibration)], CALIBRATION_TOKENS)
    kept = cache_folder() / "oscar" / f"{_identity(model.model, windows)}.safetensors"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_suffix(".lock")):  # who comes second waits for the file instead of making it again
        if not kept.is_file():
            _write(_calibrate(model, windows), kept)
    return load_rotations(kept)


def calibrate_on(model: LocalModel, texts: Sequence[Path], *, tokens: int = CALIBRATION_TOKENS) -> Rotations:
    """Rotations of a model that reads windows of these texts, as many tokens of each.

    Raises:
        CalibrationTextError: If a text cannot be read or is too short.
    """
    return _calibrate(model, _windows(model, [_read(path) for path in texts], tokens))


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


def _read(path: Path | None) -> str:
    try:
        source = files(__package__) / "calibration.txt" if path is None else path
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationTextError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _windows(model: LocalModel, texts: Sequence[str], tokens: int) -> list[Tensor]:
    """Parts of the texts, of the same length and evenly spread over each."""
    length = min(_WINDOW_TOKENS, model.context_tokens or _WINDOW_TOKENS, tokens)
    each = max(tokens // length // len(texts), 1)
    return [window for text in texts for window in _spread(torch.tensor(model.encode(text)), length, each)]


def _spread(tokens: Tensor, length: int, count: int) -> Iterable[Tensor]:
    if len(tokens) < min(length, _FEWEST_TOKENS):
        raise CalibrationTextError(
            f"a text of {len(tokens)} tokens is too short to calibrate on: give at least {_FEWEST_TOKENS}, better "
            f"{CALIBRATION_TOKENS}, of the kind that the model will read"
        )
    fitting = min(count, max(len(tokens) // length, 1))
    last = max(len(tokens) - length, 0)
    starts = [last * index // max(fitting - 1, 1) for index in range(fitting)]
    return [tokens[start : start + length] for start in starts]


def _calibrate(model: LocalModel, windows: Sequence[Tensor]) -> Rotations:
    bar = tqdm(windows, desc=f"calibrating the 2-bit cache of {model.name}", unit="window", disable=None)
    with model.alone() as alone:
        return calibrate(alone, bar)


def _identity(model: PreTrainedModel, windows: Iterable[Tensor]) -> str:
    """The same for the same weights, in whatever dtype they were loaded, that read the same tokens."""
    digest = sha256(_VERSION)
    for name, weight in model.state_dict().items():
        step = max(weight.numel() // _SAMPLED, 1)
        sample = weight.flatten()[::step].to(torch.bfloat16).cpu().view(torch.int16)
        digest.update(f"{name} {tuple(weight.shape)}".encode() + sample.numpy().tobytes())
    for window in windows:
        digest.update(window.numpy().tobytes())
    return digest.hexdigest()[:32]


def _write(rotations: Rotations, path: Path) -> None:
    """All of the file or nothing: a reader never meets half of one."""
    with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        unfinished = Path(part.name)
    try:
        save_rotations(rotations, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
