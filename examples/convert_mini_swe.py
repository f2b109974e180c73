"""mini-swe-agent on SWE-bench as a chat log: `python convert_mini_swe.py trajs results.json > runs.jsonl`.

Then `tokenomics import --format chat runs.jsonl`. The agent has one tool, bash, and writes its command into its
answer; the output comes back as a user's message. Here they are the call and the result that they stand for.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMMAND = re.compile(r"```bash\s*\n(.*?)\n```", re.DOTALL)


def main() -> None:
    folder, results = map(Path, sys.argv[1:])
    instances = json.loads(results.read_text(encoding="utf-8"))["instances"]
    resolved = {instance["instance_id"]: instance["resolved"] for instance in instances}
    for path in sorted(folder.glob("**/*.traj.json")):
        print(json.dumps(converted(json.loads(path.read_text(encoding="utf-8")), resolved)))


def converted(trajectory: dict[str, Any], resolved: dict[str, bool]) -> dict[str, Any]:
    """One trajectory as one line of the log."""
    instance, info = trajectory["instance_id"], trajectory["info"]
    provider, _, model = info["config"]["model"]["model_name"].removeprefix("@").partition("/")
    return {
        "task_id": instance,
        "group": instance.rpartition("-")[0].replace("__", "/"),  # the repository
        "agent": f"mini-swe-agent {info['mini_version']}",
        "provider": provider,
        "model": model,
        "cost": info["model_stats"]["instance_cost"],
        "messages": list(messages(trajectory["messages"])),
        # Of an instance that is not in the results nobody knows whether it is resolved.
        "outcome": {"success": resolved[instance], "evaluator": "SWE-bench"} if instance in resolved else None,
    }


def messages(said: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The conversation, with commands as tool calls."""
    asked = False
    for number, message in enumerate(said):
        if message["role"] == "assistant":
            commands = COMMAND.findall(message["content"])
            asked = len(commands) == 1  # of none, or of several, the agent runs nothing and asks again
            calls = [call(f"call-{number}", commands[0])] if asked else []
            yield {**answer(message), "tool_calls": calls}
        elif asked:
            # A non-zero status is what the log has for an error, though a grep that finds nothing has one too.
            is_error = message["content"].startswith("<returncode>") and "<returncode>0<" not in message["content"]
            yield {
                "role": "tool",
                "tool_call_id": f"call-{number - 1}",
                "content": message["content"],
                "error": is_error,
            }
        else:
            yield {"role": message["role"], "content": message["content"]}


def call(call_id: str, command: str) -> dict[str, Any]:
    return {"id": call_id, "function": {"name": "bash", "arguments": {"command": command}}}


def answer(message: dict[str, Any]) -> dict[str, Any]:
    response = message["extra"]["response"]
    return {
        "role": "assistant",
        "content": message["content"],
        "id": response["id"],
        "timestamp": response["created"],
        "usage": response["usage"],
    }


if __name__ == "__main__":
    main()
