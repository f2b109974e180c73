"""Print what random programs consist of."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings

from random_programs import FEATURES, RUNS, Program, features, programs


def main() -> None:
    """Draw fourteen of each kind of run, and count what occurs in how many."""
    seen: Counter[str] = Counter()
    for number, run in enumerate(RUNS):

        @seed(number)
        @settings(max_examples=14, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(programs(*run))
        def look(program: Program) -> None:
            seen.update(features(program))

        look()
    for feature in sorted(FEATURES, key=lambda feature: -seen[feature]):
        print(f"{seen[feature]:4} {feature}")


if __name__ == "__main__":
    main()
