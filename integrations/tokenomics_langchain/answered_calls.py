"""Calls that were asked for and never ran.

A middleware may answer in the place of a model or a tool, a model may name a tool that does not exist, and a
limit may refuse a call. LangChain reports no run of any of these. What it leaves is a message in what the
node returned, so that is where they are found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from tokenomics_langchain.attributes import Attributes, known, tool_attributes
from tokenomics_langchain.endings import COMPLETED, Ending, RunState
from tokenomics_langchain.outputs import messages_of
from tokenomics_langchain.runs import NodeFacts, NodeRole, Run, RunKind
from tokenomics_plugin import semconv

__all__ = ["TOOL_ERROR", "AnsweredCall", "answered_calls"]

TOOL_ERROR: Final = "tool_error"
"""`error.type` of a tool that answered with an error message."""
_UNKNOWN_TOOL: Final = "unknown_tool"
# What providers accept as the name of a tool.
_NAME: Final = re.compile(r"[\w.-]{1,64}")
_BY_POLICY: Final = {semconv.POLICY_REFUSED: "policy", semconv.POLICY_ANSWERED: "memory"}
"""What a policy leaves in the message, and who answered then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnsweredCall:
    """A call that something else answered."""

    operation: str
    """`gen_ai.operation.name`."""
    name: str | None
    """The tool's name."""
    attributes: Attributes
    """What its span says."""
    ending: Ending
    """How it ended."""


def answered_calls(node: Run, messages: Sequence[BaseMessage], *, shows_content: bool) -> Iterator[AnsweredCall]:
    """The calls that a node answered without a run of a model or a tool.

    Args:
        node: The node.
        messages: What it returned.
        shows_content: Whether a name that the model made up may be shown, whatever it says.
    """
    facts = node.as_node or NodeFacts()
    if node.role is NodeRole.MODEL:
        answer = next((message for message in messages if isinstance(message, AIMessage)), None)
        if facts.inference_calls == 0 and answer is not None:
            yield _skipped_model_call(answer)
        return
    # A node of the application's own may call its tools as it likes, and repeat what was said before: there, only
    # a failure that is new says that no tool ran.
    is_agents = node.role is NodeRole.TOOLS
    known = facts.tool_call_ids if is_agents else node.tree.answered_ids | _ids(messages_of(node.inputs))
    for message in messages:
        if isinstance(message, ToolMessage) and message.tool_call_id not in known:
            node.tree.answered_ids.add(message.tool_call_id)
            if is_agents or message.status == "error":
                yield _answered_tool_call(node, message, shows_content=shows_content)


def _skipped_model_call(answer: AIMessage) -> AnsweredCall:
    operation = semconv.OPERATION_SKIP_MODEL_CALL
    attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: operation, **_who_answered(answer)}
    return AnsweredCall(operation=operation, name=None, attributes=attributes, ending=COMPLETED)


def _answered_tool_call(node: Run, message: ToolMessage, *, shows_content: bool) -> AnsweredCall:
    name = message.name or _called_name(node, message.tool_call_id)
    is_known = message.status != "error" or _is_of_middleware(node) or name in _bound_tools(node)
    if not is_known and not shows_content and not _NAME.fullmatch(name or ""):
        name = "?"  # the model's own words, where a tool's name should be
    attributes, ending = tool_attributes(name, description=None, call_id=message.tool_call_id), COMPLETED
    if is_known:
        attributes |= _who_answered(message)
    if message.status == "error":
        ending = Ending(state=RunState.FAILED, error_type=TOOL_ERROR if is_known else _UNKNOWN_TOOL)
    return AnsweredCall(operation=semconv.OPERATION_EXECUTE_TOOL, name=name, attributes=attributes, ending=ending)


def _ids(messages: Sequence[BaseMessage]) -> set[str]:
    return {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}


def _who_answered(message: BaseMessage) -> Attributes:
    """A policy's refusal or answer says so in the metadata of the message."""
    metadata = message.response_metadata
    for name, who in _BY_POLICY.items():
        if metadata.get(name):
            rule = known((semconv.POLICY_RULE, metadata.get(semconv.POLICY_RULE)))
            return rule | {semconv.ANSWERED_BY: who, name: True}
    return {semconv.ANSWERED_BY: "middleware"}


def _is_of_middleware(node: Run) -> bool:
    """Whether a node is a hook of an agent's middleware, which answers for tools that exist."""
    return node.role is None and node.graph is not None and node.graph.kind is RunKind.AGENT


def _called_name(node: Run, call_id: str) -> str | None:
    """The tool that the model named in a call; it is in what the node was given."""
    call = node.inputs.get("tool_call") if isinstance(node.inputs, Mapping) else None
    calls: list[Any] = [call] if isinstance(call, Mapping) else []
    calls += [call for m in messages_of(node.inputs) if isinstance(m, AIMessage) for call in m.tool_calls]
    return next((call["name"] for call in calls if call.get("id") == call_id), None)


def _bound_tools(node: Run) -> set[str]:
    """Names of the tools that the agent's model was last given, in the shapes of OpenAI and Anthropic."""
    facts = None if node.graph is None else node.graph.as_graph
    tables = [tool for tool in (facts.tools if facts is not None else ()) if isinstance(tool, Mapping)]
    functions = [tool["function"] if isinstance(tool.get("function"), Mapping) else tool for tool in tables]
    return {function["name"] for function in functions if isinstance(function.get("name"), str)}
