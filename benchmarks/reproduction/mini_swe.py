"""mini-swe-agent with Gemini 3 Pro on SWE-bench Verified: what its runs cost, and that the ledger keeps every token.

The runs go the way of a user's: converted by the example, imported as a chat log, read back from the store. What the
files themselves say, call by call, is read apart from that, so that nothing of our reading is compared with itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from reproduction import leaderboard
from reproduction.comparison import Figure, Section
from tokenomics_plugin.cells import cells_of
from tokenomics_plugin.importing import import_chat
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.statistics import ratio_of_sums
from tokenomics_plugin.store import TraceStore

__all__ = ["FOLDER", "LoggedUsage", "ledger_tokens", "logged_usage", "reproduce"]

FOLDER = "trajectories/mini-swe-gemini3pro"
_CONVERTER = Path(__file__).resolve().parents[2] / "examples" / "convert_mini_swe.py"
_MODEL = "Gemini 3 Pro"
_CONVERTER_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class LoggedUsage:
    """What one run's file says that it used."""

    is_resolved: bool
    """Whether its patch passed."""
    run_usd: float
    """`info.model_stats.instance_cost`, the published cost."""
    calls_usd: float
    """Sum of the calls' own `usage.cost`."""
    calls_without_usd: int
    """Calls of which it says no cost."""
    prompt_tokens: int
    """Tokens sent, cached ones too."""
    cached_tokens: int
    """Those of them that the provider had cached."""
    tokens: int
    """Prompt and completion."""
    contradictory_calls: int
    """Calls with more reasoning than output: the ledger knows their tokens not to be known."""
    contradictory_tokens: int
    """Prompt and completion of these."""


def logged_usage(folder: Path) -> dict[str, LoggedUsage]:
    """What the files say, by instance."""
    instances = json.loads((folder / "results_dev.json").read_text(encoding="utf-8"))["instances"]
    resolved = {instance["instance_id"] for instance in instances if instance["resolved"]}
    logs = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("trajs/*/*.traj.json")))
    return {log["instance_id"]: _usage_of(log, is_resolved=log["instance_id"] in resolved) for log in logs}


def ledger_tokens(folder: Path) -> dict[str | None, int]:
    """What the ledger's cells add up to, by instance, after conversion, import and storage."""
    with TemporaryDirectory() as scratch:
        log = Path(scratch) / "runs.jsonl"
        with log.open("wb") as lines:
            command = list(map(str, (sys.executable, _CONVERTER, folder / "trajs", folder / "results_dev.json")))
            subprocess.run(command, stdout=lines, check=True, timeout=_CONVERTER_SECONDS)
        with TraceStore(Path(scratch) / "runs.duckdb") as store:
            with log.open("rb") as lines:
                import_chat(store, lines)
            prices = PriceBook()
            return {
                trajectory.task_id: sum(cell.tokens for cell in cells_of(trajectory, prices))
                for trajectory in store.trajectories()
            }


def reproduce(data: Path) -> Section:
    """Compute the published figures again."""
    usage = logged_usage(data / FOLDER)
    cells = ledger_tokens(data / FOLDER)
    published = _published(data, usage)
    return Section(
        title="SWE-bench Verified, mini-swe-agent 1.15.0 with Gemini 3 Pro",
        basis=f"{len(usage)} of the 500 published runs; USD and tokens as logged",
        figures=[
            *_outcomes(usage, published),
            *_costs(usage, published),
            *_per_success(usage.values(), published),
            *_conservation(usage, cells),
        ],
    )


