"""The matrix: each scenario, in each way and mode that applies to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Final

from scenarios.agents import AGENTS
from scenarios.caches import CACHES
from scenarios.cancellations import CANCELLATIONS
from scenarios.closings import CLOSINGS
from scenarios.errors import ERRORS
from scenarios.hand_offs import HAND_OFFS
from scenarios.interrupts import INTERRUPTS
from scenarios.invariants import broken_rules
from scenarios.parallel import PARALLEL
from scenarios.plans import PLANS
from scenarios.recording import Recording, record, untraced
from scenarios.retries import RETRIES
from scenarios.scenario import Scenario
from scenarios.stage import Mode
from scenarios.streams import STREAMS
from scenarios.tree import draw
from scenarios.ways import WAYS, Way

__all__ = ["SCENARIOS", "Case", "cases"]

_FAMILIES: Final = (
    AGENTS,
    PARALLEL,
    STREAMS,
    CLOSINGS,
    CANCELLATIONS,
    ERRORS,
    RETRIES,
    INTERRUPTS,
    HAND_OFFS,
    PLANS,
    CACHES,
)
SCENARIOS: Final[Sequence[Scenario]] = tuple(scenario for family in _FAMILIES for scenario in family.all)
"""All of them."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run of one scenario."""

    scenario: Scenario
    """What is run."""
    way: Way
    """How it is traced."""
    mode: Mode
    """How it is run."""

    def __str__(self) -> str:
        return f"{self.scenario.family}: {self.scenario.name} [{self.way.name}, {self.mode.value}]"

    def record(self) -> Recording:
        """Run it."""
        return record(self.scenario, self.mode, self.way)

    def problems(self, recording: Recording) -> list[str]:
        """Everything that is wrong with what came of it; the tree first, as a difference."""
        bare = untraced(self.scenario, self.mode)
        expected = type(None) if self.scenario.raises is None else self.scenario.raises
        if not isinstance(bare.error, expected):
            return [f"the program itself goes wrong, untraced: {bare.outcome}"]
        return [*self._difference(recording), *broken_rules(self.scenario, recording, bare)]

    def _difference(self, recording: Recording) -> Iterator[str]:
        scenario = self.scenario
        right = scenario.right_tree(self.mode, self.way)
        drawn = draw(recording.spans, shows=scenario.shows, in_any_order=scenario.in_any_order)
        if drawn != right:
            lines = unified_diff(right.splitlines(), drawn.splitlines(), "right", "drawn", n=99, lineterm="")
            yield "\n".join(lines)


def cases() -> Iterator[Case]:
    """All of them. Ways that are used together run in one mode of a scenario only, another one in turn."""
    for number, scenario in enumerate(SCENARIOS):
        for place, way in enumerate(WAYS):
            modes = scenario.modes
            if way.is_several:
                modes = (modes[(number + place) % len(modes)],)
            for mode in modes if scenario.is_open_to(way) else ():
                yield Case(scenario=scenario, way=way, mode=mode)
