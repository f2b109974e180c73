"""Chat logs of tau-bench as trajectories, in which keyed fingerprints stand for what was said."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tokenomics_plugin.context_blocks import ContextBlock
from tokenomics_plugin.fingerprint import Fingerprinter
from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.trajectory import ModelCall, SideEffects, Step, ToolCall, Trajectory

__all__ = ["AIRLINE", "AIRLINE_TOOLS", "tau_bench"]

_ROOT: Final = Path(__file__).parents[3]
_DATA: Final = Path(os.environ.get("TOKENOMICS_SHARED_DATA") or _ROOT.parent / "shared" / "data")
AIRLINE: Final = _DATA / "trajectories/tau-bench-gpt4o-airline/historical_trajectories/gpt-4o-airline.json"
"""50 tasks by 4 trials of gpt-4o; absent where the shared data are not."""
AIRLINE_TOOLS: Final = SideEffects(
    read={"get_*", "search_*", "list_*"},
    write={"book_*", "cancel_*", "update_*", "send_*", "transfer_*"},
    none={"calculate", "think"},
)
"""What the tools of the airline do, as its documentation says."""

_MS: Final = 10**6


def tau_bench(path: Path = AIRLINE, side_effects: SideEffects = AIRLINE_TOOLS) -> Iterator[Trajectory]:
    """One trajectory a run; each message takes a millisecond."""
    fingerprinter = Fingerprinter(b"a key of these tests")
    for number, run in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        yield _Run(number, fingerprinter, side_effects).trajectory(run)


class _Run:
    """Reads the messages of one run, in order."""

    def __init__(self, number: int, fingerprinter: Fingerprinter, side_effects: SideEffects) -> None:
        self._number = number
        self._agent = f"{number:08x}ffffffff"
        self._fingerprint = fingerprinter.of
        self._side_effects = side_effects
        self._context: list[ContextBlock] = []
        self._asked: dict[str, Mapping[str, Any]] = {}
        self._steps: list[Step] = []

    def trajectory(self, run: Mapping[str, Any]) -> Trajectory:
        for message in run["traj"]:
            match message["role"]:
                case "assistant":
                    self._model(message)
                case "tool":
                    self._tool(message)
                case role:
                    self._carry(role, message["content"], None)
        status = OutcomeStatus.SUCCEEDED if run["reward"] == 1 else OutcomeStatus.FAILED
        task = f"airline-{run['task_id']}"
        return Trajectory(
            trace_id=f"{self._number:032x}",
            task_id=f"{task}-{run['trial']}",
            group=task,
            outcome=Outcome(task_id=f"{task}-{run['trial']}", status=status, observed_time_unix_nano=0, group=task),
            steps=tuple(self._steps),
        )

    def _model(self, message: Mapping[str, Any]) -> None:
        span, asked = self._span(), message.get("tool_calls") or []
        self._asked |= {call["id"]: call["function"] for call in asked}
        context = tuple(self._context)
        said = json.dumps([message["content"], [call["function"] for call in asked]], sort_keys=True)
        block = self._carry("assistant", said, span)
        self._steps.append(
            ModelCall(
                span_id=span,
                parent_span_id=self._agent,
                provider="openai",
                model="gpt-4o",
                temperature=0.0,
                context=context,
                answer_hash=block.hash,
                started_unix_nano=self._now,
                ended_unix_nano=self._now + _MS,
            )
        )

    def _tool(self, message: Mapping[str, Any]) -> None:
        span, function = self._span(), self._asked[message["tool_call_id"]]
        arguments = json.dumps(json.loads(function["arguments"]), sort_keys=True)
        block = self._carry("tool", message["content"], span)
        self._steps.append(
            ToolCall(
                span_id=span,
                parent_span_id=self._agent,
                tool=function["name"],
                call_id=message["tool_call_id"],
                arguments_hash=self._fingerprint("arguments", arguments),
                result_hash=block.hash,
                error_type="tool_error" if message["content"].startswith("Error") else None,
                side_effect=self._side_effects.of(function["name"]),
                started_unix_nano=self._now,
                ended_unix_nano=self._now + _MS,
            )
        )

    def _carry(self, role: str, text: str, producer: str | None) -> ContextBlock:
        block = ContextBlock(hash=self._fingerprint(role, text), role=role, size=len(text.encode()), producer=producer)
        self._context.append(block)
        return block

    def _span(self) -> str:
        return f"{self._number:08x}{len(self._steps):08x}"

    @property
    def _now(self) -> int:
        return 10 * _MS * len(self._steps)
