"""Run every scenario through every way in, and print a row for each: what holds of it, way by way.

A cell is `ok` when all modes are right: the tree of spans is the one that the scenario says, and everything holds
that holds for every run. Otherwise it names the modes that are wrong, and what is wrong follows the table. The last
line of stdout is one JSON document; the exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

from closing import Check, close
from scenarios.cases import SCENARIOS, Case, cases
from scenarios.scenario import Scenario
from scenarios.ways import WAYS, Way

_NAME_WIDTH: Final = max(len(scenario.name) for scenario in SCENARIOS)
_NOT_APPLICABLE: Final = """
n/a: the program has no agent or graph that a middleware or trace_graph could go into, or these versions of the
frameworks cannot run it. Ways that are used together run in one of the modes."""


def main() -> None:
    """Run all, print all, and end the process."""
    started = time.perf_counter()
    results = list(_print_rows())
    print(_NOT_APPLICABLE, *_explained(results), sep="\n")
    close(
        "scenarios",
        packages=("langchain", "langchain-core", "langgraph", "opentelemetry-sdk"),
        figures={
            "scenarios": len(results),
            "runs": sum(len(result.problems) for result in results),
            "wrong_runs": sum(result.wrong_runs for result in results),
            "spans": sum(result.spans for result in results),
            "seconds": round(time.perf_counter() - started, 1),
        },
        checks=[result.check() for result in results if result.problems],
    )


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What came of one scenario."""

    scenario: Scenario
    problems: Mapping[Case, Sequence[str]]
    """Of each run; nothing, where it is right."""
    spans: int

    @property
    def wrong_runs(self) -> int:
        return sum(map(bool, self.problems.values()))

    def row(self) -> str:
        cells = [f"{self._cell(way):{len(way.name)}}" for way in WAYS]
        modes = " ".join(mode.value for mode in self.scenario.modes)
        return "  ".join([f"{self.scenario.name:{_NAME_WIDTH}}", *cells, modes])

    def check(self) -> Check:
        right = len(self.problems) - self.wrong_runs
        return Check(
            name=f"{self.scenario.family}: {self.scenario.name}",
            value=f"{right} of {len(self.problems)} runs right",
            goal="all",
            holds=self.wrong_runs == 0,
        )

    def _cell(self, way: Way) -> str:
        problems = {case.mode: found for case, found in self.problems.items() if case.way is way}
        wrong = [mode.value for mode, found in problems.items() if found]
        return f"WRONG {' '.join(wrong)}" if wrong else "ok" if problems else "n/a"


def _print_rows() -> Iterator[_Result]:
    print(f"{'':{_NAME_WIDTH}}", *(way.name for way in WAYS), "modes", sep="  ")
    cases_of: dict[Scenario, list[Case]] = defaultdict(list)
    for case in cases():
        cases_of[case.scenario].append(case)
    for family, scenarios in groupby(SCENARIOS, lambda scenario: scenario.family):
        print(f"\n{family}")
        for scenario in scenarios:
            result = _run(scenario, cases_of[scenario])
            print(result.row(), flush=True)
            yield result


def _run(scenario: Scenario, its_cases: Sequence[Case]) -> _Result:
    recordings = {case: case.record() for case in its_cases}
    return _Result(
        scenario=scenario,
        problems={case: case.problems(recording) for case, recording in recordings.items()},
        spans=sum(len(recording.spans) for recording in recordings.values()),
    )


def _explained(results: Sequence[_Result]) -> Iterator[str]:
    for result in results:
        cases_of: dict[str, list[Case]] = defaultdict(list)
        for case, problems in result.problems.items():
            for problem in problems:
                cases_of[problem].append(case)
        for problem, wrong in cases_of.items():
            yield f"\n{result.scenario.name}\n{problem}\n{_where(wrong)}"


def _where(wrong: Sequence[Case]) -> str:
    by_way = groupby(wrong, lambda case: case.way.name)
    return "; ".join(f"{way}: {' '.join(case.mode.value for case in cases)}" for way, cases in by_way)


if __name__ == "__main__":
    main()
