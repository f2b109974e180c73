"""Runs for the simulator, made of trajectories: what is simulated is what the live policy would do."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import pytest

from tokenomics_plugin.analysis.logged_runs import logged_run
from tokenomics_plugin.policies import LoopBreaker, first_refusal, logged_calls
from tokenomics_plugin.simulation import LoopBreaker as LoopRule
from tokenomics_plugin.simulation import RunTable
from tokenomics_plugin.trajectory import ModelCall, SideEffects, ToolCall, Trajectory

DECLARED = SideEffects(read={"get_*"}, write={"put_*"})
SEQUENCES = [
    pytest.param(["get_a", "get_a", "get_a"], id="the-same-read"),
    pytest.param(["get_a", "get_b", "get_a", "get_b", "get_a"], id="reads-in-turns"),
    pytest.param(["get_a", "put_a", "get_a", "put_a", "get_a"], id="a-write-in-between"),
    pytest.param(["put_a", "put_a", "put_a"], id="the-same-write"),
    pytest.param(["call_x", "call_x", "call_x"], id="undeclared-in-a-row"),
    pytest.param(["call_x", "call_y", "call_x", "call_y", "call_x"], id="undeclared-in-turns"),
    pytest.param(["call_x", "get_a", "call_x", "get_a", "call_x"], id="undeclared-with-reads-in-between"),
    pytest.param(["call_x!", "call_x!", "call_x!"], id="the-same-failure"),
    pytest.param(["get_a", "call_x?", "get_a", "call_x?", "get_a"], id="arguments-that-nobody-knows"),
    pytest.param(["get_a", "call_x!", "get_a", "call_x!", "get_a"], id="a-failure-changes-nothing"),
]


def run_of(tools: list[str]) -> Trajectory:
    """An agent that asks for one tool after the other; those with ! fail, of those with ? no arguments are known."""
    steps: list[ModelCall | ToolCall] = []
    for place, name in enumerate(tools):
        steps.append(ModelCall(span_id=f"m{place}", started_unix_nano=2 * place))
        tool, failed = name.rstrip("!?"), name.endswith("!")
        steps.append(
            ToolCall(
                span_id=f"t{place}",
                tool=tool,
                arguments_hash=None if name.endswith("?") else tool,
                error_type="Timeout" if failed else None,
                side_effect=DECLARED.of(tool),
                started_unix_nano=2 * place + 1,
            )
        )
    return Trajectory(trace_id="f" * 32, steps=(*steps, ModelCall(span_id="m", started_unix_nano=2 * len(tools))))


def model_calls_before_the_stop(trajectory: Trajectory, repeats: int) -> tuple[int, int]:
    """How many model calls the simulated rule and the live policy leave."""
    run = logged_run(trajectory, [Decimal(1)] * len(trajectory.model_calls))
    assert run is not None
    table = RunTable.of([run])
    simulated = int(LoopRule(repeats=repeats).effect(table).first_touched_call[0])
    stopped = first_refusal(LoopBreaker(repeats=repeats, read_only=["get_*"]), logged_calls(trajectory))
    made = trajectory.steps if stopped is None else trajectory.steps[:stopped]
    return simulated, sum(isinstance(step, ModelCall) for step in made)


@pytest.mark.parametrize("tools", SEQUENCES)
@pytest.mark.parametrize("repeats", [2, 3])
def test_the_simulated_loop_breaker_stops_where_the_live_one_does(tools: list[str], repeats: int) -> None:
    simulated, live = model_calls_before_the_stop(run_of(tools), repeats)
    assert simulated == live


def test_so_it_does_for_every_short_sequence() -> None:
    for tools in product(["get_a", "put_a", "call_x", "call_x!", "call_x?"], repeat=4):
        simulated, live = model_calls_before_the_stop(run_of(list(tools)), 2)
        assert simulated == live, tools