def _usage_of(log: Mapping[str, Any], *, is_resolved: bool) -> LoggedUsage:
    calls = [said["extra"]["response"]["usage"] for said in log["messages"] if said["role"] == "assistant"]
    contradictory = [
        call for call in calls if call["completion_tokens_details"]["reasoning_tokens"] > call["completion_tokens"]
    ]
    return LoggedUsage(
        is_resolved=is_resolved,
        run_usd=float(log["info"]["model_stats"]["instance_cost"]),
        calls_usd=sum(call.get("cost") or 0.0 for call in calls),
        calls_without_usd=sum(call.get("cost") is None for call in calls),
        prompt_tokens=sum(call["prompt_tokens"] for call in calls),
        cached_tokens=sum(call["prompt_tokens_details"]["cached_tokens"] for call in calls),
        tokens=_tokens(calls),
        contradictory_calls=len(contradictory),
        contradictory_tokens=_tokens(contradictory),
    )


def _tokens(calls: Sequence[Mapping[str, int]]) -> int:
    return sum(call["prompt_tokens"] + call["completion_tokens"] for call in calls)


def _published(data: Path, usage: Mapping[str, LoggedUsage]) -> tuple[int, float] | None:
    """Resolved and USD of these instances on the leaderboard; `None` where it is absent or lacks one of them."""
    if not (data / leaderboard.FILE).exists():
        return None
    for entry in leaderboard.entries(data / leaderboard.FILE):
        if entry.name.startswith(_MODEL) and usage.keys() <= entry.contender.results.keys():
            results = [entry.contender.results[instance] for instance in usage]
            return sum(result.is_success for result in results), sum(result.cost for result in results)
    return None


def _outcomes(usage: Mapping[str, LoggedUsage], published: tuple[int, float] | None) -> Iterator[Figure]:
    yield Figure(name="runs", ours=len(usage), published=239)
    yield Figure(
        name="resolved",
        ours=sum(run.is_resolved for run in usage.values()),
        published=published and published[0],
        note="the leaderboard's record of the same instances",
    )
    prompt = sum(run.prompt_tokens for run in usage.values())
    cached = sum(run.cached_tokens for run in usage.values())
    yield Figure(name="% of prompt tokens cached", ours=100 * cached / prompt, published=84, tolerance=0.5)


def _costs(usage: Mapping[str, LoggedUsage], published: tuple[int, float] | None) -> Iterator[Figure]:
    silent = sum(run.calls_without_usd for run in usage.values())
    yield Figure(
        name="$ by the runs' instance_cost",
        ours=sum(run.run_usd for run in usage.values()),
        published=published and published[1],
        tolerance=1e-6,
        note="the leaderboard's record of the same instances",
    )
    yield Figure(
        name="$ by the calls' usage.cost",
        ours=sum(run.calls_usd for run in usage.values()),
        published=224.49,
        is_checked=False,
        note=f"published of all 500 runs; {silent} calls here say no cost, so that this is a part",
    )


def _conservation(usage: Mapping[str, LoggedUsage], cells: Mapping[str | None, int]) -> Iterator[Figure]:
    broken = sum(run.contradictory_calls for run in usage.values())
    yield Figure(
        name="runs whose cells sum to their tokens",
        ours=sum(cells.get(name) == run.tokens - run.contradictory_tokens for name, run in usage.items()),
        published=len(usage),
        note=f"without {broken} calls that report more reasoning than output: unknown, not guessed",
    )
    yield Figure(
        name="the same, those calls counted too",
        ours=sum(cells.get(name) == run.tokens for name, run in usage.items()),
        published=len(usage),
        is_checked=False,
        note=f"{sum(run.contradictory_calls > 0 for run in usage.values())} runs have such calls",
    )


def _per_success(runs: Iterable[LoggedUsage], published: tuple[int, float] | None) -> Iterator[Figure]:
    ratio = ratio_of_sums((run.run_usd, run.is_resolved) for run in runs)
    yield Figure(
        name="$ a success by instance_cost",
        ours=ratio.estimate,
        published=published and published[1] / published[0],
        tolerance=1e-6,
    )
    yield Figure(name="  its 95 % set, low", ours=ratio.confidence_set.low, note="Fieller, an instance a cluster")
    yield Figure(name="  its 95 % set, high", ours=ratio.confidence_set.high)
