"""What `import tokenomics_plugin` costs and brings in, each time in a fresh interpreter.

Every program that is traced pays this once, at start. The limit is OpenTelemetry's own SDK, without which there
is nothing to trace with, so its import is measured beside ours, interleaved.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from closing import Check, close

STATEMENTS = {
    "tokenomics_plugin": "import tokenomics_plugin",
    "opentelemetry-sdk": "import opentelemetry.sdk.trace, opentelemetry.sdk._logs, opentelemetry.sdk.metrics",
}
FORBIDDEN = ("pandas", "duckdb", "torch", "langchain", "langchain_core", "langgraph", "transformers", "starlette")
PROGRAM = """
import json, sys, time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
print(json.dumps([seconds, [name for name in {forbidden!r} if name in sys.modules]]))
"""


def measure(statement: str) -> tuple[float, list[str]]:
    """Milliseconds that the import took, and which forbidden modules it brought in."""
    program = PROGRAM.format(statement=statement, forbidden=FORBIDDEN)
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    seconds, imported = json.loads(printed)
    return 1000 * seconds, imported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    repeat = parser.parse_args().repeat
    for statement in STATEMENTS.values():
        measure(statement)  # warm the file cache
    samples: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    imported: list[str] = []
    for _ in range(repeat):
        for name, statement in STATEMENTS.items():
            milliseconds, found = measure(statement)
            samples[name].append(milliseconds)
            imported += found if name == "tokenomics_plugin" else []
    medians = {name: statistics.median(values) for name, values in samples.items()}
    for name, values in samples.items():
        print(f"{name:20} median {medians[name]:7.1f} ms   min {min(values):7.1f}   max {max(values):7.1f}")
    names = sorted(set(imported))
    close(
        "import_time",
        packages=["opentelemetry-sdk"],
        figures={f"{name}: median ms": round(value, 1) for name, value in medians.items()},
        checks=[Check(name="forbidden modules imported", value=names, goal="none", holds=not names)],
    )


if __name__ == "__main__":
    main()
