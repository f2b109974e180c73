"""Result files of tau2-bench as a chat log: `python convert_tau2.py results.json > runs.jsonl`.

Then `tokenomics import --format chat runs.jsonl`. Usage that is null, as on the greeting that no model wrote, stays
unknown. What the simulated customer spent, and the tools on the customer's own phone, are none of the agent's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAKERS = {"claude": "anthropic", "gpt": "openai", "o3": "openai", "o4": "openai", "gemini": "google"}


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        results = json.loads(path.read_text(encoding="utf-8"))
        for simulation in results["simulations"]:
            print(json.dumps(converted(simulation, results["info"])))


def converted(simulation: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """One simulation as one line of the log."""
    prefix, _, model = info["agent_info"]["llm"].rpartition("/")  # as LiteLLM names models: ollama_chat/qwen2.5:7b
    domain, reward = info["environment_info"]["domain_name"], (simulation["reward_info"] or {}).get("reward")
    # The policy is most of the agent's system prompt, and all of it that the file keeps.
    system = {"role": "system", "content": info["environment_info"]["policy"]}
    return {
        "task_id": f"{domain}/{simulation['task_id']}",
        "run_id": simulation["id"],
        "agent": info["agent_info"]["implementation"],
        "provider": prefix.removesuffix("_chat") or MAKERS.get(model.partition("-")[0]),
        "model": model,
        "started": instant(simulation["start_time"]),
        "ended": instant(simulation["end_time"]),
        "cost": simulation["agent_cost"],
        "messages": [system, *messages(simulation["messages"])],
        "outcome": None if reward is None else {"success": reward == 1, "score": reward, "evaluator": "tau2-bench"},
    }


def messages(simulated: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the agent saw and said, in OpenAI form."""
    for message in simulated:
        if message.get("requestor") == "user" or (message["role"] == "user" and message.get("tool_calls")):
            continue
        common = {"role": message["role"], "content": message["content"], "timestamp": instant(message["timestamp"])}
        if message["role"] == "assistant":
            yield common | {"tool_calls": list(map(tool_call, message["tool_calls"] or ())), "usage": usage(message)}
        elif message["role"] == "tool":
            yield common | {"tool_call_id": message["id"], "error": message["error"]}
        else:
            yield common


def tool_call(call: dict[str, Any]) -> dict[str, Any]:
    return {"id": call["id"], "function": {"name": call["name"], "arguments": call["arguments"]}}


def usage(message: dict[str, Any]) -> dict[str, Any] | None:
    return None if message["usage"] is None else {**message["usage"], "cost": message["cost"]}


def instant(local: str | None) -> str | None:
    """Times are of the clock of whoever ran it, in no named zone; taken as UTC."""
    return None if local is None else f"{local}+00:00"


if __name__ == "__main__":
    main()
