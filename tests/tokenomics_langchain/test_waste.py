"""Waste of real agents, from their runs over the store to the findings."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolCall
from langchain_core.tools import BaseTool, ToolException, tool
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from tokenomics_langchain import TokenomicsCallbackHandler
from tokenomics_plugin.cells import Tier
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.store import Payload, TraceStore
from tokenomics_plugin.trajectory import SideEffects, Trajectory
from tokenomics_plugin.waste import Finding, scan
from tokenomics_plugin.waste.builtin import BUILT_IN

_USAGE: Any = {"input_tokens": 20, "output_tokens": 5, "total_tokens": 25}

Run = Callable[..., Trajectory]


@pytest.fixture
def run(
    scripted: Callable[..., BaseChatModel],
    handler: TokenomicsCallbackHandler,
    spans: Callable[..., list[ReadableSpan]],
    tmp_path: Path,
) -> Run:
    """Run an agent whose model asks for these tools one after the other and then answers; read it from a store."""

    def run(*calls: tuple[str, dict[str, Any]], tools: Sequence[BaseTool], side_effects: SideEffects) -> Trajectory:
        script = [
            AIMessage("", tool_calls=[ToolCall(name=name, args=arguments, id=f"call-{number}")], usage_metadata=_USAGE)
            for number, (name, arguments) in enumerate(calls)
        ]
        model = scripted(script=[*script, AIMessage("Done.", usage_metadata=_USAGE)])
        agent: Any = create_agent(model, list(tools), name="clerk")
        agent.invoke({"messages": [HumanMessage("Do it.")]}, {"callbacks": [handler]})
        with TraceStore(tmp_path / "store.duckdb") as store:
            store.load([Payload(Signal.TRACES, encode_spans(spans()).SerializeToString())])
            (trajectory,) = store.trajectories(side_effects=side_effects)
        return trajectory

    return run


@tool
def find(order: int) -> str:
    """Find an order."""
    return f"order {order} was shipped"


@tool
def book(seat: int) -> str:
    """Book a seat."""
    raise ToolException(f"seat {seat} is taken")


book.handle_tool_error = True

READS = SideEffects(read={"find"})


def found(trajectory: Trajectory) -> tuple[Finding, ...]:
    result = scan(trajectory, [cls() for cls in BUILT_IN])
    assert result.problems == ()
    return result.findings


def test_an_agent_that_reads_twice_has_its_second_turn_claimed(run: Run) -> None:
    trajectory = run(("find", {"order": 7}), ("find", {"order": 7}), tools=[find], side_effects=READS)

    (finding,) = found(trajectory)

    (first, again), (_, asker, last) = trajectory.tool_calls, trajectory.model_calls
    assert (finding.cause, finding.tier) == ("D1", Tier.A)
    assert finding.spans == (again.span_id, asker.span_id)
    assert finding.evidence == (first.span_id,)
    assert [(claimed.call, claimed.start, claimed.stop) for claimed in finding.blocks] == [(last.span_id, 3, 5)]


def test_nothing_is_claimed_while_nobody_says_that_the_tool_only_reads(run: Run) -> None:
    trajectory = run(("find", {"order": 7}), ("find", {"order": 7}), tools=[find], side_effects=SideEffects())

    assert found(trajectory) == ()


def test_an_agent_that_tries_again_what_failed_has_its_second_try_claimed(run: Run) -> None:
    trajectory = run(("book", {"seat": 1}), ("book", {"seat": 1}), tools=[book], side_effects=READS)

    (finding,) = found(trajectory)

    assert finding.cause == "D3"
    assert finding.spans == (trajectory.tool_calls[1].span_id, trajectory.model_calls[1].span_id)


def test_an_agent_that_calls_what_does_not_exist_again_is_provably_wrong(run: Run) -> None:
    trajectory = run(("fly", {"to": 1}), ("fly", {"to": 2}), tools=[find], side_effects=READS)

    assert [(finding.cause, finding.tier) for finding in found(trajectory)] == [("D3", Tier.A)]


def test_an_agent_that_goes_in_circles_is_in_a_loop(run: Run) -> None:
    asked = [("find", {"order": order}) for order in (1, 2, 1, 2)]
    trajectory = run(*asked, tools=[find], side_effects=READS)

    (loop,) = (finding for finding in found(trajectory) if finding.cause == "D5")

    assert set(loop.spans) == {step.span_id for step in trajectory.steps[4:8]}


def test_an_agent_that_works_wastes_nothing(run: Run) -> None:
    asked = [("find", {"order": order}) for order in range(5)]

    assert found(run(*asked, tools=[find], side_effects=READS)) == ()
