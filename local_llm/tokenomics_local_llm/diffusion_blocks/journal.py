"""What a fine-tuning run has done so far, in one JSON file that is replaced as a whole.

The journal says which file of each block counts. A visit's files are written first and count only once the journal
names them, so that a kill at any moment loses the running visit and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tokenomics_local_llm.diffusion_blocks.gate import Reading
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.shards import load_tensors, save_tensors
from tokenomics_local_llm.errors import LocalLLMError
from tokenomics_local_llm.whole_file import written_whole

__all__ = ["Attempt", "Journal", "ResumeError", "state_name"]


def state_name(block: int, number: int) -> str:
    """The file of a block's optimizer state after an attempt."""
    return f"block-{block}.{number}.adamw.safetensors"


class ResumeError(LocalLLMError, ValueError):
    """A folder holds a run with another model, other data or other settings."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A visit to a block, or a round of visits to all, and what the gate made of it."""

    blocks: list[int]
    """Those that were trained, each alone."""
    train_losses: list[float]
    """Mean loss of each."""
    tokens: int
    """Targets learned from, by all of them."""
    reading: Reading
    """Of the model with the change."""
    kept: bool
    """Whether the gate let it stay."""
    damping: float
    """Share of the change that was tried last; 1 for a single visit."""


@dataclass(kw_only=True)
class Journal:
    """A run's past."""

    path: Path
    """The file."""
    run: dict[str, Any]
    """What the run is: settings, model, data."""
    base: Reading
    """Of the model at the beginning."""
    attempts: list[Attempt] = field(default_factory=list)
    """In order."""
    weights: dict[int, str] = field(default_factory=dict)
    """The file with each block's weights; a block that is not here is the base model's."""
    optimizers: dict[int, str] = field(default_factory=dict)
    """The file with each block's optimizer state."""

    @property
    def best(self) -> Reading:
        """Of the model as it stands."""
        return next((attempt.reading for attempt in reversed(self.attempts) if attempt.kept), self.base)

    def rollbacks(self, block: int) -> int:
        """Attempts on this block that did not stay."""
        return sum(not attempt.kept for attempt in self.attempts if block in attempt.blocks)

    def state_before(self, block: int) -> Path | None:
        """The file with a block's optimizer state, if it has one."""
        return self.path.parent / self.optimizers[block] if block in self.optimizers else None

    def undo_file(self, partition: Partition, block: int) -> Path:
        """A file with the block's weights as they are, to go back to."""
        path = self.path.parent / self.weights.get(block, f"block-{block}.base.safetensors")
        if not path.exists():
            save_tensors(path, partition.tensors(block))
        return path

    def keep(self, partition: Partition, block: int, number: int) -> None:
        """Write down a block's weights, and let them and the optimizer state of that attempt count."""
        self.weights[block], self.optimizers[block] = f"block-{block}.{number}.safetensors", state_name(block, number)
        save_tensors(self.path.parent / self.weights[block], partition.tensors(block))

    def restore(self, partition: Partition) -> None:
        """Give every block the weights that count."""
        for block, name in self.weights.items():
            partition.load(block, load_tensors(self.path.parent / name))

    def write(self) -> None:
        """Replace the file, then remove the files that no longer count."""
        content = asdict(self)
        del content["path"]
        with written_whole(self.path) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")
        self._sweep()

    def check(self, run: Mapping[str, Any]) -> None:
        """Make sure that this is the journal of the same run.

        Raises:
            ResumeError: If it is another's.
        """
        differs = sorted(key for key in run.keys() | self.run.keys() if run.get(key) != self.run.get(key))
        if differs:
            raise ResumeError(
                f"{self.path.parent} holds a run that differs in {', '.join(differs)}: name another folder, or "
                "remove it"
            )

    @classmethod
    def load(cls, path: Path) -> Journal:
        """Read the file."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            path=path,
            run=content["run"],
            base=Reading(**content["base"]),
            attempts=[Attempt(**entry | {"reading": Reading(**entry["reading"])}) for entry in content["attempts"]],
            weights={int(block): name for block, name in content["weights"].items()},
            optimizers={int(block): name for block, name in content["optimizers"].items()},
        )

    def _sweep(self) -> None:
        counted = {*self.weights.values(), *self.optimizers.values()}
        for path in self.path.parent.glob("block-*.safetensors*"):
            if path.name not in counted:
                path.unlink(missing_ok=True)
