"""A measurement in a process of its own, which no other has warmed up, and whose memory no other has filled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["measured_apart"]

_NO_VARIABLES: Mapping[str, str] = {}


def measured_apart(module: str, *arguments: object, variables: Mapping[str, str] = _NO_VARIABLES) -> dict[str, Any]:
    """Run a module of this folder; its last line of output is one JSON object, which is returned.

    Raises:
        RuntimeError: If it fails, with what it wrote to stderr.
    """
    ran = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, **variables},
    )
    if ran.returncode:
        raise RuntimeError(f"{module} {' '.join(map(str, arguments))}: {ran.stderr}")
    measured: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return measured
