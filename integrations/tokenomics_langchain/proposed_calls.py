"""What a policy is told about a model or tool call of an agent, and about its result.

A middleware's hook gets LangChain's request. The run around it, which the handler knows, adds who calls, and for
what.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID, uuid4

from langchain.agents.middleware import ModelRequest
from langchain.agents.middleware.types import ToolCallRequest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from tokenomics_langchain.answered_calls import TOOL_ERROR
from tokenomics_langchain.attributes import is_cache_hit, provider_name, token_usage
from tokenomics_langchain.endings import RunState, ending_of
from tokenomics_langchain.outputs import messages_of
from tokenomics_langchain.runs import Run
from tokenomics_plugin import semconv
from tokenomics_plugin.policy import CallResult, Decision, ProposedCall
from tokenomics_plugin.usage import TokenUsage

__all__ = ["Attempts", "Surroundings", "failed_call", "model_call", "model_result", "tool_call", "tool_result"]

_OPERATIONS: Final = 1_000
_NO_TOKENS: Final = TokenUsage.from_inclusive(input_tokens=0, output_tokens=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Where a call is made."""

    node_run_id: UUID | None
    """The run of the node that makes it, under which all attempts at a call are made."""
    run: Run | None
    """That run, if it is recorded."""

    def operation_id(self, call_id: str) -> str:
        """Names the call among all calls."""
        return f"{self.node_run_id or uuid4()}:{call_id}"

    def note(self, call: ProposedCall, decisions: Iterable[Decision]) -> None:
        """Have decisions recorded on the span of the call, which begins later."""
        if self.run is not None:
            if self.run.decisions is None:
                self.run.decisions = {}
            noted = [decision.to_attributes() for decision in decisions]
            self.run.decisions.setdefault(call.tool_call_id, []).extend(noted)


class Attempts:
    """Counts the attempts at each call; forgets the calls that were not attempted for longest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, int] = OrderedDict()

    def next(self, operation_id: str) -> int:
        """The number of the attempt that is made now, from 1."""
        with self._lock:
            attempt = self._counts.pop(operation_id, 0) + 1
            self._counts[operation_id] = attempt
            if len(self._counts) > _OPERATIONS:
                self._counts.popitem(last=False)
        return attempt


def model_call(request: ModelRequest[Any], around: Surroundings, attempts: Attempts) -> ProposedCall:
    """A model call as a policy sees it."""
    standard = request.model._get_ls_params(**request.model_settings)
    messages = request.messages if request.system_message is None else [request.system_message, *request.messages]
    return _proposed(
        "model",
        around,
        attempts,
        "model",
        name=standard.get("ls_model_name"),
        provider=provider_name(standard.get("ls_provider")),
        input_characters=sum(map(_characters, messages)),
        max_output_tokens=standard.get("ls_max_tokens"),
    )


def tool_call(request: ToolCallRequest, around: Surroundings, attempts: Attempts) -> ProposedCall:
    """A tool call as a policy sees it."""
    call_id = request.tool_call["id"]
    return _proposed(
        "tool",
        around,
        attempts,
        call_id or str(uuid4()),
        name=request.tool_call["name"],
        tool_call_id=call_id,
        arguments_fingerprint=(
            None if around.run is None else around.run.tree.conversation.fingerprint(request.tool_call["args"])
        ),
    )


def model_result(response: Any, duration_ns: int) -> CallResult:
    """The result of a model call; LangChain's own cache answers without using tokens."""
    messages = [response] if isinstance(response, AIMessage) else getattr(response, "result", ())
    if (refused := _refused(messages, duration_ns)) is not None:
        return refused
    result = LLMResult(generations=[[ChatGeneration(message=m) for m in messages if isinstance(m, AIMessage)]])
    usage = _NO_TOKENS if is_cache_hit(result) else token_usage(result)
    return CallResult(state=RunState.COMPLETED.value, duration_ns=duration_ns, usage=usage)


def tool_result(output: Any, duration_ns: int) -> CallResult:
    """The result of a tool call; one that answers with an error has failed."""
    messages = messages_of(output)
    if (refused := _refused(messages, duration_ns)) is not None:
        return refused
    if any(isinstance(message, ToolMessage) and message.status == "error" for message in messages):
        return CallResult(state=RunState.FAILED.value, duration_ns=duration_ns, error_type=TOOL_ERROR)
    # A command may do more than answer.
    answer = output if isinstance(output, ToolMessage) else None
    return CallResult(state=RunState.COMPLETED.value, duration_ns=duration_ns, answer=answer)


def failed_call(error: BaseException, duration_ns: int) -> CallResult:
    """The result of a call that raised, or that control left with an exception."""
    ending = ending_of(error)
    return CallResult(state=ending.state.value, duration_ns=duration_ns, error_type=ending.error_type)


def _proposed(
    kind: Literal["model", "tool"], around: Surroundings, attempts: Attempts, call_id: str, **details: Any
) -> ProposedCall:
    run, operation_id = around.run, around.operation_id(call_id)
    return ProposedCall(
        kind=kind,
        operation_id=operation_id,
        attempt=attempts.next(operation_id),
        run_id=None if run is None else str(run.tree.root.run_id),
        agent_run_id=None if run is None or run.graph is None else str(run.graph.run_id),
        agent_name=None if run is None else run.agent_name,
        task_id=None if run is None else run.task.get(semconv.TASK_ID),
        conversation_id=None if run is None else run.thread_id,
        **details,
    )


def _refused(messages: Iterable[BaseMessage], duration_ns: int) -> CallResult | None:
    """The result of a call that another policy refused or answered, whose middleware is further in."""
    metadata = [message.response_metadata for message in messages]
    for name, state in ((semconv.POLICY_REFUSED, "refused"), (semconv.POLICY_ANSWERED, "answered")):
        if any(name in of_message for of_message in metadata):
            return CallResult(state=state, duration_ns=duration_ns, usage=_NO_TOKENS)
    return None


def _characters(message: BaseMessage) -> int:
    content = message.content
    if isinstance(content, str):
        return len(content)
    texts = (block if isinstance(block, str) else block.get("text") for block in content)
    return sum(len(text) for text in texts if isinstance(text, str))
