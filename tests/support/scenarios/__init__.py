"""Small programs of LangChain and LangGraph, each with the spans that are right for it.

`python -m scenarios` runs all of them through every way in, and prints a row for each.
"""

from __future__ import annotations

from scenarios.cases import SCENARIOS, Case, cases
from scenarios.recording import Outcome, Recording, record, untraced
from scenarios.scenario import Scenario
from scenarios.stage import Mode, Stage
from scenarios.ways import UNTRACED, WAYS, Way

__all__ = [
    "SCENARIOS",
    "UNTRACED",
    "WAYS",
    "Case",
    "Mode",
    "Outcome",
    "Recording",
    "Scenario",
    "Stage",
    "Way",
    "cases",
    "record",
    "untraced",
]
