"""Public data that are not part of the project: found beside the checkout, or where a variable says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "TOKENOMICS_SHARED_DATA"
FOLDER = Path(os.environ.get(VARIABLE) or Path(__file__).resolve().parents[3] / "shared" / "data")


def trajectories(name: str) -> Path:
    """The folder of one source of agent logs; the test is skipped where it is absent."""
    return _present(FOLDER / "trajectories" / name)


def models(name: str) -> Path:
    """The folder of what was made of, or for, a model; the test is skipped where it is absent."""
    return _present(FOLDER / "models" / name)


def _present(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: put it there, or name the folder of all such data in {VARIABLE}")
    return folder
