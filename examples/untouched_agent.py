"""A shop's agent that knows nothing of tokenomics, for `opentelemetry-instrument python examples/untouched_agent.py`.

Nothing in this file traces the agent. It opens one span of its own, around a look at the stock, as programs do
that use OpenTelemetry already. Run by plain `python`, it does the same and leaves no trace. The model follows a
script, so that it needs neither a key nor a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, tool
from opentelemetry import trace

tracer = trace.get_tracer("shop")

STOCK = {"pen": 120, "lamp": 7}
PRICES = {"pen": 3, "lamp": 25}
QUESTION: Any = {"messages": [("user", "Do you have 5 lamps, and what do they cost?")]}


@tool
def stock_of(item: str) -> int:
    """How many of an item are in stock."""
    with tracer.start_as_current_span("query stock"):
        return STOCK[item]


@tool
def price_of(item: str, quantity: int) -> int:
    """Price in dollars of a quantity of an item."""
    return PRICES[item] * quantity


class ScriptedModel(BaseChatModel):
    """Asks for the stock and the price, then answers with both."""

    model: str = "scripted-1"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[BaseTool | Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Know the tools; the script names them anyway."""
        return self.bind(tools=[{"type": "function", "function": {"name": each.name}} for each in tools], **kwargs)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        found = [message.text for message in messages if isinstance(message, ToolMessage)]
        if found:
            reply = AIMessage("We have {} lamps; 5 of them cost ${}.".format(*found))
        else:
            calls = [("stock_of", {"item": "lamp"}), ("price_of", {"item": "lamp", "quantity": 5})]
            reply = AIMessage(
                "", tool_calls=[{"name": name, "args": args, "id": f"call-{name}"} for name, args in calls]
            )
        length = sum(len(message.text) for message in messages) // 4
        reply.usage_metadata = {"input_tokens": length, "output_tokens": 12, "total_tokens": length + 12}
        reply.response_metadata = {"model_name": self.model, "finish_reason": "stop" if found else "tool_calls"}
        return ChatResult(generations=[ChatGeneration(message=reply)])


async def answer_again() -> str:
    """Ask the agent once more, from an event loop."""
    result = await agent.ainvoke(QUESTION)
    return str(result["messages"][-1].text)


agent = create_agent(ScriptedModel(), [stock_of, price_of], name="shopkeeper")

if __name__ == "__main__":
    print(agent.invoke(QUESTION)["messages"][-1].text)
    print(asyncio.run(answer_again()))
