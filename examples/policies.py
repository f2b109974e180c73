"""Watch a budget, loops and repeated reads in shadow mode first, then enforce what turned out to be right.

The agent's model is a script that asks for one price again and again; nothing is paid. Run it with
`python examples/policies.py`: the first line is what the policies would have done, the second what they did.
"""

from __future__ import annotations

from typing import Any, Literal

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tokenomics_langchain import BudgetPolicy, LoopBreaker, MemoTools, Policies, TokenomicsMiddleware


class Stubborn(BaseChatModel):
    """Asks for the price of a lamp five times before it answers."""

    @property
    def _llm_type(self) -> str:
        return "stubborn"

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        """Needs no schemas."""
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        calls = [ToolCall(name="get_price", args={"item": "lamp"}, id=f"call-{turn}")] if turn < 5 else []
        return ChatResult(generations=[ChatGeneration(message=AIMessage("" if calls else "25", tool_calls=calls))])


@tool
def get_price(item: str) -> int:
    """Look a price up."""
    return 25 if item == "lamp" else 0


def decided(mode: Literal["shadow", "enforce"]) -> list[str]:
    """Run the agent, and read what the policies decided from its spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    policy = Policies(
        BudgetPolicy(max_cost=0.40, max_calls=22, soft=0.8, mode=mode),
        LoopBreaker(repeats=3, read_only=["get_*"], exempt=["poll_*"], mode=mode),
        MemoTools(read_only=["get_*"], ttl=300, mode=mode),
    )
    agent: Any = create_agent(Stubborn(), [get_price], middleware=[TokenomicsMiddleware(provider, policy=policy)])
    agent.invoke({"messages": [("user", "What does a lamp cost?")]})
    events = [dict(event.attributes or {}) for span in exporter.get_finished_spans() for event in span.events]
    return [f"{event['tokenomics.policy.rule']}:{event['tokenomics.policy.action']}" for event in events]


if __name__ == "__main__":
    print("shadow ", *decided("shadow"))
    print("enforce", *decided("enforce"))
