"""The converters on the public logs that they are for, against the figures that were published of these.

A log's own sums are taken from the files here, so that nothing of our reading is compared with itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import chain
from math import comb
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared_data import trajectories
from tokenomics_plugin.importing.chat_log import ChatRun, read_run
from tokenomics_plugin.otlp_json import to_json
from tokenomics_plugin.store import TraceStore

EXAMPLES = Path(__file__).parent.parent / "examples"
COMMAND = [sys.executable, "-m", "tokenomics_plugin.cli"]

Imported = Callable[..., dict[str, Any]]


@pytest.fixture
def imported(tmp_path: Path) -> Imported:
    """Converts, imports and reports, each by its command; gives the report."""

    def imported(converter: str, *arguments: Path, form: str = "chat") -> dict[str, Any]:
        log, db = tmp_path / "runs.jsonl", tmp_path / "runs.duckdb"
        with log.open("wb") as file:
            subprocess.run([sys.executable, EXAMPLES / converter, *arguments], stdout=file, check=True, timeout=120)
        return reported(log, db, form)

    return imported


def reported(log: Path, db: Path, form: str) -> dict[str, Any]:
    subprocess.run([*COMMAND, "import", "--db", db, "--format", form, log], check=True, timeout=240)
    done = subprocess.run(
        [*COMMAND, "report", "--db", db, "--format", "json"], check=True, timeout=120, capture_output=True, text=True
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def succeeded(report: dict[str, Any]) -> int:
    return sum(task["status"] == "succeeded" for task in report["tasks"])


def pass_hat(report: dict[str, Any], k: int) -> float:
    """The unbiased estimate of pass^k over the tasks, the groups of their trials."""
    groups: dict[str, list[bool]] = {}
    for task in report["tasks"]:
        groups.setdefault(task["group"], []).append(task["status"] == "succeeded")
    return sum(comb(sum(trials), k) / comb(len(trials), k) for trials in groups.values()) / len(groups)


@pytest.mark.shared_data
def test_tau_bench_has_the_published_successes_and_no_token_counts(imported: Imported) -> None:
    folder = trajectories("tau-bench-gpt4o-airline")
    [file] = folder.glob("historical_trajectories/*.json")
    results = json.loads(file.read_text(encoding="utf-8"))

    report = imported("convert_tau_bench.py", file)

    assert (len(report["tasks"]), report["traces"], succeeded(report)) == (200, 200, 84)
    assert [round(pass_hat(report, k), 4) for k in (1, 2, 3, 4)] == [0.42, 0.2733, 0.22, 0.2]
    said = list(chain.from_iterable(result["traj"] for result in results))
    total = report["total"]
    assert total["calls"] == sum(message["role"] == "assistant" for message in said)
    assert total["errors"] == sum(
        message["role"] == "tool" and message["content"].startswith("Error") for message in said
    )
    assert (total["calls_with_usage"], total["cost_usd"]) == (0, None)


@pytest.mark.shared_data
def test_mini_swe_agent_has_the_published_runs_costs_and_cached_share(imported: Imported, tmp_path: Path) -> None:
    folder = trajectories("mini-swe-gemini3pro")
    usages = list(of_mini_swe(folder))

    report = imported("convert_mini_swe.py", folder / "trajs", folder / "results_dev.json")

    assert (len(report["tasks"]), succeeded(report)) == (239, 174)
    # Of 7 calls the provider counted more reasoning than output: those are kept apart, and in no sum of tokens.
    whole = [usage for usage in usages if reasoning(usage) <= usage["completion_tokens"]]
    total = report["total"]
    assert (total["calls"], total["calls_with_usage"]) == (len(usages), len(whole)) == (9666, 9659)
    tokens = total["tokens"]
    assert tokens["input"] + tokens["cache_read"] == sum(usage["prompt_tokens"] for usage in whole)
    assert tokens["cache_read"] == sum(cached(usage) for usage in whole)
    assert tokens["output"] + tokens["reasoning"] == sum(usage["completion_tokens"] for usage in whole)
    assert round(tokens["cache_read"] / (tokens["input"] + tokens["cache_read"]), 3) == 0.839

    per_message, per_run = costs(tmp_path / "runs.duckdb")
    assert round(sum(per_message), 4) == Decimal("107.9271")
    assert sum(map(float, per_message)) == pytest.approx(sum(usage.get("cost", 0) for usage in usages), rel=1e-12)
    assert len(per_message) == len(usages) - 210  # of six runs over another gateway it says no cost
    assert (len(per_run), round(sum(per_run), 4)) == (239, Decimal("109.8490"))


def of_mini_swe(folder: Path) -> Iterator[dict[str, Any]]:
    for path in folder.glob("trajs/*/*.traj.json"):
        for message in json.loads(path.read_text(encoding="utf-8"))["messages"]:
            if message["role"] == "assistant":
                yield message["extra"]["response"]["usage"]


def reasoning(usage: dict[str, Any]) -> int:
    return int(usage["completion_tokens_details"]["reasoning_tokens"])


def cached(usage: dict[str, Any]) -> int:
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def costs(db: Path) -> tuple[list[Decimal], list[Decimal]]:
    """What calls cost, and what runs cost, as their logs said."""
    import duckdb

    with duckdb.connect(str(db), read_only=True) as connection:
        query = "SELECT SpanAttributes[?] FROM otel_traces WHERE SpanAttributes[?] <> ''"
        names = ("tokenomics.usage.cost", "tokenomics.run.cost")
        calls, runs = ([Decimal(text) for (text,) in connection.execute(query, [n, n]).fetchall()] for n in names)
    return calls, runs


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "successes", "runs", "cost"),
    [
        ("airline__claude-sonnet-4-5__45651a42", 36, 50, "14.443248"),
        ("airline__ollama_chat_qwen2.5_7b__b4e983fc", 9, 50, "0"),
        ("airline__gpt-4.1__83e60796", 10, 20, "0.783268"),
        ("telecom__gpt-4.1__e27af7ee", 18, 40, "3.11103"),
    ],
    ids=lambda value: value if isinstance(value, str) and "__" in value else "",
)
def test_tau2_has_the_published_success_and_cost_of_the_agent(
    imported: Imported, name: str, successes: int, runs: int, cost: str
) -> None:
    file = trajectories("tau2-multi") / f"{name}.json"
    simulations = json.loads(file.read_text(encoding="utf-8"))["simulations"]
    said = [message for simulation in simulations for message in simulation["messages"]]
    usages = [message["usage"] for message in said if message["role"] == "assistant"]
    known = [usage for usage in usages if usage is not None]

    report = imported("convert_tau2.py", file)

    assert (len(report["tasks"]), succeeded(report)) == (runs, successes)
    total = report["total"]
    assert Decimal(total["priced_cost_usd"]) == Decimal(cost)
    assert float(cost) == pytest.approx(sum(simulation["agent_cost"] for simulation in simulations))
    # The greeting that no model wrote has no usage: unknown, and so is the cost of all calls together.
    assert (total["calls"], total["calls_with_usage"]) == (len(usages), len(known))
    assert len(usages) - len(known) == runs
    assert total["cost_usd"] is None
    assert total["tokens"]["input"] == sum(usage["prompt_tokens"] for usage in known)
    assert total["tokens"]["output"] == sum(usage["completion_tokens"] for usage in known)


@pytest.mark.shared_data
def test_a_second_import_of_a_converted_log_adds_nothing(imported: Imported, tmp_path: Path) -> None:
    file = trajectories("tau2-multi") / "airline__gpt-4.1__83e60796.json"
    first = imported("convert_tau2.py", file)

    assert imported("convert_tau2.py", file) == first


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "output"),
    [("ott-llmetry", 100), ("ott-llmetry-local", 86), ("ott-langsmith", 104), ("ott-lit", 117)],
)
def test_one_program_under_other_instrumentations_has_its_tokens_once(tmp_path: Path, name: str, output: int) -> None:
    """Its two prompts have 39 and 38 tokens under each; the answers were sampled anew, so their lengths differ."""
    file = trajectories("otel-llm-bakeoff") / "output" / f"{name}.json"
    sent = [each["pbreq"] for each in json.loads(file.read_text(encoding="utf-8"))["trace_requests"]]
    log = tmp_path / "spans.jsonl"
    lines = [to_json(json_format.ParseDict(request, ExportTraceServiceRequest())) for request in sent]
    log.write_text("\n".join(lines), encoding="utf-8")

    total = reported(log, tmp_path / "x.duckdb", "openinference")["total"]

    assert (total["calls"], total["tokens"]["input"], total["tokens"]["output"]) == (2, 77, output)
    with TraceStore(tmp_path / "x.duckdb", read_only=True) as store:
        assert {span.usage is not None for span in store.spans() if not span.is_billed} <= {False}


def converted(converter: str, *arguments: Path) -> list[ChatRun]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / converter, *arguments], capture_output=True, check=True, timeout=60
    )
    return [read_run(line) for line in done.stdout.splitlines()]


def test_a_run_of_tau_bench_keeps_its_messages_and_marks_its_errors(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "book", "arguments": "{}"}}
    said = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "name": "book", "content": "Error: full"},
        {"role": "user", "content": "Error? Oh."},
    ]
    result = {"task_id": 3, "trial": 2, "reward": 0.0, "traj": said, "info": {"user_cost": 1.0}}
    (tmp_path / "shop.json").write_text(json.dumps([result]), encoding="utf-8")

    [run] = converted("convert_tau_bench.py", tmp_path / "shop.json")

    assert (run.task_id, run.group, run.model, run.cost) == ("shop/3#2", "shop/3", "gpt-4o", None)
    assert [message.is_error for message in run.messages] == [False, True, False]
    assert run.outcome is not None
    assert run.outcome["success"] is False


@pytest.mark.parametrize("reward", [1.0, None], ids=["solved", "not-judged"])
def test_a_run_of_tau2_leaves_out_the_customers_side(tmp_path: Path, reward: float | None) -> None:
    common = {"content": "x", "timestamp": "2025-01-01T00:00:00.5", "cost": 0.25, "tool_calls": None}
    users_call = [{"id": "u", "name": "look", "arguments": {}, "requestor": "user"}]
    said = [
        {**common, "role": "assistant", "usage": None, "cost": 0.0},
        {**common, "role": "user", "usage": {"prompt_tokens": 5, "completion_tokens": 5}, "tool_calls": users_call},
        {**common, "role": "tool", "id": "u", "requestor": "user", "error": False},
        {**common, "role": "user", "usage": None},
        {**common, "role": "assistant", "usage": {"prompt_tokens": 9, "completion_tokens": 2}},
    ]
    simulation = {
        "id": "s1",
        "task_id": "7",
        "start_time": "2025-01-01T00:00:00",
        "end_time": "2025-01-01T00:01:00",
        "agent_cost": 0.25,
        "reward_info": None if reward is None else {"reward": reward},
        "messages": said,
    }
    info = {
        "agent_info": {"llm": "ollama_chat/qwen:7b", "implementation": "llm_agent"},
        "environment_info": {"domain_name": "shop", "policy": "rules"},
    }
    (tmp_path / "r.json").write_text(json.dumps({"info": info, "simulations": [simulation]}), encoding="utf-8")

    [run] = converted("convert_tau2.py", tmp_path / "r.json")

    assert (run.task_id, run.provider, run.model, str(run.cost)) == ("shop/7#s1", "ollama", "qwen:7b", "0.25")
    assert [message.role for message in run.messages] == ["system", "assistant", "user", "assistant"]
    assert [message.cost and str(message.cost) for message in run.messages] == [None, None, None, "0.25"]
    assert (run.outcome is None) == (reward is None)


def test_a_run_of_mini_swe_agent_has_its_commands_as_tool_calls(tmp_path: Path) -> None:
    def answer(text: str) -> dict[str, Any]:
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "cost": 0.5}
        return {"role": "assistant", "content": text, "extra": {"response": {"id": "r", "created": 5, "usage": usage}}}

    said = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "task"},
        answer("try\n```bash\nls -l\n```"),
        {"role": "user", "content": "<returncode>2</returncode>"},
        answer("no command"),
        {"role": "user", "content": "give one command"},
    ]
    config = {"model": {"model_name": "@google/gemini"}}
    info = {"config": config, "mini_version": "1", "model_stats": {"instance_cost": 1.25}}
    trajectory = {"instance_id": "a-b__c-12", "info": info, "messages": said}
    (tmp_path / "x.traj.json").write_text(json.dumps(trajectory), encoding="utf-8")
    (tmp_path / "r.json").write_text(json.dumps({"instances": []}), encoding="utf-8")

    [run] = converted("convert_mini_swe.py", tmp_path, tmp_path / "r.json")

    assert (run.task_id, run.group, run.provider, run.model) == ("a-b__c-12", "a-b/c", "google", "gemini")
    assert [message.role for message in run.messages] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert [message.is_error for message in run.messages] == [False, False, False, True, False, False]
    assert [call.arguments for message in run.messages for call in message.calls] == [{"command": "ls -l"}]
    assert run.outcome is None
