"""What a detector is. Yours needs nothing of ours but these names.

[project.entry-points."tokenomics_plugin.detectors"]
X1 = "your_package.detectors:YourDetector"
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import Trajectory
from tokenomics_plugin.waste.finding import Finding

__all__ = ["Detector", "Need"]


class Need(StrEnum):
    """What a trace must say for a detector to find anything. What it does not say is no finding."""

    HASHES = "hashes"
    """Fingerprints of arguments, results and answers."""
    CONTEXTS = "contexts"
    """The blocks that model calls carried."""
    SIDE_EFFECTS = "side_effects"
    """What tools do to the world; a tool of which nothing is declared counts as one that writes."""
    USAGE = "usage"
    """Token counts, cache reads among them."""
    ATTEMPTS = "attempts"
    """Which calls replaced which."""
    RUN_STATES = "run_states"
    """What was cancelled or abandoned."""
    STEP_KINDS = "step_kinds"
    """What each call was for: to verify, to reflect, to answer."""
    PLANS = "plans"
    """Plans, and which calls carried out their steps."""
    OUTCOME = "outcome"
    """What became of the task."""


class Detector(Protocol):
    """One cause of waste, and how to find it in a trajectory.

    A detector is built without arguments and keeps nothing between trajectories: it may be asked from several
    threads, about trajectories in any order.
    """

    @property
    def id(self) -> str:
        """What findings call it, such as `D1`; `D` and a number are ours."""
        ...

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def tier(self) -> Tier:
        """The strongest evidence that it ever claims."""
        ...

    @property
    def needs(self) -> frozenset[Need]:
        """What a trace must say for it to find anything."""
        ...

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """What it finds, in no particular order.

        Args:
            trajectory: One task's work in one trace.
        """
        ...
