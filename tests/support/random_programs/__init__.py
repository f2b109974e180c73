"""Random programs of LangChain and LangGraph: drawn as data, built, and run the same way any number of times.

`python -m random_programs` prints what two hundred of them consist of.
"""

from __future__ import annotations

from random_programs.building import Tracing
from random_programs.running import Outcome, execute
from random_programs.specs import FEATURES, Graph, Program, features
from random_programs.strategies import RUNS, programs
from random_programs.world import HAPPENINGS, SECRET, WORK, World

__all__ = [
    "FEATURES",
    "HAPPENINGS",
    "RUNS",
    "SECRET",
    "WORK",
    "Graph",
    "Outcome",
    "Program",
    "Tracing",
    "World",
    "execute",
    "features",
    "programs",
]
