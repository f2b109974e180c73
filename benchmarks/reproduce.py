"""Published figures beside ours, computed again from public data.

Each section reads one public data set and prints a table: our figure, the published one, and their difference. What
cannot be compared, because the published figure rests on other data or on tokens that cannot be counted here, is
printed and not checked. A data set that is absent is skipped, and said so. The last section reads none: there the
truth was planted, and bias and coverage of every estimator are printed.

The table is for people; the last line of stdout is one JSON document with the same figures and the checks.
The exit status is 1 if a check does not hold.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from closing import close
from reproduction import leaderboard, mini_swe, planted, tau_bench, who_and_when
from reproduction.comparison import Section, show

_DATA = "TOKENOMICS_SHARED_DATA"
_SECTIONS: dict[str, tuple[str, Callable[[Path], Section]]] = {
    "tau_bench": (tau_bench.FILE, tau_bench.reproduce),
    "mini_swe": (mini_swe.FOLDER, mini_swe.reproduce),
    "leaderboard": (leaderboard.FILE, leaderboard.reproduce),
    "who_and_when": (who_and_when.FOLDER, who_and_when.reproduce),
    "planted": (".", planted.reproduce),
}


def main() -> None:
    options = _options()
    present = {name: run for name, (path, run) in _SECTIONS.items() if (options.data / path).exists()}
    sections = {name: run(options.data) for name, run in present.items()}
    for section in sections.values():
        show(section)
    skipped = [name for name in _SECTIONS if name not in present]
    for name in skipped:
        print(f"\n{name}: skipped, {options.data / _SECTIONS[name][0]} is absent")
    print()
    close(
        "reproduce",
        packages=("numpy", "scipy"),
        figures={
            name: {figure.name: {"ours": figure.ours, "published": figure.published} for figure in section.figures}
            for name, section in sections.items()
        },
        checks=[check for section in sections.values() for check in section.checks()],
        bases={name: section.basis for name, section in sections.items()},
        skipped=skipped,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get(_DATA, beside)),
        help=f"folder of the public data sets; by default ${_DATA}, else %(default)s",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
