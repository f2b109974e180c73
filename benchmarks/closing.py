"""How every benchmark ends: its last line is one JSON document, and its exit status says whether all checks hold."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import psutil

__all__ = ["Check", "close"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A figure that something is promised of."""

    name: str
    """What was measured."""
    value: Any
    """The figure."""
    goal: str
    """What is promised of it."""
    holds: bool
    """Whether it is so, computed from the figure."""


def close(
    benchmark: str, *, packages: Iterable[str], figures: Mapping[str, Any], checks: Iterable[Check], **more: Any
) -> NoReturn:
    """Print the document and end the process; `more` goes in beside the figures."""
    checks = list(checks)
    document = {
        "benchmark": benchmark,
        "machine": {
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
        },
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("tokenomics-plugin", *packages)},
        **more,
        "figures": figures,
        "checks": [asdict(check) for check in checks],
    }
    print(json.dumps(document))
    sys.exit(0 if all(check.holds for check in checks) else 1)
