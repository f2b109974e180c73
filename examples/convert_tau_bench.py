"""Historical trajectories of tau-bench as a chat log: `python convert_tau_bench.py gpt-4o-airline.json > runs.jsonl`.

Then `tokenomics import --format chat runs.jsonl`. The files hold neither token counts nor times nor the tools'
definitions: those stay unknown. `info.user_cost` is what the simulated customer cost, not the agent, and is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert tau-bench trajectories to a chat log on stdout.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", default="gpt-4o", help="the agent's model, which the files do not name")
    parser.add_argument("--provider", default="openai")
    arguments = parser.parse_args()
    for path in arguments.files:
        for result in json.loads(path.read_text(encoding="utf-8")):
            run = converted(result, path.stem)
            print(json.dumps({"provider": arguments.provider, "model": arguments.model, **run}))


def converted(result: dict[str, Any], domain: str) -> dict[str, Any]:
    """One run of the file as one line of the log."""
    return {
        "task_id": f"{domain}/{result['task_id']}",
        "trial": result["trial"],
        "agent": "tau-bench",
        "messages": list(messages(result["traj"])),
        "outcome": {"success": result["reward"] == 1, "score": result["reward"], "evaluator": "tau-bench"},
    }


def messages(trajectory: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The messages are in OpenAI form already; the environment's tools begin an error with that word."""
    for message in trajectory:
        is_error = message["role"] == "tool" and message["content"].startswith("Error")
        yield {**message, "error": True} if is_error else message


if __name__ == "__main__":
    main()
