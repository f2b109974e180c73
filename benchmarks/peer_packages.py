"""Packages of peers, each set in a folder of its own, so that benchmarks find them and nothing else changes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["FOLDERS", "QUANTIZED_CACHES", "PeerPackages", "environment_with", "restart_with"]

FOLDERS: Final = Path(__file__).parents[1] / ".venv-peers"
"""Where all of them are, by name."""


@dataclass(frozen=True, kw_only=True)
class PeerPackages:
    """Packages that are installed together, on top of the environment that a benchmark runs in."""

    name: str
    """Of their folder."""
    requirements: Sequence[str]
    """All that they need and this environment lacks, by exact versions: nothing else is resolved."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment of pip, for what is compiled."""

    def folder(self) -> Path | None:
        """Where they are, installed if they were not; None, with the reason on stderr, where they cannot be."""
        folder = FOLDERS / self.name
        stamp = folder / "requirements.txt"
        wanted = [f"python{sys.version_info.major}.{sys.version_info.minor}", *self.requirements]
        if stamp.exists() and stamp.read_text(encoding="utf-8").split() == wanted:
            return folder
        print(f"installing {', '.join(self.requirements)} into {folder}", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*pip, "--upgrade", "--target", str(folder), *self.requirements],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.variables},
        )
        if done.returncode:
            print(f"{self.name} could not be installed, and is left out:\n{done.stderr[-2_000:]}", file=sys.stderr)
            return None
        stamp.write_text("\n".join(wanted), encoding="utf-8")
        return folder


QUANTIZED_CACHES: Final = PeerPackages(
    name="quantized_caches",
    requirements=(
        "optimum-quanto==0.2.7",
        "hqq==0.2.8.post1",
        "accelerate==1.15.0",
        "einops==0.8.2",
        "ninja==1.13.2",
        "termcolor==3.3.0",
    ),
)
"""The backends of transformers' QuantizedCache."""


def environment_with(folder: Path) -> dict[str, str]:
    """This process's variables, for one that can also import what is in a folder."""
    paths = filter(None, [str(folder), os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def restart_with(packages: PeerPackages) -> None:
    """Go on in a process that can import them: transformers looks for its backends while it is imported."""
    folder = packages.folder()
    if folder is None or str(folder) in sys.path:
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment_with(folder))
