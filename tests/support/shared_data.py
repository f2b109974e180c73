"""Public agent logs that are not part of the project: found beside the checkout, or where a variable says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "TOKENOMICS_SHARED_DATA"
FOLDER = Path(os.environ.get(VARIABLE) or Path(__file__).resolve().parents[3] / "shared" / "data")


def trajectories(name: str) -> Path:
    """The folder of one source; the test is skipped where it is absent."""
    folder = FOLDER / "trajectories" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: put the logs there, or name their folder in {VARIABLE}")
    return folder
